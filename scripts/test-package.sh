#!/bin/bash
# test-package.sh [SUITE]: tries the package that `make deb` has made in a fresh Debian of the machine's suite, or the one that
# `make test-distro DISTRO=SUITE TARGETS=deb` has made in one of another. systemd-nspawn boots it with a real systemd and without
# network: installed beside the stock nginx and its unit, connected to, reloaded, upgraded, removed, installed again and purged. Then
# piuparts looks at what it leaves.
set -euo pipefail
# shellcheck source=scripts/apt.sh
. "$(dirname "$0")/apt.sh"
# shellcheck source=scripts/chroot.sh
. "$(dirname "$0")/chroot.sh"
# shellcheck source=scripts/version.sh
. "$(dirname "$0")/version.sh"

install_packages systemd-container piuparts dpkg-dev
suite=${1:-} made="$root/target/distro/${1:-}" how="make test-distro DISTRO=${1:-} TARGETS=deb"
if [ -z "$suite" ]; then
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    made="$root/target/dist" how="make deb"
fi
name=libnginx-mod-http-ws-exec
mkdir -p "$made"
package=$(find "$made" -name "${name}_${version}-*_*.deb" | sort | tail -n 1)
if [ -z "$package" ]; then
    echo "there is no package: $how first" >&2
    exit 1
fi

folder="$root/target/roots/package"
root_of "$suite" "$folder"
quietly package-root in_root "$folder" sh -c 'apt-get -q update && apt-get -q -y install --no-install-recommends nginx apparmor'
rm "$folder/usr/sbin/policy-rc.d"
cp "$package" "$folder/root/new.deb"
# The version before: the same files with a lower number.
dpkg-deb -R "$package" "$folder/root/old"
sed -i "s/^Version: .*/Version: 0.0.1-1/" "$folder/root/old/DEBIAN/control"
dpkg-deb --root-owner-group -b "$folder/root/old" "$folder/root/old.deb" >/dev/null
rm -rf "$folder/root/old"

# The unit as docs/operating.md restricts it.
sed -n '/^# systemctl edit nginx$/,/^```$/p' "$root/docs/operating.md" | grep -v '^```' >"$folder/root/edited.conf"
grep -q '^\[Service\]$' "$folder/root/edited.conf"

# A kernel that knows AppArmor is not needed to compile a profile.
sed -n '/^<!-- file: .*apparmor/,/^```$/p' "$root/docs/operating.md" | grep -v '^```\|^<!--' >"$folder/root/profile"
grep -q '^profile nginx ' "$folder/root/profile"
in_root "$folder" apparmor_parser --skip-kernel-load --skip-cache /root/profile 2>/dev/null ||
    { echo "the AppArmor profile of docs/operating.md is not one" >&2 && exit 1; }

cat >"$folder/root/try" <<'EOT'
#!/bin/bash
# Its last line of output is "passed", if it is.
set -euo pipefail
trap 'echo "failed in line $LINENO"; systemctl status nginx --no-pager || true; journalctl -u nginx --no-pager | tail -n 20' ERR

# handshake PATH [PORT]: the status of the answer; the connection stays open as descriptor 3.
handshake() {
    exec 3<>"/dev/tcp/127.0.0.1/${2:-80}"
    printf 'GET %s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n' "$1" >&3
    local line status
    read -r -t 20 _ status _ <&3
    while read -r -t 20 line <&3 && [ "$line" != $'\r' ]; do :; done
    echo "$status"
}
links() { find /etc/nginx/modules-enabled -name '*ws-exec*' | sort | tr '\n' ' '; }
# The state of nginx's unit. Who asks for a reload while the system starts, as the package's scripts do here, does not wait for its end.
state() {
    local state
    for _ in {1..100}; do
        state=$(systemctl is-active nginx) || true
        [ "$state" = reloading ] || break
        sleep 0.2
    done
    echo "$state"
}
is() { if [ "$1" = "$2" ]; then echo "ok: $3"; else echo "not ok: $3: $1, not $2"; false; fi; }

systemctl start nginx
dpkg -i /root/old.deb
is "$(links)" "/etc/nginx/modules-enabled/50-mod-http-ws-exec.conf " "enabled"
nginx -t
cat >/etc/nginx/conf.d/ws.conf <<'CONF'
server { listen 127.0.0.1:80; server_name x; location /cat { websocket_exec cat; } }
CONF
systemctl reload nginx
# Workers of before may still take connections for a moment.
for _ in {1..50}; do status=$(handshake /cat); [ "$status" != 101 ] || break; sleep 0.2; done
is "$status" 101 "connected"
handshake /cat >/dev/null
# A masked text frame, "hi" with a mask of zeros, comes back without it.
printf '\x81\x82\x00\x00\x00\x00hi' >&3
is "$(timeout 20 head -c 4 <&3 | od -An -tx1 | tr -d ' \n')" 81026869 "echoed"
exec 4<&3
systemctl reload nginx
is "$(state)" active "reloaded with a session open"
dpkg -i /root/new.deb
is "$(state)" active "upgraded"
# A file that has been replaced is marked as deleted in the maps of those who have it mapped.
mapped() { grep -l "$1" /proc/[0-9]*/maps 2>/dev/null | wc -l; }
for _ in {1..50}; do [ "$(mapped 'ngx_ws_exec\.so$')" = 0 ] || break; sleep 0.2; done
is "$([ "$(mapped 'ngx_ws_exec\.so$')" = 0 ] || echo yes)" yes "and the new version is loaded"
printf '\x81\x82\x00\x00\x00\x00hi' >&4
is "$(timeout 20 head -c 4 <&4 | od -An -tx1 | tr -d ' \n')" 81026869 "the session of before goes on"
exec 4>&-
is "$(links)" "/etc/nginx/modules-enabled/50-mod-http-ws-exec.conf " "still enabled"
systemctl restart nginx
is "$(handshake /cat)" 101 "connected to the new version"

