// Every object as one line, worst first; below 720 px each line is a card.

import { useState } from "preact/hooks";
import type { Snapshot, Thing } from "./api";
import { age, worse } from "./format";
import { Mark } from "./topology";

const MOST_LISTED = 200;

export function Objects({ snapshot, kind, matches, onKind }: {
  snapshot: Snapshot; kind: string; matches: (text: string) => boolean; onKind: (kind: string) => void;
}) {
  const [all, setAll] = useState(false);
  const kinds = [...new Set(snapshot.objects.map((o) => o.kind))].sort();
  const found = snapshot.objects
    .filter((o) => (!kind || o.kind === kind) && matches(`${o.kind}/${o.name} ${o.namespace}`))
    .sort((a, b) => worse(a.health, b.health) || a.kind.localeCompare(b.kind) || a.name.localeCompare(b.name));
  const listed = all ? found : found.slice(0, MOST_LISTED);
  const namespaces = new Set(snapshot.objects.map((o) => o.namespace).filter(Boolean));
  const key = (o: Thing) => `${o.kind}/${o.namespace}/${o.name}`;
  if (snapshot.objects.length === 0) {
    return <p class="empty">No objects. Apply some with <code>kubectl apply -k DIR</code>.</p>;
  }
  return (
    <>
      <div class="kinds" role="group" aria-label="Kind">
        <button aria-pressed={!kind} onClick={() => onKind("")}>All {snapshot.objects.length}</button>
        {kinds.map((name) => (
          <button key={name} aria-pressed={kind === name} onClick={() => onKind(kind === name ? "" : name)}>
            {name} {snapshot.objects.filter((o) => o.kind === name).length}
          </button>
        ))}
      </div>
      <div class="scroll" tabIndex={0} role="region" aria-label="Objects">
        <table class="objects">
          <thead><tr><th>Kind</th><th>Name</th>{namespaces.size > 1 && <th>Namespace</th>}<th>Status</th><th class="num">Age</th></tr></thead>
          <tbody>
            {listed.flatMap((o) => [
              <tr key={key(o)} class={o.message ? "has-message" : ""}>
                <td class="dim">{o.kind}</td>
                <td><code>{o.name}</code></td>
                {namespaces.size > 1 && <td class="dim">{o.namespace || "–"}</td>}
                <td class="status"><Mark health={o.health} /> {o.status || "–"}</td>
                <td class="num dim">{o.created_ms === null ? "–" : age(snapshot.now_ms - o.created_ms)}</td>
              </tr>,
              o.message && (
                <tr key={`${key(o)} message`} class="message"><td /><td colSpan={namespaces.size > 1 ? 4 : 3}>{o.message}</td></tr>
              ),
            ])}
          </tbody>
        </table>
        {found.length === 0 && <p class="empty">No object matches the filter.</p>}
        {found.length > listed.length && <button class="link" onClick={() => setAll(true)}>Show all {found.length}</button>}
      </div>
    </>
  );
}
