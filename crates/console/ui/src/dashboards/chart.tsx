// A time series panel: uPlot for lines, areas and bars; stacking, legend and tooltip of our own.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { clock, moment } from "../format";
import { onPoint, point } from "../state";
import type { Axis, ChartBody, Series } from "./model";
import { write } from "./units";

const MOST_SHOWN_IN_TIP = 14;
const POWERS = Array.from({ length: 60 }, (_, power) => 2 ** power);
const FONT = '11px ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace';

interface Props { body: ChartBody; height: number; theme: string; onZoom: (from: number, to: number) => void; onBack: () => void; onAll: () => void }

/** Values as drawn: those of a group on one another, apart above and below zero. */
function stacked(series: Series[], hidden: ReadonlySet<string>): (number | null)[][] {
  const sums = new Map<string, number[]>();
  const totals = new Map<string, number[]>();
  const shown = (one: Series) => !one.hidden && !hidden.has(one.name);
  for (const one of series) {
    if (!one.stack || !one.percent || !shown(one)) continue;
    const total = totals.get(one.stack) ?? one.values.map(() => 0);
    one.values.forEach((value, at) => { total[at] = (total[at] ?? 0) + Math.abs(value ?? 0); });
    totals.set(one.stack, total);
  }
  return series.map((one) => {
    if (!shown(one)) return one.values.map(() => null);
    if (!one.stack) return one.values;
    const key = `${one.stack} ${one.on_right} ${one.values.some((value) => value !== null && value < 0)}`;
    const sum = sums.get(key) ?? one.values.map(() => 0);
    sums.set(key, sum);
    const total = one.percent ? totals.get(one.stack) : undefined;
    return one.values.map((value, at) => {
      if (value === null) return null;
      sum[at] = (sum[at] ?? 0) + value / (total?.[at] || 1);
      return sum[at];
    });
  });
}

function paths(one: Series): uPlot.Series.PathBuilder | undefined {
  if (one.draw === "bars") return uPlot.paths.bars?.({ size: [0.8, 60], align: 0 });
  if (one.draw === "points") return () => null;
  if (one.shape === "stepAfter") return uPlot.paths.stepped?.({ align: 1 });
  if (one.shape === "stepBefore") return uPlot.paths.stepped?.({ align: -1 });
  if (one.shape === "smooth") return uPlot.paths.spline?.();
  return undefined;
}

function scale(axis: Axis): uPlot.Scale {
  if (axis.log) return { distr: 3, log: axis.log === 10 ? 10 : 2 };
  return {
    range: (_u, low, high) => {
      let [min, max] = [low ?? 0, high ?? 1];
      if (axis.soft_min !== null) min = Math.min(min, axis.soft_min);
      if (axis.soft_max !== null) max = Math.max(max, axis.soft_max);
      if (min > 0 && min < max * 0.6) min = 0;
      if (axis.centered) { max = Math.max(Math.abs(min), Math.abs(max)); min = -max; }
      if (min === max) [min, max] = min === 0 ? [0, 1] : min > 0 ? [0, min * 1.2] : [min * 1.2, 0];
      return [axis.min ?? (min < 0 ? min * 1.05 : min), axis.max ?? (max > 0 ? max * 1.05 : max)];
    },
  };
}

/** Bars stand on zero: the higher ones of a stack are drawn first, or they would cover the lower ones. */
const reversed = (series: Series[]): boolean => series.some((one) => one.draw === "bars" && !!one.stack);
const ordered = (series: Series[]): Series[] => (reversed(series) ? [...series].reverse() : series);
/** Which of uPlot's series one is; the first is time. */
const place = (series: Series[], at: number): number => (reversed(series) ? series.length - at : at + 1);

