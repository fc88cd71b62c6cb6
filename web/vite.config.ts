import { createHash } from "node:crypto";
import { readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { defineConfig, type Plugin } from "vite";

const HERE = import.meta.dirname;
const SOURCES = ["index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts", "src"];
const SHIPPED = ["preact", "echarts", "zrender", "tslib"];

function files(path: string): string[] {
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path).flatMap((name) => files(join(path, name)));
}

/** One hash of everything that the page is made of; a test makes the same one. */
function hashOfSources(): string {
  const paths = SOURCES.flatMap((name) => files(join(HERE, name)))
    .map((path) => [relative(HERE, path).replaceAll("\\", "/"), path] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  const hash = createHash("sha256");
  for (const [name, path] of paths) hash.update(name).update("\0").update(readFileSync(path)).update("\0");
  return hash.digest("hex");
}

function licence(name: string): string {
  const folder = join(HERE, "node_modules", name);
  const told = JSON.parse(readFileSync(join(folder, "package.json"), "utf-8"));
  const texts = readdirSync(folder)
    .filter((file) => /^(licen[cs]e|notice|copying)/i.test(file) && statSync(join(folder, file)).isFile())
    .sort()
    .map((file) => readFileSync(join(folder, file), "utf-8").trim());
  return [`${name} ${told.version} (${told.license})`, ...texts].join("\n\n");
}

/** Beside the page: what it was built of, file by file what came out, and the licences of what it holds. */
function tell(): Plugin {
  return {
    name: "tell",
    generateBundle() {
      const rule = `\n\n${"-".repeat(80)}\n\n`;
      this.emitFile({ type: "asset", fileName: "licences.txt", source: SHIPPED.map(licence).join(rule) + "\n" });
    },
    writeBundle({ dir }, bundle) {
      const made: Record<string, string> = {};
      for (const name of Object.keys(bundle).sort()) {
        made[name] = createHash("sha256").update(readFileSync(join(dir!, name))).digest("hex");
      }
      const told = { sources: hashOfSources(), files: made };
      writeFileSync(join(dir!, "built.json"), JSON.stringify(told, null, 1) + "\n");
    },
  };
}

export default defineConfig({
  root: HERE,
  base: "./",
  publicDir: false,
  plugins: [tell()],
  build: {
    outDir: "../src/metainf/service/web",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: false,
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 700,
    reportCompressedSize: true,
    rollupOptions: {
      output: {
        entryFileNames: "assets/app.js",
        chunkFileNames: "assets/[name].js",
        assetFileNames: "assets/[name][extname]",
      },
    },
  },
});
