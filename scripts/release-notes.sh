#!/usr/bin/env bash
# Prints what CHANGELOG.md says about a version: the text of its release.
#
# Usage: scripts/release-notes.sh TAG [CHANGELOG]
#
# TAG is the version with a `v` in front. The script fails if that is not the version of this tree,
# or if the change log has no section of it: a release that nobody has described is a mistake.
set -euo pipefail
cd "$(dirname "$0")/.."

tag=${1:?Usage: scripts/release-notes.sh TAG [CHANGELOG]}
log=${2:-CHANGELOG.md}
version=$(sed -n '/^\[workspace\.package\]/,/^$/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
if [ "$tag" != "v$version" ]; then
    echo "The tag is $tag, but the version in Cargo.toml is $version: it should be v$version" >&2
    exit 1
fi
notes=$(awk -v heading="## $version (" '
    index($0, heading) == 1 { inside = 1; next }
    /^## / { inside = 0 }
    inside' "$log")
if [ -z "${notes//[[:space:]]/}" ]; then
    echo "$log has no section '## $version (YYYY-MM-DD)', or nothing is in it" >&2
    exit 1
fi
printf '%s\n' "$notes"
