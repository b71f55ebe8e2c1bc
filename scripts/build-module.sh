#!/bin/bash
# build-module.sh [WITH]: builds the module for one nginx (scripts/nginx.sh) and prints nothing when there is nothing to do.
set -euo pipefail
# shellcheck source=scripts/nginx.sh
. "$(dirname "$0")/nginx.sh"

choose_nginx "${1:-installed}"
CARGO_TARGET_DIR="$cargo_target" cargo build --quiet --locked --release --features module --lib \
    --manifest-path "$root/Cargo.toml"
built="$cargo_target/release/libngx_ws_exec.so"
if ! cmp -s "$built" "$nginx_module"; then
    # A running nginx maps the old file: it is replaced by a rename, never written into.
    cp "$built" "$nginx_module.new"
    mv "$nginx_module.new" "$nginx_module"
    echo "built ${nginx_module#"$root/"}"
fi
