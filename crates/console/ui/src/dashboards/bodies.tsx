// Everything that is no time series: stats, gauges, bars, tables, pies, heat maps, texts.

import { useEffect, useRef, useState } from "preact/hooks";
import { clock } from "../format";
import type { Cell, HeatBody, Inline, PieBody, Shown, Stat, StatsBody, TableBody, TextBody } from "./model";

const words = (body: StatsBody, item: Stat) => (body.text_mode === "name" ? item.name : body.prefix + (item.prefix ?? "") + item.text + (item.suffix ?? "") + body.postfix);
const named = (body: StatsBody) => (body.text_mode === "auto" ? body.items.length > 1 : body.text_mode === "value_and_name");

function Spark({ values, color }: { values: (number | null)[]; color: string }) {
  const numbers = values.filter((value) => value !== null);
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  const points = values.flatMap((value, at) => (value === null ? [] : [`${((at / (values.length - 1)) * 100).toFixed(1)},${(30 - (high > low ? (value - low) / (high - low) : 0.5) * 28).toFixed(1)}`]));
  if (points.length < 2) return null;
  const [first, last] = [points[0]?.split(",")[0], points.at(-1)?.split(",")[0]];
  return (
    <svg class="spark" viewBox="0 0 100 31" preserveAspectRatio="none" aria-hidden="true">
      <polygon points={`${points.join(" ")} ${last},31 ${first},31`} fill={color} opacity=".18" />
      <polyline points={points.join(" ")} fill="none" stroke={color} stroke-width="1.3" vector-effect="non-scaling-stroke" />
    </svg>
  );
}

function Value({ shown, text }: { shown: Shown; text: string }) {
  const suffix = shown.suffix && text.endsWith(shown.suffix) ? shown.suffix : "";
  return <>{text.slice(0, text.length - suffix.length)}{suffix && <small>{suffix}</small>}</>;
}

export function Stats({ body }: { body: StatsBody }) {
  return (
    <div class="stats">
      {body.items.map((item, at) => {
        const filled = body.color_mode.startsWith("background");
        const ink = filled ? item.on_color : body.color_mode === "none" ? undefined : item.ink;
        const text = words(body, item);
        return (
          <div key={at} class="stat" style={{ color: ink, background: filled ? item.color : undefined, "--len": Math.max(text.length, 3) }}>
            {named(body) && <span class="name" title={item.name}>{item.name}</span>}
            <b><Value shown={item} text={text} /></b>
            {body.graph && item.spark && <Spark values={item.spark} color={filled ? item.on_color : item.color ?? "currentColor"} />}
          </div>
        );
      })}
    </div>
  );
}

const START = Math.PI * 0.83;
const TURN = Math.PI * 1.34;
function arc(radius: number, from: number, to: number): string {
  const at = (share: number) => [50 + radius * Math.cos(START + TURN * share), 52 + radius * Math.sin(START + TURN * share)].map((n) => n.toFixed(2)).join(" ");
  return `M ${at(from)} A ${radius} ${radius} 0 ${TURN * (to - from) > Math.PI ? 1 : 0} 1 ${at(to)}`;
}

export function Gauges({ body }: { body: StatsBody }) {
  return (
    <div class="stats gauges">
      {body.items.map((item, at) => {
        const text = words(body, item);
        return (
          <figure key={at} class="gauge1">
            <svg viewBox="0 0 100 84" role="img" aria-label={`${item.name} ${text}`}>
              <path d={arc(38, 0, 1)} class="track" />
              {item.share !== undefined && item.share > 0 && <path d={arc(38, 0, item.share)} style={{ stroke: item.color }} class="full" />}
              {body.threshold_markers && item.steps.map(([from, color], n) => {
                const to = item.steps[n + 1]?.[0] ?? 1;
                return to > from ? <path key={n} d={arc(46.5, from, to)} style={{ stroke: color }} class="mark1" /> : null;
              })}
              <text x="50" y="58" text-anchor="middle" style={{ fill: item.ink, fontSize: `${Math.min(17, 96 / Math.max(text.length, 4))}px` }}>{text}</text>
            </svg>
            {named(body) && <figcaption class="name" title={item.name}>{item.name}</figcaption>}
          </figure>
        );
      })}
    </div>
  );
}

