#!/bin/bash
# chaos.sh [MINUTES]: builds the module, and runs tests/chaos for so long (10): clients of all endpoints, while nodes and an engine are killed, stopped,
# reloaded, exchanged, cut off and starved, and their clocks set; whether what was promised was kept, and whether anything is left. ENGINE is one Redis (single, the default), a
# master with replicas and Sentinels (sentinel; replicas where publishers wait for one), a cluster, or none: the channels are those of each node.
# SEED repeats a run, as far as the machine does; KEEP=1 keeps what publishers and clients saw.
set -euo pipefail
# shellcheck source=scripts/nginx.sh
. "$(dirname "$0")/nginx.sh"

minutes=${1:-10}
if ! [[ $minutes =~ ^[0-9]+(\.[0-9]+)?$ ]]; then
    echo "MINUTES=$minutes is no number" >&2
    exit 1
fi
"$root/scripts/install-test-needs.sh"
"$root/scripts/build-module.sh"
choose_nginx installed
unset NGINX NGINX_SOURCE_DIR NGINX_BUILD_DIR
export TEST_NGINX_BINARY="$nginx_binary" TEST_NGINX_LOAD_MODULES="$nginx_module"
seconds=$(awk -v minutes="$minutes" 'BEGIN { printf "%d", minutes * 60 }')
exec perl "$root/tests/chaos/run.pl" "$seconds" "${SEED:-}" "${ENGINE:-single}"
