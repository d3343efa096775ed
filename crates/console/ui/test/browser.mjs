// Opens the page in headless Chromium through chromedriver, checks what a person would, and takes pictures.
// Usage: node browser.mjs SHOP_URL TROUBLE_URL EMPTY_URL FOLDER

import { contrast, start } from "./driver.mjs";

const [shop, trouble, empty, folder] = process.argv.slice(2);
const { call, session, run, open, until, look, picture, check, end } = await start(folder);

/** Pixels of a chart that have the colour of its first series: lines, not only axes. */
const lines = `
  const canvas = document.querySelector("#chart-rate canvas");
  const probe = document.body.appendChild(document.createElement("i")); probe.style.color = "var(--s0)";
  const one = document.createElement("canvas").getContext("2d"); one.fillStyle = getComputedStyle(probe).color; one.fillRect(0, 0, 1, 1); probe.remove();
  const want = one.getImageData(0, 0, 1, 1).data;
  const all = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let count = 0;
  for (let i = 0; i < all.length; i += 4) if (all[i + 3] > 200 && [0, 1, 2].every((c) => Math.abs(all[i + c] - want[c]) < 12)) count += 1;
  return count;`;

const drawn = "return document.querySelectorAll('.chart canvas').length >= 6 && [...document.querySelectorAll('.key b')].some(b => /\\d/.test(b.textContent))";

let failed = false;
try {
  for (const theme of ["light", "dark"]) {
    for (const width of [360, 1280, 2560]) {
      await look(width, theme);
      for (const [name, url] of [["shop", shop], ["trouble", trouble], ["empty", empty]]) {
        await open(url);
        await until("the snapshot", "return document.querySelector('.what') !== null");
        if (name !== "empty") {
          await until("charts", drawn);
          await until("lines in the charts", `${lines.replace("return count", "return count > 100")}`);
        }
        const wide = await run("return document.documentElement.scrollWidth - document.documentElement.clientWidth");
        check(wide <= 0, `${name} at ${width}, ${theme}: nothing is wider than the page`);
        const low = await run(contrast);
        check(low.length === 0, `${name} at ${width}, ${theme}: contrast is at least 4.5:1 ${low.join("; ")}`);
        await picture(`${name}-${width}-${theme}`);
      }
    }
  }

  await look(1280, "light");
  await open(trouble);
  await until("charts", drawn);
  const text = await run("return document.body.innerText");
  check(/CrashLoopBackOff/.test(text) && /failing/.test(text), "a failing pod is named");
  check((await run("return document.title")).includes("failing"), "the title says that something fails");
  check(await run("return document.querySelectorAll('.row').length === 2"), "both services are in the picture");

  // Keyboard: / focuses the filter, typing narrows, Escape clears.
  await call("POST", `${session}/actions`, { actions: [{ type: "key", id: "k", actions: [..."/checkout"].flatMap((c) => [{ type: "keyDown", value: c }, { type: "keyUp", value: c }]) }] });
  await until("the filter", "return document.querySelectorAll('.row').length === 1 && location.search.includes('q=checkout')");
  await call("POST", `${session}/actions`, { actions: [{ type: "key", id: "k", actions: [{ type: "keyDown", value: "\uE00C" }, { type: "keyUp", value: "\uE00C" }] }] });
  await until("the filter cleared", "return document.querySelectorAll('.row').length === 2 && !location.search.includes('q=')");
  check(true, "the filter works by keyboard and is in the address");

  // A range is in the address, Back works.
  await run("[...document.querySelectorAll('.ranges button')].find(b => b.textContent === '1h').click()");
  await until("the range in the address", "return location.search.includes('range=60')");
  await run("history.back()");
  await until("Back", "return !location.search.includes('range=60') && document.querySelector('.ranges [aria-pressed=true]').textContent === '15m'");
  check(true, "the range is in the address and Back works");

  // A decision opens its reason, from a link too.
  await run("document.querySelector('.events li.decision button').click()");
  await until("the reason", "return /target 60|stabilisation|minimum/.test(document.querySelector('.reason')?.textContent)");
  const address = await run("return location.href");
  check(/event=\d+/.test(address), "the opened decision is in the address");
  await open(address);
  await until("the reason after loading", "return document.querySelector('.reason') !== null");
  await picture("reason-1280-light");

  // Pointing at one chart points at all of them.
  const box = await run("const b = document.querySelector('#chart-rate .u-over').getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]");
  await call("POST", `${session}/actions`, { actions: [{ type: "pointer", id: "m", parameters: { pointerType: "mouse" }, actions: [{ type: "pointerMove", x: Math.round(box[0]) - 9, y: Math.round(box[1]) }, { type: "pointerMove", x: Math.round(box[0]), y: Math.round(box[1]) }] }] });
  await until("the cursor on another chart", "const c = document.querySelector('#chart-cpu .u-cursor-x'); return c && /translate\\((?!-)\\d{2,}/.test(c.style.transform)");
  await until("the cursor on the timeline", "return !document.querySelector('.now').hidden");
  check(true, "the cursor is shared");
  await picture("cursor-1280-light");

  // Drag zooms, a double click goes back.
  const actions = (list) => call("POST", `${session}/actions`, { actions: [{ type: "pointer", id: "m", parameters: { pointerType: "mouse" }, actions: list }] });
  await actions([{ type: "pointerDown", button: 0 }, { type: "pointerMove", x: Math.round(box[0]) + 80, y: Math.round(box[1]), duration: 100 }, { type: "pointerUp", button: 0 }]);
  await until("the zoom in the address", "return /from=\\d+&to=\\d+/.test(location.search)");
  await until("the zoomed charts", drawn);
  check(true, "drag zooms and the zoom is in the address");
  await picture("zoom-1280-light");

  // The load page: start, watch, stop, and back to the overview.
  await open(`${shop}/#/load`);
  await until("the scenario", "return document.querySelector('.load textarea')?.value.includes('requests:')");
  await run("document.querySelector('.load button.primary').click()");
  await until("the run", "return /running, /.test(document.querySelector('[aria-label=Run]')?.innerText ?? '') && document.querySelector('#chart-load-rate canvas')");
  await look(1280, "light");
  await picture("load-1280-light");
  await look(360, "dark");
  const wide = await run("return document.documentElement.scrollWidth > innerWidth");
  check(!wide, "the load page fits 360 px");
  await picture("load-360-dark");
  await look(1280, "light");
  await run("[...document.querySelectorAll('.load button')].find(b => b.textContent === 'Stop load').click()");
  await until("the verdict", "return /a threshold did not hold/.test(document.querySelector('[aria-label=Run]')?.innerText ?? '')");
  await run("document.querySelector('.rail a').click()");
  await until("the overview", "return document.querySelector('#loop')");
  check(true, "load is started, watched and stopped");

  // No request went anywhere else, nothing was logged as an error.
  const others = await run("return performance.getEntriesByType('resource').map(e => new URL(e.name).host).filter(h => h && h !== location.host)");
  check(others.length === 0, `no other host is asked ${others}`);
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
