#!/bin/bash
# chaos.sh [MINUTES]: builds the module, and runs tests/chaos for so long (10): nodes and an engine that are killed, stopped and cut off while
# messages are published and received, and whether what was promised of each message was kept. ENGINE is one Redis (single), a master with
# replicas and Sentinels (sentinel; replicas where publishers wait for one) or a cluster. SEED repeats a run, as far as the machine does; KEEP=1
# keeps what publishers and subscribers saw.
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
