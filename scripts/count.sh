#!/bin/bash
# count.sh [COMMIT|FILE.so ...]: how many instructions a worker executes for one message, publication or delivery, by callgrind: with the
# modules of these commits, or in these files, and with the one of this tree, whose counts stand last, beside the first ones.
#
# Unlike times, the counts do not depend on what else the machine does: two runs differ by less than 0.2 %.
set -euo pipefail
# shellcheck source=scripts/apt.sh
. "$(dirname "$0")/apt.sh"
# shellcheck source=scripts/nginx.sh
. "$(dirname "$0")/nginx.sh"

home="$root/target/count"
mkdir -p "$home"
modules=()
{
    "$root/scripts/install-test-needs.sh"
    install_packages valgrind
    choose_nginx installed
    unset NGINX NGINX_SOURCE_DIR NGINX_BUILD_DIR
    for wanted in "$@"; do
        if [ -f "$wanted" ]; then
            modules+=("$(realpath "$wanted")")
            continue
        fi
        commit=$(git -C "$root" rev-parse --short --verify "$wanted^{commit}")
        module="$home/$commit.so"
        if [ ! -e "$module" ]; then
            echo "building the module of $commit"
            rm -rf "$home/source"
            mkdir -p "$home/source"
            git -C "$root" archive "$commit" | tar -x -C "$home/source"
            (
                cd "$home/source"
                CARGO_TARGET_DIR="$home/cargo" cargo build --quiet --locked --release --features module --lib
            )
            cp "$home/cargo/release/libngx_ws_exec.so" "$module"
        fi
        modules+=("$module")
    done
    "$root/scripts/build-module.sh" installed
    modules+=("$nginx_module")

    # Programs that nginx starts are not counted. The name says to the test library that nginx runs under valgrind.
    counts=$(mktemp -d)
    trap 'rm -rf "$counts"' EXIT
    cat >"$home/valgrind-nginx" <<WRAPPER
#!/bin/bash
exec valgrind --tool=callgrind --quiet --trace-children=no --callgrind-out-file="$counts/%p" "$nginx_binary" "\$@"
WRAPPER
    chmod +x "$home/valgrind-nginx"
} >&2

TEST_NGINX_BINARY="$home/valgrind-nginx" "$root/scripts/count.pl" "$counts" "${modules[@]}"
