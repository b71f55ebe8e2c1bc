#!/bin/bash
# test.sh [WITH [FILE...]]: builds the module for one nginx and runs t/ (or these files of it) against the two.
#
# With `debug` it is the installed nginx, and every error log has that level. With `sanitize` or `valgrind` every process of every
# nginx that a test starts is watched, and any report fails the run. With `late` or `shuffled` what stands behind the channels
# answers later, in order or not, as SEED has it: t/channel-*.t must not notice. See src/nginx/backend/erratic.rs.
set -euo pipefail
# shellcheck source=scripts/nginx.sh
. "$(dirname "$0")/nginx.sh"

with=${1:-installed}
shift || true
runs=$with
if [ "$with" = debug ]; then
    with=installed
    export TEST_WS_LOG_LEVEL=debug
fi
tests=("$@")
picked=$#
cd "$root"
if [ ${#tests[@]} -eq 0 ]; then
    # The tests use what a bare nginx lacks, but for one. How the module got into the program makes a difference to few.
    case $with in
    bare) tests=(t/bare.t) ;;
    late | shuffled) tests=(t/channel-*.t t/backend.t) ;;
    static) tests=(t/ws-exec.t t/short.t t/exec-lines.t t/channel-websocket.t t/tcp.t t/handshake-tls.t t/locations.t t/workers.t) ;;
    *)
        # What takes longest begins first: the run would wait for it alone in the end.
        mapfile -t tests < <(printf '%s\n' t/redis*.t t/tcp*.t t/*.t | awk '!known[$0]++')
        ;;
    esac
fi
# A test waits most of the time, but for what watches it.
case $runs in
sanitize | valgrind) jobs=$((2 * $(nproc))) ;;
*) jobs=$((3 * $(nproc))) ;;
esac

scripts/install-test-needs.sh
scripts/build-module.sh "$with"
scripts/build-command.sh
# Two modules that must be refused: one whose parts do not fit each other, and one for another nginx.
if [ "$with" = installed ]; then
    scripts/build-module.sh torn
    export TEST_WS_TORN_MODULE="$root/target/torn/ngx_ws_exec.so"
elif [ "$with" = late ] || [ "$with" = shuffled ]; then
    export WS_TEST_BACKEND="$with,seed=${SEED:-1}" TEST_WS_TEST_BACKEND=1
else
    scripts/build-module.sh installed
    export TEST_WS_OTHER_MODULE="$root/target/ngx_ws_exec.so"
fi
choose_nginx "$with"
unset NGINX NGINX_SOURCE_DIR NGINX_BUILD_DIR

if [ "$runs" = debug ] && ! "$nginx_binary" -V 2>&1 | grep -q -- '--with-debug'; then
    echo "$nginx_binary was built without --with-debug: it writes no such lines" >&2
    exit 1
fi

echo "== t/ with $("$nginx_binary" -v 2>&1), $runs =="
export TEST_NGINX_BINARY="$nginx_binary"
if [ -n "$nginx_module" ]; then export TEST_NGINX_LOAD_MODULES="$nginx_module"; else export TEST_WS_STATIC=1; fi
export TEST_NGINX_RANDOMIZE=1
# For the tests that load other modules: there are binaries of those for the machine's own nginx only.
[ "$with" != installed ] || export TEST_WS_LUA_DIR="$root/target/lua" TEST_WS_NEIGHBOURS_DIR="$root/target/neighbours"

limit=1200
reports=
case $runs in
debug) limit=2400 ;;
sanitize)
    # Workers that do not run as the caller write their reports too.
    reports=$(mktemp -d) && chmod 1777 "$reports"
    export ASAN_OPTIONS="log_path=$reports/report:detect_leaks=1:detect_stack_use_after_return=1"
    export LSAN_OPTIONS="suppressions=$root/scripts/nginx.lsan.supp:print_suppressions=0"
    limit=2400
    ;;
valgrind)
    install_packages valgrind
    reports=$(mktemp -d) && chmod 1777 "$reports"
    cat >"$root/target/nginx-valgrind/nginx" <<WRAPPER
#!/bin/bash
case " \$* " in
*" -v "* | *" -V "*) exec "$nginx_binary" "\$@" ;;
esac
# Process ids come again, and the file of another user could not be written to.
run=\$(mktemp -d "$reports/XXXXXXXX") && chmod 1777 "\$run"
# Programs that a worker starts are not watched; --quiet leaves a log empty unless there is something to say.
exec valgrind --quiet --vgdb=no --trace-children=no --num-callers=30 --leak-check=full --show-leak-kinds=definite \\
    --suppressions="$root/scripts/nginx.valgrind.supp" --log-file="\$run/report.%p" "$nginx_binary" "\$@"
WRAPPER
    chmod +x "$root/target/nginx-valgrind/nginx"
    export TEST_NGINX_BINARY="$root/target/nginx-valgrind/nginx"
    limit=4800
    ;;
esac

status=0
said="$root/target/log/t-$(nginx_name "$runs").log"
mkdir -p "${said%/*}"
# run_tests JOBS FILE...: what it prints is in the log, too.
run_tests() {
    timeout --kill-after=30 --signal=INT "$limit" \
        prove -j"$1" -I"$root/target/test-nginx/usr/share/perl5" -I"$root/t/lib" -r "${@:2}" 2>&1 | tee -a "$said"
}
: >"$said"
run_tests "${JOBS:-$jobs}" "${tests[@]}" || status=$?

# On a machine that is busy with other things a test may be too late for its peer. A few files that failed beside others may show
# alone, once, that they pass; which ones these were is said, since each of them is to be looked at. What is wrong fails again.
mapfile -t failed < <(sed -n 's/^\(t\/[^ ]*\.t\) *(Wstat:.*/\1/p' "$said" | sort -u)
if [ "$status" -eq 1 ] && [ "$picked" -eq 0 ] && [ ${#failed[@]} -gt 0 ] && [ ${#failed[@]} -le 3 ]; then
    echo "== once more, alone: ${failed[*]} =="
    if run_tests 1 "${failed[@]}"; then
        status=0
        echo "failed beside others and passed alone: ${failed[*]}" >&2
    fi
fi

if [ -n "$reports" ]; then
    # What the watchers have to say about themselves, such as an unknown system call or a thread that has ended, is no report.
    find "$reports" -type f -exec sed -i '
        /^--[0-9]*-- /d
        /^==[0-9]*==Unable to get registers from thread [0-9]*\.$/d
        /^==[0-9]*== Warning: noted but unhandled ioctl /,/README_MISSING_SYSCALL_OR_IOCTL/d' {} +
    find "$reports" -type f -empty -delete
    count=$(find "$reports" -type f | wc -l)
    if [ "$count" -gt 0 ]; then
        find "$reports" -type f | sort | head -n 5 | xargs head -n 60 >&2
        echo "$count reports of $with in $reports" >&2
        exit 1
    fi
    rm -rf "$reports"
    echo "no report of $with"
fi
exit "$status"
