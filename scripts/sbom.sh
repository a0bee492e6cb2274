#!/usr/bin/env bash
# Writes what each program is made of (SBOM, CycloneDX 1.5 as JSON), and checks that no crate is
# missing there.
#
# Usage: scripts/sbom.sh [FOLDER]
#
# Writes aquatic-VERSION.cdx.json, aquatic_udp-VERSION.cdx.json and so on into FOLDER, by default
# target/dist. Installs cargo-cyclonedx, in the version below, into target/tools if it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install-packages.sh
require_program jq jq
install_missing_packages
require_rust

cyclonedx_version=0.5.9
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
to=$(realpath -m "${1:-$target_dir/dist}")
source=$PWD
PATH=$target_dir/tools/bin:$PATH
if [[ $(cargo cyclonedx --version 2> /dev/null) != *" $cyclonedx_version" ]]; then
    cargo install cargo-cyclonedx --version "$cyclonedx_version" --locked \
        --root "$target_dir/tools"
fi

# cargo-cyclonedx writes beside each manifest: into a copy, so that the tree stays clean.
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z -- Cargo.toml Cargo.lock LICENSE crates |
    tar --create --null --files-from - | tar --extract --directory "$copy"
cd "$copy"
# With a date that is given, cargo-cyclonedx leaves random numbers out: one commit, one file.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$source" log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
cargo cyclonedx --format json --spec-version 1.5 --target all --quiet

mkdir -p "$to"
for package in aquatic aquatic_http aquatic_udp aquatic_ws aquatic_load_test; do
    crate=crates/${package#aquatic_}
    version=$(cargo pkgid --package "$package" | sed 's/.*[#@]//')
    # Without the folder in which this script happened to run.
    sed "s|file://$copy|file:///source|g" "$crate/$package.cdx.json" > "$copy/sbom.json"
    jq -r '.components[].purl // empty' "$copy/sbom.json" |
        sed -E 's|^pkg:cargo/([^?]+).*|\1|' | sort -u > "$copy/named"
    cargo tree --locked --package "$package" --edges normal,build --target all \
        --prefix none --format '{p}' |
        awk -v itself="$package" '$1 != itself { sub(/^v/, "", $2); print $1 "@" $2 }' |
        sort -u > "$copy/built"
    missing=$(comm -13 "$copy/named" "$copy/built")
    if [ ! -s "$copy/built" ] || [ -n "$missing" ]; then
        printf 'The SBOM of %s does not name:\n%s\n' "$package" "$missing" >&2
        exit 1
    fi
    cp "$copy/sbom.json" "$to/$package-$version.cdx.json"
    echo "$to/$package-$version.cdx.json: $(wc -l < "$copy/built") crates"
done
