// One dashboard: range, refresh and variables at the top, then its grid. One request brings all panels.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { clock, moment } from "../format";
import { useTheme } from "../state";
import { type Address, read, search, write } from "./address";
import { Bars, Gauges, Heat, Pie, Stats, Table, Text } from "./bodies";
import { Chart } from "./chart";
import { type Board as Model, type Panel, type Variable, view } from "./model";

const RANGES: [string, string][] = [["5m", "5m"], ["15m", "15m"], ["1h", "1h"], ["6h", "6h"], ["24h", "24h"], ["7d", "7d"]];
const REFRESHES = ["", "1s", "5s", "10s", "30s", "1m", "5m"];
const ROW = 30;
const GAP = 8;

const seconds = (text: string): number => {
  const found = /^(\d+)([smhd])$/.exec(text);
  return found ? Number(found[1]) * { s: 1, m: 60, h: 3600, d: 86400 }[found[2] as "s"] : 0;
};

export function Board({ uid }: { uid: string }) {
  const [address, setAddress] = useState<Address>(() => read(location.search));
  const [theme, nextTheme, shownTheme] = useTheme();
  const [board, setBoard] = useState<Model | null>(null);
  const [problem, setProblem] = useState("");
  const [loading, setLoading] = useState(true);
  const [toggled, setToggled] = useState<number[]>([]);
  const [all, setAll] = useState(false);
  const [tick, setTick] = useState(0);
  const grid = useRef<HTMLDivElement>(null);

  useEffect(() => {
    const back = () => setAddress(read(location.search));
    addEventListener("popstate", back);
    return () => removeEventListener("popstate", back);
  }, []);
  const change = (part: Partial<Address>) => {
    const next = { ...read(location.search), ...part };
    history.pushState(null, "", location.pathname + write(next));
    setAddress(next);
  };

  const key = search(address);
  useEffect(() => {
    const stop = new AbortController();
    setLoading(true);
    const ask = {
      from: address.from, to: address.to, variables: address.variables, width: Math.round(grid.current?.clientWidth || innerWidth),
      light: shownTheme === "light", utc_offset_min: -new Date().getTimezoneOffset(), toggled_rows: toggled,
      only: address.panel === null ? [] : [address.panel], all_series: all,
    };
    view(uid, ask, stop.signal).then((next) => {
      setBoard(next);
      setProblem("");
      setLoading(false);
      document.title = `${next.title} · Gantry`;
    }, (error: unknown) => {
      if (stop.signal.aborted) return;
      setProblem(error instanceof Error ? error.message : String(error));
      setLoading(false);
    });
    return () => stop.abort();
  }, [uid, key, shownTheme, toggled, all, tick]);

  const refresh = address.refresh ?? board?.refresh ?? "";
  const live = /^now/.test(address.to || (board?.to ?? "now"));
  useEffect(() => {
    const every = seconds(refresh);
    if (!every || !live) return;
    const timer = setTimeout(() => { if (!document.hidden) setTick((n) => n + 1); else setTick((n) => n); }, every * 1000);
    return () => clearTimeout(timer);
  }, [refresh, live, tick, board]);

  const from = address.from || board?.from || "";
  const to = address.to || board?.to || "";
  const zoomed = /^\d+$/.test(from);
  const zoom = (a: number, b: number) => { if (b - a >= 1000) change({ from: String(a), to: String(b) }); };
  const panels = board?.panels ?? [];
  return (
    <div class="page board">
      <header>
        <div class="title">
          <a href="/#/dashboards" class="back">Dashboards</a>
          <h1>{board?.title ?? uid}</h1>
          {address.panel !== null && <button onClick={() => change({ panel: null })}>All panels</button>}
        </div>
        <div class="tools">
          <div class="ranges" role="group" aria-label="Time range">
            {RANGES.map(([range, label]) => <button key={range} aria-pressed={from === `now-${range}` && to === "now"} onClick={() => change({ from: `now-${range}`, to: "now" })}>{label}</button>)}
          </div>
          {zoomed && <button class="zoomed" onClick={() => change({ from: "", to: "" })} title="Back to the dashboard's range">{moment(Number(from))} – {clock(Number(to))} ✕</button>}
          {!zoomed && from && !RANGES.some(([range]) => from === `now-${range}` && to === "now") && <code class="dim">{from} – {to}</code>}
          <label class="refresh"><span class="dim small">refresh</span>
            <select value={refresh} onChange={(event) => change({ refresh: event.currentTarget.value })}>
              {[...new Set([...REFRESHES, refresh])].map((value) => <option key={value} value={value}>{value || "off"}</option>)}
            </select>
          </label>
          <button onClick={() => setTick((n) => n + 1)} aria-label="Refresh now">↻</button>
          <button onClick={nextTheme} aria-label={`Theme: ${theme}. Switch to ${shownTheme === "dark" ? "light" : "dark"}`}>{shownTheme === "dark" ? "Light" : "Dark"}</button>
        </div>
        <div class={loading ? "progress on" : "progress"} aria-hidden="true" />
      </header>
      <main>
        {problem && <p class="problem" role="alert">The dashboard could not be loaded: {problem}</p>}
        {board && <Variables board={board} onChange={(name, values) => change({ variables: { ...address.variables, [name]: values } })} />}
        {!board && !problem && <p class="empty">Loading…</p>}
        {board && !panels.length && <p class="empty">This dashboard has no panels.</p>}
        <div class={address.panel === null ? "grid24" : "grid24 single"} ref={grid}>
          {panels.map((panel) => panel.body.type === "row" ? (
            <button key={panel.key} class="rowhead" style={placed(panel)} aria-expanded={panel.body.open} onClick={() => setToggled(toggled.includes(panel.id) ? toggled.filter((id) => id !== panel.id) : [...toggled, panel.id])}>
              {panel.body.open ? "▾" : "▸"} {panel.title || "Row"}
            </button>
          ) : (
            <PanelBox key={panel.key} panel={panel} theme={shownTheme} single={address.panel !== null} onView={() => change({ panel: panel.id })} onZoom={zoom} onBack={() => zoomed && history.back()} onAll={() => setAll(true)} png={png(uid, board, panel, address, shownTheme)} />
          ))}
        </div>
        {board && <p class="dim small">{moment(board.from_ms)} – {moment(board.to_ms)} {Intl.DateTimeFormat().resolvedOptions().timeZone} · {panels.length} panels, {board.queries} queries</p>}
      </main>
    </div>
  );
}

