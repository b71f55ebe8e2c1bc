#!/bin/bash
# Starts the installed nginx with the module and one of the examples of conf/ in the foreground, and prints the address of its
# page. CONF picks the example, without its .conf, else it is run.conf; PORT picks the port, else the first free one from 8080 on is
# taken. An example that names @other@ is started twice, as two nodes on two ports, with a Redis of Debian between them. Ctrl-C ends
# all of it.
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

ports=("${PORT:-8080}")
if [ -z "${PORT:-}" ]; then
    while listening "${ports[0]}"; do ports=("$((ports[0] + 1))"); done
elif listening "${ports[0]}"; then
    echo "port ${ports[0]} is taken" >&2
    exit 1
fi
running=()
stopped=
trap 'stopped=yes; kill -TERM "${running[@]}" 2>/dev/null || true' INT TERM HUP

# await PID COMMAND...: until the command succeeds, for some seconds; as long as the process is there.
await() {
    local pid=$1
    shift
    for _ in {1..100}; do
        if "$@" || ! kill -0 "$pid" 2>/dev/null; then break; fi
        sleep 0.05
    done
    kill -0 "$pid" 2>/dev/null
}

redis=
if grep -q '@other@' "$root/conf/$conf.conf"; then
    other=$((ports[0] + 1))
    while listening "$other"; do other=$((other + 1)); done
    ports+=("$other")
    # A path in /tmp: that of a socket has few octets.
    redis=$(mktemp -d "${TMPDIR:-/tmp}/ws-exec-redis-XXXXXX")
    trap 'rm -rf "$redis"' EXIT
    command -v redis-check-rdb >/dev/null || "$root/scripts/install-build-needs.sh" redis-tools
    # The package of Debian that would start a server of the machine is not needed: one program is all of Redis.
    (
        cd "$redis"
        exec -a redis-server "$(command -v redis-check-rdb)" --port 0 --unixsocket "$redis/socket" --save '' --appendonly no >log 2>&1
    ) &
    running+=("$!")
    if ! await "$!" test -S "$redis/socket"; then
        cat "$redis/log" >&2
        exit 1
    fi
fi

unset NGINX NGINX_SOURCE_DIR NGINX_BUILD_DIR
for place in "${!ports[@]}"; do
    port=${ports[place]} other=${ports[1 - place]:-}
    # A folder for each port: two of them can run side by side.
    prefix="$root/target/run/$port"
    mkdir -p "$prefix"
    sed -e "s|@port@|$port|g; s|@conf@|$root/conf|g; s|@prefix@|$prefix|g; s|@other@|$other|g; s|@redis@|$redis/socket|g" \
        "$root/conf/$conf.conf" >"$prefix/nginx.conf"
    globals="load_module $nginx_module; daemon off;"
    # An ordinary user's nginx is that user. root's would become somebody who may not be able to read this folder.
    if [ "$(id -u)" = 0 ]; then globals+=" user root;"; fi
    command=("$nginx_binary" -p "$prefix/" -e error.log -c "$prefix/nginx.conf" -g "$globals")
    if ! said=$("${command[@]}" -t 2>&1); then
        echo "$said" >&2
        kill -TERM "${running[@]}" 2>/dev/null || true
        exit 1
    fi
    "${command[@]}" &
    running+=("$!")
    if await "$!" listening "$port"; then
        hint="logs in ${prefix#"$root/"}; Ctrl-C ends it"
        if [ -n "$redis" ]; then hint="logs in ${prefix#"$root/"}; kill $! ends this one, Ctrl-C all"; fi
        echo "http://127.0.0.1:$port/    ($hint)"
    fi
done
# A trapped signal ends a wait early. Several nodes end one by one, and the Redis with the last of them.
status=0
for ((nth = ${#running[@]} - 1; nth >= 0; nth--)); do
    pid=${running[nth]}
    if [ -n "$redis" ] && ((nth == 0)); then kill -TERM "$pid" 2>/dev/null || true; fi
    wait "$pid" || status=$?
    while kill -0 "$pid" 2>/dev/null; do wait "$pid" || status=$?; done
done
[ -n "$stopped" ] || exit "$status"
