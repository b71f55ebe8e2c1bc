# shellcheck shell=bash
# Sourced by the scripts that need an nginx to build for or to start. WITH names it:
#
#   installed          the machine's own
#   1.26 (or trixie), 1.30 (or sid)   the one of this suite of Debian, unpacked beside it
#   1.28               built from source, together with the module, nginx's own way
#   static             the same with the module linked into it
#   bare               one that lacks what can be left out
#   sanitize, valgrind for the tests of that name
#   late, shuffled     the machine's own, with a module whose channels have the backend of the tests
#   /path/to/source    built from this source tree, whichever version that is
#
# No variable here is called NGINX: an nginx that finds one in its environment takes it for a list of inherited sockets.

# shellcheck source=scripts/apt.sh
. "$(dirname "${BASH_SOURCE[0]}")/apt.sh"

# nginx_name WITH: what its folder in target/ and its log files are called after.
nginx_name() {
    case $1 in
    trixie) echo 1.26 ;;
    sid) echo 1.30 ;;
    */*)
        local path
        path=$(realpath -m "$1")
        echo "tree-$(basename "$path")-$(cksum <<<"$path" | cut -d ' ' -f 1)"
        ;;
    *) echo "$1" ;;
    esac
}

# choose_nginx WITH: prepares that nginx and sets
#   nginx_binary   the program to start
#   nginx_module   where the module built for it goes; empty if it is linked into the program
#   cargo_target   the folder for cargo's results; one for each nginx, so that changing between them rebuilds nothing
#   and exports NGINX_SOURCE_DIR and NGINX_BUILD_DIR for cargo, if it is not the installed one.
choose_nginx() {
    local home
    home="$root/target/nginx-$(nginx_name "$1")"
    case $1 in
    installed)
        "$root/scripts/install-build-needs.sh"
        nginx_binary=$(PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v nginx || true)
        nginx_module="$root/target/ngx_ws_exec.so"
        cargo_target="$root/target"
        return
        ;;
    late | shuffled)
        choose_nginx installed
        nginx_module="$root/target/nginx-late/ngx_ws_exec.so"
        cargo_target="$root/target/nginx-late/cargo"
        mkdir -p "${nginx_module%/*}"
        return
        ;;
    1.28 | bare | static | sanitize | valgrind) "$root/scripts/nginx-from-source.sh" "$1" ;;
    1.26 | trixie) "$root/scripts/nginx-from-suite.sh" trixie 1.26 ;;
    1.30 | sid) "$root/scripts/nginx-from-suite.sh" sid 1.30 ;;
    */*) "$root/scripts/nginx-from-source.sh" "$1" "$home" ;;
    *)
        echo "WITH=$1 is not known: installed, 1.26 (trixie), 1.28, 1.30 (sid), static, bare, late, shuffled, all, or the path of a source tree" >&2
        return 1
        ;;
    esac
    # shellcheck disable=SC2034 # for the callers
    {
        nginx_binary="$home/sbin/nginx" nginx_module="$home/ngx_ws_exec.so" cargo_target="$home/cargo"
        [ "$1" != static ] || nginx_module=
    }
    export NGINX_SOURCE_DIR="$home/src" NGINX_BUILD_DIR="$home/src/objs"
}
