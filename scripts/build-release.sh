#!/usr/bin/env bash
# Builds the archives of a release: for each target, the programs with the documents that operators
# need beside them, as aquatic-VERSION-TARGET.tar.gz.
#
# Usage: scripts/build-release.sh [--profile PROFILE] [--to FOLDER] [TARGET...]
#        scripts/build-release.sh --documents     (prints what comes beside the programs)
#
# Without targets: Linux with musl on this machine's kind of CPU, whose programs are static and run
# on every Linux. The default FOLDER is target/dist.
#
# The script fails if a program is not what the name of its archive says: if one for musl needs a
# dynamic linker, or if one that this machine can run does not name the version of the archive.
set -euo pipefail
cd "$(dirname "$0")/.."

# What operators read and what that names: units, alerts and a dashboard, files of containers, and
# scripts that need neither the source nor a compiler.
documents() {
    git ls-files README.md CHANGELOG.md CONTRIBUTING.md CODE_OF_CONDUCT.md RELEASING.md \
        SECURITY.md LICENSE documents docker \
        scripts/ask-udp.sh scripts/gen-tls.sh scripts/restarts.py
}

if [ "${1:-}" = --documents ]; then
    documents
    exit
fi
. scripts/install-packages.sh

target_dir=${CARGO_TARGET_DIR:-target}
profile=release
to=$target_dir/dist
usage="Usage: scripts/build-release.sh [--profile PROFILE] [--to FOLDER] [TARGET...]"
while [[ ${1:-} == -* ]]; do
    case $1 in
        --profile) profile=${2:?$usage} ;;
        --to) to=${2:?$usage} ;;
        *) echo "$usage" >&2 && exit 2 ;;
    esac
    shift 2
done

require_rust
require_program binutils readelf
install_missing_packages

host=$(rustc -vV | sed -n 's/^host: //p')
version=$(cargo metadata --format-version 1 --no-deps --locked |
    sed -E 's/.*"name":"aquatic","version":"([^"]+)".*/\1/')
if [ $# -eq 0 ]; then
    set -- "${host%%-*}-unknown-linux-musl"
fi
# Cargo writes what the profile `dev` builds into a folder of another name.
folder=${profile/#dev/debug}
trackers=(aquatic aquatic_http aquatic_udp aquatic_ws)
load_testers=(aquatic_http_load_test aquatic_udp_load_test aquatic_ws_load_test)

# Usage: build TARGET
build() {
    local options=(--profile "$profile" --target "$1" --locked)
    local packages=()
    local tracker
    for tracker in "${trackers[@]}"; do
        packages+=(--package "$tracker")
    done
    case $1 in
        *-linux-musl)
            require_program musl-tools musl-gcc
            install_missing_packages
            # glommio compiles liburing, which wants headers of the kernel that musl-tools does not
            # bring; `network.runtime` and `network.backend` keep their other values.
            options+=(--no-default-features --features cluster)
            if [ "${1%%-*}" != "${host%%-*}" ]; then
                echo "Debian has no musl for another kind of CPU: build $1 on such a machine" >&2
                exit 1
            fi
            # TLS is C code. Not on each kind of CPU is the name of its compiler guessed.
            export "CC_${1//-/_}=musl-gcc"
            ;;
    esac
    cargo build "${options[@]}" --bins "${packages[@]}" --package aquatic_load_test
}

# A program that has no cluster says so when its configuration asks for one.
# Usage: check_cluster PROGRAM [COMMAND]
check_cluster() {
    if ! "$@" --check-config \
        --config <(printf '[cluster]\nservers = ["nats://127.0.0.1:4222"]\n'); then
        echo "$1 does not know [cluster]" >&2
        exit 1
    fi
}

# Usage: judge TARGET PROGRAM...
judge() {
    local target=$1 program said
    shift
    for program in "$@"; do
        if [[ $target == *-linux-musl ]] &&
            readelf --program-headers --wide "$program" | grep -q INTERP; then
            echo "$program is not static: it asks for a dynamic linker" >&2
            exit 1
        fi
        if [ "${target%%-*}" = "${host%%-*}" ] && [[ $target == *-linux-* ]]; then
            said=$("$program" --version)
            if [[ $said != *" $version" ]]; then
                echo "$program says that it is '$said', and not $version" >&2
                exit 1
            fi
            case $(basename "$program") in
                aquatic) check_cluster "$program" udp ;;
                aquatic_http | aquatic_udp | aquatic_ws) check_cluster "$program" ;;
            esac
        fi
    done
}

# Usage: pack TARGET PROGRAM...
pack() {
    local target=$1
    shift
    local name=aquatic-$version-$target
    local root=$staging/$name
    # Of one commit comes one archive, whoever builds it and when.
    local committed=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
    local path mode
    mkdir -p "$root"
    install -m 755 "$@" "$root/"
    while IFS= read -r path; do
        mode=644
        [ ! -x "$path" ] || mode=755
        install -D -m "$mode" "$path" "$root/$path"
    done < <(documents)
    tar --create --directory "$staging" --sort=name --owner=0 --group=0 --numeric-owner \
        --mtime="@$committed" "$name" | gzip --no-name -9 > "$to/$name.tar.gz"
    echo "$to/$name.tar.gz"
}

mkdir -p "$to"
staging=$(mktemp -d)
trap 'rm -rf "$staging"' EXIT
for target in "$@"; do
    if ! rustc --print sysroot --target "$target" > /dev/null 2>&1; then
        echo "rustc knows no target '$target'; 'rustc --print target-list' has their names" >&2
        exit 1
    fi
    # Where rustup cannot be asked, the target may be there all the same.
    rustup target add "$target" || echo "rustup could not add $target; trying without"
    build "$target"
    programs=()
    for program in "${trackers[@]}" "${load_testers[@]}"; do
        programs+=("$target_dir/$target/$folder/$program")
    done
    judge "$target" "${programs[@]}"
    pack "$target" "${programs[@]}"
done
