#!/bin/bash
# build-module.sh [WITH]: builds the module for one nginx (scripts/nginx.sh), and says so if there was something to do. With
# `torn`, one that no nginx may take.
set -euo pipefail
# shellcheck source=scripts/nginx.sh
. "$(dirname "$0")/nginx.sh"

with=${1:-installed}
# make is called in the folder that relative paths start from.
if [ -n "${NGINX_SOURCE_DIR:-}" ]; then NGINX_SOURCE_DIR=$(realpath "$NGINX_SOURCE_DIR"); fi
if [ -n "${NGINX_BUILD_DIR:-}" ]; then NGINX_BUILD_DIR=$(realpath "$NGINX_BUILD_DIR"); fi
choose_nginx "${with/#torn/installed}"
cd "$root"
cargo=(cargo build --quiet --locked --release --features module --lib)
built="$cargo_target/release/libngx_ws_exec.so"
export CARGO_TARGET_DIR="$cargo_target"
# The one for the installed nginx is built as it is released. The others are for tests only, and come sooner.
[ "$with" = installed ] || export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
case $with in
late | shuffled)
    cargo+=(--features test-backend)
    export CARGO_PROFILE_RELEASE_OPT_LEVEL=1
    ;;&
late | shuffled | sanitize | valgrind)
    export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true
    ;;&
sanitize)
    # The stable compiler can instrument what it compiles, when told that this is meant; the standard library stays as it was
    # shipped, which AddressSanitizer allows. --target keeps the instrumentation away from the build script.
    host=$(rustc -vV | sed -n 's/^host: //p')
    export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address -Cforce-frame-pointers=yes"
    # nginx itself has calls that the other sanitizer takes for errors, like memcpy of nothing from nowhere.
    export WS_EXEC_SHIM_CFLAGS="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g"
    cargo+=(--target "$host")
    built="$cargo_target/$host/release/libngx_ws_exec.so"
    ;;
esac
case $with in
torn)
    # For the test of the layout guard: the C part sees other structs than the Rust part, and one of the same size with other bits.
    nginx_module="$root/target/torn/ngx_ws_exec.so"
    mkdir -p "$root/target/torn"
    WS_EXEC_SHIM_CFLAGS="-fpack-struct=4 -Drecycled=torn:1,recycled" cargo build --quiet --locked --features module --lib
    built="$cargo_target/debug/libngx_ws_exec.so"
    ;;
static)
    unset CARGO_TARGET_DIR
    quietly module-static make -C "$NGINX_SOURCE_DIR" -f objs/Makefile binary
    built="$NGINX_BUILD_DIR/nginx" nginx_module="$nginx_binary"
    ;;
1.28)
    # This one is built by nginx's own make.
    unset CARGO_TARGET_DIR
    quietly module-1.28 make -C "$NGINX_SOURCE_DIR" modules
    built="$NGINX_BUILD_DIR/ngx_ws_exec.so"
    ;;
*) "${cargo[@]}" ;;
esac

if ! cmp -s "$built" "$nginx_module"; then
    # A running nginx has the old file mapped: it is replaced by a rename, never written into.
    cp "$built" "$nginx_module.new"
    mv "$nginx_module.new" "$nginx_module"
    echo "built ${nginx_module#"$root/"}"
fi
