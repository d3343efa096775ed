// One chart: thin lines, gaps are gaps, a legend that toggles, a cursor shared by the page, drag to zoom.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import type { ChartData, ChartSpec, Happening } from "./api";
import { clock, moment, number } from "./format";
import { onPoint, point } from "./state";

const MOST_SHOWN = 8;
const HEIGHT = 150;

/** Round steps for bytes: 1, 2, 4 … 512 of each unit. */
const POWERS = Array.from({ length: 50 }, (_, power) => 2 ** power);

interface Props {
  spec: ChartSpec;
  data: ChartData | undefined;
  times: number[];
  range: [number, number];
  events: Happening[];
  theme: string;
  onZoom: (from: number, to: number) => void;
  onBack: () => void;
}

/** The page's colours, resolved; a canvas cannot use custom properties. */
function colours(): Record<string, string> {
  const probe = document.body.appendChild(document.createElement("i"));
  const out: Record<string, string> = {};
  for (const name of ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "dim", "grid", "warning", "critical"]) {
    probe.style.color = `var(--${name})`;
    out[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return out;
}

/** Failures keep one colour everywhere; the others take theirs in order. */
const colourOf = (name: string, index: number): string =>
  /\b(errors?|failed|5xx)\b/i.test(name) ? "critical" : `s${index % 8}`;

export function Chart({ spec, data, times, range, events, theme, onZoom, onBack }: Props) {
  const holder = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef({ onZoom, onBack, events });
  latest.current = { onZoom, onBack, events };
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const [all, setAll] = useState(false);
  const [pointed, setPointed] = useState<number | null>(null);

  // By last value, so that what matters now is at the top and keeps its place while values are close.
  const series = useMemo(() => {
    const list = (data?.series ?? []).map((column, index) => ({
      ...column,
      colour: colourOf(column.name, index),
      last: column.values.findLast((value) => value !== null) ?? null,
    }));
    return list.length > MOST_SHOWN ? list.sort((a, b) => (b.last ?? -1) - (a.last ?? -1)) : list;
  }, [data]);
  const shown = all ? series : series.slice(0, MOST_SHOWN);
  const names = shown.map((column) => `${column.name} ${column.colour}`).join("\n");
  const hasData = shown.some((column) => column.last !== null);

  useEffect(() => {
    const element = holder.current;
    if (!element) return;
    const palette = colours();
    const axis = { stroke: palette.dim, grid: { stroke: palette.grid, width: 1 }, ticks: { show: false } };
    const font = '11px ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace';
    const made = new uPlot(
      {
        width: Math.max(element.clientWidth, 50),
        height: HEIGHT,
        legend: { show: false },
        padding: [8, 4, 0, 0],
        cursor: { drag: { x: true, y: false, setScale: false }, points: { size: 5 }, y: false, bind: { dblclick: () => () => { latest.current.onBack(); return null; } } },
        select: { show: true, left: 0, top: 0, width: 0, height: 0 },
        scales: {
          x: { time: true, range: (_u, min, max) => [min, max] },
          y: { range: (_u, _min, max) => [0, max > 0 ? max * 1.08 : 1] },
        },
        axes: [
          {
            ...axis, font, size: 24, gap: 2, space: 84,
            values: (_u, splits) => splits.map((s) => {
              const long = (splits.at(-1) ?? 0) - (splits[0] ?? 0) > 20 * 3600;
              return long ? moment(s * 1000) : clock(s * 1000).slice(0, s % 60 ? 8 : 5);
            }),
          },
          { ...axis, font, size: 62, gap: 4, space: 34, ...(spec.unit === "bytes" ? { incrs: POWERS } : {}), values: (_u, splits) => splits.map((s) => number(s, spec.unit)) },
        ],
        series: [
          {},
          ...shown.map((column) => ({
            label: column.name,
            stroke: palette[column.colour] ?? palette.dim,
            width: 1.5,
            points: { show: false },
            ...(spec.stepped ? { paths: uPlot.paths.stepped?.({ align: 1 }) } : {}),
          })),
        ],
        hooks: {
          setCursor: [
            (u) => {
              // Only a pointer on this very chart moves the others; they then move without telling.
              if (!u.cursor.event) return;
              point(u.cursor.left !== undefined && u.cursor.left >= 0 ? u.posToVal(u.cursor.left, "x") * 1000 : null);
            },
          ],
          setSelect: [
            (u) => {
              if (u.select.width > 3) {
                latest.current.onZoom(
                  Math.round(u.posToVal(u.select.left, "x") * 1000),
                  Math.round(u.posToVal(u.select.left + u.select.width, "x") * 1000),
                );
              }
              u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            },
          ],
          draw: [
            (u) => {
              const { ctx, bbox } = u;
              ctx.save();
              for (const event of latest.current.events) {
                if (event.level === "normal") continue;
                const x = Math.round(u.valToPos(event.at_ms / 1000, "x", true)) + 0.5;
                if (x < bbox.left || x > bbox.left + bbox.width) continue;
                ctx.strokeStyle = (event.level === "decision" ? palette.dim : palette[event.level]) ?? "";
                ctx.globalAlpha = 0.55;
                ctx.setLineDash(event.level === "decision" ? [2, 3] : []);
                ctx.beginPath();
                ctx.moveTo(x, bbox.top);
                ctx.lineTo(x, bbox.top + bbox.height);
                ctx.stroke();
              }
              ctx.restore();
            },
          ],
        },
      },
      [[], ...shown.map(() => [])] as uPlot.AlignedData,
      element,
    );
    plot.current = made;
    const sizes = new ResizeObserver(() => made.setSize({ width: Math.max(element.clientWidth, 50), height: HEIGHT }));
    sizes.observe(element);
    const left = () => point(null);
    made.over.addEventListener("mouseleave", left);
    return () => { sizes.disconnect(); made.destroy(); plot.current = null; };
  }, [names, theme, spec.unit, spec.stepped]);

  useEffect(() => {
    const u = plot.current;
    if (!u) return;
    const values = shown.map((column) => (hidden.has(column.name) ? column.values.map(() => null) : column.values));
    u.batch(() => {
      u.setData([times.map((ms) => ms / 1000), ...values] as uPlot.AlignedData, false);
      u.setScale("x", { min: range[0] / 1000, max: range[1] / 1000 });
    });
    // Outside the batch: it would set the scale back to what it was. The paths are old even when the range is not.
    u.redraw(true, true);
  }, [names, theme, times, data, range[0], range[1], hidden, all, events]);

  useEffect(() => onPoint((ms) => {
    setPointed(ms);
    const u = plot.current;
    if (!u) return;
    const own = u.over.matches(":hover");
    if (!own) u.setCursor({ left: ms === null ? -10 : u.valToPos(ms / 1000, "x"), top: 0 }, false);
  }), []);

  const at = (values: (number | null)[], last: number | null) => {
    if (pointed === null) return last;
    let index = -1;
    for (let i = 0; i < times.length && (times[i] ?? Infinity) <= pointed; i += 1) index = i;
    return values[index] ?? null;
  };
  const toggle = (name: string) => {
    const next = new Set(hidden);
    if (!next.delete(name)) next.add(name);
    setHidden(next);
  };

  return (
    <figure class="chart" id={`chart-${spec.id}`}>
      <figcaption>
        <h3>{spec.title}</h3>
        {shown.map((column) => (
          <button
            key={column.name} class="key" aria-pressed={!hidden.has(column.name)} onClick={() => toggle(column.name)}
            title={hidden.has(column.name) ? "Show" : "Hide"} style={`--c: var(--${column.colour})`}
          >
            <i />{column.name} <b>{number(at(column.values, column.last), spec.unit)}</b>
          </button>
        ))}
        {series.length > MOST_SHOWN && (
          <button class="key more" onClick={() => setAll(!all)}>{all ? `top ${MOST_SHOWN}` : `show all ${series.length}`}</button>
        )}
      </figcaption>
      <div class="canvas" ref={holder} role="img" aria-label={`${spec.title}: ${shown.map((c) => `${c.name} ${number(c.last, spec.unit)}`).join(", ")}`}>
        {data?.error && <p class="empty bad">{data.error}</p>}
        {data && !data.error && !hasData && <p class="empty">No samples in this range yet</p>}
      </div>
    </figure>
  );
}
