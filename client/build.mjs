// Builds dist/ and terminal/dist/: modules, single files for <script>, the worker, and types; and what the pages in conf/ use, which
// is in the repository, so that they need no Node.js. With --check the latter is only compared.
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const common = { absWorkingDir: here, bundle: true, target: "es2022", logLevel: "warning", legalComments: "none" };

// Names that nobody outside sees; an underscore before them would only make the source harder to read.
const INTERNAL = new RegExp(
  "^(?:received|wasOpen|setState|dispatch|take|move|offsets|wake|start|stop|opened" +
    "|connect|deliver|show|fail|took|changed|say|isFollower|host|sharer|isWorker|end|gap|message|open|settings|address|placed)$",
);
// Nothing is in them that strict mode would change: all of it is in classes, modules, or functions without "this".
const script = { ...common, format: "iife", minify: true, tsconfigRaw: { compilerOptions: { alwaysStrict: false } } };

for (const folder of ["dist", "terminal/dist"]) rmSync(`${here}${folder}`, { recursive: true, force: true });
await Promise.all([
  build({ ...common, format: "esm", entryPoints: { "ws-channel": "src/index.ts", small: "src/small.ts" }, outdir: "dist" }),
  build({
    ...script,
    mangleProps: INTERNAL,
    entryPoints: { "ws-channel.min": "src/script.ts", "small.min": "src/script-small.ts" },
    outdir: "dist",
  }),
  build({ ...script, entryPoints: { "ws-channel.worker": "src/worker.ts" }, outdir: "dist" }),
  build({ ...common, format: "esm", entryPoints: { "ws-terminal": "terminal/src/index.ts" }, outdir: "terminal/dist" }),
  build({ ...script, entryPoints: { "ws-terminal.min": "terminal/src/script.ts" }, outdir: "terminal/dist" }),
]);
for (const project of [here, `${here}terminal`]) {
  execFileSync(process.execPath, [`${here}node_modules/typescript/bin/tsc`, "--emitDeclarationOnly", "-p", project], {
    stdio: "inherit",
  });
}

const pages = {
  "dist/ws-channel.min.js": "../conf/client/ws-channel.min.js",
  "terminal/dist/ws-terminal.min.js": "../conf/client/ws-terminal.min.js",
};
for (const [built, committed] of Object.entries(pages)) {
  const from = readFileSync(`${here}${built}`, "utf8");
  if (!process.argv.includes("--check")) {
    mkdirSync(`${here}../conf/client`, { recursive: true });
    writeFileSync(`${here}${committed}`, from);
  } else if (from !== readFileSync(`${here}${committed}`, "utf8")) {
    console.error(`${committed.slice(3)} is not what client/ builds: run npm run build in client/`);
    process.exitCode = 1;
  }
}
