#!/bin/bash
# deb.sh: target/dist/libnginx-mod-http-ws-exec_*.deb and its -dbgsym, for the nginx that is installed, by Debian's own tools. It is built
# from the tarball of `make vendor`, without network, and looked at by lintian.
set -euo pipefail
# shellcheck source=scripts/apt.sh
. "$(dirname "$0")/apt.sh"
# shellcheck source=scripts/version.sh
. "$(dirname "$0")/version.sh"

"$root/scripts/install-build-needs.sh" build-essential debhelper fakeroot lintian python3
"$root/scripts/vendor.sh"

dist="$root/target/dist"
work="$root/target/deb"
tree="$work/ngx-ws-exec-$version"
rm -rf "$work"
mkdir -p "$work"
cp "$dist/ngx_ws_exec-$version.tar.gz" "$work/ngx-ws-exec_$version.orig.tar.gz"
mkdir "$tree"
tar -x -z --strip-components=1 -C "$tree" -f "$dist/ngx_ws_exec-$version.tar.gz"
cp -r "$tree/packaging/debian" "$tree/debian"
# Who builds it is told as everywhere with Debian's tools.
maintainer="${DEBFULLNAME:-ngx_ws_exec} <${DEBEMAIL:-ngx-ws-exec@packages.invalid}>"
sed -i "s/@maintainer@/$maintainer/" "$tree/debian/control"
cat >"$tree/debian/changelog" <<CHANGELOG
ngx-ws-exec ($version-1) UNRELEASED; urgency=medium

  * The changes are in /usr/share/doc/libnginx-mod-http-ws-exec/changelog.gz.

 -- $maintainer  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")
CHANGELOG
python3 "$tree/packaging/copyright.py" "$tree" >"$tree/debian/copyright"

# A toolchain that is not Debian's satisfies no Build-Depends.
profiles=()
[ -z "$(missing_packages cargo)" ] || profiles+=(--build-profiles=pkg.ngx-ws-exec.toolchain)
unset NGINX_SOURCE_DIR NGINX_BUILD_DIR
cd "$tree"
echo "building the package"
RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup} quietly deb env -u CARGO_TARGET_DIR \
    dpkg-buildpackage -us -uc -b "${profiles[@]}"
cd "$work"
for file in *.deb *.changes *.buildinfo; do
    cp "$file" "$dist/$file"
    case $file in *.deb) echo "built ${dist#"$root/"}/$file" ;; esac
done


# Who has the package alone finds every page and every example that a page names.
dpkg-deb -x libnginx-mod-http-ws-exec_*.deb "$work/unpacked"
"$root/scripts/broken-links.pl" "$work/unpacked/usr/share/doc/libnginx-mod-http-ws-exec"

# lintian does not run as root unless it is told that this is meant.
allow=()
[ "$(id -u)" != 0 ] || allow+=(--allow-root)
if ! lintian "${allow[@]}" --fail-on error,warning --suppress-tags bad-distribution-in-changes-file ./*.changes; then
    echo "lintian has something to say" >&2
    exit 1
fi
