// The pages of the console, and which of them the address names: `#/load`; nothing is the overview.

import { useEffect, useState } from "preact/hooks";

export interface Place { id: string; label: string }

export const PLACES: Place[] = [{ id: "", label: "Overview" }, { id: "load", label: "Load" }];

const named = (): string => /^#\/([a-z-]*)/.exec(location.hash)?.[1] ?? "";

/** The id of the page that the address names. */
export function useRoute(): string {
  const [route, set] = useState(named);
  useEffect(() => {
    // A link within the page (`#loop`) leaves the page as it is.
    const changed = () => (location.hash === "" || location.hash.startsWith("#/")) && set(named());
    addEventListener("hashchange", changed);
    addEventListener("popstate", changed);
    return () => { removeEventListener("hashchange", changed); removeEventListener("popstate", changed); };
  }, []);
  return route;
}

export function Rail({ route }: { route: string }) {
  return (
    <nav class="rail" aria-label="Pages">
      {PLACES.map(({ id, label }) => (
        <a key={id} href={`#/${id}`} aria-current={route === id ? "page" : undefined}>{label}</a>
      ))}
    </nav>
  );
}
