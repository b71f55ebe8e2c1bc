#!/bin/bash
# Formatting, lints and documentation, every warning an error, with and without the nginx side; and the client for browsers.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/cargo.sh
. scripts/cargo.sh
scripts/install-test-needs.sh

scripts/console-hashes.sh --check
cargo fmt --all --check
for crate in bench fuzz; do cargo fmt --manifest-path "$crate/Cargo.toml" --check; done
cargo_with_network clippy --quiet --locked --all-targets --manifest-path "$PWD/bench/Cargo.toml" --target-dir "$PWD/target/bench" -- -D warnings
# The fuzz targets are looked at without being linked: libFuzzer, which takes a minute to compile, can be any file.
CUSTOM_LIBFUZZER_PATH=/dev/null RUSTFLAGS="--cfg fuzzing" cargo_with_network clippy --quiet --locked --all-targets \
    --manifest-path "$PWD/fuzz/Cargo.toml" --target-dir "$PWD/target/fuzz-check" -- -D warnings
cargo clippy --quiet --locked --all-targets --package ws-exec -- -D warnings
for features in "" module test-backend; do
    cargo clippy --quiet --locked --all-targets --features "$features" -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --quiet --locked --no-deps --document-private-items --features "$features"
done
scripts/client.sh check
scripts/cargo-deny.sh check bans licenses sources
shellcheck --external-sources scripts/*.sh .ci/run conf/*.sh conf/*/*.sh

# Documentation, the table of directives and the syntax files of editors say the same.
scripts/syntax.pl --check
