#!/usr/bin/python3
"""copyright.py SOURCE: debian/copyright (DEP 5) for a source tree with vendor/: of the module, and of every crate whose code is in
the module or in ws-exec. Every licence that a crate offers is named; the texts are the crates' own."""

import json
import re
import subprocess
import sys
from pathlib import Path

root = Path(sys.argv[1]).resolve()
COMMON = {
    "Apache-2.0": "On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.",
    "MPL-2.0": "On Debian systems the text is in /usr/share/common-licenses/MPL-2.0.",
    "CC0-1.0": "On Debian systems the text is in /usr/share/common-licenses/CC0-1.0.",
}
FILES = {
    "MIT": ["LICENSE-MIT", "LICENSE-MIT.md", "LICENSE-MIT.txt", "LICENSE", "LICENSE.md", "LICENSE.txt"],
    "Zlib": ["LICENSE", "LICENSE-ZLIB", "LICENSE.md"],
    "Unlicense": ["UNLICENSE"],
    "BSD-3-Clause": ["LICENSE", "LICENSE-BSD"],
    "ISC": ["LICENSE"],
    "Unicode-3.0": ["LICENSE-UNICODE", "LICENSE-UNICODE.md"],
}


def linked():
    """The packages whose code is in what is shipped: normal dependencies, none that only builds or tests."""
    command = ["cargo", "metadata", "--quiet", "--locked", "--offline", "--format-version", "1", "--features", "ngx_ws_exec/module"]
    graph = json.loads(subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE).stdout)
    nodes = {node["id"]: node for node in graph["resolve"]["nodes"]}
    packages = {package["id"]: package for package in graph["packages"]}
    macros = {i for i, p in packages.items() if any("proc-macro" in target["kind"] for target in p["targets"])}
    waiting, seen = list(graph["workspace_members"]), set()
    while waiting:
        name = waiting.pop()
        if name in seen or name in macros:
            continue
        seen.add(name)
        for dependency in nodes[name]["deps"]:
            kinds = dependency["dep_kinds"]
            if any(kind["kind"] is None and applies(kind["target"]) for kind in kinds):
                waiting.append(dependency["pkg"])
    return sorted((packages[i] for i in seen if packages[i]["source"]), key=lambda p: (p["name"], p["version"]))


def applies(target):
    """Whether a dependency that is only for some systems may be one for Linux; in doubt it is."""
    return not target or not re.search(r"windows|wasm|macos|apple|hermit|wasi", target) or "not(" in target


def indented(text):
    return "\n".join(" " + line.rstrip() if line.strip() else " ." for line in text.strip().splitlines())


# The line of a licence that says whose it is: "Copyright (c) 2014 NAME", and "(C) 2024 NAME" in the text of zlib's.
HOLDER = re.compile(r"\s*(?:Copyright\s+(?:\(c\)|©)?|\(C\))\s*(.*\d{4}.*|.*[Dd]evelopers.*|The .*)")


def holders(folder, package):
    found = []
    for file in sorted(folder.iterdir()):
        if re.match(r"(?i)(licen[cs]e|copy(right|ing)|notice)", file.name) and file.is_file():
            for line in file.read_text(errors="replace").splitlines():
                match = HOLDER.match(line)
                if match and "[" not in match[1] and "{" not in match[1]:
                    found.append(match[1].strip())
    return list(dict.fromkeys(found)) or package["authors"] or [f"the authors of {package['name']}"]


def text_of(licence, folder):
    for name in FILES.get(licence, []):
        file = folder / name
        if file.is_file():
            # Whose it is stands with the files.
            lines = file.read_text(errors="replace").splitlines()
            return "\n".join(line for line in lines if not line.lstrip().startswith(("Copyright", "(C)")))
    return None


paragraphs = ["""Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: ngx_ws_exec
Comment: The crates of vendor/ that only build or test are in no binary package.

Files: *
Copyright: 2026 the authors of ngx_ws_exec
License: Apache-2.0"""]
texts = {"Apache-2.0": None}
for package in linked():
    folder = root / "vendor" / f"{package['name']}-{package['version']}"
    licence = (package["license"] or "unknown").replace("/", " or ").replace(" OR ", " or ").replace(" AND ", " and ")
    licence = re.sub(r"\s+", " ", licence)
    for one in re.split(r" or | and |[()]", licence):
        one = one.strip()
        if one and not texts.get(one):
            texts[one] = text_of(one, folder)
    copyright = "\n           ".join(holders(folder, package))
    paragraphs.append(f"Files: vendor/{folder.name}/*\nCopyright: {copyright}\nLicense: {licence}")
paragraphs.append("Files: rust-std/*\nCopyright: The Rust Project contributors\nLicense: MIT or Apache-2.0\nComment: Rust's standard "
                  "library, which comes with the compiler.")
for licence in sorted(texts):
    text = COMMON.get(licence) or texts[licence]
    if text is None:
        sys.exit(f"no text for the licence {licence}")
    paragraphs.append(f"License: {licence}\n{indented(text)}")
print("\n\n".join(paragraphs))
