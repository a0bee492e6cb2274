#!/usr/bin/env bash
# Builds a Debian package for each tracker: aquatic-udp, aquatic-http, aquatic-ws, and aquatic,
# which is all of them in one program.
#
# Usage: scripts/build-debs.sh [--profile PROFILE] [--no-build] [--fast]
#
#   --profile PROFILE  of Cargo: release (the default), or dev for tests
#   --no-build         packs the programs that are there already
#   --fast             compresses less
#
# The packages end up in target/debian. cargo-deb makes them, as [package.metadata.deb] of each
# crate says; the script installs it into target/tools if it is missing. What the packages hold
# besides the program is made here, in target/PROFILE/debian-assets.
#
# Needs a Rust toolchain, and dpkg-dev for the libraries that the programs depend on.

set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install-packages.sh

cargo_deb_version=3.8.0

profile=release
do_build=true
compression=()
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help)
            # The comment above is the help.
            sed -n '2,/^$/s/^# \{0,1\}//p' "scripts/${0##*/}"
            exit
            ;;
        --profile)
            profile=${2:?--profile wants the name of a profile, such as release}
            shift
            ;;
        --no-build) do_build=false ;;
        --fast) compression=(--fast) ;;
        *)
            echo "Usage: scripts/build-debs.sh [--profile PROFILE] [--no-build] [--fast]" >&2
            exit 2
            ;;
    esac
    shift
done

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
products=$target/${profile/#dev/debug}
assets=$products/debian-assets
output=$target/debian
programs=(aquatic_udp aquatic_http aquatic_ws aquatic)

require_program dpkg-dev dpkg-shlibdeps
require_program binutils strip
install_missing_packages
require_rust
PATH=$target/tools/bin:$PATH
if ! cargo deb --version > /dev/null 2>&1; then
    # What compresses quickly need not be quick itself.
    cargo install cargo-deb --version "$cargo_deb_version" --locked --root "$target/tools" \
        "${compression[@]/--fast/--debug}"
fi

if [ "$do_build" = true ]; then
    for program in "${programs[@]}"; do
        cargo build --locked --profile "$profile" --package "$program" --bin "$program"
    done
    cargo build --locked --profile "$profile" --package aquatic_pages
fi

# The day of the commit, so that the same source makes the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2> /dev/null || date +%s)}
export SOURCE_DATE_EPOCH
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
# The leftovers of another version would be packed, too.
rm -rf "$assets"
mkdir -p "$assets" "$output"
# Man pages and completions.
"$products/aquatic_pages" all "$assets/pages"
gzip -9n "$assets"/pages/man/*

# What operators read, with alert rules and dashboard; links among the pages are relative.
mkdir "$assets/documents"
cp -r documents/*.md documents/decisions documents/monitoring "$assets/documents/"

# Usage: unit_of PROGRAM. Prints the unit of documents/, for a program of Debian and its user.
unit_of() {
    local pages="man:$1(8) man:$1.toml(5) file:///usr/share/doc/${1//_/-}/documents/operating.md"
    # The first comment is about an installation by hand.
    sed -e '/^\[Unit\]/,$!d' \
        -e "s|^Description=.*|&\nDocumentation=$pages|" \
        -e 's|/usr/local/bin/|/usr/bin/|' \
        -e 's|^# A user that exists only while the service runs|# The package makes this user|' \
        -e 's|^DynamicUser=yes|User=aquatic\nGroup=aquatic\nRemoveIPC=yes|' \
        "documents/$1.service"
}

# Usage: changelog_of PACKAGE. Prints a changelog in Debian's format.
changelog_of() {
    printf '%s (%s-1) stable; urgency=medium\n\n' "$1" "$version"
    printf '  * Version %s: see /usr/share/doc/%s/changelog.gz\n\n' "$version" "$1"
    printf ' -- %s <>  %s\n' "$maintainer" "$(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")"
}

for program in "${programs[@]}"; do
    package=${program//_/-}
    maintainer=$(sed -n 's/^maintainer = "\(.*\)"/\1/p' "crates/${program#aquatic_}/Cargo.toml")
    mkdir "$assets/$program"
    packaging/default-configuration.sh "$products/$program" > "$assets/$program/$program.toml"
    unit_of "$program" > "$assets/$program/$program.service"
    # -n: no time of now within the file.
    changelog_of "$package" | gzip -9n > "$assets/$program/changelog.Debian.gz"
    gzip -9nc CHANGELOG.md > "$assets/$program/changelog.gz"
    cargo deb --locked --no-build --package "$program" --profile "$profile" --strip \
        --output "$output/" "${compression[@]}"
done
