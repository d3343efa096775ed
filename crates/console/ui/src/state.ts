// What the address says (range, filter, opened event, theme), and the instant all charts point at.

import { useEffect, useState } from "preact/hooks";

export interface Address {
  /** Minutes back from now; the page is live. */
  range: number;
  /** An absolute range instead: the page stands still. */
  zoom: [number, number] | null;
  filter: string;
  kind: string;
  event: number | null;
}

export const RANGES: [number, string][] = [[5, "5m"], [15, "15m"], [60, "1h"], [360, "6h"], [1440, "24h"]];
const DEFAULT: Address = { range: 15, zoom: null, filter: "", kind: "", event: null };

export function read(search: string): Address {
  const given = new URLSearchParams(search);
  const whole = (name: string) => {
    const value = Number(given.get(name) ?? NaN);
    return Number.isSafeInteger(value) && value >= 0 ? value : null;
  };
  const [from, to] = [whole("from"), whole("to")];
  const range = whole("range");
  return {
    range: RANGES.some(([minutes]) => minutes === range) ? (range as number) : DEFAULT.range,
    zoom: from !== null && to !== null && to > from ? [from, to] : null,
    filter: given.get("q") ?? "",
    kind: given.get("kind") ?? "",
    event: whole("event"),
  };
}

function write(address: Address): string {
  const out = new URLSearchParams();
  if (address.range !== DEFAULT.range) out.set("range", String(address.range));
  if (address.zoom) { out.set("from", String(address.zoom[0])); out.set("to", String(address.zoom[1])); }
  if (address.filter) out.set("q", address.filter);
  if (address.kind) out.set("kind", address.kind);
  if (address.event !== null) out.set("event", String(address.event));
  const text = out.toString();
  // The hash names the page, and stays.
  return (text ? `?${text}` : location.pathname) + (location.hash.startsWith("#/") ? location.hash : "");
}

/** Typing replaces the address, everything else adds to the history, so that Back works. */
export function useAddress(): [Address, (change: Partial<Address>, typing?: boolean) => void] {
  const [address, set] = useState(() => read(location.search));
  useEffect(() => {
    const back = () => set(read(location.search));
    addEventListener("popstate", back);
    return () => removeEventListener("popstate", back);
  }, []);
  const change = (part: Partial<Address>, typing = false) => {
    const next = { ...read(location.search), ...part };
    history[typing ? "replaceState" : "pushState"](null, "", write(next));
    set(next);
  };
  return [address, change];
}

// === the shared instant ===

type Listener = (ms: number | null) => void;
const listeners = new Set<Listener>();

/** Everyone shows this moment; null when nobody points at one. */
export function point(ms: number | null): void {
  for (const listener of listeners) listener(ms);
}

export function onPoint(listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

// === theme ===

export type Theme = "auto" | "light" | "dark";

export function useTheme(): [Theme, () => void, string] {
  const [theme, set] = useState<Theme>(() => (localStorage.getItem("theme") as Theme | null) ?? "auto");
  const [system, setSystem] = useState(() => matchMedia("(prefers-color-scheme: dark)").matches);
  useEffect(() => {
    const query = matchMedia("(prefers-color-scheme: dark)");
    const changed = () => setSystem(query.matches);
    query.addEventListener("change", changed);
    return () => query.removeEventListener("change", changed);
  }, []);
  // Before the children draw: canvases read their colours from the page.
  document.documentElement.dataset.theme = theme;
  const next = () => {
    const following: Theme = theme === "auto" ? (system ? "light" : "dark") : theme === "light" ? "dark" : "light";
    localStorage.setItem("theme", following);
    set(following);
  };
  const shown = theme === "auto" ? (system ? "dark" : "light") : theme;
  return [theme, next, shown];
}
