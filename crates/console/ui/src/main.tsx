// The page: connection and range at the top, then the loop, the charts, what happened, and every object.

import { render } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import "uplot/dist/uPlot.min.css";
import "./style.css";
import { type Charts, type Happening, type Snapshot, getCharts, getEvents, stream } from "./api";
import { Chart } from "./chart";
import { age, clock, moment, worse } from "./format";
import { Objects } from "./objects";
import { Shell } from "./rail";
import { RANGES, useAddress, useTheme } from "./state";
import { Timeline } from "./timeline";
import { Mark, Topology } from "./topology";

function Copy({ text }: { text: string }) {
  const [done, setDone] = useState(false);
  const copy = () => void navigator.clipboard?.writeText(text).then(() => {
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  });
  return <button class="copy" onClick={copy} aria-label={`Copy ${text}`}>{done ? "copied" : "copy"}</button>;
}

function useTick(ms: number): number {
  const [now, set] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => set(Date.now()), ms);
    return () => clearInterval(timer);
  }, [ms]);
  return now;
}

function App() {
  const [address, change] = useAddress();
  const [theme, nextTheme, shownTheme] = useTheme();
  const [snapshot, setSnapshot] = useState<Snapshot | null>(null);
  const [seenAt, setSeenAt] = useState(0);
  const [offset, setOffset] = useState(0);
  const [connected, setConnected] = useState<boolean | null>(null);
  const [charts, setCharts] = useState<Charts | null>(null);
  const [events, setEvents] = useState<Happening[]>([]);
  const [problem, setProblem] = useState("");
  const [loading, setLoading] = useState(true);
  const [range, setRange] = useState<[number, number]>([Date.now() - address.range * 60_000, Date.now()]);
  const search = useRef<HTMLInputElement>(null);
  const now = useTick(1000);

  useEffect(() => stream((next) => {
    setConnected(next !== null);
    if (next) {
      setSnapshot(next);
      setSeenAt(Date.now());
      setOffset(next.now_ms - Date.now());
    }
  }), []);

  // Asks for the range again every step while the page is live and in sight.
  const zoomKey = address.zoom ? address.zoom.join("-") : "";
  useEffect(() => {
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout>;
    const live = !address.zoom;
    const load = async () => {
      const to = address.zoom?.[1] ?? Date.now() + offset;
      const from = address.zoom?.[0] ?? to - address.range * 60_000;
      const step = Math.max(1, Math.ceil((to - from) / 1000 / 450)) * 1000;
      if (!document.hidden) {
        try {
          const [nextCharts, nextEvents] = await Promise.all([
            getCharts(Math.floor(from), Math.ceil(to), step, stop.signal),
            getEvents(Math.floor(from), Math.ceil(to), stop.signal),
          ]);
          setCharts(nextCharts);
          setEvents(nextEvents);
          setRange([from, to]);
          setProblem("");
        } catch (error) {
          if (stop.signal.aborted) return;
          setProblem(error instanceof Error ? error.message : String(error));
        }
        setLoading(false);
      }
      if (live) timer = setTimeout(() => void load(), Math.min(Math.max(step, 1000), 15_000));
    };
    setLoading(true);
    void load();
    return () => { stop.abort(); clearTimeout(timer); };
  }, [address.range, zoomKey, Math.round(offset / 2000)]);

  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      const typing = event.target instanceof HTMLInputElement;
      if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
        event.preventDefault();
        search.current?.focus();
      } else if (event.key === "Escape" && typing) {
        change({ filter: "" }, true);
        search.current?.blur();
      } else if (event.key === "Escape") {
        change({ event: null });
      }
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);

  const words = address.filter.toLowerCase().split(/\s+/).filter(Boolean);
  const matches = useMemo(() => (text: string) => words.every((word) => text.toLowerCase().includes(word)), [address.filter]);
  const shownEvents = useMemo(
    () => events.filter((event) => matches(`${event.object} ${event.text} ${event.namespace} ${event.lane}`)),
    [events, matches],
  );

  const failing = snapshot?.objects.filter((o) => o.health === "critical").length ?? 0;
  const warned = snapshot?.objects.filter((o) => o.health === "warning").length ?? 0;
  const worst = snapshot?.objects.map((o) => o.health).sort(worse)[0] ?? "unknown";
  const health = failing ? `${failing} failing` : warned ? `${warned} with warnings` : worst === "progressing" ? "in progress" : worst === "good" ? "all good" : snapshot?.objects.length ? "health unknown" : "nothing applied";
  useEffect(() => {
    document.title = snapshot ? `${failing ? `✕ ${failing} failing · ` : ""}${snapshot.name} · Gantry` : "Gantry";
  }, [failing, snapshot?.name]);

  const stale = connected === false;
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  return (
    <div class={stale ? "page stale" : "page"}>
      <a class="skip" href="#loop">Skip to content</a>
      <header>
        <div class="title">
          <h1>Gantry</h1>
          {snapshot && <code class="what">{snapshot.name}</code>}
          {snapshot && <span class="health"><Mark health={worst} /> {health}</span>}
        </div>
        <div class="tools">
          <input
            ref={search} type="search" placeholder="Filter  /" aria-label="Filter by name" value={address.filter}
            onInput={(event) => change({ filter: event.currentTarget.value }, true)}
          />
          <div class="ranges" role="group" aria-label="Time range">
            {RANGES.map(([minutes, label]) => (
              <button key={minutes} aria-pressed={!address.zoom && address.range === minutes} onClick={() => change({ range: minutes, zoom: null })}>{label}</button>
            ))}
          </div>
          {address.zoom && (
            <button class="zoomed" onClick={() => change({ zoom: null })} title="Back to live">
              {moment(address.zoom[0])} – {clock(address.zoom[1])} ✕
            </button>
          )}
          <span class={`live ${stale ? "critical" : "dim"}`} role="status">
            {connected === null ? "connecting" : stale ? `not connected · data is ${age(now - seenAt)} old` : address.zoom ? "paused" : "live"}
          </span>
          <button onClick={nextTheme} aria-label={`Theme: ${theme}. Switch to ${shownTheme === "dark" ? "light" : "dark"}`}>
            {shownTheme === "dark" ? "Light" : "Dark"}
          </button>
        </div>
        <div class={loading ? "progress on" : "progress"} aria-hidden="true" />
      </header>
      <main>
        {problem && <p class="problem" role="alert">The charts could not be loaded: {problem}</p>}
        {!snapshot && connected === null && <p class="empty">Loading…</p>}
        {!snapshot && stale && <p class="empty">Gantry does not answer at {location.host}. The page goes on trying.</p>}
        {snapshot && (
          <>
            <section id="loop" aria-label="Loop">
              <Topology snapshot={snapshot} matches={matches} onPick={(name) => change({ filter: address.filter === name ? "" : name })} />
            </section>
            {snapshot.charts.length > 0 && (
              <section class="charts" aria-label="Charts">
                {snapshot.charts.map((spec) => (
                  <Chart
                    key={spec.id} spec={spec} data={charts?.charts.find((c) => c.id === spec.id)} times={charts?.times_ms ?? []}
                    range={range} events={shownEvents} theme={shownTheme}
                    onZoom={(from, to) => to - from >= 2000 && change({ zoom: [from, to] })}
                    onBack={() => address.zoom && history.back()}
                  />
                ))}
              </section>
            )}
            <div class="columns">
              <section aria-label="Timeline">
                <h2>Timeline <span class="dim">{zone}</span></h2>
                <Timeline events={shownEvents} range={range} opened={address.event} onOpen={(id) => change({ event: id })} filtered={words.length > 0} />
              </section>
              <section aria-label="Objects">
                <h2>Objects</h2>
                <Objects snapshot={snapshot} kind={address.kind} matches={matches} onKind={(kind) => change({ kind })} />
              </section>
            </div>
            <footer>
              {snapshot.addresses.map((a) => (
                <div key={a.label}>
                  <span class="dim">{a.label}</span> {/^https?:/.test(a.value) ? <a href={a.value}><code>{a.value}</code></a> : <code>{a.value}</code>}
                  {" "}<Copy text={a.command ?? a.value} />
                </div>
              ))}
              <div class="dim">Gantry {snapshot.version}, up for {age(snapshot.now_ms - snapshot.started_ms)}</div>
            </footer>
          </>
        )}
      </main>
    </div>
  );
}

render(<Shell home={App} />, document.getElementById("app") as HTMLElement);
