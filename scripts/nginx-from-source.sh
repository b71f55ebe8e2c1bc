#!/bin/bash
# nginx-from-source.sh 1.28|static|bare|sanitize|valgrind: nginx 1.28 from the source that the crate nginx-src carries.
# nginx-from-source.sh /path/to/source HOME: nginx from a copy of this source tree, in HOME.
#
#   target/nginx-KIND/sbin/nginx   the program
#   target/nginx-KIND/src          its source, configured; the module is built for src/objs
#
# `1.28` is configured to build the module as well, nginx's own way (ngx/config), and `static` to link it into the program. `bare` lacks
# what can be left out and the module might need: regular expressions, TLS, zlib, and the binary compatibility of --with-compat.
# `sanitize` has AddressSanitizer; it and `valgrind` have no memory pools, so that each allocation is seen on its own.
set -euo pipefail
# shellcheck source=scripts/apt.sh
. "$(dirname "$0")/apt.sh"
# shellcheck source=scripts/cargo.sh
. "$(dirname "$0")/cargo.sh"

crate_version=1.28.5
kind=$1 tree=
case $kind in
*/*)
    tree=$(realpath "$kind") home=$2
    kind=${home##*/nginx-}
    if [ ! -e "$tree/src/core/nginx.h" ]; then
        echo "$tree is not a source tree of nginx: it has no src/core/nginx.h" >&2
        exit 1
    fi
    ;;
*) home="$root/target/nginx-$kind" ;;
esac

up_to_date() {
    local input
    [ -x "$home/sbin/nginx" ] || return
    if [ -n "$tree" ]; then
        [ -z "$(find "$tree/src" "$tree/auto" -newer "$home/sbin/nginx" -print -quit)" ] || return
    fi
    for input in "${BASH_SOURCE[0]}" "$root/ngx/config" "$root/ngx/config.make"; do
        [ ! "$input" -nt "$home/sbin/nginx" ] || return
    done
}
if up_to_date; then exit 0; fi

"$root/scripts/install-build-needs.sh"
echo "building nginx $kind"
rm -rf "$home"
mkdir -p "$home/sbin"

if [ -n "$tree" ]; then
    # A copy without what was built in the tree, which may have been for another nginx than this.
    cp -r "$tree" "$home/src"
    rm -rf "$home/src/objs" "$home/src/Makefile" "$home/src/.git"
else
    # cargo fetches the crate, and tells where it is.
    mkdir -p "$home/fetch/src"
    cat >"$home/fetch/Cargo.toml" <<TOML
[package]
name = "fetch"
version = "0.0.0"
edition = "2021"
[dependencies]
nginx-src = "=$crate_version"
[workspace]
TOML
    touch "$home/fetch/src/lib.rs"
    quietly "nginx-$kind-fetch" cargo_with_network fetch --manifest-path "$home/fetch/Cargo.toml"
    manifest=$(cargo_with_network metadata --quiet --offline --format-version 1 --manifest-path "$home/fetch/Cargo.toml" |
        grep -o '"manifest_path":"[^"]*/nginx-src-[^"]*"' | head -n 1 | cut -d '"' -f 4)
    cp -r "$(dirname "$manifest")/nginx" "$home/src"
    rm -rf "$home/fetch"
fi

options=(
    --prefix="$home" --with-compat --with-debug --with-threads --with-pcre-jit --with-poll_module
    --with-http_ssl_module --with-http_v2_module --with-http_v3_module
    --with-http_realip_module --with-http_auth_request_module --with-http_stub_status_module
    --with-http_sub_module --with-http_addition_module --with-http_secure_link_module
)
cd "$home/src"
case $kind in
# Relative paths are to work as well.
1.28) options+=(--add-dynamic-module=../../../ngx) ;;
static) options+=(--add-module=../../../ngx) ;;
bare) options=(--prefix="$home" --without-pcre --without-http_rewrite_module --without-http_gzip_module) ;;
sanitize | valgrind)
    # A worker that exits unloads its modules first: leaks and stacks of the module would have no names, and what its
    # statics point to would count as leaked.
    sed -i 's/dlclose(handle)$/((void) handle, 0)/' src/os/unix/ngx_dlopen.h
    # The configuration hangs on variables of main() and is left to the end of the process: as statics they are looked at.
    sed -i 's/^    ngx_cycle_t .*\*cycle, init_cycle;/    static &/' src/core/nginx.c
    # Under valgrind a process cannot change the arguments that others see of it, so it says what it is in its name as well.
    sed -i 's/^    ngx_os_argv\[1\] = NULL;/    prctl(PR_SET_NAME, title);\n&/' src/os/unix/ngx_setproctitle.c
    grep -q prctl src/os/unix/ngx_setproctitle.c
    grep -q 'static .*init_cycle;' src/core/nginx.c && grep -q '(void) handle' src/os/unix/ngx_dlopen.h
    ;;
esac
if [ -n "$tree" ]; then
    # Whatever version it is: options that it does not know are left out.
    known=()
    for option in "${options[@]}"; do
        ! grep -q -- "^ *${option%%=*}[=)]" auto/options || known+=("$option")
    done
    options=("${known[@]}")
fi
flags="-O1 -g -fno-omit-frame-pointer -DNGX_DEBUG_PALLOC=1"
case $kind in
# The module needs the library of the other sanitizer.
sanitize) options+=(--with-cc-opt="$flags -fsanitize=address" --with-ld-opt="-fsanitize=address,undefined") ;;
valgrind) options+=(--with-cc-opt="$flags") ;;
esac

# configure runs its probes built with the same options; a leak in one of them would say that a feature is missing.
export ASAN_OPTIONS=detect_leaks=0
# A release has it beside the source, a repository in a folder.
configure=./auto/configure
[ -e "$configure" ] || configure=./configure
quietly "nginx-$kind-configure" "$configure" "${options[@]}"
quietly "nginx-$kind-make" make -j"$(nproc)" -f objs/Makefile binary
mv objs/nginx "$home/sbin/nginx"
