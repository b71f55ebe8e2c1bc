#!/bin/bash
# Writes the hashes of the console's style and script, which its Content-Security-Policy names; with --check only compares.
set -euo pipefail
cd "$(dirname "$0")/../src/nginx/console"
for file in console.css console.js; do
    hash="sha256-$(openssl dgst -sha256 -binary "$file" | base64)"
    if [ "${1-}" != --check ]; then
        printf '%s' "$hash" >"$file.hash"
    elif [ "$hash" != "$(<"$file.hash")" ]; then
        echo "$file has changed: run scripts/console-hashes.sh" >&2
        exit 1
    fi
done
