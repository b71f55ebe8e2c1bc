#!/bin/bash
# test.sh [WITH [FILE...]]: builds the module for one nginx and runs t/ (or these files of it) against the two.
set -euo pipefail
# shellcheck source=scripts/nginx.sh
. "$(dirname "$0")/nginx.sh"

with=${1:-installed}
shift || true
tests=("$@")
cd "$root"
[ ${#tests[@]} -gt 0 ] || tests=(t)

scripts/install-test-needs.sh
scripts/build-module.sh "$with"
choose_nginx "$with"
unset NGINX

echo "== t/ with $("$nginx_binary" -v 2>&1) =="
export TEST_NGINX_BINARY="$nginx_binary"
export TEST_NGINX_LOAD_MODULES="$nginx_module"
export TEST_NGINX_RANDOMIZE=1
# For the tests that load lua-nginx-module: there are binaries of it for the machine's own nginx only.
[ "$with" != installed ] || export TEST_WS_LUA_DIR="$root/target/lua"
timeout --kill-after=30 --signal=INT 1200 prove -j"${JOBS:-4}" -I"$root/target/test-nginx/usr/share/perl5" -I"$root/t/lib" -r "${tests[@]}"
