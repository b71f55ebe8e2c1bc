#!/bin/bash -eu
# Called by OSS-Fuzz in the image of the Dockerfile: the targets, and of each that has a corpus its inputs, to $OUT.
cd "$SRC/ngx_ws_exec"
cargo fuzz build --release --debug-assertions
for file in fuzz/fuzz_targets/*.rs; do
    target=$(basename "$file" .rs)
    cp "fuzz/target/x86_64-unknown-linux-gnu/release/$target" "$OUT/"
    if [ -d "fuzz/corpus/$target" ]; then zip --quiet --junk-paths "$OUT/${target}_seed_corpus.zip" "fuzz/corpus/$target"/*; fi
done
