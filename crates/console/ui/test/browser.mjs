// Opens the page in headless Chromium through chromedriver, checks what a person would, and takes pictures.
// Usage: node browser.mjs SHOP_URL TROUBLE_URL EMPTY_URL FOLDER

import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [shop, trouble, empty, folder] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });

const driver = spawn("chromedriver", ["--port=0"], { stdio: ["ignore", "pipe", "inherit"] });
const profile = mkdtempSync(join(tmpdir(), "console-"));
const base = await new Promise((resolve, reject) => {
  let text = "";
  driver.stdout.on("data", (data) => {
    text += data;
    const port = /successfully on port (\d+)/.exec(text)?.[1];
    if (port) resolve(`http://127.0.0.1:${port}`);
  });
  driver.on("exit", () => reject(new Error(`chromedriver ended: ${text}`)));
  driver.on("error", reject);
});

async function call(method, path, body) {
  const response = await fetch(base + path, { method, body: body && JSON.stringify(body), signal: AbortSignal.timeout(60_000) });
  const { value } = await response.json();
  if (!response.ok) throw new Error(`${path}: ${value.error}: ${value.message}`);
  return value;
}

// Whatever happens, neither the driver nor the browser stays behind.
process.on("exit", () => driver.kill());
const { sessionId } = await call("POST", "/session", {
  capabilities: {
    alwaysMatch: {
      browserName: "chrome",
      "goog:loggingPrefs": { browser: "ALL" },
      "goog:chromeOptions": {
        args: ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", `--user-data-dir=${profile}`],
      },
    },
  },
});
const session = `/session/${sessionId}`;
const cdp = (cmd, params) => call("POST", `${session}/goog/cdp/execute`, { cmd, params });
const run = (script, ...args) => call("POST", `${session}/execute/sync`, { script, args });
const open = (url) => call("POST", `${session}/url`, { url });

async function until(what, script, ...args) {
  const end = Date.now() + 20_000;
  for (;;) {
    const value = await run(script, ...args);
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited 20 s for: ${what}\n${await run("return document.body.innerText")}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function look(width, theme) {
  await cdp("Emulation.setDeviceMetricsOverride", { width, height: 900, deviceScaleFactor: 1, mobile: false });
  await cdp("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: theme }] });
}

async function picture(name) {
  const { data } = await cdp("Page.captureScreenshot", { format: "png", captureBeyondViewport: true });
  writeFileSync(join(folder, `${name}.png`), Buffer.from(data, "base64"));
}

function check(condition, what) {
  if (!condition) throw new Error(`not so: ${what}`);
  console.log(`ok: ${what}`);
}

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

/** Pairs of text and background whose contrast is below 4.5:1. */
const contrast = `
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => { for (let e = element; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] > 250) return c; } return rgb("Canvas"); };
  const low = new Set();
  for (const element of document.querySelectorAll("body *")) {
    if (![...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) || !element.checkVisibility() || element.closest("noscript")) continue;
    const [a, b] = [light(rgb(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.add(element.className + " " + element.textContent.slice(0, 20) + " " + ratio.toFixed(2));
  }
  return [...low];`;

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
  await call("DELETE", session).catch(() => {});
  driver.kill();
  rmSync(profile, { recursive: true, force: true });
}
process.exit(failed ? 1 : 0);
