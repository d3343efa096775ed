// The loop as a picture: gateway, services, pods from left to right; traffic on the edges, replicas in the boxes.

import type { Pod, Service, Snapshot } from "./api";
import { marks, number } from "./format";

const MOST_PODS = 12;

export function Mark({ health }: { health: keyof typeof marks }) {
  const [sign, word] = marks[health];
  return <span class={`mark ${health}`} role="img" aria-label={word} title={word}>{sign}</span>;
}

function Edge({ service, ways }: { service: Service; ways: string[] }) {
  const bad = (service.error_share ?? 0) > 0;
  return (
    <div class="edge">
      <div class="flow">
        <b>{number(service.rate, "persecond")}</b>
        <span class={bad ? "critical" : "dim"}>{number(service.error_share, "share")} failed</span>
        <span class="dim">p99 {number(service.p99_seconds, "seconds")}</span>
      </div>
      <div class={`line ${service.rate ? "moving" : ""}`} aria-hidden="true" />
      <div class="ways">{ways.map((way) => <code key={way}>{way}</code>)}</div>
    </div>
  );
}

function PodBox({ pod, prefix }: { pod: Pod; prefix: string }) {
  const short = pod.name.startsWith(`${prefix}-`) ? pod.name.slice(prefix.length + 1) : pod.name;
  const restarts = pod.restarts > 0 ? `, ${pod.restarts} ${pod.restarts === 1 ? "restart" : "restarts"}` : "";
  return (
    <li class="pod" title={`${pod.namespace}/${pod.name}: ${pod.status}${restarts}`}>
      <Mark health={pod.health} />
      <code>{short}</code>
      {pod.health === "good"
        ? <span class="dim num">{number(pod.cpu_cores, "cores")} · {number(pod.memory_bytes, "bytes")}</span>
        : <span class={pod.health}>{pod.status}</span>}
      {pod.restarts > 0 && <span class="dim num" title={`${pod.restarts} restarts`}>↻{pod.restarts}</span>}
    </li>
  );
}

export function Topology({ snapshot, matches, onPick }: {
  snapshot: Snapshot; matches: (text: string) => boolean; onPick: (name: string) => void;
}) {
  const services = snapshot.services.filter((s) =>
    matches(s.name) || snapshot.pods.some((pod) => pod.services.includes(s.name) && pod.namespace === s.namespace && matches(pod.name)));
  if (snapshot.services.length === 0) {
    return <p class="empty">Nothing is applied yet. Start with <code>gantry up examples/shop/overlays/dev</code> or <code>kubectl apply -k DIR</code>.</p>;
  }
  const namespaces = new Set(snapshot.services.map((s) => s.namespace));
  const total = snapshot.services.reduce((sum, s) => sum + (s.rate ?? 0), 0);
  const known = snapshot.services.some((s) => s.rate !== null);
  return (
    <div class="loop">
      <div class="gateway box">
        <h3>Gateway</h3>
        <p class="num big">{number(known ? total : null, "persecond")}</p>
        <p class="dim">{snapshot.routes.length} {snapshot.routes.length === 1 ? "route" : "routes"}</p>
      </div>
      <div class="rows">
        {services.map((service) => {
          const ways = snapshot.routes
            .filter((route) => route.service === service.name && route.namespace === service.namespace)
            .map((route) => `${route.host}${route.path}`);
          const pods = snapshot.pods.filter((pod) => pod.services.includes(service.name) && pod.namespace === service.namespace);
          return (
            <div class="row" key={`${service.namespace}/${service.name}`}>
              <Edge service={service} ways={ways.length ? ways.slice(0, 3) : ["in the cluster only"]} />
              <button class={`service box ${service.health}`} onClick={() => onPick(service.name)} title={`Show what belongs to ${service.name}`}>
                <span class="name"><Mark health={service.health} /> <b>{service.name}</b>
                  {namespaces.size > 1 && <span class="dim"> {service.namespace}</span>}</span>
                <span class="num"><b class="big">{service.ready}</b><span class="dim">/{service.desired} ready</span>
                  {service.scale && <span class="dim"> · {service.scale[0]}–{service.scale[1]}</span>}</span>
                {service.scale_status && <span class="dim small">{service.scale_status}</span>}
              </button>
              <ul class="pods">
                {pods.slice(0, MOST_PODS).map((pod) => <PodBox key={pod.name} pod={pod} prefix={service.name} />)}
                {pods.length > MOST_PODS && <li class="pod dim">and {pods.length - MOST_PODS} more</li>}
                {pods.length === 0 && <li class="pod dim">no pods</li>}
              </ul>
            </div>
          );
        })}
        {services.length === 0 && <p class="empty">No service or pod matches the filter.</p>}
      </div>
    </div>
  );
}
