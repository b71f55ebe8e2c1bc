#!/usr/bin/python3
"""sbom.py: the parts of the module and of ws-exec as a CycloneDX document (version 1.5, JSON), by what cargo tells of them. Nothing in it
depends on when or where it is made."""

import json
import os
import subprocess
import sys
import time
import uuid

command = ["cargo", "metadata", "--quiet", "--locked", "--format-version", "1", "--features", "ngx_ws_exec/module", "--filter-platform",
           sys.argv[1] if len(sys.argv) > 1 else "x86_64-unknown-linux-gnu"]
graph = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
packages = {package["id"]: package for package in graph["packages"]}
nodes = {node["id"]: node for node in graph["resolve"]["nodes"]}
with open("Cargo.lock", encoding="utf-8") as lock:
    entries = [dict(line.split(" = ", 1) for line in entry.splitlines() if " = " in line and line[0].isalpha())
               for entry in lock.read().split("[[package]]")[1:]]
checksums = {(entry["name"].strip('"'), entry["version"].strip('"')): entry.get("checksum", "").strip('"') for entry in entries}

# What is shipped, and what only makes it. Nothing of the tests is either.
needs = {None: "required", "build": "excluded"}
scope, waiting = {}, [(member, "required") for member in graph["workspace_members"]]
while waiting:
    name, kind = waiting.pop()
    if scope.get(name) in ("required", kind):
        continue
    scope[name] = kind
    for dependency in nodes[name]["deps"]:
        for one in dependency["dep_kinds"]:
            if one["kind"] in needs:
                macro = any("proc-macro" in target["kind"] for target in packages[dependency["pkg"]]["targets"])
                waiting.append((dependency["pkg"], "excluded" if kind == "excluded" or macro else needs[one["kind"]]))


def reference(name):
    package = packages[name]
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(name):
    package = packages[name]
    made = {
        "type": "library",
        "bom-ref": reference(name),
        "name": package["name"],
        "version": package["version"],
        "scope": scope[name],
        "licenses": [{"expression": (package["license"] or "NOASSERTION").replace("/", " OR ")}],
        "purl": reference(name),
    }
    checksum = checksums.get((package["name"], package["version"]))
    if checksum:
        made["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package.get("repository"):
        made["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return made


root = next(member for member in graph["workspace_members"] if packages[member]["name"] == "ngx_ws_exec")
used = sorted((name for name in scope if name != root), key=reference)
document = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.5",
    "version": 1,
    "metadata": {
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", "0")))),
        "component": {**{key: value for key, value in component(root).items() if key != "scope"}},
    },
    "components": [component(name) for name in used],
    "dependencies": [
        {"ref": reference(name), "dependsOn": sorted({reference(d["pkg"]) for d in nodes[name]["deps"] if d["pkg"] in scope})}
        for name in [root, *used]
    ],
}
document["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(document, sort_keys=True)).urn
json.dump(document, sys.stdout, indent=2, sort_keys=True)
print()
