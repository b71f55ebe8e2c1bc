// What is sent to a browser stays as small as the README says.
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const limits = { "dist/small.min.js": 3000, "dist/ws-channel.min.js": 5000 };

for (const [file, limit] of Object.entries(limits)) {
  const { length } = gzipSync(readFileSync(new URL(file, import.meta.url)), { level: 9 });
  console.log(`${file}: ${length} octets gzipped, at most ${limit}`);
  if (length > limit) process.exitCode = 1;
}
