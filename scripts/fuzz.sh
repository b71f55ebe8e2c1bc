#!/bin/bash
# fuzz.sh [MINUTES [TARGET...]]: builds the fuzz targets, and runs each of them, or these, for so many minutes of a core (1), as many at a
# time as there are cores. It ends with a table, and with status 1 if one has crashed, leaked or stood still: the table names the input,
# which `target/fuzz/NAME INPUT` repeats. What is found on the way stays in target/fuzz/corpus and is where the next run begins;
# MERGE=1 takes what reaches something new into fuzz/corpus. BUILD=1 builds and runs nothing.
#
# The toolchain that is installed is enough: libFuzzer comes with a crate, and the instrumentation is the compiler's own. It is behind
# flags that a stable compiler takes only if it is told to be its own predecessor.
set -euo pipefail
# shellcheck source=scripts/apt.sh
. "$(dirname "$0")/apt.sh"
# shellcheck source=scripts/cargo.sh
. "$(dirname "$0")/cargo.sh"
cd "$root"

minutes=${1:-1}
shift || true
if ! [[ $minutes =~ ^[0-9]+(\.[0-9]+)?$ ]]; then
    echo "MINUTES=$minutes is no number" >&2
    exit 1
fi
mapfile -t known < <(sed -n 's/^name = "\(.*\)"$/\1/p' fuzz/Cargo.toml | tail -n +2 | sort)
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=("${known[@]}")
for target in "${targets[@]}"; do
    case " ${known[*]} " in
    *" $target "*) ;;
    *)
        echo "there is no fuzz target $target; there are: ${known[*]}" >&2
        exit 1
        ;;
    esac
done

# Octets that the inputs of a target in fuzz/corpus have at most.
most_octets=200000
# Seconds after which an input is one that the target stands still at.
timeout=60

work="$root/target/fuzz"
host=$(rustc -vV | sed -n 's/^host: //p')
command -v c++ >/dev/null || install_packages g++ libc6-dev
flags=(-Cpasses=sancov-module --cfg fuzzing)
for option in level=4 inline-8bit-counters pc-table trace-compares; do
    flags+=("-Cllvm-args=-sanitizer-coverage-$option")
done
# A distribution's Rust may come without it; what safe Rust asserts is found without it as well.
if compgen -G "$(rustc --print sysroot)/lib/rustlib/$host/lib/librustc*_rt.asan.a" >/dev/null; then
    flags+=(-Zsanitizer=address)
else
    echo "this Rust has no AddressSanitizer: nothing but panics, leaks and timeouts are found" >&2
fi
bins=()
for target in "${targets[@]}"; do bins+=(--bin "$target"); done
if ! RUSTC_BOOTSTRAP=1 RUSTFLAGS="${flags[*]}" cargo_with_network build --quiet --locked --release --manifest-path "$root/fuzz/Cargo.toml" \
    --target-dir "$work" --target "$host" "${bins[@]}"; then
    echo "the fuzz targets cannot be built by $(rustc --version), which has to know sancov-module and -Zsanitizer" >&2
    exit 1
fi
for target in "${targets[@]}"; do ln -sfn "$host/release/$target" "$work/$target"; done
[ "${BUILD:-0}" = 0 ] || exit 0

# One line for the table, and status 1 if something was found.
run() {
    local target=$1 status=0
    local log="$work/log/$target.log" found="$work/artifacts/$target" inputs=("$work/corpus/$target")
    mkdir -p "$work/log" "$found" "${inputs[0]}"
    [ ! -d "fuzz/corpus/$target" ] || inputs+=("fuzz/corpus/$target")
    "$work/$target" -max_total_time="$seconds" -timeout="$timeout" -rss_limit_mb=2560 -print_final_stats=1 -reload=0 \
        -artifact_prefix="$found/" "${inputs[@]}" >"$log" 2>&1 || status=$?
    awk -v target="$target" -v status="$status" '
        $1 ~ /^#[0-9]+$/ && /cov: / {
            executions = substr($1, 2)
            for (field = 1; field < NF; field++) values[$field] = $(field + 1)
        }
        /number_of_executed_units:/ { executions = $2 }
        /average_exec_per_sec:/ { rate = $2 }
        /Test unit written to / { input = $NF }
        END {
            split(values["corp:"], corpus, "/")
            said = status == 0 ? "" : input == "" ? "failed, see target/fuzz/log/" target ".log" : "FOUND " input
            line = sprintf("%-18s %12d %9d %7d / %-7d %6d  %s", target, executions, rate, values["cov:"], values["ft:"], corpus[1], said)
            sub(/ +$/, "", line)
            print line
        }' "$log"
    [ "$status" = 0 ]
}
seconds=$(awk -v minutes="$minutes" 'BEGIN { seconds = int(minutes * 60); print seconds < 1 ? 1 : seconds }')

printf '%-18s %12s %9s %7s / %-7s %6s\n' target executions each/s edges features corpus
failed=0
running=0
for target in "${targets[@]}"; do
    if [ "$running" -ge "$(nproc)" ]; then
        wait -n || failed=1
        running=$((running - 1))
    fi
    run "$target" &
    running=$((running + 1))
done
for ((; running > 0; running--)); do wait -n || failed=1; done

# The fewest inputs that reach all that is reached; where they are too many octets, the largest ones are left out.
merge() {
    local target=$1 to="$work/merged/$1" inputs=("$work/corpus/$1") size file
    [ ! -d "fuzz/corpus/$target" ] || inputs+=("fuzz/corpus/$target")
    rm -rf "$to"
    mkdir -p "$to"
    if ! "$work/$target" -set_cover_merge=1 -timeout="$timeout" "$to" "${inputs[@]}" >"$work/log/$target-merge.log" 2>&1; then
        echo "$target: not merged, see target/fuzz/log/$target-merge.log" >&2
        return 1
    fi
    mapfile -t files < <(find "$to" -type f -printf '%s %p\n' | sort -rn)
    size=$(printf '%s\n' "${files[@]}" | awk '{ sum += $1 } END { print sum + 0 }')
    for file in "${files[@]}"; do
        [ "$size" -gt "$most_octets" ] || break
        size=$((size - ${file%% *}))
        rm "${file#* }"
    done
    rm -rf "fuzz/corpus/$target"
    mv "$to" "fuzz/corpus/$target"
}
if [ "${MERGE:-0}" != 0 ]; then
    for target in "${targets[@]}"; do merge "$target" || failed=1; done
fi
exit "$failed"
