#!/bin/bash
# release.sh [--check]: everything that a release consists of, in target/dist: the source tarball, the packages for this machine's
# nginx, what they are made of (SBOM), what has changed, and checksums. The tag is made by a person: vVERSION, at a commit whose
# CHANGELOG.md has a section of that version.
#
# Two runs give the same octets. --check makes all of it twice, the second time in a folder of another name, and compares.
set -euo pipefail
# shellcheck source=scripts/apt.sh
. "$(dirname "$0")/apt.sh"
# shellcheck source=scripts/version.sh
. "$(dirname "$0")/version.sh"
cd "$root"
dist="$root/target/dist"

if [ "${1:-}" = --check ]; then
    other="$root/target/release-of-the-same"
    "$0"
    rm -rf "$other"
    git clone --quiet --no-hardlinks "$root" "$other"
    "$other/scripts/release.sh"
    if ! diff -u "$dist/SHA256SUMS" "$other/target/dist/SHA256SUMS"; then
        echo "two builds differ" >&2
        exit 1
    fi
    rm -rf "$other"
    echo "two builds are the same to the octet"
    exit
fi

if [ -n "$(git status --porcelain --untracked-files=no)" ]; then
    echo "what is not committed cannot be released" >&2
    exit 1
fi
tag=$(git tag --points-at HEAD | grep -xF "v$version" || true)
if [ -n "$tag" ]; then
    if ! grep -q "^## \[\?$version\b" CHANGELOG.md; then
        echo "CHANGELOG.md has no section of $version" >&2
        exit 1
    fi
else
    echo "no tag v$version here: this is a trial of a release"
fi

rm -rf "$dist"
scripts/deb.sh
[ -z "$(command -v rpmbuild)" ] || scripts/rpm.sh
packaging/sbom.py >"$dist/ngx_ws_exec-$version.cdx.json"
awk -v "version=$version" '
    /^## / { inside = index($0, version) || (!found && /Unreleased/); found = found || inside }
    inside { print }' CHANGELOG.md >"$dist/CHANGES"
cd "$dist"
rm -rf "ngx_ws_exec-$version" ./*.buildinfo ./*.changes
find . -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum >"$root/target/SHA256SUMS"
mv "$root/target/SHA256SUMS" .
cat SHA256SUMS
