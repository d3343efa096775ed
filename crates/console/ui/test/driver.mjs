// A headless Chromium behind chromedriver: what the browser tests share.

import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Starts a browser that leaves its pictures in `folder`. */
export async function start(folder) {
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

  async function end() {
    await call("DELETE", session).catch(() => {});
    driver.kill();
    rmSync(profile, { recursive: true, force: true });
  }
  return { call, session, run, open, until, look, picture, check, end };
}

/** Pairs of text and background whose contrast is below 4.5:1. */
export const contrast = `
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
