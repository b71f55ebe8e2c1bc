#!/bin/bash
# Installs xterm.js, which conf/terminal.conf serves, into target/xterm. Nothing of it is run here.
set -euo pipefail
# shellcheck source=scripts/apt.sh
. "$(dirname "$0")/apt.sh"

packages=(@xterm/xterm@6.0.0 @xterm/addon-fit@0.11.0)
for file in xterm/lib/xterm.js xterm/css/xterm.css addon-fit/lib/addon-fit.js; do
    [ -s "$root/target/xterm/node_modules/@xterm/$file" ] || absent=yes
done
if [ -n "${absent:-}" ]; then
    command -v npm >/dev/null || install_packages nodejs npm
    echo "installing ${packages[*]}"
    mkdir -p "$root/target/xterm"
    quietly xterm npm install --prefix "$root/target/xterm" --no-save --no-audit --no-fund --ignore-scripts "${packages[@]}"
fi
