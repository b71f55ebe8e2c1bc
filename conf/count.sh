#!/bin/bash
# Counts to ten. Each line that a program prints is a message to the browser.
for number in {1..10}; do
    echo "$number"
    sleep 0.5
done
