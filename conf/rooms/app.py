#!/usr/bin/env python3
"""The application of conf/rooms.conf: sessions, and what may be said. It speaks HTTP on 127.0.0.1 with nginx, and with nobody else.

    app.py PORT
"""

import hmac
import json
import secrets
import sys
import time
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

# A real application has hashes here, in a database.
PASSWORDS = {"anna": "apple", "bob": "banana", "mona": "melon"}
MODERATORS = {"mona"}
FORBIDDEN = {"spam"}
LONGEST = 1000

sessions = {}


class Application(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            # Whoever keeps connections must not send another request on this one (RFC 9112, section 9.6).
            self.send_header("Connection", "close")
        self.end_headers()
        if status != 204:
            self.wfile.write(body)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def session(self):
        cookie = SimpleCookie(self.headers.get("Cookie", "")).get("session")
        return cookie.value if cookie else ""

    def do_GET(self):
        user = sessions.get(self.session())
        if self.path == "/session":
            self.answer(204, X_User=user) if user else self.answer(401)
        elif self.path == "/moderator":
            self.answer(204 if user in MODERATORS else 403 if user else 401)
        else:
            self.answer(404)

    def do_DELETE(self):
        sessions.pop(self.session(), None)
        self.answer(204, Set_Cookie="session=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict")

    def do_POST(self):
        body = self.body()
        if self.path == "/login":
            self.login(body)
        elif self.path == "/moderate":
            self.moderate(body)
        else:
            self.answer(404)

    def login(self, body):
        form = {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
        name = form.get("name", "")
        known = PASSWORDS.get(name, "")
        if not known or not hmac.compare_digest(known.encode(), form.get("password", "").encode()):
            return self.answer(403, b"wrong name or password\n")
        session = secrets.token_urlsafe(24)
        sessions[session] = name
        # Behind TLS: with Secure as well.
        return self.answer(204, Set_Cookie=f"session={session}; Path=/; HttpOnly; SameSite=Strict")

    def moderate(self, body):
        """What is published is the answer: who said it comes from nginx, and from nobody else."""
        text = body.decode("utf-8", "replace").strip()
        if not text:
            return self.answer(204)
        if len(text) > LONGEST or FORBIDDEN & set(text.lower().split()):
            return self.answer(403)
        message = {"user": self.headers["X-User"], "text": text, "time": int(time.time())}
        return self.answer(200, json.dumps(message).encode(), Content_Type="application/json")

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Application).serve_forever()
