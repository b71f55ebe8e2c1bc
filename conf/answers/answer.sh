#!/bin/sh
# Stands for a language model: repeats the words of the question, one after the other.

set -f
for word in You have said: $(cat); do
    echo "$word"
    sleep 0.2
done
echo "[end]"
