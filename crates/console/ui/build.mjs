// Bundles src/ into dist/: the page, parts that load when they are first used, and their compressed twins.
import { build } from "esbuild";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

mkdirSync("dist", { recursive: true });
const { metafile } = await build({
  entryPoints: { app: "src/main.tsx", dashboards: "src/dashboards/dashboards.css" },
  outdir: "dist",
  bundle: true,
  splitting: true,
  chunkNames: "[name]-[hash]",
  minify: true,
  format: "esm",
  target: ["chrome123", "firefox121", "safari17.5"],
  legalComments: "none",
  logLevel: "error",
  metafile: true,
});
copyFileSync("src/index.html", "dist/index.html");

// What the browser loads at once: the page, and what its script imports without being asked to later.
const first = new Set(["dist/app.js"]);
for (const name of first) {
  for (const { path, kind } of metafile.outputs[name].imports) if (kind === "import-statement") first.add(path);
}
const base = (path) => path.replace("dist/", "");
writeFileSync("dist/first.txt", ["index.html", "app.css", ...[...first].map(base)].join("\n"));
for (const name of ["index.html", ...Object.keys(metafile.outputs).map(base)]) {
  writeFileSync(`dist/${name}.gz`, gzipSync(readFileSync(`dist/${name}`), { level: 9 }));
}
