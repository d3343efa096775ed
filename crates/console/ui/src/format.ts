// Numbers and times as people write them: at most three significant digits, missing is a dash.

import type { Health, Unit } from "./api";

const digits = (v: number): string => {
  const size = Math.abs(v);
  if (size >= 100) return v.toFixed(0);
  return String(Number(v.toPrecision(3)));
};

function scaled(v: number, thousand: number, suffixes: string[]): string {
  let i = 0;
  while (Math.abs(v) >= thousand && i + 1 < suffixes.length) { v /= thousand; i += 1; }
  return digits(v) + suffixes[i];
}

export function number(v: number | null | undefined, unit: Unit): string {
  if (v === null || v === undefined || !Number.isFinite(v)) return "–";
  switch (unit) {
    case "count": return scaled(v, 1000, ["", " k", " M", " G"]);
    case "persecond": return scaled(v, 1000, ["/s", " k/s", " M/s", " G/s"]);
    case "bytes": return scaled(v, 1024, [" B", " KiB", " MiB", " GiB", " TiB"]);
    case "share": return v > 0 && v < 0.0001 ? "<0.01 %" : digits(v * 100) + " %";
    case "cores": return v !== 0 && v < 1 ? digits(v * 1000) + " m" : digits(v);
    case "seconds":
      if (v === 0) return "0 s";
      if (v < 0.001) return digits(v * 1e6) + " µs";
      return v < 1 ? digits(v * 1000) + " ms" : digits(v) + " s";
  }
}

export function age(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d`;
}

export const clock = (ms: number): string =>
  new Date(ms).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

export const moment = (ms: number): string =>
  new Date(ms).toLocaleString(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

/** Shape and word, so that colour is never alone. */
export const marks: Record<Health, [string, string]> = {
  good: ["●", "good"],
  progressing: ["◐", "in progress"],
  warning: ["▲", "warning"],
  critical: ["✕", "failing"],
  unknown: ["○", "unknown"],
};

const order: Health[] = ["critical", "warning", "progressing", "unknown", "good"];
export const worse = (a: Health, b: Health): number => order.indexOf(a) - order.indexOf(b);
