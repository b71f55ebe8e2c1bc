#!/bin/bash
# valkey-from-suite.sh: target/valkey/valkey-server: the Valkey of Debian 13, with the libraries that it wants, in a folder of its own. The tests of
# engines run with it when TEST_WS_REDIS names it; it is its own Sentinel.
set -euo pipefail
# shellcheck source=scripts/apt.sh
. "$(dirname "$0")/apt.sh"

home="$root/target/valkey"
if [ -x "$home/valkey-server" ]; then exit 0; fi

install_packages patchelf
echo "unpacking Valkey"
unpack_packages trixie "$home.debian" valkey-tools libatomic1 libc6 libcap2 libgcc-s1 libjemalloc2 liblua5.1-0 liblzf1 \
    libssl3t64 libstdc++6 libsystemd0 libzstd1 lua-bitop lua-cjson zlib1g

rm -rf "$home"
mkdir -p "$home/lib"
for library in "$home.debian"/usr/lib/*/*.so.* "$home.debian"/lib/*/*.so.*; do [ ! -e "$library" ] || cp -P "$library" "$home/lib"; done

# As nginx-from-suite.sh does: its own loader, and its libraries beside it. One program is all of Valkey.
cp "$home.debian/usr/bin/valkey-check-rdb" "$home/valkey-server.new"
loader=$(basename "$(patchelf --print-interpreter "$home/valkey-server.new")")
patchelf --set-interpreter "$home/lib/$loader" --force-rpath --set-rpath "$home/lib" "$home/valkey-server.new"
rm -rf "$home.debian"

(exec -a valkey-server "$home/valkey-server.new" --version)
mv "$home/valkey-server.new" "$home/valkey-server"
