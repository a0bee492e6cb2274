#!/usr/bin/env bash
# Runs fuzz targets, one after the other: made-up input for each codec and for whole trackers.
#
# Usage: scripts/fuzz.sh [SECONDS PER TARGET [TARGET...]]          (30 seconds; all targets)
#        scripts/fuzz.sh --runs INPUTS [TARGET...]    so many inputs in all, divided by the targets
#        scripts/fuzz.sh --smoke                      the corpus, and 1 second of more per target
#        scripts/fuzz.sh --minimise [TARGET...]       moves what was learned to the corpus
#
# The corpus is fuzz/seeds: few inputs that reach as much code as all that was tried before. At the
# end stands how many inputs there were of each target, how many per second, and all together.
#
# Needs what the build needs, with a C++ compiler; the toolchain is the stable one. Input that makes
# a target fail is kept, and fails the script, which says how to replay it. What has been learned is
# kept, too, so that a later run goes on from there.

set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install-packages.sh
require_program g++ g++
install_missing_packages
require_rust

mode=seconds
amount=30
case ${1:-} in
    --runs) mode=runs amount=${2:?"how many inputs?"} && shift 2 ;;
    --smoke) mode=seconds amount=1 && shift ;;
    --minimise) mode=minimise && shift ;;
    '') ;;
    *) amount=$1 && shift ;;
esac
if ! [ "$amount" -gt 0 ] 2> /dev/null; then
    echo "$amount is not a number of seconds or inputs" >&2
    exit 2
fi

target_dir=${CARGO_TARGET_DIR:-target}/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
programs=$target_dir/$host/release

# What cargo-fuzz passes, too. All of it is stable, as long as no sanitizer is asked for; unsafe
# code has scripts/check-unsafe.sh.
coverage=(
    -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
    -Cllvm-args=-simplifycfg-branch-fold-threshold=0
)
# The dependencies that the programs have, and a few more.
cp Cargo.lock fuzz/Cargo.lock
# With a target of its own, build scripts and macros are spared all this.
RUSTFLAGS="${coverage[*]} --cfg fuzzing" cargo build --release \
    --manifest-path fuzz/Cargo.toml --target "$host" --target-dir "$target_dir"

targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    mapfile -t targets < <(basename --suffix=.rs fuzz/fuzz_targets/*.rs)
fi

# Usage: minimise TARGET. Moves the few inputs of all that reach what all reach to the corpus.
minimise() {
    local corpus=fuzz/seeds/$1 all=$target_dir/minimised/$1
    rm -rf "$all"
    mkdir -p "$all" "$corpus"
    "$programs/$1" -set_cover_merge=1 -max_len=1024 -verbosity=0 "$all" "$corpus" \
        "$target_dir/corpus/$1" > "$all.log" 2>&1
    # Those with names of their own were written by hand, and stay.
    find "$corpus" -type f ! -name '*.bin' -delete
    cp "$all"/* "$corpus/"
    printf '%-20s %6s inputs %8s bytes\n' "$1" "$(find "$corpus" -type f | wc -l)" \
        "$(cat "$corpus"/* | wc -c)"
}

failed=()
sums=$target_dir/sums
: > "$sums"
for target in "${targets[@]}"; do
    learned=$target_dir/corpus/$target
    found=$target_dir/found/$target
    mkdir -p "$learned" "$found"
    case $mode in
        minimise)
            # Not behind `&&`, where the shell would go on after a failure in it.
            minimise "$target"
            continue
            ;;
        runs) bound=-runs=$(((amount + ${#targets[@]} - 1) / ${#targets[@]})) ;;
        seconds) bound=-max_total_time=$amount ;;
    esac
    printf '\n== %s\n' "$target"
    seeds=()
    if [ -d "fuzz/seeds/$target" ]; then
        seeds=("fuzz/seeds/$target")
    fi
    log=$target_dir/$target.log
    started=$(date +%s%N)
    "$programs/$target" "$bound" -timeout=10 -verbosity=0 -print_final_stats=1 \
        -artifact_prefix="$found/" "$learned" "${seeds[@]}" > "$log" 2>&1 || failed+=("$target")
    millis=$((($(date +%s%N) - started) / 1000000))
    grep --invert-match ' # Uses: \|Recommended dictionary\|recommended dictionary' "$log" || true
    inputs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    echo "$target ${inputs:-0} $millis" >> "$sums"
done

if [ "$mode" != minimise ]; then
    awk 'BEGIN { printf "\n%-20s %12s %12s\n", "target", "inputs", "per second" }
        { printf "%-20s %12d %12d\n", $1, $2, 1000 * $2 / ($3 + 1); inputs += $2; ms += $3 }
        END { printf "%-20s %12d %12d\n", "all", inputs, 1000 * inputs / (ms + 1) }' "$sums"
fi

if [ ${#failed[@]} -gt 0 ]; then
    printf '\nFound something: %s\n' "${failed[*]}"
    echo "To replay it: $programs/TARGET $target_dir/found/TARGET/FILE"
    exit 1
fi
