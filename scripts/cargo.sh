# shellcheck shell=bash
# Sourced by the scripts that build what is not shipped: benchmarks, fuzz targets, nginx's own source. The source tarball has no crates
# for those, and its .cargo/config.toml forbids cargo to fetch any (scripts/vendor.sh).

# cargo_with_network ARGUMENT...: cargo without those settings, which it reads from the folder that it is called in. Paths are absolute.
cargo_with_network() {
    (cd / && exec cargo "$@")
}
