#!/bin/bash
# nginx-from-source.sh [sanitize]: nginx 1.28 from the source that the crate nginx-src carries: target/nginx-1.28/sbin/nginx,
# and src/ with src/objs to build the module for. With `sanitize` target/nginx-sanitize: with AddressSanitizer, and without memory
# pools, so that each allocation is seen on its own.
set -euo pipefail
# shellcheck source=scripts/apt.sh
. "$(dirname "$0")/apt.sh"

crate_version=1.28.5
kind=${1:-1.28}
home="$root/target/nginx-$kind"
if [ -x "$home/sbin/nginx" ]; then exit 0; fi

"$root/scripts/install-build-needs.sh"
echo "building nginx $kind"
rm -rf "$home"
mkdir -p "$home/fetch/src" "$home/sbin"

# cargo fetches the crate, and tells where it is.
cat >"$home/fetch/Cargo.toml" <<TOML
[package]
name = "fetch"
version = "0.0.0"
edition = "2021"
[dependencies]
nginx-src = "=$crate_version"
[workspace]
TOML
touch "$home/fetch/src/lib.rs"
quietly "nginx-$kind-fetch" cargo fetch --manifest-path "$home/fetch/Cargo.toml"
manifest=$(cargo metadata --quiet --offline --format-version 1 --manifest-path "$home/fetch/Cargo.toml" |
    grep -o '"manifest_path":"[^"]*/nginx-src-[^"]*"' | head -n 1 | cut -d '"' -f 4)
cp -r "$(dirname "$manifest")/nginx" "$home/src"
rm -rf "$home/fetch"

options=(
    --prefix="$home" --with-compat --with-debug --with-threads --with-pcre-jit
    --with-http_ssl_module --with-http_v2_module --with-http_v3_module
    --with-http_realip_module --with-http_auth_request_module --with-http_stub_status_module
    --with-http_secure_link_module --with-stream --with-stream_ssl_module
)
if [ "$kind" = sanitize ]; then
    options+=(
        --with-cc-opt="-O1 -g -fno-omit-frame-pointer -fsanitize=address -DNGX_DEBUG_PALLOC=1"
        --with-ld-opt="-fsanitize=address"
    )
fi
cd "$home/src"
# configure runs its probes built with the same options; a leak in one of them would say that a feature is missing.
export ASAN_OPTIONS=detect_leaks=0
quietly "nginx-$kind-configure" ./auto/configure "${options[@]}"
quietly "nginx-$kind-make" make -j"$(nproc)"
mv objs/nginx "$home/sbin/nginx"
