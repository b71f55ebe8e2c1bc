#!/bin/bash
# Installs what the test suite needs: Test::Nginx and its dependencies, curl, openssl, Chromium, shellcheck, a VNC server, noVNC,
# an MQTT broker and Redis (of its tools, one is the server; its own package would start it); and unpacks, without installing them,
# Test::Nginx itself (target/test-nginx), lua-nginx-module (target/lua), other modules (target/neighbours), promtool
# (target/prometheus), and of npm the MQTT client (target/mqtt) and xterm.js (target/xterm).
set -euo pipefail
# shellcheck source=scripts/apt.sh
. "$(dirname "$0")/apt.sh"

install_packages perl libipc-run-perl liblist-moreutils-perl libtest-base-perl libtest-longstring-perl \
    libtext-diff-perl liburi-perl libwww-perl libhttp-message-perl libio-socket-ssl-perl \
    procps curl openssl ca-certificates chromium shellcheck libpcre3 \
    redis-tools novnc tigervnc-standalone-server x11-xserver-utils mosquitto
# The Lua module takes either of the two, and they exclude each other.
if [ "$(missing_packages libluajit2-5.1-2 libluajit-5.1-2 | wc -l)" = 2 ]; then install_packages libluajit2-5.1-2; fi

# Debian 12 does not have Test::Nginx, a later suite does; it is plain Perl.
test_nginx="$root/target/test-nginx"
if [ ! -e "$test_nginx/usr/share/perl5/Test/Nginx/Socket.pm" ]; then
    echo "unpacking Test::Nginx"
    unpack_packages sid "$test_nginx" libtest-nginx-perl
fi

# Installing libnginx-mod-http-lua would enable it in the machine's own nginx.
lua="$root/target/lua"
if [ ! -e "$lua/usr/lib/nginx/modules/ngx_http_lua_module.so" ]; then
    echo "unpacking lua-nginx-module"
    unpack_packages "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$lua" libnginx-mod-http-lua libnginx-mod-http-ndk lua-resty-core lua-resty-lrucache
fi

# The same is true of other modules that tests put beside this one.
neighbours="$root/target/neighbours"
if [ ! -e "$neighbours/usr/lib/nginx/modules/ngx_http_headers_more_filter_module.so" ]; then
    echo "unpacking modules that are tested beside this one"
    unpack_packages "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$neighbours" libnginx-mod-http-headers-more-filter libnginx-mod-http-js
fi

# promtool, which checks metrics; installing the package would start a server.
prometheus="$root/target/prometheus"
if [ ! -e "$prometheus/usr/bin/promtool" ]; then
    echo "unpacking promtool"
    unpack_packages "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$prometheus" prometheus
fi

# Node.js may be there from elsewhere than Debian.
if ! command -v npm >/dev/null; then install_packages nodejs npm; fi
mqtt="$root/target/mqtt"
if [ ! -e "$mqtt/node_modules/mqtt/package.json" ]; then
    echo "installing mqtt of npm in target/mqtt"
    mkdir -p "$mqtt"
    quietly npm-mqtt npm install --prefix "$mqtt" --no-audit --no-fund --ignore-scripts mqtt@5
fi
"$root/scripts/install-xterm.sh"
