#!/bin/bash
# client.sh check|test|test-long [BROWSER...]: the npm packages in client/.
#
#   check      formatting, lints, types and sizes, and that what conf/ has of them is what the source builds
#   test       the unit tests, and those in Chromium against the module that was built last, for the installed nginx
#   test-long  the same for longer, and in every browser, or in those that are named: chromium, firefox, webkit
set -euo pipefail
# shellcheck source=scripts/nginx.sh
. "$(dirname "$0")/nginx.sh"

what=$1
shift
client="$root/client"

# Node.js 20 or newer: the machine's own, else the one that npm carries, in target/node. Debian 12 has 18.
choose_node() {
    local home="$root/target/node" machine
    if ! command -v npm >/dev/null; then install_packages nodejs npm; fi
    if [ "$(node -p 'process.versions.node.split(".")[0]')" -ge 20 ]; then return; fi
    machine="node-linux-$(node -p process.arch)"
    if [ ! -x "$home/node_modules/$machine/bin/node" ]; then
        echo "installing Node.js 22 in target/node"
        mkdir -p "$home"
        quietly node npm install --prefix "$home" --no-save --no-audit --no-fund --ignore-scripts "$machine@22"
    fi
    export PATH="$home/node_modules/$machine/bin:$PATH"
}

# need FOLDER: what its package-lock.json names.
need() {
    if [ "$1/node_modules/.package-lock.json" -nt "$1/package-lock.json" ]; then return; fi
    echo "installing what ${1#"$root/"} needs of npm"
    quietly "npm-${1##*/}" npm ci --prefix "$1" --no-audit --no-fund --ignore-scripts
    touch "$1/node_modules/.package-lock.json"
}

# Against the nginx that is installed, and the module that was built for it, unless others are named.
choose_module() {
    if [ -z "${TEST_NGINX_LOAD_MODULES:-}" ]; then
        "$root/scripts/build-module.sh"
        choose_nginx installed
        export TEST_NGINX_BINARY="$nginx_binary" TEST_NGINX_LOAD_MODULES="$nginx_module"
    fi
    unset NGINX NGINX_SOURCE_DIR NGINX_BUILD_DIR
}

choose_node
need "$client"
cd "$client"
case $what in
check)
    npm run --silent check
    ;;
test)
    need "$client/test"
    install_packages chromium
    choose_module
    quietly client-build node build.mjs --check
    echo "== client/ with Node.js $(node --version) and Chromium =="
    run_tests() { node --test "$@" test/*.test.mjs test/server/*.test.mjs test/browser/*.test.mjs; }
    # As in scripts/test.sh: what a busy machine was too slow for may show once, one file after the other, that it passes.
    run_tests --test-concurrency=2 || {
        echo "== once more, one after the other =="
        run_tests --test-concurrency=1
        echo "client/: failed beside others and passed alone, see above" >&2
    }
    ;;
test-long)
    need "$client/test"
    browsers=("$@")
    if [ ${#browsers[@]} -eq 0 ]; then browsers=(chromium firefox webkit); fi
    # A browser that this machine's packages do not have is one that is not run, and said to be so at the end.
    install_packages chromium
    install_packages firefox-esr || true
    install_packages xvfb webkit2gtk-driver || true
    choose_module
    quietly client-build node build.mjs --check
    export LONG=1
    echo "== client/ with Node.js $(node --version) =="
    failed=
    absent=
    node --test test/*.test.mjs test/server/*.test.mjs || failed+=" unit"
    for browser in "${browsers[@]}"; do
        echo "== client/ in $browser =="
        log="$root/target/log/client-$browser.log"
        mkdir -p "${log%/*}"
        BROWSER=$browser node --test test/browser/*.test.mjs 2>&1 | tee "$log" || failed+=" $browser"
        if grep -q 'NOT RUN' "$log"; then absent+=" $browser"; fi
    done
    [ -z "$absent" ] || echo "NOT RUN, as it is not installed or does not start here:$absent" >&2
    [ -z "$failed" ] || {
        echo "failed in:$failed" >&2
        exit 1
    }
    ;;
*)
    echo "client.sh check|test|test-long [BROWSER...]" >&2
    exit 1
    ;;
esac
