# shellcheck shell=bash
# Sourced by the scripts that need an nginx to build for or to start. WITH names it: `installed` (the machine's own), `1.28`,
# `1.30`, `bare`, `sanitize`, `valgrind`.
#
# No variable here is called NGINX: an nginx that finds one in its environment takes it for a list of inherited sockets.

# shellcheck source=scripts/apt.sh
. "$(dirname "${BASH_SOURCE[0]}")/apt.sh"

# choose_nginx WITH: prepares that nginx and sets
#   nginx_binary   the program to start
#   nginx_module   where the module built for it goes
#   cargo_target   the folder for cargo's results; one for each nginx, so that changing between them rebuilds nothing
#   and exports NGINX_SOURCE_DIR and NGINX_BUILD_DIR for cargo, if it is not the installed one.
choose_nginx() {
    local home="$root/target/nginx-$1"
    case $1 in
    installed)
        "$root/scripts/install-build-needs.sh"
        nginx_binary=$(PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v nginx || true)
        nginx_module="$root/target/ngx_ws_exec.so"
        cargo_target="$root/target"
        return
        ;;
    1.28 | bare | sanitize | valgrind) "$root/scripts/nginx-from-source.sh" "$1" ;;
    1.30) "$root/scripts/nginx-from-sid.sh" ;;
    *)
        echo "WITH=$1 is not known: installed, 1.28, 1.30, bare or all" >&2
        return 1
        ;;
    esac
    # shellcheck disable=SC2034 # for the callers
    nginx_binary="$home/sbin/nginx" nginx_module="$home/ngx_ws_exec.so" cargo_target="$home/cargo"
    export NGINX_SOURCE_DIR="$home/src" NGINX_BUILD_DIR="$home/src/objs"
}
