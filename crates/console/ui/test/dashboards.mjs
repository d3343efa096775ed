// Opens dashboards of a running server in headless Chromium, checks that their panels are drawn, and takes pictures.
// Usage: node dashboards.mjs CONSOLE_URL FOLDER [DASHBOARD_FILE…]

import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { contrast, start } from "./driver.mjs";

const [server, folder, ...files] = process.argv.slice(2);
const { call, session, run, open, until, look, picture, check, end } = await start(folder);
const drawn = "return document.querySelectorAll('.panel').length > 0 && !document.querySelector('.progress.on') && [...document.querySelectorAll('.panel[data-kind=chart] .dplot')].every((plot) => plot.querySelector('canvas'))";

async function save(file) {
  const dashboard = { ...JSON.parse(readFileSync(file, "utf8")), id: null };
  const response = await fetch(`${server}/api/dashboards/db`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ dashboard, overwrite: true }) });
  const answer = await response.json();
  if (!response.ok) throw new Error(`${file}: ${answer.message}`);
  return answer.url;
}

let failed = false;
try {
  for (const theme of ["light", "dark"]) {
    for (const width of [360, 1280, 2560]) {
      await look(width, theme);
      await open(`${server}/d/shop/shop`);
      await until("all panels", drawn);
      await until("a line with values", "return [...document.querySelectorAll('.panel[data-kind=chart]')].some((p) => /\\d/.test(p.querySelector('.dplot').getAttribute('aria-label')))");
      const wide = await run("return document.documentElement.scrollWidth - document.documentElement.clientWidth");
      check(wide <= 0, `shop at ${width}, ${theme}: nothing is wider than the page`);
      const low = await run(contrast);
      check(low.length === 0, `shop at ${width}, ${theme}: contrast is at least 4.5:1 ${low.join("; ")}`);
      await picture(`shop-${width}-${theme}`);
    }
  }

  await look(1280, "light");
  await open(`${server}/#/dashboards`);
  await until("the list", "return [...document.querySelectorAll('.hits a')].some((a) => a.textContent === 'Shop')");
  await picture("list-1280-light");
  await run("[...document.querySelectorAll('.hits a')].find((a) => a.textContent === 'Shop').click()");
  await until("the dashboard from the list", drawn);

  await run("const s = [...document.querySelectorAll('.choice summary')][0]; s.click(); [...s.parentElement.querySelectorAll('label')].find((l) => !/All/.test(l.textContent)).querySelector('input').click()");
  await until("the variable in the address", "return /var-service=/.test(location.search)");
  await run("history.back()");
  await until("Back", "return !/var-service=/.test(location.search)");
  check(true, "a variable is in the address and Back works");

  await until("all panels again", drawn);
  const box = await run("const b = document.querySelector('.panel[data-id=\"4\"] .u-over').getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]");
  const pointer = (list) => call("POST", `${session}/actions`, { actions: [{ type: "pointer", id: "m", parameters: { pointerType: "mouse" }, actions: list }] });
  await pointer([{ type: "pointerMove", x: Math.round(box[0]) - 9, y: Math.round(box[1]) }, { type: "pointerMove", x: Math.round(box[0]), y: Math.round(box[1]) }]);
  await until("the cursor on another panel", "const c = document.querySelector('.panel[data-id=\"5\"] .u-cursor-x'); return c && /translate\\((?!-)\\d{2,}/.test(c.style.transform)");
  check(true, "the crosshair is shared");
  await picture("cursor-1280-light");
  await pointer([{ type: "pointerDown", button: 0 }, { type: "pointerMove", x: Math.round(box[0]) + 60, y: Math.round(box[1]), duration: 100 }, { type: "pointerUp", button: 0 }]);
  await until("the zoom in the address", "return /from=\\d+&to=\\d+/.test(location.search)");
  check(true, "drag zooms and the zoom is in the address");

  await open(`${server}/d/shop/shop?viewPanel=5`);
  await until("one panel", `${drawn.replace("length > 0", "length === 1")}`);
  check(true, "a panel can be opened alone by its address");

  for (const file of files) {
    await look(1280, "dark");
    await open(`${server}${await save(file)}`);
    await until(`${basename(file)} drawn`, drawn);
    const wrong = await run("return [...document.querySelectorAll('.panel .sign.critical, .problem')].map((e) => e.getAttribute('aria-label') ?? e.textContent)");
    check(wrong.length === 0, `${basename(file)} is drawn without an error ${wrong.join("; ")}`);
    await picture(basename(file, ".json"));
  }

  const log = (await call("POST", `${session}/se/log`, { type: "browser" })).filter((entry) => entry.level === "SEVERE");
  check(log.length === 0, `no error in the console ${JSON.stringify(log)}`);
} catch (error) {
  failed = true;
  console.error(String(error?.stack ?? error));
  await picture("failed").catch(() => {});
} finally {
  await end();
}
process.exit(failed ? 1 : 0);
