#!/bin/bash
# soak.sh [HOURS]: builds the module, and puts a mixed load on one nginx for so long (1): whether memory, descriptors, processes or the zone grow, and
# whether a message is lost. CONNECTIONS clients at one time (10000), SEED of what they do (1), RELOADS minutes between reloads (30), JUDGE
# minutes that the second half of the run needs for its slopes to count (10). Samples and a picture of them are in target/soak. SOAK_MODULE
# names a module that is built already.
set -euo pipefail
# shellcheck source=scripts/nginx.sh
. "$(dirname "$0")/nginx.sh"
# shellcheck source=scripts/cargo.sh
. "$(dirname "$0")/cargo.sh"

if [ "$(id -u)" != 0 ]; then
    echo "soak.sh has to be started by root: nobody else may see the memory of workers" >&2
    exit 1
fi
directory=$root/target/soak
module=${SOAK_MODULE:-}
{
    "$root/scripts/install-test-needs.sh"
    choose_nginx installed
    if [ -z "$module" ]; then
        "$root/scripts/build-module.sh"
        module=$nginx_module
    fi
    unset NGINX NGINX_SOURCE_DIR NGINX_BUILD_DIR
    cargo_with_network build --quiet --locked --release --manifest-path "$root/bench/Cargo.toml" --target-dir "$root/target/bench"
    mkdir -p "$directory"
    openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=127.0.0.1 -keyout "$directory/key.pem" -out "$directory/cert.pem" 2>"$directory/openssl.log"
} >&2
exec "$root/target/bench/release/soak" --module "$module" --nginx "$nginx_binary" --directory "$directory" --certificate "$directory/cert.pem" \
    --key "$directory/key.pem" --hours "${1:-1}" --connections "${CONNECTIONS:-10000}" --seed "${SEED:-1}" --reloads "${RELOADS:-30}" \
    --judge "${JUDGE:-10}"
