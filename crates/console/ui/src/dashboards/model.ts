// What the server says of dashboards (crates/dashboards/src/view), and the ways to ask for it.

export type Unit = { kind: string; suffix?: string; prefix?: string; symbol?: string; power?: number; names?: string[]; after?: boolean; yes?: string; no?: string; scale?: string; days?: boolean; style?: string };
export interface Shown { prefix?: string; text: string; suffix?: string; color?: string; share?: number }
export interface Link { title: string; url: string }
export interface Series {
  name: string; color: string; values: (number | null)[]; unit: Unit; decimals?: number; draw: "line" | "bars" | "points";
  shape: string; width: number; fill: number; dash?: number[]; points: boolean; spans: boolean; stack?: string; percent: boolean;
  on_right: boolean; hidden: boolean; in_legend: boolean; calcs: { text: string; value: number | null }[];
}
export interface Axis {
  unit: Unit; decimals: number | null; min: number | null; max: number | null; soft_min: number | null; soft_max: number | null;
  log: number | null; label?: string; hidden: boolean; centered: boolean;
}
export interface ChartBody {
  type: "chart"; from_ms: number; to_ms: number; times_ms: number[]; series: Series[]; left_out: number; left: Axis; right?: Axis;
  legend: { shown: boolean; as_table: boolean; at_right: boolean; calcs: string[]; sort_by: string | null; sort_desc: boolean };
  limits?: { from: number | null; to: number | null; color: string; line: boolean; area: boolean }[];
}
export interface Stat extends Shown { name: string; ink: string; on_color: string; spark?: (number | null)[]; steps: [number, string][] }
export interface StatsBody {
  type: "stat" | "gauge" | "bargauge"; items: Stat[]; left_out: number; color_mode: string; graph: boolean; text_mode: string;
  vertical: boolean; centered: boolean; display_mode: string; unfilled: boolean; threshold_markers: boolean; prefix: string; postfix: string;
}
export interface Cell { t: string; v?: number; c?: string; i?: string; s?: number; l?: Link }
export interface TableBody {
  type: "table"; columns: { name: string; width?: number; right: boolean; cell: string; is_number: boolean }[]; rows: Cell[][];
  footer?: string[]; left_out: number; header: boolean;
}
export interface Inline { text: string; bold?: boolean; code?: boolean; url?: string | null }
export interface TextBody { type: "text"; blocks: { kind: "heading" | "paragraph" | "item" | "code"; level?: number; inlines?: Inline[]; text?: string }[] }
export interface PieBody {
  type: "pie"; slices: { name: string; text: string; share: number; color: string }[]; donut: boolean; labels: string[];
  legend: boolean; legend_right: boolean; legend_values: string[]; left_out: number;
}
export interface HeatBody {
  type: "heatmap"; from_ms: number; to_ms: number; step_ms: number; times_ms: number[]; buckets: string[]; cells: number[][];
  values: (number | null)[][]; colors: string[];
}
export type Body = ChartBody | StatsBody | TableBody | TextBody | PieBody | HeatBody | { type: "row"; open: boolean } | { type: "nothing"; text: string };
export interface Panel {
  key: string; id: number; title: string; description?: string; grid: { x: number; y: number; w: number; h: number };
  transparent: boolean; links?: Link[]; notices?: string[]; error?: string; body: Body;
}
export interface Variable {
  name: string; label: string; hide: number; kind: string; multi: boolean; include_all: boolean;
  options: { text: string; value: string }[]; current: string[]; error?: string;
}
export interface Board {
  uid: string; title: string; from_ms: number; to_ms: number; from: string; to: string; refresh: string; shares_crosshair: boolean;
  variables: Variable[]; links: { title: string; url: string; tags: string[]; keep_time: boolean; include_vars: boolean }[];
  panels: Panel[]; queries: number;
}
export interface Hit { uid: string; title: string; url: string; type: string; tags: string[]; folderTitle?: string }
export interface Ask {
  from: string; to: string; variables: Record<string, string[]>; width: number; light: boolean; utc_offset_min: number;
  toggled_rows: number[]; only: number[]; all_series: boolean;
}

async function read<T>(response: Response): Promise<T> {
  if (response.ok) return (await response.json()) as T;
  const text = await response.text();
  let message = text;
  try { message = (JSON.parse(text) as { message?: string }).message ?? text; } catch { /* not JSON: the text itself */ }
  throw new Error(message || response.statusText);
}

export const search = async (signal: AbortSignal): Promise<Hit[]> => read(await fetch("/api/search?type=dash-db&limit=5000", { signal }));

export const view = async (uid: string, ask: Ask, signal: AbortSignal): Promise<Board> =>
  read(await fetch(`/api/dashboards/uid/${encodeURIComponent(uid)}/view`, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(ask), signal,
  }));
