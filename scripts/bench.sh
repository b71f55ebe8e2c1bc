#!/bin/bash
# bench.sh [OPTION...] [exec|ws|channel|tcp ...]: measures the module beside its peers and bare programs (bench/) and prints
# Markdown tables on standard output, what is going on on standard error. Options are those of the program that is built there, and
#   --peers-only   without the module
# nginx and module are the installed nginx and the module built for it; BENCH_NGINX and BENCH_MODULE name others.
set -euo pipefail
# shellcheck source=scripts/apt.sh
. "$(dirname "$0")/apt.sh"
# shellcheck source=scripts/nginx.sh
. "$(dirname "$0")/nginx.sh"

options=() figures=() peers_only=
while [ $# -gt 0 ]; do
    case $1 in
    --peers-only) peers_only=1 ;;
    --*)
        if [ $# -lt 2 ]; then
            echo "$1 needs a value" >&2
            exit 2
        fi
        options+=("$1" "$2")
        shift
        ;;
    *) figures+=("$1") ;;
    esac
    shift
done
[ ${#figures[@]} -gt 0 ] || figures=(exec ws channel tcp)

{
    choose_nginx installed
    install_packages websocketd websockify
    # Installing libnginx-mod-nchan would enable it in the machine's own nginx.
    nchan="$root/target/nchan"
    if [ ! -e "$nchan/usr/lib/nginx/modules/ngx_nchan_module.so" ]; then
        echo "unpacking Nchan"
        unpack_packages "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$nchan" libnginx-mod-nchan
    fi
    if [ -z "$peers_only" ] && [ -z "${BENCH_MODULE:-}" ]; then
        "$root/scripts/build-module.sh" installed
    fi
    cargo build --quiet --locked --release --manifest-path "$root/bench/Cargo.toml"
} >&2

options+=(--nginx "${BENCH_NGINX:-$nginx_binary}" --directory "$root/target/bench")
options+=(--nchan "$nchan/usr/lib/nginx/modules/ngx_nchan_module.so")
[ -n "$peers_only" ] || options+=(--module "${BENCH_MODULE:-$nginx_module}")
exec "$root/bench/target/release/bench" "${options[@]}" "${figures[@]}"
