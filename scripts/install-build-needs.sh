#!/bin/bash
# install-build-needs.sh [PACKAGE...]: installs what building the module needs, and nothing that is there already: nginx, its headers,
# libclang, a compiler; and these packages.
set -euo pipefail
# shellcheck source=scripts/apt.sh
. "$(dirname "$0")/apt.sh"

# Nothing is installed for somebody who cannot build after it.
cargo_version=$(cargo --version 2>/dev/null || true)
if [ -z "$cargo_version" ]; then
    echo "cargo is not there: install Rust 1.88 or newer first (cargo of Debian sid or trixie-backports, or rustup)" >&2
    exit 1
fi
if ! printf '%s\n' "cargo 1.88.0" "$cargo_version" | sort --check=quiet --version-sort; then
    echo "$cargo_version is too old: install Rust 1.88 or newer first (cargo of Debian sid or trixie-backports, or rustup)" >&2
    exit 1
fi

packages=("$@")
command -v cc >/dev/null || packages+=(gcc libc6-dev)
command -v make >/dev/null || packages+=(make)
# bindgen loads libclang; LIBCLANG_PATH names one that is somewhere else.
[ -n "${LIBCLANG_PATH:-}" ] || packages+=(libclang-dev)
# nginx's configure looks for these headers.
packages+=(libssl-dev libpcre2-dev zlib1g-dev)
# The installed nginx and its headers, unless another nginx is named.
if [ -z "${NGINX_BUILD_DIR:-}${NGINX_SOURCE_DIR:-}" ]; then packages+=(nginx nginx-dev); fi

new_nginx=$(missing_packages nginx)
in_packages=0
case " ${packages[*]} " in *" nginx "*) [ -z "$new_nginx" ] || in_packages=1 ;; esac

# Debian starts a server as soon as it is installed. An nginx that came only because of this module must not take port 80.
if [ "$in_packages" = 1 ] && [ -d /run/systemd/system ] && can_install; then
    as_root systemctl mask --runtime --quiet nginx.service
    trap 'as_root systemctl unmask --runtime --quiet nginx.service' EXIT
fi
install_packages "${packages[@]}"
if [ "$in_packages" = 1 ] && [ ! -d /run/systemd/system ]; then
    as_root service nginx stop >/dev/null 2>&1 || true
fi
