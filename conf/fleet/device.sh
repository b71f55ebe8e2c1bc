#!/bin/bash
# device.sh KEY [ADDRESS]: a device with nothing but curl. It says a value every five seconds, and prints the commands that it gets; after it was
# away it goes on behind the last one, whose id is in the file "last".
key=$1
address=${2:-http://127.0.0.1:8080}
last=${LAST:-last}

values() {
    while sleep "${EVERY:-5}"; do
        curl -sS -o /dev/null -H "X-Device-Key: $key" -d "$((RANDOM % 10 + 15)) degrees" "$address/device/values"
    done
}

commands() {
    local field value
    curl -sSN -H "X-Device-Key: $key" -H 'Accept: text/event-stream' -H "Last-Event-ID: $(cat "$last" 2>/dev/null)" \
        "$address/device/commands" | while IFS=': ' read -r field value; do
        case $field in
        id) echo "$value" >"$last" ;;
        data) echo "command: $value" ;;
        event) [ "$value" != gap ] || echo "commands are lost" ;;
        esac
    done
}

values &
trap 'kill "$!" 2>/dev/null' EXIT
while commands; do sleep 1; done
