// The rail: which views there are, and which one the address names. A view loads when it is first opened.

import { type ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";

export interface View { name: string; href: string; fits: (path: string, hash: string) => boolean; load: () => Promise<ComponentType> }

export const VIEWS: View[] = [
  {
    name: "Dashboards",
    href: "/#/dashboards",
    fits: (path, hash) => hash.startsWith("#/dashboards") || path.startsWith("/d/") || path.startsWith("/dashboards"),
    load: () => import("./dashboards/page").then((module) => module.Page),
  },
  {
    name: "Load",
    href: "/#/load",
    fits: (_, hash) => hash.startsWith("#/load"),
    load: () => import("./load").then((module) => module.Page),
  },
];

const current = () => VIEWS.find((view) => view.fits(location.pathname, location.hash)) ?? null;

export function Rail({ view }: { view: View | null }) {
  return (
    <nav class="rail" aria-label="Views">
      <a href="/" aria-current={view === null ? "page" : undefined}>Overview</a>
      {VIEWS.map((one) => <a key={one.name} href={one.href} aria-current={view === one ? "page" : undefined}>{one.name}</a>)}
    </nav>
  );
}

/** The view of the address; `home` is what there is at /. */
export function Shell({ home: Home }: { home: ComponentType }) {
  const [view, setView] = useState(current);
  const [loaded, setLoaded] = useState<{ of: View; page: ComponentType } | null>(null);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    const moved = () => setView(current());
    addEventListener("hashchange", moved);
    addEventListener("popstate", moved);
    // A server of dashboards alone has no overview.
    if (current() === null) {
      void fetch("/api/snapshot", { method: "HEAD" }).then((response) => { if (response.status === 404) location.replace("/#/dashboards"); }, () => {});
    }
    return () => { removeEventListener("hashchange", moved); removeEventListener("popstate", moved); };
  }, []);
  useEffect(() => {
    if (view && loaded?.of !== view) view.load().then((page) => setLoaded({ of: view, page }), (error: unknown) => setProblem(String(error)));
  }, [view]);
  const Page = view && loaded?.of === view ? loaded.page : null;
  return (
    <>
      <Rail view={view} />
      {view === null ? <Home /> : Page ? <Page /> : <p class="empty loading">{problem || "Loading…"}</p>}
    </>
  );
}
