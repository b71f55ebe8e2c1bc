#!/bin/bash
# nginx-from-suite.sh SUITE VERSION: target/nginx-VERSION: the nginx of a suite of Debian that is newer than the machine's, with the
# libraries that it wants, in a folder of its own: sbin/nginx, and src/ with its headers, configured, to build the module for.
set -euo pipefail
# shellcheck source=scripts/apt.sh
. "$(dirname "$0")/apt.sh"

suite=$1 version=$2
home="$root/target/nginx-$version"
if [ -x "$home/sbin/nginx" ]; then exit 0; fi

"$root/scripts/install-build-needs.sh" dpkg-dev patchelf
echo "unpacking nginx $version"
unpack_packages "$suite" "$home.debian" nginx nginx-dev libc6 libcrypt1 libpcre2-8-0 libssl3t64 libzstd1 zlib1g

rm -rf "$home"
mkdir -p "$home/sbin" "$home/lib"
for library in "$home.debian"/usr/lib/*/*.so.*; do cp -P "$library" "$home/lib"; done
# Where the suite still has libraries in /lib as well.
for library in "$home.debian"/lib/*/*.so.*; do [ ! -e "$library" ] || cp -P "$library" "$home/lib"; done

# nginx-dev holds headers and configure; Debian's own options make the same binary interface.
cp -rL "$home.debian/usr/share/nginx/src" "$home/src"
# shellcheck disable=SC2016 # for the inner shell
quietly "nginx-$version-configure" env -C "$home/src" bash -c '. ./conf_flags && ./configure "${NGX_CONF_FLAGS[@]}"'

# The machine's libc may be older than what this nginx wants: it starts with its own loader and finds its libraries beside it.
# An RPATH (RUNPATH would not do) also serves the libraries of its libraries, and an absolute one (no $ORIGIN) needs no /proc. A
# program that it runs is not concerned.
cp "$home.debian/usr/sbin/nginx" "$home/sbin/nginx.new"
loader=$(basename "$(patchelf --print-interpreter "$home/sbin/nginx.new")")
patchelf --set-interpreter "$home/lib/$loader" --force-rpath --set-rpath "$home/lib" "$home/sbin/nginx.new"
rm -rf "$home.debian"

said=$("$home/sbin/nginx.new" -v 2>&1)
case $said in
*nginx/"$version".*) echo "$said" ;;
*)
    echo "not what was expected: $said" >&2
    exit 1
    ;;
esac
mv "$home/sbin/nginx.new" "$home/sbin/nginx"
