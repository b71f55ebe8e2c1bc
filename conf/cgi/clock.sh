#!/bin/sh
# A line each second is a message each second. How many there were is noted for the access log.
ticks=0
while date +%T; do
    ticks=$((ticks + 1))
    echo "ticks $ticks" >&"$WEBSOCKET_NOTE_FD"
    sleep 1
done
