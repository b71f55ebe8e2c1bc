#!/bin/bash
# bench.sh [OPTION...] [exec|busy|ws|channel|publish|redis|tcp|cgi|growth|pause ...]: builds the module and measures it beside its peers, all in
# one run; whatever the module can do if nothing is named. Tables in Markdown go to standard output, single values and progress to standard
# error; the main figures of whole runs are drawn in docs/figures/performance.svg.
# bench --help tells the options; --peers-only measures without the module, BENCH_MODULE names another one.
set -euo pipefail
# shellcheck source=scripts/apt.sh
. "$(dirname "$0")/apt.sh"
# shellcheck source=scripts/nginx.sh
. "$(dirname "$0")/nginx.sh"
# shellcheck source=scripts/cargo.sh
. "$(dirname "$0")/cargo.sh"

options=() figures=() peers_only=
while [ $# -gt 0 ]; do
    case $1 in
    --peers-only) peers_only=1 ;;
    --*)
        options+=("$1" "${@:2:1}")
        if [ $# -gt 1 ]; then shift; fi
        ;;
    *) figures+=("$1") ;;
    esac
    shift
done

{
    choose_nginx installed
    module=${BENCH_MODULE:-$nginx_module}
    if [ -z "$peers_only${BENCH_MODULE:-}" ]; then "$root/scripts/build-module.sh"; fi
    unset NGINX NGINX_SOURCE_DIR NGINX_BUILD_DIR
    if [ ${#figures[@]} = 0 ]; then
        declare -A directive=([exec]=websocket_exec [busy]=websocket_exec [ws]=websocket_exec [channel]=websocket_channel_zone
            [publish]=websocket_channel_zone [redis]=websocket_channel_redis [tcp]=websocket_tcp [cgi]=websocket_cgi
            [growth]=websocket_channel_zone [pause]=websocket_channel_zone)
        for name in exec busy ws channel publish redis tcp cgi growth pause; do
            if [ -n "$peers_only" ] || grep -q "${directive[$name]}" "$module"; then figures+=("$name"); fi
        done
    fi
    for name in "${figures[@]}"; do
        case $name in
        exec | busy) install_packages websocketd ;;
        tcp) install_packages websockify ;;
        cgi) install_packages fcgiwrap ;;
        channel | publish | redis)
            # Installing libnginx-mod-nchan would enable it in the machine's own nginx.
            nchan="$root/target/nchan/usr/lib/nginx/modules/ngx_nchan_module.so"
            if [ ! -e "$nchan" ]; then
                echo "unpacking Nchan"
                unpack_packages "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$root/target/nchan" libnginx-mod-nchan
            fi
            options+=(--nchan "$nchan")
            case $name in
            channel) install_packages openssl ;;
            redis) install_packages redis-server ;;
            esac
            ;;
        esac
    done
    cargo_with_network build --quiet --locked --release --manifest-path "$root/bench/Cargo.toml" --target-dir "$root/target/bench"
} >&2

options+=(--nginx "$nginx_binary" --directory "$root/target/bench/run")
[ -n "$peers_only" ] || options+=(--module "$module" --picture "$root/docs/figures/performance.svg")
exec "$root/target/bench/release/bench" "${options[@]}" "${figures[@]}"
