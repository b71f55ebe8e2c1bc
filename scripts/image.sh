#!/bin/bash
# image.sh: target/dist/ws-exec-VERSION.oci.tar, an image for containers of nginx, the module, ws-exec and an example, made of Debian's
# packages by buildah without pulling anything, and run by runc to see that it works. What is neither needed by them nor by programs of
# a shell is left out.
set -euo pipefail
# shellcheck source=scripts/apt.sh
. "$(dirname "$0")/apt.sh"
# shellcheck source=scripts/chroot.sh
. "$(dirname "$0")/chroot.sh"
# shellcheck source=scripts/version.sh
. "$(dirname "$0")/version.sh"

install_packages buildah runc umoci
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
mkdir -p "$root/target/dist"
package=$(find "$root/target/dist" -name "libnginx-mod-http-ws-exec_${version}-*.deb" | sort | tail -n 1)
if [ -z "$package" ]; then
    "$root/scripts/deb.sh"
    package=$(find "$root/target/dist" -name "libnginx-mod-http-ws-exec_${version}-*.deb" | sort | tail -n 1)
fi
work="$root/target/image"
rm -rf "$work"
mkdir -p "$work/trimmed"
system="$work/system" image="$work/trimmed"
root_of "$suite" "$system"
cp "$package" "$system/package.deb"
quietly image-packages in_root "$system" sh -c \
    'apt-get -q update && apt-get -q -y install --no-install-recommends nginx bash coreutils /package.deb'

# Files that are wanted, and the libraries that these are linked with; names that programs look up at run time by hand. What the
# packages of all of these say of copyright goes with them.
cat >"$system/wanted" <<'EOT'
set -eu
cd /
# followed: the files of standard input, links on the way, such as /lib, and what they lead to.
followed() {
    while read -r file; do
        echo "$file"
        while [ -h "$file" ]; do
            file=$(readlink -f "$file")
            echo "$file"
        done
        readlink -f "$file"
    done | sort -u
}
wanted="/usr/sbin/nginx /usr/lib/nginx/modules/ngx_ws_exec.so /usr/bin/ws-exec /usr/bin/env /bin/sh /bin/bash"
for package in coreutils grep sed; do wanted="$wanted $(dpkg -L $package | grep -E '^(/usr)?/bin/')"; done
{
    for file in $wanted; do
        echo "$file"
        readlink -f "$file"
        ldd "$file" 2>/dev/null | grep -o '/[^ ]*' || true
    done
    find /lib /usr/lib -name 'libnss_files*' -o -name 'libnss_dns*' -o -name 'libresolv.so*'
    printf '%s\n' /etc/passwd /etc/group /etc/nsswitch.conf /etc/nginx/mime.types
} | followed | tee /files
# Names by which no package has a file, such as those through /lib, are passed over: the file is there by its own name, too.
{
    xargs dpkg -S </files 2>/dev/null | sed -n '/^diversion /d; s|[:,].*|/copyright|; s|^|/usr/share/doc/|p' | sort -u
    echo /usr/share/common-licenses
} | followed
for link in /bin /sbin /lib /lib64; do [ ! -h "$link" ] || echo "$link"; done
EOT
in_root "$system" sh /wanted >"$work/files"
sed 's|^/||' "$work/files" | while read -r file; do
    # A file below a link to a folder is in that folder.
    folder=$(dirname "$file")
    real=$(in_folder=$(cd "$system/$folder" 2>/dev/null && pwd -P) && echo "${in_folder#"$system"}")
    mkdir -p "$image$real"
    [ -e "$image$real/${file##*/}" ] || [ -h "$image$real/${file##*/}" ] || cp -a "$system$real/${file##*/}" "$image$real/"
done
for package in libnginx-mod-http-ws-exec nginx bash libc6; do
    if [ ! -s "$image/usr/share/doc/$package/copyright" ]; then
        echo "the image lacks what $package says of copyright" >&2
        exit 1
    fi
done
mkdir -p "$image"/{tmp,proc,dev,sys,etc,run,usr/share/ws-exec}
chmod 1777 "$image/tmp"
cp "$root/conf/count.sh" "$image/usr/share/ws-exec/count.sh"
echo "trimmed from $(du -sh "$system" | cut -f 1) to $(du -sh "$image" | cut -f 1)"

buildah=(buildah --storage-driver vfs --root "$work/storage" --runroot "$work/run")
container=$("${buildah[@]}" from scratch)
quietly image-copy "${buildah[@]}" copy "$container" "$image" /
# As in packaging/Dockerfile.
"${buildah[@]}" config --entrypoint '["/usr/bin/ws-exec","--port=8080"]' --cmd '--console /usr/share/ws-exec/count.sh' --port 8080 \
    --user www-data --stop-signal SIGTERM --env PATH=/usr/sbin:/usr/bin:/sbin:/bin --label "org.opencontainers.image.version=$version" "$container"
quietly image-commit "${buildah[@]}" commit --format oci --timestamp "$SOURCE_DATE_EPOCH" "$container" "oci:$work/oci:latest"
tar -C "$work/oci" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -cf "$root/target/dist/ws-exec-$version.oci.tar" .
echo "built target/dist/ws-exec-$version.oci.tar ($(du -h "$root/target/dist/ws-exec-$version.oci.tar" | cut -f 1))"

# Run it. It has the network of a namespace of its own, in which it is connected to.
quietly image-unpack umoci unpack --image "$work/oci:latest" "$work/bundle"
python3 - "$work/bundle/config.json" <<'EOT'
import json, sys
with open(sys.argv[1]) as file:
    config = json.load(file)
config["process"]["terminal"] = False
config["root"]["readonly"] = False
if config["process"]["user"]["uid"] == 0:
    sys.exit("programs would be root's")
config["process"]["capabilities"] = {}
config["linux"].pop("cgroupsPath", None)
config["linux"].pop("resources", None)
# The network of the caller, who has made one for this.
config["linux"]["namespaces"] = [entry for entry in config["linux"]["namespaces"] if entry["type"] not in ("network", "cgroup")]
with open(sys.argv[1], "w") as file:
    json.dump(config, file)
EOT
cat >"$work/try" <<'EOT'
set -euo pipefail
cd "$1"
ip link set lo up
runc --root "$1/runc" run -b "$1/bundle" "ws-exec-$$" >said 2>&1 </dev/null &
container=$!
for _ in {1..300}; do if grep -q ws:// said || ! kill -0 "$container" 2>/dev/null; then break; fi; sleep 0.1; done
answer=$(timeout 20 bash -c 'exec 3<>/dev/tcp/127.0.0.1/8080
    printf "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" >&3
    read -r line <&3; echo "$line"' || true)
runc --root "$1/runc" kill "ws-exec-$$" TERM || true
wait "$container" || true
cat said
case $answer in "HTTP/1.1 101"*) echo "the container serves its example" ;; *) echo "no handshake: $answer" >&2; exit 1 ;; esac
EOT
unshare --net bash "$work/try" "$work"
rm -rf "$work"
