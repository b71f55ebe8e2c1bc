# websocket_protocols: which subprotocol is selected (RFC 6455, sections 4.2.2 and 11.3.4).

use strict;
use warnings;

use lib 't/lib';
use Ws::Blocks;
use Test::Nginx::Socket 'no_plan';

Ws::Blocks::defaults(
    path   => '/two',
    config => <<'EOT',
        keepalive_timeout 0;
        websocket_close_timeout 300ms;
        location = /two  { websocket_exec /bin/cat; websocket_protocols chat v2.super-chat; }
        location = /none { websocket_exec /bin/cat; }
        location = /seen {
            websocket_exec /bin/cat;
            websocket_protocols chat;
            add_header X-Selected "[$websocket_protocol]" always;
        }
EOT
);

run_tests();

__DATA__

=== the only one
--- headers eval: ['Sec-WebSocket-Protocol' => 'chat']
--- send eval: close_frame(1000)
--- response_headers
Sec-WebSocket-Protocol: chat
--- frames: close 1000

=== the client's order counts
--- headers eval: ['Sec-WebSocket-Protocol' => 'v2.super-chat, chat']
--- send eval: close_frame(1000)
--- response_headers
Sec-WebSocket-Protocol: v2.super-chat

=== the first that is listed
--- headers eval: ['Sec-WebSocket-Protocol' => 'a,b , chat,v2.super-chat']
--- send eval: close_frame(1000)
--- response_headers
Sec-WebSocket-Protocol: chat

=== several lines are one list
--- headers eval: ['Sec-WebSocket-Protocol' => ['other', 'v2.super-chat', 'chat']]
--- send eval: close_frame(1000)
--- response_headers
Sec-WebSocket-Protocol: v2.super-chat

=== the case must be the same
--- headers eval: ['Sec-WebSocket-Protocol' => 'Chat, CHAT']
--- send eval: close_frame(1000)
--- response_headers
!Sec-WebSocket-Protocol
--- frames: close 1000

=== part of a name is not the name
--- headers eval: ['Sec-WebSocket-Protocol' => 'cha, chatt, super-chat']
--- send eval: close_frame(1000)
--- response_headers
!Sec-WebSocket-Protocol

=== none offered
--- send eval: close_frame(1000)
--- response_headers
!Sec-WebSocket-Protocol

=== offered where the location speaks none
--- path: /none
--- headers eval: ['Sec-WebSocket-Protocol' => 'chat']
--- send eval: close_frame(1000)
--- response_headers
!Sec-WebSocket-Protocol

=== the variable, selected
--- path: /seen
--- headers eval: ['Sec-WebSocket-Protocol' => 'chat']
--- send eval: close_frame(1000)
--- response_headers
X-Selected: [chat]

=== the variable, none
--- path: /seen
--- headers eval: ['Sec-WebSocket-Protocol' => 'other']
--- send eval: close_frame(1000)
--- response_headers
X-Selected: []

=== a space in a name
--- headers eval: ['Sec-WebSocket-Protocol' => 'a b']
--- error_code: 400

=== a separator in a name
--- headers eval: ['Sec-WebSocket-Protocol' => 'chat/1']
--- error_code: 400

=== a quoted name
--- headers eval: ['Sec-WebSocket-Protocol' => '"chat"']
--- error_code: 400

=== a parameter
--- headers eval: ['Sec-WebSocket-Protocol' => 'chat; v=1']
--- error_code: 400

=== not ASCII
--- headers eval: ['Sec-WebSocket-Protocol' => "ch\xc3\xa4t"]
--- error_code: 400

=== twice the same
--- headers eval: ['Sec-WebSocket-Protocol' => 'chat, other, chat']
--- error_code: 400

=== twice the same, in two lines
--- headers eval: ['Sec-WebSocket-Protocol' => ['chat', 'chat']]
--- error_code: 400
