// The load page: choose or write a scenario, start it, watch it, stop it.

import { useEffect, useState } from "preact/hooks";
import "./load.css";
import type { ChartData, ChartSpec, Unit } from "./api";
import { Chart } from "./chart";
import { age, number } from "./format";
import { useTheme } from "./state";

interface Scenario { name: string; text: string }
interface Request { name: string; rate: number; failed: number; p50_seconds: number | null; p99_seconds: number | null }
interface Threshold { expr: string; passed: boolean; measured: string }
interface Run {
  scenario: string; target: string; running: boolean; started_ms: number; seconds: number; duration: number;
  total_requests: number; total_failed: number; times_ms: number[]; rate: number[]; failed: number[];
  p50: (number | null)[]; p99: (number | null)[]; users: number[]; in_flight: number[];
  requests: Request[]; thresholds: Threshold[]; ended_early: string | null;
}
interface View { scenarios: Scenario[]; run: Run | null }

const EVERY_MS = 1000;
const EXAMPLE = `name: a first look
duration: 30s
users: {count: 5, think: {between: [100ms, 300ms]}}
requests:
- /
thresholds:
  load: [error_rate == 0, p99 < 1s]
`;

async function ask(path: string, body?: unknown): Promise<Response> {
  const init = body === undefined ? {} : { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(path, init);
  if (!response.ok) throw new Error((await response.text()).trim() || response.statusText);
  return response;
}

const words = (error: unknown): string => (error instanceof Error ? error.message : String(error));

function LoadPage({ theme }: { theme: string }) {
  const [view, setView] = useState<View | null>(null);
  const [lost, setLost] = useState("");
  const [problem, setProblem] = useState("");
  const [name, setName] = useState("");
  const [text, setText] = useState<string | null>(null);

  useEffect(() => {
    let timer: ReturnType<typeof setTimeout>;
    let ended = false;
    const load = async () => {
      if (!document.hidden) {
        try {
          setView(await (await ask("/api/load")).json() as View);
          setLost("");
        } catch (error) {
          setLost(words(error));
        }
      }
      if (!ended) timer = setTimeout(() => void load(), EVERY_MS);
    };
    void load();
    return () => { ended = true; clearTimeout(timer); };
  }, []);

  const first = view?.scenarios[0];
  const chosen = name || first?.name || "scenario";
  const shown = text ?? view?.scenarios.find((scenario) => scenario.name === chosen)?.text ?? EXAMPLE;
  const run = view?.run ?? null;
  const act = (path: string, body: unknown) => void ask(path, body).then(() => setProblem(""), (error: unknown) => setProblem(words(error)));

  if (!view) return <p class="empty">{lost ? `The load could not be asked for: ${lost}` : "Loading…"}</p>;
  return (
    <div class="load">
      {lost && <p class="problem" role="alert">Not connected: {lost}</p>}
      <section aria-label="Scenario">
        <h2>Scenario</h2>
        {view.scenarios.length > 1 && (
          <p>
            <select aria-label="Scenario file" value={chosen} onChange={(event) => { setName(event.currentTarget.value); setText(null); }}>
              {view.scenarios.map((scenario) => <option key={scenario.name} value={scenario.name}>{scenario.name}</option>)}
            </select>
          </p>
        )}
        {view.scenarios.length === 0 && <p class="empty">No scenario lies beside the kustomization; this one is an example.</p>}
        <textarea
          aria-label={`Scenario ${chosen}`} spellcheck={false} rows={16} value={shown} disabled={run?.running}
          onInput={(event) => setText(event.currentTarget.value)}
        />
        {problem && <p class="problem" role="alert">{problem}</p>}
        <p class="actions">
          {run?.running
            ? <button onClick={() => act("/api/load/stop", {})}>Stop load</button>
            : <button class="primary" onClick={() => act("/api/load/start", { name: chosen, text: shown })}>Start load</button>}
          {text !== null && !run?.running && <button onClick={() => setText(null)}>Undo changes</button>}
        </p>
      </section>
      {run ? <RunView run={run} theme={theme} /> : <p class="empty">No load has been sent yet. It goes through the gateway, as users' requests do.</p>}
    </div>
  );
}

function RunView({ run, theme }: { run: Run; theme: string }) {
  const verdict = run.thresholds.length === 0 ? "" : run.thresholds.every((threshold) => threshold.passed) ? "✓ every threshold held" : "✕ a threshold did not hold";
  const error = run.total_requests ? run.total_failed / run.total_requests : null;
  const range: [number, number] = [run.times_ms[0] ?? run.started_ms, run.times_ms.at(-1) ?? run.started_ms + 1000];
  const charts: [string, string, Unit, [string, (number | null)[]][]][] = [
    ["load-rate", "Requests", "persecond", [["requests", run.rate], ["failed", run.failed]]],
    ["load-latency", "Latency from when a request was due", "seconds", [["p50", run.p50], ["p99", run.p99]]],
    ["load-users", "Users and requests in flight", "count", [["users", run.users], ["in flight", run.in_flight]]],
  ];
  return (
    <section aria-label="Run">
      <h2>
        {run.scenario} <span class="dim">{run.running ? `running, ${age(run.seconds * 1000)} of ${age(run.duration * 1000)}` : `ran for ${age(run.seconds * 1000)}`} · {run.target}</span>
      </h2>
      <p class="figures">
        <span><b>{number(run.total_requests, "count")}</b> requests</span>
        <span><b>{number(error, "share")}</b> failed</span>
        <span><b>{number(run.rate.at(-1), "persecond")}</b> {run.running ? "now" : "at the end"}</span>
        <span><b>{number(run.p99.at(-1), "seconds")}</b> p99</span>
        {verdict && <span class={verdict.startsWith("✓") ? "held" : "bad"}>{verdict}</span>}
        {run.ended_early && <span class="dim">ended early: {run.ended_early}</span>}
      </p>
      <div class="charts">
        {charts.map(([id, title, unit, series]) => {
          const spec: ChartSpec = { id, title, unit, stepped: false, queries: [] };
          const data: ChartData = { id, series: series.map(([column, values]) => ({ name: column, values })), error: null, left_out: 0 };
          return <Chart key={id} spec={spec} data={data} times={run.times_ms} range={range} events={[]} theme={theme} onZoom={() => undefined} onBack={() => undefined} />;
        })}
      </div>
      {run.thresholds.length > 0 && (
        <ul class="verdicts">
          {run.thresholds.map((threshold) => (
            <li key={threshold.expr}>
              <span class={threshold.passed ? "held" : "bad"}>{threshold.passed ? "✓ held" : "✕ failed"}</span> <code>{threshold.expr}</code> <span class="dim">measured {threshold.measured}</span>
            </li>
          ))}
        </ul>
      )}
      <div class="wide">
        <table>
          <thead><tr><th>Request</th><th class="num">Rate</th><th class="num">Failed</th><th class="num">p50</th><th class="num">p99</th></tr></thead>
          <tbody>
            {run.requests.map((request) => (
              <tr key={request.name}>
                <td>{request.name}</td><td class="num">{number(request.rate, "persecond")}</td><td class="num">{request.failed}</td>
                <td class="num">{number(request.p50_seconds, "seconds")}</td><td class="num">{number(request.p99_seconds, "seconds")}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

/** The view as the rail opens it. */
export function Page() {
  const [theme, nextTheme, shownTheme] = useTheme();
  return (
    <div class="page">
      <header>
        <div class="title"><h1>Load</h1></div>
        <div class="tools">
          <button onClick={nextTheme} aria-label={`Theme: ${theme}. Switch to ${shownTheme === "dark" ? "light" : "dark"}`}>{shownTheme === "dark" ? "Light" : "Dark"}</button>
        </div>
      </header>
      <main><LoadPage theme={shownTheme} /></main>
    </div>
  );
}
