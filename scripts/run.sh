#!/bin/bash
# Starts the installed nginx with the module and one of the examples of conf/ in the foreground, and prints the address of its
# page. CONF picks the example, without its .conf, else it is run.conf; PORT picks the port, else the first free one from 8080 on is
# taken. Ctrl-C ends it.
set -euo pipefail
# shellcheck source=scripts/nginx.sh
. "$(dirname "$0")/nginx.sh"

conf=${CONF:-run}
if [ ! -e "$root/conf/$conf.conf" ]; then
    echo "CONF must be one of: $(cd "$root/conf" && echo *.conf | sed 's/\.conf//g')" >&2
    exit 1
fi
if [ "$conf" = terminal ]; then "$root/scripts/install-xterm.sh"; fi
"$root/scripts/build-module.sh"
choose_nginx installed

listening() {
    (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

port=${PORT:-8080}
if [ -z "${PORT:-}" ]; then
    while listening "$port"; do port=$((port + 1)); done
elif listening "$port"; then
    echo "port $port is taken" >&2
    exit 1
fi

# A folder for each port: two of them can run side by side.
prefix="$root/target/run/$port"
mkdir -p "$prefix"
sed -e "s|@port@|$port|g; s|@conf@|$root/conf|g; s|@prefix@|$prefix|g" "$root/conf/$conf.conf" >"$prefix/nginx.conf"
globals="load_module $nginx_module; daemon off;"
# An ordinary user's nginx is that user. root's would become somebody who may not be able to read this folder.
if [ "$(id -u)" = 0 ]; then globals+=" user root;"; fi
command=("$nginx_binary" -p "$prefix/" -e error.log -c "$prefix/nginx.conf" -g "$globals")

unset NGINX NGINX_SOURCE_DIR NGINX_BUILD_DIR
if ! said=$("${command[@]}" -t 2>&1); then
    echo "$said" >&2
    exit 1
fi
"${command[@]}" &
nginx=$!
stopped=
trap 'stopped=yes; kill -TERM "$nginx" 2>/dev/null || true' INT TERM HUP

for _ in {1..100}; do
    if listening "$port" || ! kill -0 "$nginx" 2>/dev/null; then break; fi
    sleep 0.05
done
if kill -0 "$nginx" 2>/dev/null; then
    echo "http://127.0.0.1:$port/    (logs in ${prefix#"$root/"}; Ctrl-C ends it)"
fi
# A trapped signal ends a wait early.
status=0
wait "$nginx" || status=$?
while kill -0 "$nginx" 2>/dev/null; do wait "$nginx" || status=$?; done
[ -n "$stopped" ] || exit "$status"
