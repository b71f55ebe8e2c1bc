#!/bin/sh
# A page, as every CGI program writes one: a header, an empty line, the body.
cat <<'PAGE'
Content-Type: text/html; charset=utf-8

<!DOCTYPE html>
<title>Clock</title>
<p>It is <output>…</output> there. <a href="/cgi-bin/hello.sh?name=Ada">Say hello</a>
<script>
new WebSocket(location.href.replace(/^http/, "ws")).onmessage = event => {
    document.querySelector("output").textContent = event.data;
};
</script>
PAGE
