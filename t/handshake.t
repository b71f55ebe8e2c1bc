# The opening handshake (RFC 6455, section 4.2; RFC 9110, section 7.8), one row a case.

use strict;
use warnings;

use lib 't/lib';
use Ws::Blocks;
use Test::Nginx::Socket 'no_plan';

Ws::Blocks::defaults(
    path   => '/ws',
    config => <<'EOT',
        # Test::Nginx reads a response to the end of the connection.
        keepalive_timeout 0;
        websocket_close_timeout 300ms;
        location = /ws     { websocket_exec /bin/cat; }
        location = /line   { websocket_exec /usr/bin/head -n 1; }
        location = /header { websocket_exec /bin/cat; add_header X-Test yes always; }
        location = /if {
            if ($arg_on) { websocket_exec /usr/bin/head -n 1; }
            alias html/index.html;
        }
        location = /sub    { auth_request /ws; alias html/index.html; }
        location = /caught { websocket_exec /bin/cat; error_page 426 = /page; }
        location = /page   { return 200 "a page"; }
EOT
);

run_tests();

__DATA__

=== valid
--- send eval: close_frame(1000)
--- raw_response_headers_like: \AHTTP/1\.1 101 Switching Protocols\r\n
--- response_headers
Upgrade: websocket
Connection: upgrade
Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=
!Content-Length
!Transfer-Encoding
!Sec-WebSocket-Protocol
!Sec-WebSocket-Extensions
!Sec-WebSocket-Version
!Content-Type
--- response_body eval: sclose(1000)

=== another key
--- headers eval: ['Sec-WebSocket-Key' => 'AAAAAAAAAAAAAAAAAAAAAA==']
--- send eval: close_frame(1000)
--- response_headers
Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=

=== Upgrade in another case
--- headers eval: [Upgrade => 'WebSocket']
--- send eval: close_frame(1000)
--- frames: close 1000

=== Upgrade is a list
--- headers eval: [Upgrade => 'websocket, h2c']
--- send eval: close_frame(1000)
--- frames: close 1000

=== Upgrade is a list, websocket last
--- headers eval: [Upgrade => 'h2c,WEBSOCKET']
--- send eval: close_frame(1000)
--- frames: close 1000

=== Upgrade in two lines
--- headers eval: [Upgrade => ['h2c', 'websocket']]
--- send eval: close_frame(1000)
--- frames: close 1000

=== Connection is a list
--- headers eval: [Connection => 'keep-alive, Upgrade']
--- send eval: close_frame(1000)
--- frames: close 1000

=== Connection in lower case
--- headers eval: [Connection => 'upgrade']
--- send eval: close_frame(1000)
--- frames: close 1000

=== Connection in upper case, with empty elements
--- headers eval: [Connection => ', UPGRADE ,']
--- send eval: close_frame(1000)
--- frames: close 1000

=== Connection in two lines
--- headers eval: [Connection => ['keep-alive', 'Upgrade']]
--- send eval: close_frame(1000)
--- frames: close 1000

=== Connection in two lines, Upgrade first
--- headers eval: [Connection => ['Upgrade', 'keep-alive']]
--- send eval: close_frame(1000)
--- frames: close 1000

=== Content-Length of 0
--- headers eval: ['Content-Length' => 0]
--- send eval: close_frame(1000)
--- frames: close 1000

=== frames in the same segment as the head
--- joined
--- send eval: ping('first') . close_frame(1000)
--- frames
pong "first"
close 1000

=== the beginning of a frame in the same segment as the head
--- joined
--- path: /line
--- send eval: [substr(text('hello'), 0, 1), substr(text('hello'), 1, 4), substr(text('hello'), 5)]
--- frames
text "hello"
close 1000

=== frames after a head that needs a larger buffer
--- joined
--- headers eval: [Cookie => 'c' x 6000]
--- send eval: ping('first') . close_frame(1000)
--- frames
pong "first"
close 1000

=== the head in pieces
--- raw_request eval: [upgrade('/ws') =~ /(.{1,40})/gs, close_frame(1000)]
--- error_code: 101
--- frames: close 1000