# restricted NAME: programs run in nginx's unit with the options of standard input, also those of another user.
restricted() {
    mkdir -p /etc/systemd/system/nginx.service.d
    cat >/etc/systemd/system/nginx.service.d/restricted.conf
    systemctl daemon-reload
    systemctl restart nginx
    is "$(handshake /cat)" 101 "programs run with $1"
    handshake /who >/dev/null
    is "$(timeout 20 head -c 8 <&3 | tail -c 6)" nobody "and those of another user"
    handshake /home >"/tmp/home"
}
printf '#!/bin/sh\necho at home\n' >/home/program
chmod 755 /home/program
cat >/etc/nginx/conf.d/ws.conf <<'CONF'
server {
    listen 127.0.0.1:80;
    server_name x;
    location /cat { websocket_exec cat; }
    location /home { websocket_exec /home/program; }
    location /who { websocket_exec /usr/bin/id -un; websocket_exec_user nobody; }
}
CONF
restricted 'nothing said' <<<'[Service]'
is "$(cat /tmp/home)" 101 "and those in /home"
restricted 'the options of docs/operating.md' </root/edited.conf
is "$(cat /tmp/home)" 500 "and none in /home"
restricted 'more options' <<'UNIT'
[Service]
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths=/run /var/log/nginx /var/lib/nginx
MemoryDenyWriteExecute=yes
CapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_SETUID CAP_SETGID CAP_KILL CAP_DAC_OVERRIDE CAP_CHOWN
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
SystemCallFilter=@system-service
UNIT
rm -r /etc/systemd/system/nginx.service.d /home/program
systemctl daemon-reload
systemctl restart nginx

cd /
setpriv --reuid=nobody --regid=nogroup --clear-groups ws-exec --port=8081 --address=127.0.0.1 cat >/tmp/ws-exec.log 2>&1 &
command=$!
for _ in {1..100}; do ! grep -q ws:// /tmp/ws-exec.log || break; sleep 0.1; done
is "$(head -n 1 /tmp/ws-exec.log)" "ws://127.0.0.1:8081/" "ws-exec runs as an ordinary user"
kill -INT "$command"
wait "$command"
is "$(find /tmp -name 'ws-exec.??????' | tr '\n' ' ')" "" "and leaves nothing"

# An example, as its folder says it.
examples=/usr/share/doc/libnginx-mod-http-ws-exec/examples
{
    sed -n '/^```sh/,/^```$/p' $examples/README.md | grep -v '^```' | sed '$s/^/exec /'
} >/tmp/example
setpriv --reuid=nobody --regid=nogroup --clear-groups sh /tmp/example >/tmp/example.log 2>&1 &
command=$!
for _ in {1..100}; do ! (: </dev/tcp/127.0.0.1/8080) 2>/dev/null || break; sleep 0.1; done
is "$(handshake /room/hall 8080)" 101 "an example runs"
kill -QUIT "$command"
exec 3>&-
wait "$command"
rm /tmp/example
rm /etc/nginx/conf.d/ws.conf
dpkg -r libnginx-mod-http-ws-exec
is "$(state)" active "removed"
is "$(find /etc/nginx/modules-enabled -name '*ws-exec.conf')" "" "no longer enabled"
systemctl restart nginx
dpkg -i /root/new.deb
is "$(links)" "/etc/nginx/modules-enabled/50-mod-http-ws-exec.conf " "enabled again"
dpkg -P libnginx-mod-http-ws-exec
is "$(find /etc /usr /var -xdev \( -name '*ws_exec*' -o -name '*ws-exec*' \) ! -path '/var/log/*' | tr '\n' ' ')" "" "purged"
systemctl restart nginx
is "$(state)" active "nginx goes on"
echo passed
EOT
chmod +x "$folder/root/try"
cat >"$folder/etc/systemd/system/try.service" <<'EOT'
[Unit]
After=multi-user.target nginx.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c '/root/try >/root/said 2>&1'
ExecStopPost=/bin/systemctl --no-block poweroff
[Install]
WantedBy=default.target
EOT
ln -s /etc/systemd/system/try.service "$folder/etc/systemd/system/multi-user.target.wants/try.service"
sed -i '/^After=/d' "$folder/etc/systemd/system/try.service"
echo "booting"
status=0
timeout --kill-after=20 "${LIMIT:-300}" systemd-nspawn --quiet --register=no --keep-unit --private-network --console=pipe -D "$folder" -b \
    </dev/null >"$root/target/log/package-boot.log" 2>&1 || status=$?
if [ ! -e "$folder/root/said" ]; then
    tail -n 30 "$root/target/log/package-boot.log" >&2
    echo "this machine does not let systemd-nspawn boot a system (status $status): the package was not tried" >&2
    exit 1
fi
grep -E '^(ok|not ok|failed|passed)' "$folder/root/said"
if [ "$(tail -n 1 "$folder/root/said")" != passed ]; then
    cat "$folder/root/said" >&2
    exit 1
fi
rm -rf "$folder"

echo "piuparts"
base="$root/target/roots/piuparts-$suite.tar.gz"
work="$root/target/roots/piuparts"
root_of "$suite" "$work"
rm "$work/usr/sbin/policy-rc.d"
tar -C "$work" -czf "$base" .
rm -rf "$work"
quietly piuparts piuparts --basetgz "$base" --mirror "$(debian_mirror) main" --distribution "$suite" --no-upgrade-test \
    --do-not-verify-signatures --allow-database --warn-on-leftovers-after-purge "$package"
rm "$base"
echo "the package passed"
