# shellcheck shell=bash
# Sourced by the other scripts: Debian packages, installed only when missing, or unpacked into a private folder.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Whether packages can be installed: by root, or by sudo if that needs no password or there is a terminal to ask for one.
can_install() {
    command -v apt-get >/dev/null || return
    [ "$(id -u)" != 0 ] || return 0
    command -v sudo >/dev/null || return
    sudo -n true 2>/dev/null || (: </dev/tty) 2>/dev/null
}

# quietly NAME COMMAND...: the command's output goes to target/log/NAME.log and is shown only when it fails.
quietly() {
    local log="$root/target/log/$1.log"
    shift
    mkdir -p "$root/target/log"
    if ! "$@" >"$log" 2>&1 </dev/null; then
        echo "failed: $*" >&2
        tail -n 60 "$log" >&2
        return 1
    fi
}

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@"
}

# apt-get update knows no lock timeout: another update of the same machine's lists makes it fail at once.
apt_update() {
    local try
    for try in 1 2 3 4 5 6; do
        if quietly apt-update apt_get update; then return; fi
        grep -q 'Could not get lock' "$root/target/log/apt-update.log" || break
        echo "package lists are being updated by somebody else (try $try of 6)" >&2
        sleep 10
    done
    return 1
}

# missing_packages NAME...: those that are not installed, one a line; all of them where packages are not Debian's.
missing_packages() {
    local name
    for name in "$@"; do
        dpkg-query -W -f='${db:Status-Status}\n' "$name" 2>/dev/null | grep -qx installed || echo "$name"
    done
}

# install_packages NAME...: does nothing, and asks for no privilege, when all of them are there. Never removes a package
# that is in the way of one of them: that is the owner's to decide.
install_packages() {
    local missing
    mapfile -t missing < <(missing_packages "$@")
    [ ${#missing[@]} -gt 0 ] || return 0
    if ! can_install; then
        if command -v apt-get >/dev/null; then
            echo "to be installed first, as root: apt-get install --no-install-recommends ${missing[*]}" >&2
        else
            echo "to be installed first, by the names that this system has for these packages of Debian: ${missing[*]}" >&2
        fi
        return 1
    fi
    echo "installing ${missing[*]}"
    # The lists on the machine may be absent, or older than the mirror's packages: one update and one more try.
    if ! quietly apt-install apt_get install --no-remove --no-install-recommends "${missing[@]}" 2>/dev/null; then
        apt_update
        quietly apt-install apt_get install --no-remove --no-install-recommends "${missing[@]}"
    fi
}

# first_available NAME...: the first that is installed, else the first that could be; the first of all if none could.
first_available() {
    local name
    for name in "$@"; do
        if [ -z "$(missing_packages "$name")" ]; then
            echo "$name"
            return
        fi
    done
    for name in "$@"; do
        if apt-cache show --no-all-versions "$name" 2>/dev/null | grep -q '^Package:'; then
            echo "$name"
            return
        fi
    done
    echo "$1"
}

# libraries_of FOLDER...: what packages that were unpacked there (unpack_packages) want to have installed beside them, one a line; nginx
# and its modules left out. Of alternatives one is named.
libraries_of() {
    local line
    local -a names
    cat "${@/%//depends}" | sed 's/([^)]*)//g; s/:any//g' | tr ',' '\n' | sort -u | while read -r line; do
        case $line in "" | nginx* | libnginx-mod-* | lua-resty-* | debconf* | adduser* | init-system-helpers*) continue ;; esac
        IFS='| ' read -r -a names <<<"$line"
        first_available "${names[@]}"
    done | sort -u
}

# The mirror that this machine is set up to use for its own suite.
debian_mirror() {
    # shellcheck disable=SC2016 # apt-get fills these in
    apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' |
        awk '$1 !~ /[-\/]/ { print $2; exit }'
}

# unpack_packages SUITE FOLDER NAME...: the newest packages of a suite, unpacked into a folder. Nothing is installed and
# the machine's own package lists stay as they are; needs no privilege.
unpack_packages() {
    local suite=$1 folder=$2 apt="$root/target/apt-$1" mirror try package
    shift 2
    mirror=$(debian_mirror)
    if [ -z "$mirror" ]; then
        echo "no Debian mirror found in this machine's package sources" >&2
        return 1
    fi
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$apt/sources.list"
    cat >"$apt/apt.conf" <<CONF
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State "$apt";
Dir::State::status "/dev/null";
Dir::Cache "$apt/cache";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
APT::Sandbox::User "$(id -un)";
CONF
    rm -rf "$folder.new"
    mkdir -p "$folder.new/packages"
    for try in 1 2 3; do
        if (
            cd "$folder.new/packages" || exit
            export APT_CONFIG="$apt/apt.conf"
            # Packages leave the mirror when newer ones come, so lists that are older than a run are of little use.
            quietly "apt-$suite-update" apt-get -q update &&
                quietly "apt-$suite-download" apt-get -q download "$@"
        ); then break; fi
        [ "$try" -lt 3 ] || return 1
        sleep 5
    done
    for package in "$folder.new/packages"/*.deb; do
        dpkg -x "$package" "$folder.new"
        dpkg-deb -f "$package" Depends >>"$folder.new/depends"
    done
    rm -rf "$folder.new/packages" "$folder"
    mv "$folder.new" "$folder"
}
