#!/bin/bash
# install.sh: copies what was built for the installed nginx, or for the one of NGINX_SOURCE_DIR, below DESTDIR and PREFIX
# (/usr/local if nothing is said): the module, ws-exec, manual pages, documentation and examples. MODULESDIR is the folder of the
# module, if it is to be another than PREFIX/lib/nginx/modules.
set -euo pipefail
# shellcheck source=scripts/apt.sh
. "$(dirname "$0")/apt.sh"
cd "$root"

prefix=${PREFIX:-/usr/local}
destination=${DESTDIR:-}
modules=${MODULESDIR:-$prefix/lib/nginx/modules}
for folder in "$prefix" "$modules"; do
    if [ "${folder#/}" = "$folder" ]; then
        echo "PREFIX and MODULESDIR are absolute paths, not $folder" >&2
        exit 1
    fi
done

# Whoever installs as root may have built as somebody else, and have no cargo.
if command -v cargo >/dev/null; then
    scripts/build-module.sh installed
    scripts/build-command.sh
elif [ ! -e target/ngx_ws_exec.so ] || [ ! -e target/ws-exec ]; then
    echo "nothing is built, and cargo is not there: make module first" >&2
    exit 1
fi

# put MODE FOLDER FILE...: a running nginx has its module mapped, so that each file is replaced by a rename.
put() {
    local mode=$1 folder=$2 file
    shift 2
    mkdir -p "$destination$folder"
    for file in "$@"; do
        install -m "$mode" "$file" "$destination$folder/.${file##*/}.new"
        mv "$destination$folder/.${file##*/}.new" "$destination$folder/${file##*/}"
    done
}
put 644 "$modules" target/ngx_ws_exec.so
put 755 "$prefix/bin" target/ws-exec
put 644 "$prefix/share/man/man1" packaging/man/ws-exec.1
put 644 "$prefix/share/man/man8" packaging/man/ngx_ws_exec.8
scripts/install-documentation.sh "$destination$prefix/share/doc/ngx_ws_exec"
if [ -z "$destination" ]; then
    echo "installed; in nginx.conf: load_module $modules/ngx_ws_exec.so;"
fi
