#!/bin/bash
# install-documentation.sh FOLDER: what every way of installing leaves of documentation: README, docs/, what they link to, and conf/ as
# examples/. Links between the pages lead somewhere there as they do here.
set -euo pipefail
folder=${1:?which folder?}
cd "$(dirname "$0")/.."

mkdir -p "$folder"/{docs,examples,client/terminal}
cp README.md SECURITY.md CONTRIBUTING.md CHANGELOG.md LICENSE "$folder/"
cp -r docs/*.md docs/figures "$folder/docs/"
cp client/README.md "$folder/client/"
cp client/terminal/README.md "$folder/client/terminal/"
cp -r conf/. "$folder/examples/"
ln -sfn examples "$folder/conf"
chmod -R u=rwX,go=rX "$folder"
