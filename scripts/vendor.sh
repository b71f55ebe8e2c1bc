#!/bin/bash
# vendor.sh: target/dist/ngx_ws_exec-VERSION.tar.gz, the source of the last commit with that of every crate that it is made of: it
# builds without network. Crates that are only for other systems than Linux are hollow: cargo wants to know of them, and builds none.
set -euo pipefail
# shellcheck source=scripts/apt.sh
. "$(dirname "$0")/apt.sh"
# shellcheck source=scripts/version.sh
. "$(dirname "$0")/version.sh"

command -v python3 >/dev/null || install_packages python3
name="ngx_ws_exec-$version"
dist="$root/target/dist"
tree="$dist/$name"
mkdir -p "$dist"
rm -rf "$tree"
mkdir "$tree"
cd "$root"
if [ -e .git ]; then
    [ -z "$(git status --porcelain --untracked-files=no)" ] || echo "what is not committed is not in it" >&2
    git archive HEAD | tar -x -C "$tree"
else
    tar -c --exclude=./target --exclude=./vendor . | tar -x -C "$tree"
fi
cd "$tree"
if [ -d "$root/vendor" ]; then
    cp -r "$root/vendor" vendor
else
    quietly vendor cargo vendor --quiet --locked --versioned-dirs vendor
    cat >>.cargo/config.toml <<'TOML'

# All crates are in vendor/.
[source.crates-io]
replace-with = "vendored"

[source.vendored]
directory = "vendor"

[net]
offline = true
TOML

    # What a build for any Linux may need, tests included.
    for target in {x86_64,aarch64,riscv64gc}-unknown-linux-{gnu,musl}; do
        cargo metadata --quiet --locked --offline --format-version 1 --all-features --filter-platform "$target"
    done | python3 -c '
import json, sys
decoder, text, at = json.JSONDecoder(), sys.stdin.read(), 0
needed = set()
while at < len(text):
    graph, at = decoder.raw_decode(text, at)
    at += 1
    used = {node["id"] for node in graph["resolve"]["nodes"]}
    needed |= {"%s-%s" % (p["name"], p["version"]) for p in graph["packages"] if p["id"] in used}
print("\n".join(sorted(needed)))' >needed
    for crate in vendor/*; do
        if grep -qxF "${crate#vendor/}" needed; then continue; fi
        find "$crate" -mindepth 1 -maxdepth 1 ! -name Cargo.toml ! -name .cargo-checksum.json -exec rm -rf {} +
        sed -i 's/^{"files":{[^}]*}/{"files":{}/' "$crate/.cargo-checksum.json"
        { sed -n 's/^\(path\|build\) = "\(.*\.rs\)"$/\2/p' "$crate/Cargo.toml"; echo src/lib.rs; } | while read -r file; do
            mkdir -p "$(dirname "$crate/$file")"
            : >"$crate/$file"
        done
    done
    rm needed
fi

tarball="$dist/$name.tar.gz"
tar -C "$dist" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=u+rw,go+r,go-w,a+X -c "$name" |
    gzip -9n >"$tarball.new"
mv "$tarball.new" "$tarball"
echo "built ${tarball#"$root/"} ($(du -h "$tarball" | cut -f 1), $(du -sh vendor | cut -f 1) of crates unpacked)"
