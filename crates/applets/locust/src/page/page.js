// The page of a run: start, watch, change, stop. Numbers come from the same addresses that scripts use.

const get = (id) => document.getElementById(id);
const EVERY_MS = 1000;
const MOST_POINTS = 3600;
const points = [];
let about = null;
let latest = null;
let tab = "statistics";
let editing = false;

const three = (value) => {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e6) return `${(value / 1e6).toPrecision(3)} M`;
  if (size >= 1e4) return `${(value / 1e3).toPrecision(3)} k`;
  return size >= 100 || Number.isInteger(value) ? String(Math.round(value)) : size >= 10 ? value.toFixed(1) : value.toFixed(2);
};
const text = (value) => document.createTextNode(String(value));
const element = (name, attributes, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) made.setAttribute(key, value);
  made.append(...children);
  return made;
};

function table(id, headings, rows, empty) {
  const target = get(id);
  if (!rows.length) return target.replaceChildren(element("caption", { class: "empty" }, text(empty)));
  const number = (index) => (headings[index].startsWith("#") ? { class: "number" } : {});
  const head = headings.map((name, index) => element("th", number(index), text(name.replace(/^#/, ""))));
  const body = rows.map(({ cells, total }) =>
    element("tr", total ? { class: "total" } : {}, ...cells.map((cell, index) =>
      element("td", number(index), cell instanceof Node ? cell : text(cell)))));
  target.replaceChildren(element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body));
}

function statistics(report) {
  const exact = report.stats.some((row) => row.exact_ms);
  const headings = ["Type", "Name", "#Requests", "#Fails", "#Median ms", "#95 % ms", "#99 % ms", "#Average ms", "#Min ms", "#Max ms", "#Bytes", "#RPS now", "#Failures/s"];
  if (exact) headings.splice(7, 0, "#exact p50", "#exact p99");
  const rows = report.stats.map((row, index) => {
    const cells = [row.method, row.name, row.num_requests, row.num_failures, three(row.median_response_time),
      three(row["response_time_percentile_0.95"]), three(row["response_time_percentile_0.99"]), three(row.avg_response_time),
      three(row.min_response_time), three(row.max_response_time), three(row.avg_content_length), three(row.current_rps), three(row.current_fail_per_sec)];
    if (exact) cells.splice(7, 0, three(row.exact_ms?.p50), three(row.exact_ms?.p99));
    return { cells, total: index === report.stats.length - 1 };
  });
  table("table-statistics", headings, report.stats.length > 1 ? rows : [], "No request has been sent yet.");
}

function errors(report) {
  const rows = report.errors.map((error) => ({ cells: [error.occurrences, error.method, error.name, error.error] }));
  table("table-errors", ["#Failures", "Method", "Name", "Message"], rows, "No request has failed.");
}

function nodes(report) {
  const rows = (report.workers ?? []).map((worker) => ({
    cells: [worker.id, worker.state, worker.user_count, `${three(worker.cpu_usage)} %`, `${three(worker.memory_usage / 2 ** 20)} MiB`],
  }));
  table("table-nodes", ["Worker", "State", "#Users", "#CPU", "#Memory"], rows, "No worker has connected: locust -f - --worker --master-host THIS_HOST");
}

async function ratio() {
  const answer = await (await fetch("tasks")).json();
  const rows = [];
  const walk = (level, depth) => {
    for (const [name, value] of Object.entries(level)) {
      rows.push({ cells: [" ".repeat(depth) + name, `${(value.ratio * 100).toFixed(1)} %`] });
      walk(value.tasks ?? {}, depth + 1);
    }
  };
  walk(answer.total, 0);
  table("table-ratio", ["Class or task", "#Share of all users"], rows, "No worker has told which users it has.");
}

async function exceptions() {
  const answer = await (await fetch("exceptions")).json();
  const rows = answer.exceptions.map((row) => ({
    cells: [row.count, row.msg, element("pre", {}, text(row.traceback)), row.nodes],
  }));
  count("exceptions", rows.length);
  table("table-exceptions", ["#Count", "Message", "Traceback", "Nodes"], rows, "No exception was raised.");
}

async function logs() {
  const answer = await (await fetch("logs")).json();
  const lines = answer.master.concat(...Object.entries(answer.workers).map(([id, own]) => ["", `— ${id}`, ...own]));
  get("log").textContent = lines.join("\n");
}

const count = (name, value) => { document.querySelector(`[data-count="${name}"]`).textContent = value ? `(${value})` : ""; };

// === charts ===

function chart(id, series) {
  const canvas = get(id);
  const ratioOfPixels = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.height / (canvas.dataset.ratio ?? 1)];
  canvas.dataset.ratio = ratioOfPixels;
  canvas.width = width * ratioOfPixels;
  canvas.height = height * ratioOfPixels;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(ratioOfPixels, ratioOfPixels);
  const style = getComputedStyle(document.documentElement);
  // light-dark() is resolved on an element, not on the variable.
  const probe = element("span", { hidden: "" });
  document.body.append(probe);
  const colour = (name) => { probe.style.color = `var(${name})`; return getComputedStyle(probe).color; };
  const [left, bottom, top] = [44, 18, 6];
  const most = niceMost(Math.max(0, ...series.flatMap(([value]) => points.map((point) => value(point) ?? 0))));
  context.font = `11px ${style.getPropertyValue("--mono")}`;
  context.textAlign = "right";
  context.lineWidth = 1;
  for (let step = 0; step <= 4; step++) {
    const y = top + (height - bottom - top) * (1 - step / 4);
    context.strokeStyle = colour("--grid");
    context.beginPath(); context.moveTo(left, y); context.lineTo(width, y); context.stroke();
    context.fillStyle = colour("--dim");
    if (step % 2 === 0) context.fillText(three(most * step / 4), left - 6, y + 4);
  }
  if (points.length > 1) {
    const [first, last] = [points[0].at, points.at(-1).at];
    const x = (at) => left + (width - left - 2) * (at - first) / Math.max(1, last - first);
    const y = (value) => top + (height - bottom - top) * (1 - value / most);
    for (const [value, name] of series) {
      context.strokeStyle = colour(name);
      context.lineWidth = 1.5;
      context.beginPath();
      let open = false;
      for (const point of points) {
        const now = value(point);
        if (now === null || now === undefined) { open = false; continue; }
        if (open) context.lineTo(x(point.at), y(now)); else context.moveTo(x(point.at), y(now));
        open = true;
      }
      context.stroke();
    }
    context.fillStyle = colour("--dim");
    const clock = (at) => new Date(at).toLocaleTimeString();
    context.textAlign = "left"; context.fillText(clock(first), left, height - 4);
    context.textAlign = "right"; context.fillText(clock(last), width - 2, height - 4);
  }
  probe.remove();
}

function niceMost(value) {
  if (value <= 0) return 1;
  const size = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 8, 10].map((factor) => factor * size).find((step) => step >= value);
}

function charts() {
  chart("chart-rps", [[(point) => point.rps, "--s0"], [(point) => point.failures, "--critical"]]);
  chart("chart-time", [[(point) => point.p50, "--s0"], [(point) => point.p95, "--s1"]]);
  chart("chart-users", [[(point) => point.users, "--s0"]]);
}

// === the run ===

function show(report) {
  latest = report;
  const active = report.state === "running" || report.state === "spawning";
  const state = get("state");
  state.textContent = report.state;
  state.className = `state ${report.state}`;
  get("users").textContent = report.user_count;
  get("rps").textContent = three(report.current_rps);
  get("failures").textContent = `${(report.fail_ratio * 100).toFixed(report.fail_ratio ? 1 : 0)} %`;
  const p95 = report.current_response_time_percentiles?.["response_time_percentile_0.95"];
  get("p95").textContent = p95 === null || p95 === undefined ? "–" : `${three(p95)} ms`;
  get("workers-figure").hidden = !about.is_distributed;
  get("workers").textContent = report.worker_count ?? "–";
  document.querySelector('[data-tab="nodes"]').hidden = !about.is_distributed;
  get("stop").hidden = !active;
  get("edit").hidden = !active || editing;
  get("reset").hidden = !active && !report.stats.at(-1)?.num_requests;
  get("start").hidden = active && !editing;
  get("cancel").hidden = !editing;
  get("start-title").textContent = editing ? "Change load" : "Start load";
  get("submit").textContent = editing ? "Change load" : "Start load";
  get("submit").disabled = about.is_distributed && !report.worker_count;
  get("submit").title = get("submit").disabled ? "No worker has connected yet" : "";
  get("charts").hidden = points.length === 0;
  document.title = `${active ? "● " : ""}${three(report.current_rps)} req/s · Locust`;
  if (active) {
    points.push({
      at: Date.now(), rps: report.current_rps, failures: report.current_fail_per_sec, users: report.user_count, p95,
      p50: report.current_response_time_percentiles?.["response_time_percentile_0.5"],
    });
    if (points.length > MOST_POINTS) points.shift();
  }
  count("errors", report.errors.length);
  if (tab === "statistics") statistics(report);
  if (tab === "errors") errors(report);
  if (tab === "nodes") nodes(report);
  if (tab === "exceptions") void exceptions();
  if (tab === "ratio") void ratio();
  if (tab === "logs") void logs();
  if (points.length) charts();
}

async function poll() {
  try {
    if (!about) await begin();
    if (!document.hidden || !latest) show(await (await fetch("stats/requests")).json());
  } catch {
    const state = get("state");
    state.textContent = "not connected";
    state.className = "state lost";
  }
  setTimeout(() => void poll(), EVERY_MS);
}

async function begin() {
  about = await (await fetch("state")).json();
  get("file").textContent = about.locustfile;
  get("engine").textContent = `Engine: ${about.engine}. Locust ${about.version} is spoken.`;
  get("history-link").hidden = !about.full_history;
  const form = get("form");
  form.user_count.value = about.num_users ?? 1;
  form.spawn_rate.value = about.spawn_rate ?? 1;
  form.host.value = about.host ?? "";
  form.run_time.value = about.run_time ?? "";
  const classes = get("classes");
  classes.hidden = !about.show_userclass_picker;
  for (const name of about.show_userclass_picker ? about.available_user_classes : []) {
    classes.append(element("label", {}, element("input", { type: "checkbox", name: "user_classes", value: name, checked: "" }), text(name)));
  }
  for (const point of await (await fetch("stats/history")).json()) {
    points.push({ at: Date.parse(point.time), rps: point.current_rps, failures: point.current_fail_per_sec, p50: point.p50, p95: point.p95, users: point.user_count });
  }
}

get("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const fresh = !(latest?.state === "running" || latest?.state === "spawning");
  const answer = await (await fetch("swarm", { method: "POST", body: new URLSearchParams(new FormData(get("form"))) })).json();
  get("problem").hidden = answer.success;
  get("problem").textContent = answer.message;
  if (answer.success) {
    editing = false;
    if (fresh) points.length = 0;
  }
});
get("stop").addEventListener("click", async () => {
  get("stop").disabled = true;
  await fetch("stop", { method: "POST" });
  get("stop").disabled = false;
});
get("reset").addEventListener("click", () => void fetch("stats/reset", { method: "POST" }));
get("edit").addEventListener("click", () => { editing = true; if (latest) show(latest); });
get("cancel").addEventListener("click", () => { editing = false; if (latest) show(latest); });
get("tabs").addEventListener("click", (event) => {
  const button = event.target.closest("[data-tab]");
  if (!button) return;
  tab = button.dataset.tab;
  for (const other of document.querySelectorAll("[data-tab]")) other.setAttribute("aria-selected", String(other === button));
  for (const panel of document.querySelectorAll("[data-panel]")) panel.hidden = panel.dataset.panel !== tab;
  if (latest) show(latest);
});
addEventListener("resize", () => points.length && charts());
void poll();