const placed = ({ grid: { x, y, w, h } }: Panel) => ({ "--x": x + 1, "--y": y + 1, "--w": w, "--h": h });

function png(uid: string, board: Model | null, panel: Panel, address: Address, theme: string): string {
  const out = new URLSearchParams({ panelId: String(panel.id), from: String(board?.from_ms ?? ""), to: String(board?.to_ms ?? ""), theme, width: "1000", height: "500" });
  for (const [name, values] of Object.entries(address.variables)) for (const value of values) out.append(`var-${name}`, value);
  return `/render/d-solo/${uid}/panel?${out.toString()}`;
}

function Variables({ board, onChange }: { board: Model; onChange: (name: string, values: string[]) => void }) {
  const shown = board.variables.filter((one) => one.hide < 2);
  const links = board.links.filter((link) => link.url);
  if (!shown.length && !links.length) return null;
  return (
    <div class="variables">
      {shown.map((one) => <Choice key={one.name} variable={one} onChange={(values) => onChange(one.name, values)} />)}
      {links.map((link, at) => <a key={at} href={link.url}>{link.title || link.url}</a>)}
    </div>
  );
}

function Choice({ variable, onChange }: { variable: Variable; onChange: (values: string[]) => void }) {
  const [filter, setFilter] = useState("");
  const details = useRef<HTMLDetailsElement>(null);
  useEffect(() => {
    const outside = (event: Event) => { if (details.current?.open && !details.current.contains(event.target as Node)) details.current.open = false; };
    addEventListener("pointerdown", outside);
    return () => removeEventListener("pointerdown", outside);
  }, []);
  const label = variable.hide === 1 ? null : <span class="dim small">{variable.label || variable.name}</span>;
  if (variable.kind === "textbox") {
    return <label class="choice">{label}<input value={variable.current[0] ?? ""} aria-label={variable.label || variable.name} onChange={(event) => onChange([event.currentTarget.value])} /></label>;
  }
  const isAll = variable.current.includes("$__all");
  const options = [...(variable.include_all ? [{ text: "All", value: "$__all" }] : []), ...variable.options];
  const textOf = (value: string) => options.find((option) => option.value === value)?.text ?? value;
  if (!variable.multi) {
    const value = variable.current[0] ?? "";
    const list = options.some((option) => option.value === value) || !value ? options : [{ text: value, value }, ...options];
    return (
      <label class="choice" title={variable.error}>{label}
        <select value={value} aria-label={variable.label || variable.name} onChange={(event) => onChange([event.currentTarget.value])}>
          {!list.length && <option value="">{variable.error ? "–" : "none"}</option>}
          {list.map((option) => <option key={option.value} value={option.value}>{option.text}</option>)}
        </select>
      </label>
    );
  }
  const pick = (value: string) => {
    if (value === "$__all") { onChange(["$__all"]); return; }
    const rest = isAll ? [] : variable.current;
    const next = rest.includes(value) ? rest.filter((other) => other !== value) : [...rest, value];
    onChange(next.length ? next : variable.include_all ? ["$__all"] : [value]);
  };
  const matching = options.filter((option) => option.text.toLowerCase().includes(filter.toLowerCase()));
  return (
    <div class="choice" title={variable.error}>{label}
      <details ref={details}>
        <summary aria-label={variable.label || variable.name}>{isAll ? "All" : variable.current.map(textOf).join(" + ") || "none"}</summary>
        <div class="menu">
          {options.length > 10 && <input type="search" placeholder="Filter" aria-label="Filter values" value={filter} onInput={(event) => setFilter(event.currentTarget.value)} />}
          {matching.slice(0, 200).map((option) => <label key={option.value}><input type="checkbox" checked={isAll ? option.value === "$__all" : variable.current.includes(option.value)} onChange={() => pick(option.value)} /> {option.text}</label>)}
          {!matching.length && <p class="empty">{variable.error ?? "No values"}</p>}
        </div>
      </details>
    </div>
  );
}

