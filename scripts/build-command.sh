#!/bin/bash
# build-command.sh: builds ws-exec, target/ws-exec.
set -euo pipefail
# shellcheck source=scripts/apt.sh
. "$(dirname "$0")/apt.sh"
cd "$root"

cargo build --quiet --locked --release --package ws-exec --target-dir "$root/target"
if ! cmp -s target/release/ws-exec target/ws-exec; then
    cp target/release/ws-exec target/ws-exec.new
    mv target/ws-exec.new target/ws-exec
    echo "built target/ws-exec"
fi