=== the head and a frame, one octet after the other
--- raw_request eval: [split //, upgrade('/ws') . ping('x') . close_frame(1000)]
--- error_code: 101
--- frames
pong "x"
close 1000

=== add_header on the 101
--- path: /header
--- send eval: close_frame(1000)
--- response_headers
X-Test: yes
--- frames: close 1000

=== if in location, taken
--- path: /if?on=1
--- send eval: text('hello')
--- frames
text "hello"
close 1000

=== if in location, not taken
--- path: /if
--- headers eval: []
--- error_code: 200
--- response_body_like: It works!

=== unknown extensions are ignored
--- headers eval: ['Sec-WebSocket-Extensions' => 'foo; bar=1, x-baz; qux="a, b"']
--- send eval: close_frame(1000)
--- response_headers
!Sec-WebSocket-Extensions
--- frames: close 1000

=== permessage-deflate is not negotiated where it is off
--- headers eval: ['Sec-WebSocket-Extensions' => 'permessage-deflate; client_max_window_bits']
--- send eval: close_frame(1000)
--- response_headers
!Sec-WebSocket-Extensions
--- frames: close 1000

=== plain GET
--- headers eval: [Upgrade => undef, Connection => undef, 'Sec-WebSocket-Key' => undef, 'Sec-WebSocket-Version' => undef]
--- error_code: 426
--- response_headers_like
Upgrade: websocket
Connection: (?i)(.*, )?upgrade(, .*)?
Sec-WebSocket-Version: 13

=== a plain GET is told what this is and what is missing most often, and so is the log
--- headers eval: [Upgrade => undef, Connection => 'close']
--- error_code: 426
--- response_headers
Content-Type: text/plain
--- response_body_like: (?s)WebSocket.*proxy_set_header Upgrade \$http_upgrade;.*proxy_set_header Connection
--- error_log eval: qr/\[info\].*no WebSocket: not an upgrade to websocket.*proxy/

=== Upgrade to something else
--- headers eval: [Upgrade => 'foo']
--- error_code: 426
--- response_headers_like
Upgrade: websocket
Connection: (?i)(.*, )?upgrade(, .*)?
Sec-WebSocket-Version: 13

=== Upgrade to something that begins alike
--- headers eval: [Upgrade => 'websocket2, xwebsocket']
--- error_code: 426

=== no Upgrade
--- headers eval: [Upgrade => undef]
--- error_code: 426

=== Connection without upgrade
--- headers eval: [Connection => 'keep-alive']
--- error_code: 426
--- response_headers_like
Upgrade: websocket
Sec-WebSocket-Version: 13

=== Connection with something that begins alike
--- headers eval: [Connection => 'upgraded']
--- error_code: 426

=== no Connection
--- headers eval: [Connection => undef]
--- error_code: 426

=== error_page catches the 426
--- path: /caught
--- headers eval: [Upgrade => undef]
--- error_code: 200
--- response_body: a page

=== POST
--- headers eval: [method => 'POST', 'Content-Length' => 0]
--- error_code: 405
--- response_headers
Allow: GET

=== POST with a body
--- headers eval: [method => 'POST', 'Content-Length' => 3]
--- send eval: 'abc'
--- error_code: 405
--- response_headers
Allow: GET

=== POST without upgrade
--- headers eval: [method => 'POST', Upgrade => undef, Connection => undef, 'Content-Length' => 0]
--- error_code: 405
--- response_headers
Allow: GET

=== HEAD
--- headers eval: [method => 'HEAD']
--- error_code: 405
--- response_headers
Allow: GET

=== PUT
--- headers eval: [method => 'PUT', 'Content-Length' => 0]
--- error_code: 405
--- response_headers
Allow: GET

=== DELETE
--- headers eval: [method => 'DELETE']
--- error_code: 405
--- response_headers
Allow: GET

=== OPTIONS
--- headers eval: [method => 'OPTIONS']
--- error_code: 405
--- response_headers
Allow: GET

=== an unknown method
--- headers eval: [method => 'FOO']
--- error_code: 405
--- response_headers
Allow: GET

=== HTTP/1.0
--- headers eval: [protocol => 'HTTP/1.0']
--- error_code_like: ^4(?:00|26)$

=== no key
--- headers eval: ['Sec-WebSocket-Key' => undef]
--- error_code: 400

=== empty key
--- headers eval: ['Sec-WebSocket-Key' => '']
--- error_code: 400

=== key is not base64
--- headers eval: ['Sec-WebSocket-Key' => 'dGhlIHNhbXBsZSBub25j!Q==']
--- error_code: 400

=== key without its padding
--- headers eval: ['Sec-WebSocket-Key' => 'dGhlIHNhbXBsZSBub25jZQ']
--- error_code: 400

=== key of 15 octets
--- headers eval: ['Sec-WebSocket-Key' => 'AAAAAAAAAAAAAAAAAAAA']
--- error_code: 400

=== key of 17 octets
--- headers eval: ['Sec-WebSocket-Key' => 'AAAAAAAAAAAAAAAAAAAAAAA=']
--- error_code: 400

=== two keys
--- headers eval: ['Sec-WebSocket-Key' => [KEY, KEY]]
--- error_code: 400

=== two keys in one line
--- headers eval: ['Sec-WebSocket-Key' => KEY . ', ' . KEY]
--- error_code: 400

=== no version
--- headers eval: ['Sec-WebSocket-Version' => undef]
--- error_code: 426
--- response_headers
Sec-WebSocket-Version: 13

=== version 8
--- headers eval: ['Sec-WebSocket-Version' => 8]
--- error_code: 426
--- response_headers
Sec-WebSocket-Version: 13

=== version 14
--- headers eval: ['Sec-WebSocket-Version' => 14]
--- error_code: 426
--- response_headers
Sec-WebSocket-Version: 13

=== version 13a
--- headers eval: ['Sec-WebSocket-Version' => '13a']
--- error_code: 426
--- response_headers
Sec-WebSocket-Version: 13

=== an empty version
--- headers eval: ['Sec-WebSocket-Version' => '']
--- error_code: 426
--- response_headers
Sec-WebSocket-Version: 13

=== two versions
--- headers eval: ['Sec-WebSocket-Version' => [13, 8]]
--- error_code: 426
--- response_headers
Sec-WebSocket-Version: 13

=== two versions, the right one last
--- headers eval: ['Sec-WebSocket-Version' => [8, 13]]
--- error_code: 426
--- response_headers
Sec-WebSocket-Version: 13

=== a body is never taken for a request
--- headers eval: ['Content-Length' => 34]
--- send eval: "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
--- joined
--- error_code: 400
--- no_access_log: smuggled

=== a body is never taken for frames
--- headers eval: ['Content-Length' => length close_frame(1000)]
--- send eval: close_frame(1000)
--- error_code: 400
--- response_body_unlike eval: sclose(1000)

=== a chunked body is never taken for a request
--- headers eval: ['Transfer-Encoding' => 'chunked']
--- send eval: "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
--- joined
--- error_code: 400
--- no_access_log: smuggled

=== a subrequest is refused
--- path: /sub
--- headers eval: []
--- error_code_like: ^[45]\d\d$

=== the server goes on after all that
--- path: /line
--- send eval: text('hello')
--- frames
text "hello"
close 1000