export function Bars({ body }: { body: StatsBody }) {
  return (
    <div class={body.vertical ? "bars upright" : "bars"}>
      {body.items.map((item, at) => {
        const size = `${((item.share ?? 0) * 100).toFixed(2)}%`;
        return (
          <div key={at} class="bar">
            <span class="name" title={item.name}>{item.name}</span>
            <span class={`track ${body.unfilled ? "" : "bare"} ${body.display_mode}`}>
              <i style={body.vertical ? { height: size, background: item.color } : { width: size, background: item.color }} />
            </span>
            <b style={{ color: item.ink }}>{words(body, item)}</b>
          </div>
        );
      })}
    </div>
  );
}

function shownCell(cell: Cell, kind: string) {
  const text = cell.l ? <a href={cell.l.url} title={cell.l.title}>{cell.t}</a> : cell.t;
  if (kind === "gauge") return <span class="cellbar"><span class="track"><i style={{ width: `${(cell.s ?? 0) * 100}%`, background: cell.c }} /></span>{text}</span>;
  return text;
}

export function Table({ body }: { body: TableBody }) {
  const [sort, setSort] = useState<{ at: number; down: boolean } | null>(null);
  if (!body.columns.length) return <p class="empty none">No data</p>;
  const rows = sort === null ? body.rows : [...body.rows].sort((a, b) => {
    const [x, y] = [a[sort.at], b[sort.at]];
    const order = body.columns[sort.at]?.is_number ? (x?.v ?? -Infinity) - (y?.v ?? -Infinity) : (x?.t ?? "").localeCompare(y?.t ?? "");
    return sort.down ? -order : order;
  });
  return (
    <div class="dtable">
      <table>
        {body.header && (
          <thead>
            <tr>
              {body.columns.map((column, at) => (
                <th key={at} class={column.right ? "num" : ""} style={{ minWidth: column.width ? `${Math.min(column.width, 400)}px` : undefined }} aria-sort={sort?.at === at ? (sort.down ? "descending" : "ascending") : undefined}>
                  <button onClick={() => setSort(sort?.at === at ? (sort.down ? null : { at, down: true }) : { at, down: false })}>{column.name}{sort?.at === at ? (sort.down ? " ↓" : " ↑") : ""}</button>
                </th>
              ))}
            </tr>
          </thead>
        )}
        <tbody>
          {rows.map((row, n) => (
            <tr key={n}>
              {row.map((cell, at) => {
                const kind = body.columns[at]?.cell ?? "auto";
                return <td key={at} data-name={body.columns[at]?.name} class={body.columns[at]?.right ? "num" : ""} style={{ color: cell.i, background: kind === "color-background" ? cell.c : undefined }}>{shownCell(cell, kind)}</td>;
              })}
            </tr>
          ))}
        </tbody>
        {body.footer && <tfoot><tr>{body.footer.map((text, at) => <td key={at} class={body.columns[at]?.right ? "num" : ""}>{text}</td>)}</tr></tfoot>}
      </table>
      {body.left_out > 0 && <p class="dim small">{body.left_out} rows more are not shown</p>}
    </div>
  );
}

