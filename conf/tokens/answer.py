#!/usr/bin/env python3
"""Stands for a language model: a line is a prompt {"prompt": "..."} or {"cancel": true}; each token is a line, and the end of an answer is
one that says how many there were, and why it ended. It reads while it answers, so that an answer can be cancelled.

    answer.py --user=NAME
"""

import json
import os
import select
import sys

PAUSE = float(os.environ.get("PAUSE", "0.05"))

buffered = b""
ended = False


def lines(wait):
    """The lines that have come by now; waits so many seconds for the first octet."""
    global buffered, ended
    if not ended and select.select([0], [], [], wait)[0]:
        octets = os.read(0, 65536)
        ended = not octets
        buffered += octets
    *whole, buffered = buffered.split(b"\n")
    return whole


def say(**message):
    print(json.dumps(message), flush=True)


def read(line):
    try:
        message = json.loads(line)
        return message if isinstance(message, dict) else {}
    except ValueError:
        return {}


def answer(prompt):
    used = 0
    for word in f"You have said: {prompt}".split():
        for line in lines(PAUSE):
            if read(line).get("cancel"):
                return say(end="cancelled", tokens=used)
        if ended:
            return None
        say(token=word + " ")
        used += 1
    return say(end="complete", tokens=used)


def main():
    while not ended:
        for line in lines(None):
            prompt = read(line).get("prompt")
            if isinstance(prompt, str):
                answer(prompt)


main()
