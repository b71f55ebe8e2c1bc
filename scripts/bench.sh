#!/bin/bash
# bench.sh [OPTION...] [exec|ws|channel|tcp ...]: builds the module and measures it beside its peers, all in one run. `exec` if
# nothing is named; bench --help tells the options.
set -euo pipefail
# shellcheck source=scripts/nginx.sh
. "$(dirname "$0")/nginx.sh"

arguments=("$@")
[ ${#arguments[@]} -gt 0 ] || arguments=(exec)

install_packages websocketd
"$root/scripts/build-module.sh"
choose_nginx installed
unset NGINX NGINX_SOURCE_DIR NGINX_BUILD_DIR
options=(--nginx "$nginx_binary" --module "$nginx_module")
case " ${arguments[*]} " in
*" channel "*)
    if [ ! -e "$root/target/nchan" ]; then
        echo "unpacking Nchan"
        unpack_packages "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$root/target/nchan" libnginx-mod-nchan
    fi
    options+=(--nchan "$root/target/nchan/usr/lib/nginx/modules/ngx_nchan_module.so")
    ;;
esac

cargo build --quiet --locked --release --manifest-path "$root/bench/Cargo.toml" --target-dir "$root/target/bench"
exec "$root/target/bench/release/bench" "${options[@]}" "${arguments[@]}"
