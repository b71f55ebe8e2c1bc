#!/bin/sh
# A line each second is a message each second.
while date +%T; do
    sleep 1
done
