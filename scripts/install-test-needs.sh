#!/bin/bash
# Installs what building and the test suite need: Test::Nginx and its dependencies, curl, openssl, Chromium, shellcheck, a VNC server,
# noVNC, asciinema, an MQTT broker and Redis (of its tools, one is the server; its own package would start it); and unpacks, without installing
# them, Test::Nginx itself (target/test-nginx), lua-nginx-module (target/lua), other modules (target/neighbours), promtool
# (target/prometheus), and of npm the MQTT client (target/mqtt) and xterm.js (target/xterm).
set -euo pipefail
# shellcheck source=scripts/apt.sh
. "$(dirname "$0")/apt.sh"

packages=(perl libipc-run-perl liblist-moreutils-perl libtest-base-perl libtest-longstring-perl
    libtext-diff-perl liburi-perl libwww-perl libhttp-message-perl libio-socket-ssl-perl
    procps iproute2 xxd curl openssl ca-certificates chromium shellcheck
    redis-tools novnc tigervnc-standalone-server x11-xserver-utils mosquitto asciinema)
# Node.js may be there from elsewhere than Debian.
command -v npm >/dev/null || packages+=(nodejs npm)
"$root/scripts/install-build-needs.sh" "${packages[@]}"

suite=$(. /etc/os-release && echo "$VERSION_CODENAME")

# Debian 12 does not have Test::Nginx, a later suite does; it is plain Perl.
test_nginx="$root/target/test-nginx"
if [ ! -e "$test_nginx/usr/share/perl5/Test/Nginx/Socket.pm" ]; then
    echo "unpacking Test::Nginx"
    unpack_packages sid "$test_nginx" libtest-nginx-perl
fi

# Installing libnginx-mod-http-lua would enable it in the machine's own nginx.
lua="$root/target/lua"
if [ ! -e "$lua/depends" ]; then
    echo "unpacking lua-nginx-module"
    unpack_packages "$suite" "$lua" libnginx-mod-http-lua libnginx-mod-http-ndk lua-resty-core lua-resty-lrucache
fi

# The same is true of other modules that tests put beside this one.
neighbours="$root/target/neighbours"
if [ ! -e "$neighbours/depends" ]; then
    echo "unpacking modules that are tested beside this one"
    unpack_packages "$suite" "$neighbours" libnginx-mod-http-headers-more-filter libnginx-mod-http-js
fi
mapfile -t libraries < <(libraries_of "$lua" "$neighbours")
install_packages "${libraries[@]}"

# promtool, which checks metrics. Newer suites have it in a package of its own; installing the other would start a server.
prometheus="$root/target/prometheus"
if [ ! -e "$prometheus/usr/bin/promtool" ]; then
    echo "unpacking promtool"
    unpack_packages "$suite" "$prometheus" prometheus
    if [ ! -e "$prometheus/usr/bin/promtool" ]; then unpack_packages "$suite" "$prometheus" promtool; fi
fi

mqtt="$root/target/mqtt"
if [ ! -e "$mqtt/node_modules/mqtt/package.json" ]; then
    echo "installing mqtt of npm in target/mqtt"
    mkdir -p "$mqtt"
    quietly npm-mqtt npm install --prefix "$mqtt" --no-audit --no-fund --ignore-scripts mqtt@5
fi
"$root/scripts/install-xterm.sh"
