// Numbers as their unit writes them: the same rules as crates/dashboards/src/units.rs, for axes and the pointed-at instant.

import type { Unit } from "./model";

const SI = ["f", "p", "n", "µ", "m", "", "k", "M", "G", "T", "P", "E", "Z", "Y"];
const BINARY = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];
const COUNT = ["", "K", "M", "B", "T"];

function autoDecimals(v: number): number {
  if (v === 0 || v % 1 === 0) return 0;
  let decimals = 1 - Math.floor(Math.log10(Math.abs(v)));
  if (Math.abs(v) / 10 ** -decimals > 2.25) decimals += 1;
  return Math.max(0, decimals);
}

export function fixed(v: number, decimals?: number | null): string {
  const digits = Math.min(20, decimals ?? autoDecimals(v));
  const text = v.toFixed(digits);
  return Number(text) === 0 ? text.replace("-", "") : text;
}

function scaled(v: number, factor: number, one: number, names: string[], decimals?: number | null): [string, string] {
  const at = Math.min(Math.max(one, 0), names.length - 1);
  let step = v === 0 ? 0 : Math.floor(Math.log(Math.abs(v)) / Math.log(factor) + 1e-12);
  step = Math.min(Math.max(step, -at), names.length - 1 - at);
  return [fixed(v / factor ** step, decimals), names[at + step] ?? ""];
}

const TIMES: Record<string, [number, number, string][]> = {
  ns: [[1e3, 1, " ns"], [1e6, 1e3, " µs"], [1e9, 1e6, " ms"], [6e10, 1e9, " s"], [3.6e12, 6e10, " min"], [8.64e13, 3.6e12, " hour"], [Infinity, 8.64e13, " day"]],
  us: [[1e3, 1, " µs"], [1e6, 1e3, " ms"], [Infinity, 1e6, " s"]],
  ms: [[1e3, 1, " ms"], [6e4, 1e3, " s"], [3.6e6, 6e4, " min"], [8.64e7, 3.6e6, " hour"], [3.1536e10, 8.64e7, " day"], [Infinity, 3.1536e10, " year"]],
  s: [[1e-6, 1e-9, " ns"], [1e-3, 1e-6, " µs"], [1, 1e-3, " ms"], [60, 1, " s"], [3600, 60, " min"], [86400, 3600, " hour"], [604800, 86400, " day"], [31536000, 604800, " week"], [Infinity, 31556900, " year"]],
  m: [[60, 1, " min"], [1440, 60, " hour"], [10080, 1440, " day"], [Infinity, 10080, " week"]],
  h: [[24, 1, " hour"], [168, 24, " day"], [8760, 168, " week"], [Infinity, 8760, " year"]],
  d: [[7, 1, " day"], [365, 7, " week"], [Infinity, 365, " year"]],
};

function words(ms: number, decimals?: number | null): string {
  const parts: [string, number][] = [["year", 31536e6], ["month", 2592e6], ["week", 6048e5], ["day", 864e5], ["hour", 36e5], ["minute", 6e4], ["second", 1e3], ["millisecond", 1]];
  const out: string[] = [];
  let rest = Math.abs(ms);
  for (const [name, size] of parts) {
    const count = Math.floor(rest / size);
    if (count > 0 || out.length) {
      rest -= count * size;
      out.push(`${count} ${name}${count === 1 ? "" : "s"}`);
      if (out.length === (decimals ?? 0) + 1) break;
    }
  }
  return out.join(", ") || "0 seconds";
}

const two = (n: number): string => String(Math.floor(n)).padStart(2, "0");

export function write(v: number | null | undefined, unit: Unit, decimals?: number | null): string {
  if (v === null || v === undefined) return "–";
  if (Number.isNaN(v)) return "NaN";
  if (!Number.isFinite(v)) return v > 0 ? "∞" : "-∞";
  const symbol = unit.symbol ?? "";
  const join = (prefix: string, [text, suffix]: [string, string], after = ""): string => prefix + text + suffix + after;
  switch (unit.kind) {
    case "fixed": return fixed(v, decimals) + (unit.suffix ?? "");
    case "prefixed": return (unit.prefix ?? "") + fixed(v, decimals);
    case "si": { const [text, prefix] = scaled(v, 1000, 5 + (unit.power ?? 0), SI, decimals); return `${text} ${prefix}${symbol}`; }
    case "binary": { const [text, prefix] = scaled(v, 1024, 0, BINARY.slice(unit.power ?? 0), decimals); return `${text} ${prefix}${symbol}`; }
    case "count": return join("", scaled(v, 1000, 0, COUNT, decimals), ` ${symbol}`).trimEnd();
    case "scaled": return join("", scaled(v, 1000, 0, unit.names ?? [""], decimals));
    case "currency": return unit.after ? join("", scaled(v, 1000, 0, COUNT, decimals), ` ${symbol}`) : join(symbol, scaled(v, 1000, 0, COUNT, decimals));
    case "percent": return `${fixed(v, decimals)}%`;
    case "percentunit": return `${fixed(v * 100, decimals)}%`;
    case "hex": return (unit.prefix ?? "") + Math.trunc(v).toString(16).toUpperCase();
    case "scientific": return v.toExponential(decimals ?? undefined);
    case "locale": return Number(fixed(v, decimals)).toLocaleString("en-US");
    case "bool": return (v === 0 ? unit.no : unit.yes) ?? "";
    case "time": {
      const steps = TIMES[unit.scale ?? "s"] ?? TIMES.s!;
      const step = v === 0 ? steps[unit.scale === "s" ? 3 : 0]! : steps.find(([below]) => Math.abs(v) < below) ?? steps.at(-1)!;
      return fixed(v / step[1], decimals) + step[2];
    }
    case "duration": return words(unit.scale === "ms" ? v : unit.scale === "ticks" ? v * 10 : v * 1000, decimals);
    case "hms": { const s = Math.abs(v); const days = unit.days ? Math.floor(s / 86400) : 0; return `${days ? `${days} d ` : ""}${two((s - days * 86400) / 3600)}:${two(s / 60 % 60)}:${two(s % 60)}`; }
    case "clock": { const s = Math.abs(unit.scale === "ms" ? v / 1000 : v); return `${two(s / 3600)}h:${two(s / 60 % 60)}m:${two(s % 60)}s`; }
    case "date": return new Date(v).toLocaleString();
    default: return String(v);
  }
}
