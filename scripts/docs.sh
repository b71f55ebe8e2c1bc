#!/bin/bash
# docs.sh: the pages of docs/ as a book in target/book, by mdBook. It is looked for in PATH, and else built by cargo in target/mdbook,
# which takes minutes the first time. Links out of docs/ lead to copies in the book.
set -euo pipefail
# shellcheck source=scripts/apt.sh
. "$(dirname "$0")/apt.sh"
cd "$root"

version=0.4.52
if ! command -v mdbook >/dev/null; then
    if [ ! -x target/mdbook/bin/mdbook ]; then
        echo "building mdBook $version in target/mdbook"
        quietly mdbook cargo install mdbook --version "$version" --locked --no-default-features --features search \
            --root target/mdbook --target-dir target/mdbook/build
        rm -rf target/mdbook/build
    fi
    PATH="$root/target/mdbook/bin:$PATH"
fi

# Pages outside of docs/ that its pages link to, and what else they do: files are copied as they are.
pages=(SECURITY.md CONTRIBUTING.md CHANGELOG.md conf/README.md client/README.md client/terminal/README.md)
book=target/book-source
rm -rf "$book" target/book
mkdir -p "$book"
cp -r docs/*.md docs/figures "$book/"
cp -r conf LICENSE "$book/"
for page in "${pages[@]}"; do
    mkdir -p "$book/$(dirname "$page")"
    cp "$page" "$book/$page"
done
sed -i -E 's#\]\(\.\./#](#g' "$book"/*.md
sed -i -E 's#\]\(docs/#](#g' "$book"/{SECURITY,CONTRIBUTING,CHANGELOG}.md
sed -i -E 's#\]\(((\.\./)+)docs/#](\1#g' "$book"/{conf,client,client/terminal}/README.md
{
    printf '\n# In the repository\n\n'
    for page in "${pages[@]}"; do
        title=$(sed -n 's/^# //p' "$page" | head -n 1)
        printf -- '- [%s](%s)\n' "$title" "$page"
    done
} >>"$book/SUMMARY.md"
# mdBook makes index.html of a README, and links to README.html all the same.
find "$book" -name README.md -exec sh -c 'mv "$1" "${1%README.md}index.md"' _ {} \;
find "$book" -name '*.md' -exec sed -i -E 's#(\]\([^)]*)README\.md#\1index.md#g' {} +
MDBOOK_BOOK__SRC=$book quietly mdbook-build mdbook build

# What mdBook makes of a link is looked at, too.
broken=0
while IFS=: read -r page link; do
    link=${link#href=\"}
    link=${link%\"}
    case $link in "" | "#"* | *://* | mailto:* | data:*) continue ;; esac
    target="$(dirname "$page")/${link%%#*}"
    if [ ! -e "$target" ]; then
        echo "${page#target/}: $link is not in the book" >&2
        broken=1
    fi
done < <(grep -roE 'href="[^"]*"' target/book --include='*.html' --exclude-dir=conf | sort -u | grep -v '/print\.html:\|/404\.html:')
[ "$broken" = 0 ]
echo "$root/target/book/index.html"
