#!/bin/bash
# build-target.sh TARGET: ws-exec, and the module for the nginx of NGINX_SOURCE_DIR (headers configured on a machine of that kind), for
# another processor or C library than the machine's, such as aarch64-unknown-linux-gnu or x86_64-unknown-linux-musl. It takes the
# toolchain that is installed, and says what is missing: nothing is fetched.
set -euo pipefail
# shellcheck source=scripts/apt.sh
. "$(dirname "$0")/apt.sh"
cd "$root"

target=${1:?which target? rustc --print target-list names them}
if ! rustc --print target-list | grep -qxF "$target"; then
    echo "rustc knows no target $target" >&2
    exit 1
fi
library="$(rustc --print sysroot)/lib/rustlib/$target/lib"
if [ ! -d "$library" ]; then
    echo "the standard library of $target is not installed ($library): with rustup, rustup target add $target" >&2
    exit 1
fi
variable=${target//-/_}
linker_variable="CARGO_TARGET_${variable^^}_LINKER"
flags_variable="CARGO_TARGET_${variable^^}_RUSTFLAGS"
if [ -z "${!linker_variable:-}" ]; then
    # As Debian calls its cross compilers, and musl's wrapper of the machine's own.
    case $target in
    "$(rustc -vV | sed -n 's/^host: //p')") linker=cc ;;
    "$(uname -m)"-*-musl) linker=musl-gcc ;;
    *) linker="${target/-unknown-/-}-gcc" ;;
    esac
    if ! command -v "$linker" >/dev/null; then
        echo "the C compiler for $target, $linker, is not installed; $linker_variable names another" >&2
        exit 1
    fi
    export "$linker_variable=$linker" "CC_$variable=$linker"
fi
# A module is a shared library, which needs the C library of nginx's process.
case $target in *-musl) export "$flags_variable=${!flags_variable:-} -C target-feature=-crt-static" ;; esac

cargo build --quiet --locked --release --target "$target" --package ws-exec
echo "built target/$target/release/ws-exec"
if [ -n "${NGINX_SOURCE_DIR:-}${NGINX_BUILD_DIR:-}" ]; then
    cargo build --quiet --locked --release --target "$target" --features module --lib
    echo "built target/$target/release/libngx_ws_exec.so"
else
    cargo check --quiet --locked --target "$target" --lib
    echo "no nginx of this kind is named (NGINX_SOURCE_DIR): of the module only what needs none was checked"
fi
