#!/bin/bash
# The dashboard and the alerts of conf/monitoring: the dashboard by the types of Grafana's own package (of npm), and its queries and the
# alerts by a Prometheus of Debian's that scrapes the installed nginx with the module.
set -euo pipefail
# shellcheck source=scripts/nginx.sh
. "$(dirname "$0")/nginx.sh"
cd "$root"

scripts/install-test-needs.sh
scripts/build-module.sh
choose_nginx installed
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
# Where promtool is a package of its own, it is there without the server.
if [ ! -x target/prometheus/usr/bin/prometheus ]; then
    echo "unpacking prometheus"
    unpack_packages "$suite" target/prometheus-server prometheus
    cp target/prometheus-server/usr/bin/prometheus target/prometheus/usr/bin/
fi
unset NGINX NGINX_SOURCE_DIR NGINX_BUILD_DIR
export TEST_NGINX_BINARY="$nginx_binary" TEST_NGINX_LOAD_MODULES="$nginx_module"

dashboard=tests/dashboard
if [ ! "$dashboard/node_modules/.package-lock.json" -nt "$dashboard/package-lock.json" ]; then
    echo "installing what $dashboard needs of npm"
    quietly npm-dashboard npm ci --prefix "$dashboard" --ignore-scripts
    touch "$dashboard/node_modules/.package-lock.json"
fi
node "$dashboard/check.mjs" conf/monitoring/dashboard.json

prove -It/lib tests/monitoring.t
