#!/usr/bin/env bash
# Mutation testing: changes one thing at a time in the code that decides, and sees whether a test
# fails. documents/mutation-testing.md says what came of it.
#
# Usage: scripts/mutants.sh [PART...] [-- OPTIONS]
#
# Parts are channel, udp_protocol, swarm, ws_protocol, http_protocol, udp, ws and http; without any,
# all of them, one after the other: some hours. Options go to cargo-mutants:
#
#     scripts/mutants.sh swarm -- --file crates/swarm/src/index.rs
#     scripts/mutants.sh channel -- --re 'in IdleStrategy::coalesces'
#     scripts/mutants.sh channel -- --list
#
# For each mutant those tests run that are quick: unit tests, property tests, and simulations. The
# slower ones of them come afterwards, for what has survived the others. Black-box tests, which
# start programs, do not run. Of the daemons the service and the sessions are changed, which decide;
# not what moves bytes.
#
# Results are in target/mutants/PART. Fails if a mutant survives that .cargo/mutants.toml does not
# exclude for a reason. A copy of the project is changed, not the project.
#
# Needs cargo-mutants 27 and cargo-nextest.

set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install-packages.sh
require_rust

for tool in mutants nextest; do
    if ! cargo "$tool" --version > /dev/null 2>&1; then
        echo "There is no cargo-$tool here: cargo install --locked cargo-$tool" >&2
        exit 1
    fi
done

parts=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    parts+=("$1")
    shift
done
[ $# -eq 0 ] || shift
if [ ${#parts[@]} -eq 0 ]; then
    parts=(channel udp_protocol swarm ws_protocol http_protocol udp ws http)
fi

results=${CARGO_TARGET_DIR:-target}/mutants
mkdir -p "$results"

# What the property tests that do not say it themselves try; and whoever reads of a failure here
# does not care for its smallest example.
export PROPTEST_CASES=64 PROPTEST_MAX_SHRINK_ITERS=0

# Usage: look_at PART OPTION... -- TEST OPTION... Fails if a mutant survives. One that hangs does
# not.
look_at() {
    local part=$1 status=0
    shift
    mkdir -p "$results/$part"
    CARGO_TARGET_DIR=$results/build nice -n 10 cargo mutants --package "aquatic_$part" \
        --output "$results/$part" "$@" || status=$?
    [ "$status" -eq 0 ] || [ "$status" -eq 3 ]
}

failed=()
for part in "${parts[@]}"; do
    files=()
    case $part in
        channel) tests=(--lib) ;;
        swarm) tests=(--lib) ;;
        udp_protocol | ws_protocol | http_protocol) tests=(--lib --test '*') ;;
        udp) tests=(--lib --test simulation) files=(service) ;;
        ws | http) tests=(--lib --test simulation) files=(service session) ;;
        *)
            echo "$part is none of the parts: see the head of this script" >&2
            exit 2
            ;;
    esac
    options=("$@")
    for file in "${files[@]}"; do
        options+=(--file "crates/$part/src/$file.rs")
    done
    if ! look_at "$part" "${options[@]}" -- "${tests[@]}" --profile mutants &&
        ! look_at "$part" --iterate "${options[@]}" -- "${tests[@]}" --profile mutants-slow; then
        failed+=("$part")
    fi
done

if [ ${#failed[@]} -gt 0 ]; then
    echo "Mutants have survived, or could not be tested: ${failed[*]}"
    for part in "${failed[@]}"; do
        cat "$results/$part/mutants.out/missed.txt" 2> /dev/null || true
    done
    exit 1
fi