export function Pie({ body }: { body: PieBody }) {
  if (!body.slices.length) return <p class="empty none">No data</p>;
  let from = 0;
  const at = (share: number, radius: number) => `${(50 + radius * Math.sin(share * 2 * Math.PI)).toFixed(2)} ${(50 - radius * Math.cos(share * 2 * Math.PI)).toFixed(2)}`;
  return (
    <div class={body.legend_right ? "pie" : "pie under"}>
      <svg viewBox="0 0 100 100" role="img" aria-label={body.slices.map((slice) => `${slice.name} ${slice.text}`).join(", ")}>
        {body.slices.map((slice, n) => {
          const [start, end] = [from, from + slice.share];
          from = end;
          if (slice.share > 0.999) return <circle key={n} cx="50" cy="50" r="48" style={{ fill: slice.color }} />;
          return <path key={n} d={`M 50 50 L ${at(start, 48)} A 48 48 0 ${slice.share > 0.5 ? 1 : 0} 1 ${at(end, 48)} Z`} style={{ fill: slice.color }}><title>{`${slice.name}: ${slice.text} (${Math.round(slice.share * 100)}%)`}</title></path>;
        })}
        {body.donut && <circle cx="50" cy="50" r="29" class="hole" />}
      </svg>
      {body.legend && (
        <ul>
          {body.slices.map((slice, n) => <li key={n}><i style={{ background: slice.color }} /><span title={slice.name}>{slice.name}</span><b>{slice.text}{body.legend_values.includes("percent") || body.labels.includes("percent") ? ` · ${Math.round(slice.share * 100)}%` : ""}</b></li>)}
        </ul>
      )}
    </div>
  );
}

export function Heat({ body, height }: { body: HeatBody; height: number }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const element = canvas.current;
    if (!element) return;
    const sizes = new ResizeObserver(() => setWidth(element.clientWidth));
    sizes.observe(element);
    return () => sizes.disconnect();
  }, [body.buckets.length === 0]);
  const shown = Math.max(40, height - 20);
  useEffect(() => {
    const element = canvas.current;
    const ctx = element?.getContext("2d");
    if (!element || !ctx || !width) return;
    const density = devicePixelRatio;
    element.width = width * density;
    element.height = shown * density;
    ctx.scale(density, density);
    const row = shown / body.buckets.length;
    const x = (ms: number) => ((ms - body.from_ms) / (body.to_ms - body.from_ms)) * width;
    body.cells.forEach((cells, bucket) => cells.forEach((shade, at) => {
      if (!shade) return;
      const [right, left] = [x(body.times_ms[at] ?? 0), Math.max(0, x((body.times_ms[at] ?? 0) - body.step_ms))];
      ctx.fillStyle = body.colors[shade - 1] ?? "";
      ctx.fillRect(left, shown - (bucket + 1) * row, Math.max(1, right - left - 0.5), Math.max(1, row - 0.5));
    }));
  }, [body, width, shown]);
  if (!body.buckets.length) return <p class="empty none">No data</p>;
  const every = Math.ceil(16 / (shown / body.buckets.length));
  return (
    <div class="heat">
      <div class="buckets" style={{ height: `${shown}px` }}>{body.buckets.map((name, at) => (at % every ? null : <span key={at} style={{ bottom: `${(at / body.buckets.length) * 100}%` }}>{name}</span>))}</div>
      <canvas ref={canvas} style={{ height: `${shown}px` }} role="img" aria-label={`Heat map of ${body.buckets.length} buckets`} />
      <div class="hours"><span>{clock(body.from_ms).slice(0, 5)}</span><span>{clock((body.from_ms + body.to_ms) / 2).slice(0, 5)}</span><span>{clock(body.to_ms).slice(0, 5)}</span></div>
    </div>
  );
}

const run = (inlines: Inline[] = []) => inlines.map((one, at) => {
  const text = one.code ? <code key={at}>{one.text}</code> : one.bold ? <b key={at}>{one.text}</b> : one.text;
  return one.url ? <a key={at} href={one.url}>{text}</a> : text;
});

export function Text({ body }: { body: TextBody }) {
  return (
    <div class="dtext">
      {body.blocks.map((block, at) => {
        if (block.kind === "code") return <pre key={at}><code>{block.text}</code></pre>;
        if (block.kind === "heading") return <p key={at} class={`h${Math.min(block.level ?? 1, 3)}`} role="heading" aria-level={(block.level ?? 1) + 2}>{run(block.inlines)}</p>;
        return <p key={at} class={block.kind === "item" ? "li" : ""}>{run(block.inlines)}</p>;
      })}
    </div>
  );
}