interface BoxProps { panel: Panel; theme: string; single: boolean; png: string; onView: () => void; onZoom: (a: number, b: number) => void; onBack: () => void; onAll: () => void }

function PanelBox({ panel, theme, single, png, onView, onZoom, onBack, onAll }: BoxProps) {
  const { body } = panel;
  const height = (single ? Math.max(320, innerHeight - 260) : panel.grid.h * (ROW + GAP) - GAP) - (panel.title ? 34 : 12);
  const content = useMemo(() => {
    switch (body.type) {
      case "chart": {
        const listed = body.series.filter((one) => one.in_legend);
        const rows = listed.length + (body.legend.calcs.length ? 1 : 0);
        // About the width of the names in a row, and of the panel: what does not fit wraps into a second line.
        const wanted = listed.reduce((sum, one) => sum + one.name.length * 7 + 34, 0);
        const width = single || innerWidth <= 760 ? innerWidth - 60 : ((innerWidth - 130) * panel.grid.w) / 24 - 30;
        const legend = !body.legend.shown || (body.legend.at_right && innerWidth > 760) ? 0 : body.legend.as_table || body.legend.calcs.length ? Math.min(rows * 22 + 4, height * 0.42) : wanted > width ? 46 : 24;
        return <Chart body={body} height={height - legend} theme={theme} onZoom={onZoom} onBack={onBack} onAll={onAll} />;
      }
      case "stat": return <Stats body={body} />;
      case "gauge": return <Gauges body={body} />;
      case "bargauge": return <Bars body={body} />;
      case "table": return <Table body={body} />;
      case "pie": return <Pie body={body} />;
      case "heatmap": return <Heat body={body} height={height} />;
      case "text": return <Text body={body} />;
      case "nothing": return <p class="empty none">{body.text}</p>;
      default: return null;
    }
  }, [body, theme, height]);
  return (
    <section class={`panel ${panel.transparent ? "clear" : ""}`} style={placed(panel)} data-id={panel.id} data-kind={body.type} aria-label={panel.title || undefined}>
      {(panel.title || panel.error || panel.notices) && (
        <h2>
          <span class="name" title={panel.description || panel.title}>{panel.title}</span>
          {panel.error && <span class="sign critical" title={panel.error} role="img" aria-label={`Error: ${panel.error}`}>✕</span>}
          {panel.notices && <span class="sign dim" title={panel.notices.join("\n")} role="img" aria-label={panel.notices.join("; ")}>ⓘ</span>}
          <span class="acts">
            {panel.links?.map((link) => <a key={link.url} href={link.url} title={link.title}>↗</a>)}
            {!single && <button onClick={onView} aria-label={`View ${panel.title}`} title="View alone">⤢</button>}
            <a href={png} title="As a picture" aria-label={`${panel.title} as a picture`}>PNG</a>
          </span>
        </h2>
      )}
      <div class="content">{panel.error && body.type !== "text" && isEmpty(panel) ? <p class="bad small">{panel.error}</p> : content}</div>
    </section>
  );
}

function isEmpty({ body }: Panel): boolean {
  if (body.type === "chart") return body.series.length === 0;
  if (body.type === "table") return body.columns.length === 0;
  if (body.type === "pie") return body.slices.length === 0;
  if (body.type === "heatmap") return body.buckets.length === 0;
  return body.type === "stat" || body.type === "gauge" || body.type === "bargauge" ? body.items.every((item) => item.name === "") : false;
}
