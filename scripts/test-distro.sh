#!/bin/bash
# test-distro.sh SUITE [TARGET...]: in a fresh minimal Debian of this suite, with the machine's Rust and nothing else that was prepared:
# `make run` until its page answers, and `make test`; or these targets of make, variables included, in place of `test`. A package that
# one of them has made is left in target/distro/SUITE.
set -euo pipefail
# shellcheck source=scripts/apt.sh
. "$(dirname "$0")/apt.sh"
# shellcheck source=scripts/chroot.sh
. "$(dirname "$0")/chroot.sh"
# shellcheck source=scripts/version.sh
. "$(dirname "$0")/version.sh"

suite=${1:?which suite of Debian?}
shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(test)

"$root/scripts/install-build-needs.sh" python3
"$root/scripts/vendor.sh"
folder="$root/target/roots/test-$suite"
root_of "$suite" "$folder"
mkdir -p "$folder/src" "$folder/opt/rust"
tar -C "$folder/src" --strip-components=1 -xzf "$root/target/dist/ngx_ws_exec-$version.tar.gz"
TOOLCHAIN=$(rustc --print sysroot)
export TOOLCHAIN
registry=$(npm config get registry 2>/dev/null || true)

cat >"$folder/try" <<'EOT'
#!/bin/bash
set -euo pipefail
cd /src
apt-get -q update >/dev/null
apt-get -q -y install --no-install-recommends make >/dev/null
echo "== make run"
make run >/tmp/run.log 2>&1 &
run=$!
for _ in {1..3600}; do
    address=$(grep -o 'http://127[^ ]*' /tmp/run.log || true)
    if [ -n "$address" ] || ! kill -0 "$run" 2>/dev/null; then break; fi
    sleep 1
done
cat /tmp/run.log
[ -n "$address" ]
port=${address##*:} port=${port%%/*}
exec 3<>"/dev/tcp/127.0.0.1/$port"
printf 'GET /cat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n' >&3
read -r -t 30 answer <&3
echo "$answer"
[ "${answer#HTTP/1.1 101}" != "$answer" ]
exec 3>&-
# A shell without terminal has its background jobs ignore SIGINT, which they cannot trap then.
pkill -TERM -P "$run" -f run.sh
for _ in {1..60}; do
    kill -0 "$run" 2>/dev/null || break
    sleep 1
done
if kill -0 "$run" 2>/dev/null || pgrep -x nginx; then
    echo "make run does not end" >&2
    exit 1
fi
wait "$run" || true
echo "== make $*"
make "$@"
EOT
chmod +x "$folder/try"
npm_registry=()
[ -z "$registry" ] || npm_registry=("npm_config_registry=$registry")
in_root "$folder" env NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt "${npm_registry[@]}" /try "${targets[@]}"
packages="$root/target/distro/$suite"
rm -rf "$packages"
mkdir -p "$packages" "$folder/src/target/dist"
find "$folder/src/target/dist" -name '*.deb' -exec mv {} "$packages" \;
rm -rf "$folder"
echo "$suite: passed"
