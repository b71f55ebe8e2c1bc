#!/bin/bash
# rpm.sh: target/dist/nginx-module-ws-exec-*.rpm for the nginx whose configured source is NGINX_SOURCE_DIR, else for the 1.28 that the
# tests use. It is built from the tarball of `make vendor`, without network.
set -euo pipefail
# shellcheck source=scripts/nginx.sh
. "$(dirname "$0")/nginx.sh"
# shellcheck source=scripts/version.sh
. "$(dirname "$0")/version.sh"

if [ -z "${NGINX_SOURCE_DIR:-}" ]; then
    choose_nginx 1.28
else
    NGINX_SOURCE_DIR=$(realpath "$NGINX_SOURCE_DIR")
    "$root/scripts/install-build-needs.sh"
fi
command -v rpmbuild >/dev/null || install_packages rpm
"$root/scripts/vendor.sh"

source=$NGINX_SOURCE_DIR
nginx_version=$(sed -n 's/^#define NGINX_VERSION *"\(.*\)"/\1/p' "$source/src/core/nginx.h")
top="$root/target/rpm"
rm -rf "$top"
mkdir -p "$top/SOURCES"
cp "$root/target/dist/ngx_ws_exec-$version.tar.gz" "$top/SOURCES"
unset NGINX_SOURCE_DIR NGINX_BUILD_DIR
echo "building the package"
# There are no packages of RPM here that could satisfy a dependency.
quietly rpm env -u CARGO_TARGET_DIR rpmbuild -bb --nodeps \
    --define "_topdir $top" --define "nginx_version $nginx_version" --define "nginx_source $source" \
    --define "module_version $version" --define "_libdir /usr/lib64" --define "_buildhost localhost" \
    --define "use_source_date_epoch_as_buildtime 1" --define "clamp_mtime_to_source_date_epoch 1" \
    "$root/packaging/rpm/nginx-module-ws-exec.spec"
for file in "$top"/RPMS/*/*.rpm; do
    cp "$file" "$root/target/dist"
    echo "built target/dist/${file##*/}"
    rpm -qp --requires "$file" | grep -x "nginx-r$nginx_version"
done

# It can be installed and removed.
trial="$top/root"
mkdir -p "$trial"
rpm --root "$trial" --initdb
rpm --root "$trial" -i --nodeps --noscripts "$top"/RPMS/*/*.rpm
[ -e "$trial/usr/lib64/nginx/modules/ngx_ws_exec.so" ]
"$root/scripts/broken-links.pl" "$trial/usr/share/doc/nginx-module-ws-exec"
grep -q '^Files: vendor/' "$trial/usr/share/doc/nginx-module-ws-exec/copyright"
rpm --root "$trial" -e nginx-module-ws-exec
[ ! -e "$trial/usr/lib64/nginx/modules/ngx_ws_exec.so" ]
rm -rf "$trial"
