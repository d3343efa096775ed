// The Dashboards view: the list, or the dashboard that the address names.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { useTheme } from "../state";
import { Board } from "./board";
import { type Hit, search } from "./model";

// Its looks come with it, not with the first load.
const sheet = document.createElement("link");
sheet.rel = "stylesheet";
sheet.href = "/dashboards.css";
document.head.append(sheet);

export function Page() {
  const named = /^\/d\/([^/]+)/.exec(location.pathname)?.[1] ?? /^#\/dashboards\/([^/?]+)/.exec(location.hash)?.[1];
  return named ? <Board uid={decodeURIComponent(named)} /> : <List />;
}

function List() {
  const [hits, setHits] = useState<Hit[] | null>(null);
  const [problem, setProblem] = useState("");
  const [filter, setFilter] = useState("");
  const [theme, nextTheme, shownTheme] = useTheme();
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => {
    const stop = new AbortController();
    document.title = "Dashboards · Gantry";
    search(stop.signal).then(setHits, (error: unknown) => { if (!stop.signal.aborted) setProblem(String(error)); });
    const press = (event: KeyboardEvent) => {
      if (event.key === "/" && !(event.target instanceof HTMLInputElement)) { event.preventDefault(); input.current?.focus(); }
    };
    addEventListener("keydown", press);
    return () => { stop.abort(); removeEventListener("keydown", press); };
  }, []);
  const folders = useMemo(() => {
    const terms = filter.toLowerCase().split(/\s+/).filter(Boolean);
    const out = new Map<string, Hit[]>();
    for (const hit of hits ?? []) {
      const text = `${hit.title} ${hit.tags.join(" ")} ${hit.folderTitle ?? ""}`.toLowerCase();
      if (terms.every((term) => text.includes(term))) out.set(hit.folderTitle ?? "", [...(out.get(hit.folderTitle ?? "") ?? []), hit]);
    }
    return [...out].sort(([a], [b]) => a.localeCompare(b));
  }, [hits, filter]);
  return (
    <div class="page board">
      <header>
        <div class="title"><h1>Dashboards</h1>{hits && <span class="dim">{hits.length}</span>}</div>
        <div class="tools">
          <input ref={input} type="search" placeholder="Filter  /" aria-label="Filter dashboards" value={filter} onInput={(event) => setFilter(event.currentTarget.value)} />
          <button onClick={nextTheme} aria-label={`Theme: ${theme}. Switch to ${shownTheme === "dark" ? "light" : "dark"}`}>{shownTheme === "dark" ? "Light" : "Dark"}</button>
        </div>
      </header>
      <main>
        {problem && <p class="problem" role="alert">The dashboards could not be listed: {problem}</p>}
        {!hits && !problem && <p class="empty">Loading…</p>}
        {hits?.length === 0 && <p class="empty">No dashboards yet. Label a ConfigMap that holds one: <code>kubectl label configmap NAME grafana_dashboard=1</code></p>}
        {hits !== null && hits.length > 0 && folders.length === 0 && <p class="empty">No dashboard fits this filter.</p>}
        {folders.map(([folder, list]) => (
          <section key={folder} aria-label={folder || "General"}>
            {(folder || folders.length > 1) && <h2>{folder || "General"}</h2>}
            <ul class="hits">
              {list.map((hit) => <li key={hit.uid}><a href={hit.url}>{hit.title}</a> {hit.tags.map((tag) => <button key={tag} class="tag" onClick={() => setFilter(tag)}>{tag}</button>)}</li>)}
            </ul>
          </section>
        ))}
      </main>
    </div>
  );
}
