// check.mjs DASHBOARD: whether it is what Grafana takes. The compiler of TypeScript compares it with the types of Grafana's own package
// (@grafana/schema), in target/dashboard.
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
const work = path.join(here, "../../target/dashboard");
fs.rmSync(work, { recursive: true, force: true });
fs.cpSync(path.join(here, "node_modules/@grafana/schema/dist/types"), path.join(work, "types"), { recursive: true });

// JSON has values where TypeScript wants the names of an enum: the types are made to be of the values.
for (const name of fs.readdirSync(work, { recursive: true })) {
  const file = path.join(work, name);
  if (!name.endsWith(".d.ts")) continue;
  const text = fs.readFileSync(file, "utf8");
  const values = text.replace(/export declare enum (\w+) \{([^}]*)\}/g, (_, type, body) => {
    const bare = body.replace(/\/\*[^]*?\*\//g, "");
    return `export type ${type} = ${[...bare.matchAll(/=\s*("[^"]*"|-?\d+)/g)].map((match) => match[1]).join(" | ")};`;
  });
  fs.writeFileSync(file, values.replaceAll("from '@grafana/schema'", `from '${path.join(work, "types/index")}'`));
}

fs.copyFileSync(path.join(here, "grafana.ts"), path.join(work, "grafana.ts"));
const dashboard = fs.readFileSync(process.argv[2], "utf8").trim();
fs.writeFileSync(
  path.join(work, "dashboard.ts"),
  `import type { Dashboard } from "./grafana";\nexport const dashboard: Dashboard =\n${dashboard};\n`,
);
const compiler = path.join(here, "node_modules/typescript/bin/tsc");
const options = [
  "--noEmit",
  "--strict",
  "--skipLibCheck",
  "--target",
  "es2022",
  "--module",
  "esnext",
  "--moduleResolution",
  "bundler",
];
try {
  execFileSync(process.execPath, [compiler, ...options, "dashboard.ts"], { cwd: work, encoding: "utf8" });
} catch (error) {
  process.stderr.write(error.stdout.replace(/^dashboard\.ts\((\d+)/gm, (_, line) => `${process.argv[2]}(${line - 2}`));
  process.exit(1);
}
