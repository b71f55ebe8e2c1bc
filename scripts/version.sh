# shellcheck shell=bash
# Sourced by the scripts that make what is given to others, after apt.sh. Sets
#   version            the version of the crate
#   SOURCE_DATE_EPOCH  when the last change was made, which is all that results say of time

# shellcheck disable=SC2154,SC2034 # root is of apt.sh, version is for the callers
version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    if [ -e "$root/.git" ]; then
        SOURCE_DATE_EPOCH=$(git -C "$root" log -1 --format=%ct)
    else
        # A tarball has one time for all of its files.
        SOURCE_DATE_EPOCH=$(stat -c %Y "$root/Cargo.toml")
    fi
fi
export SOURCE_DATE_EPOCH
