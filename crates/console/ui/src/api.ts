// The server's JSON (crates/console/src/model.rs) and the ways to get it.

export type Health = "good" | "progressing" | "warning" | "critical" | "unknown";
export type Level = "normal" | "decision" | "warning" | "critical";
export type Unit = "count" | "persecond" | "seconds" | "share" | "bytes" | "cores";

export interface Address { label: string; value: string; command: string | null }
export interface Route { namespace: string; service: string; host: string; path: string }
export interface Service {
  namespace: string; name: string; health: Health; ready: number; desired: number;
  scale: [number, number] | null; scale_status: string;
  rate: number | null; error_share: number | null; p50_seconds: number | null; p99_seconds: number | null;
}
export interface Pod {
  namespace: string; name: string; services: string[]; health: Health; status: string; ready: boolean;
  restarts: number; cpu_cores: number | null; memory_bytes: number | null; started_ms: number | null;
}
export interface Thing {
  kind: string; namespace: string; name: string; health: Health; status: string; message: string;
  created_ms: number | null;
}
export interface ChartSpec { id: string; title: string; unit: Unit; stepped: boolean; queries: { expr: string }[] }
export interface Snapshot {
  name: string; version: string; now_ms: number; started_ms: number; addresses: Address[];
  routes: Route[]; services: Service[]; pods: Pod[]; objects: Thing[]; charts: ChartSpec[];
}
export interface Happening {
  id: number; at_ms: number; level: Level; lane: string; object: string; namespace: string;
  text: string; reason: string;
}
export interface Column { name: string; values: (number | null)[] }
export interface ChartData { id: string; series: Column[]; error: string | null; left_out: number }
export interface Charts { times_ms: number[]; charts: ChartData[] }

async function get<T>(path: string, signal: AbortSignal): Promise<T> {
  const response = await fetch(path, { signal });
  if (!response.ok) throw new Error((await response.text()).trim() || response.statusText);
  return (await response.json()) as T;
}

export const getCharts = (from: number, to: number, step: number, signal: AbortSignal) =>
  get<Charts>(`/api/charts?from=${from}&to=${to}&step=${step}`, signal);

export const getEvents = (from: number, to: number, signal: AbortSignal) =>
  get<Happening[]>(`/api/events?from=${from}&to=${to}`, signal);

/** Calls back with every snapshot, and with null when the connection is lost; returns how to end it. */
export function stream(onSnapshot: (snapshot: Snapshot | null) => void): () => void {
  let source: EventSource;
  let again: ReturnType<typeof setTimeout> | undefined;
  const open = () => {
    source = new EventSource("/api/stream");
    source.addEventListener("snapshot", (event) => onSnapshot(JSON.parse((event as MessageEvent<string>).data) as Snapshot));
    source.onerror = () => {
      onSnapshot(null);
      // The browser gives up for good on some errors; a second try every two seconds never does.
      source.close();
      again = setTimeout(open, 2000);
    };
  };
  open();
  return () => { clearTimeout(again); source.close(); };
}