function css(name: string): string {
  const probe = document.body.appendChild(document.createElement("i"));
  probe.style.color = `var(--${name})`;
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

const faded = (color: string, share: number): string => color.slice(0, 7) + Math.round(share * 255).toString(16).padStart(2, "0");

export function Chart({ body, height, theme, onZoom, onBack, onAll }: Props) {
  const holder = useRef<HTMLDivElement>(null);
  const tip = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef({ onZoom, onBack, body });
  latest.current = { onZoom, onBack, body };
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const [pointed, setPointed] = useState<number | null>(null);
  const [width, setWidth] = useState(0);
  const percent = body.series.some((one) => one.percent);
  const left: Axis = percent ? { ...body.left, unit: { kind: "percentunit" }, max: body.left.max ?? 1 } : body.left;
  const shape = JSON.stringify([theme, left, body.right, body.series.map((s) => [s.name, s.color, s.draw, s.shape, s.width, s.fill, s.stack, s.on_right, s.points, s.spans]), body.limits]);

  useEffect(() => {
    const element = holder.current;
    if (!element) return;
    const sizes = new ResizeObserver(() => setWidth(element.clientWidth));
    sizes.observe(element);
    return () => sizes.disconnect();
  }, []);

  useEffect(() => {
    const element = holder.current;
    if (!element || !width) return;
    const { body } = latest.current;
    const [dim, grid] = [css("dim"), css("grid")];
    const yAxis = (name: string, axis: Axis, side: 1 | 3): uPlot.Axis => ({
      scale: name, side, show: !axis.hidden, stroke: dim, font: FONT, gap: 4, space: 34,
      grid: { show: side === 3, stroke: grid, width: 1 }, ticks: { show: false },
      ...(axis.unit.kind === "binary" ? { incrs: POWERS } : {}),
      size: (_u, values) => Math.max(38, ...(values ?? []).map((text) => text.length * 6.7 + 10)),
      values: (_u, splits) => splits.map((split) => (split === null ? "" : write(Math.abs(split) < 1e-12 ? 0 : split, axis.unit, axis.decimals))),
    });
    const made = new uPlot({
      width, height: Math.max(60, height),
      legend: { show: false }, padding: [8, 8, 0, 0],
      cursor: { drag: { x: true, y: false, setScale: false }, points: { size: 5 }, y: false, bind: { dblclick: () => () => { latest.current.onBack(); return null; } } },
      scales: { x: { time: true, range: (_u, min, max) => [min, max] }, y: scale(left), ...(body.right ? { right: scale(body.right) } : {}) },
      axes: [
        {
          stroke: dim, font: FONT, size: 24, gap: 2, space: 84, grid: { stroke: grid, width: 1 }, ticks: { show: false },
          values: (_u, splits) => splits.map((s) => ((splits.at(-1) ?? 0) - (splits[0] ?? 0) > 20 * 3600 ? moment(s * 1000) : clock(s * 1000).slice(0, s % 60 ? 8 : 5))),
        },
        yAxis("y", left, 3),
        ...(body.right ? [yAxis("right", body.right, 1)] : []),
      ],
      series: [{}, ...ordered(body.series).map((one): uPlot.Series => {
        const builder = paths(one);
        return {
          label: one.name, scale: one.on_right && body.right ? "right" : "y", stroke: one.color, width: one.draw === "bars" ? 0 : one.width,
          spanGaps: one.spans, points: { show: one.points, size: 5, fill: one.color },
          ...(one.dash ? { dash: one.dash } : {}),
          ...(one.fill > 0 ? { fill: faded(one.color, one.draw === "bars" ? Math.max(one.fill, 0.15) : one.fill) } : {}),
          ...(builder ? { paths: builder } : {}),
        };
      })],
      bands: body.series.flatMap((one, at) => {
        if (!one.stack || one.draw === "bars") return [];
        const below = body.series.slice(0, at).findLastIndex((other) => other.stack === one.stack && other.on_right === one.on_right);
        return below < 0 ? [] : [{ series: [place(body.series, at), place(body.series, below)] as [number, number] }];
      }),
      hooks: {
        setCursor: [(u) => {
          if (!u.cursor.event) return;
          point(u.cursor.left !== undefined && u.cursor.left >= 0 ? u.posToVal(u.cursor.left, "x") * 1000 : null);
        }],
        setSelect: [(u) => {
          if (u.select.width > 3) latest.current.onZoom(Math.round(u.posToVal(u.select.left, "x") * 1000), Math.round(u.posToVal(u.select.left + u.select.width, "x") * 1000));
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        }],
        drawAxes: [(u) => {
          const { ctx, bbox } = u;
          for (const limit of latest.current.body.limits ?? []) {
            const at = (value: number) => Math.min(Math.max(u.valToPos(value, "y", true), bbox.top), bbox.top + bbox.height);
            const [low, high] = [limit.from === null ? bbox.top + bbox.height : at(limit.from), limit.to === null ? bbox.top : at(limit.to)];
            ctx.save();
            if (limit.area) { ctx.fillStyle = faded(limit.color, 0.12); ctx.fillRect(bbox.left, high, bbox.width, low - high); }
            if (limit.line && limit.from !== null) { ctx.strokeStyle = limit.color; ctx.setLineDash([6, 4]); ctx.beginPath(); ctx.moveTo(bbox.left, low); ctx.lineTo(bbox.left + bbox.width, low); ctx.stroke(); }
            ctx.restore();
          }
        }],
      },
    }, [[], ...body.series.map(() => [])] as uPlot.AlignedData, element);
    plot.current = made;
    const gone = () => point(null);
    made.over.addEventListener("mouseleave", gone);
    return () => { made.destroy(); plot.current = null; };
  }, [shape, width, height]);

  const drawn = useMemo(() => {
    const values = stacked(body.series, hidden);
    return reversed(body.series) ? values.reverse() : values;
  }, [body, hidden]);

  useEffect(() => {
    const u = plot.current;
    if (!u) return;
    u.batch(() => {
      u.setData([body.times_ms.map((ms) => ms / 1000), ...drawn] as uPlot.AlignedData, false);
      u.setScale("x", { min: body.from_ms / 1000, max: body.to_ms / 1000 });
    });
    u.redraw(true, true);
  }, [shape, drawn, width, height]);

  useEffect(() => onPoint((ms) => {
    setPointed(ms);
    const u = plot.current;
    if (u && !u.over.matches(":hover")) u.setCursor({ left: ms === null ? -10 : u.valToPos(ms / 1000, "x"), top: 0 }, false);
  }), []);

  const spot = (() => {
    if (pointed === null) return -1;
    let [low, high] = [0, body.times_ms.length];
    while (low < high) { const middle = (low + high) >> 1; if ((body.times_ms[middle] ?? 0) <= pointed) low = middle + 1; else high = middle; }
    return low - 1;
  })();
  const own = plot.current?.over.matches(":hover") ?? false;
  const tipped = own && spot >= 0
    ? body.series.filter((one) => !hidden.has(one.name) && !one.hidden && one.values[spot] !== null).sort((a, b) => (b.values[spot] ?? 0) - (a.values[spot] ?? 0))
    : [];
  const toggle = (name: string, alone: boolean) => {
    const others = new Set(body.series.map((one) => one.name).filter((other) => other !== name));
    if (alone) { setHidden(hidden.size === others.size && !hidden.has(name) ? new Set() : others); return; }
    const next = new Set(hidden);
    if (!next.delete(name)) next.add(name);
    setHidden(next);
  };
  const listed = body.series.filter((one) => one.in_legend);
  const last = (one: Series) => one.values[spot >= 0 ? spot : one.values.findLastIndex((value) => value !== null)] ?? null;
  const table = body.legend.as_table || body.legend.calcs.length > 0;
  const cursorLeft = plot.current?.cursor.left ?? 0;
  return (
    <div class={`dchart ${body.legend.at_right ? "side" : ""}`}>
      <div class="dplot" ref={holder} role="img" aria-label={body.series.map((one) => `${one.name} ${write(last(one), one.unit, one.decimals)}`).join(", ") || "No data"}>
        {body.series.length === 0 && <p class="empty none">No data</p>}
        {tipped.length > 0 && (
          <div class="tip" ref={tip} style={cursorLeft > width * 0.5 ? { right: `${width - cursorLeft}px` } : { left: `${cursorLeft + 70}px` }}>
            <time>{moment(body.times_ms[spot] ?? 0).slice(0, -5)}{clock(body.times_ms[spot] ?? 0)}</time>
            {tipped.slice(0, MOST_SHOWN_IN_TIP).map((one) => (
              <div key={one.name}><i style={{ background: one.color }} /><span>{one.name}</span><b>{write(one.values[spot], one.unit, one.decimals)}</b></div>
            ))}
            {tipped.length > MOST_SHOWN_IN_TIP && <div class="dim">{tipped.length - MOST_SHOWN_IN_TIP} more</div>}
          </div>
        )}
      </div>
      {body.legend.shown && listed.length > 0 && (
        <div class={table ? "legend astable" : "legend"}>
          {table ? (
            <table>
              {body.legend.calcs.length > 0 && <thead><tr><th>Name</th>{body.legend.calcs.map((calc) => <th key={calc} class="num">{calc}</th>)}</tr></thead>}
              <tbody>
                {listed.map((one) => (
                  <tr key={one.name} class={hidden.has(one.name) ? "off" : ""}>
                    <td><button class="key" aria-pressed={!hidden.has(one.name)} onClick={(event) => toggle(one.name, !(event.ctrlKey || event.metaKey))} title={one.name}><i style={{ borderColor: one.color }} />{one.name}</button></td>
                    {one.calcs.map((calc, at) => <td key={at} class="num">{calc.text}</td>)}
                  </tr>
                ))}
              </tbody>
            </table>
          ) : listed.map((one) => (
            <button key={one.name} class="key" aria-pressed={!hidden.has(one.name)} onClick={(event) => toggle(one.name, !(event.ctrlKey || event.metaKey))} title={one.name}>
              <i style={{ borderColor: one.color }} /><span>{one.name}</span>
            </button>
          ))}
          {body.left_out > 0 && <button class="key more" onClick={onAll}>{body.left_out} series more: show all</button>}
        </div>
      )}
    </div>
  );
}
