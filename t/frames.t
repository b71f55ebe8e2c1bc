# Frames from a client (RFC 6455, section 5 to 7), one row a case.
#
# /sink takes everything and says nothing, so what comes back is the server's. /line and /bytes answer the first line, or so
# many octets, and end; the Close with 1000 is theirs. So a row needs no waiting for an answer.

use strict;
use warnings;

use lib 't/lib';
use Ws::Blocks;
use Test::Nginx::Socket 'no_plan';

Ws::Blocks::defaults(
    path   => '/sink',
    config => <<'EOT',
        # Nobody here answers a Close of the server.
        websocket_close_timeout 50ms;
        location = /sink  { websocket_exec /bin/sh -c "exec cat >/dev/null"; websocket_exec_format messages; }
        location = /line  { websocket_exec /usr/bin/head -n 1; }
        location = /bytes { websocket_exec /usr/bin/head -c $arg_n; websocket_exec_format bytes; }
        location = /small {
            websocket_exec /usr/bin/head -n 1;
            websocket_max_message_size 16;
        }
        location = /short {
            websocket_exec /usr/bin/head -n 1;
            websocket_max_frame_size 8;
        }
EOT
);

run_tests();

__DATA__

=== text
--- path: /line
--- send eval: text('hello')
--- response_body eval: stext('hello') . sclose(1000)

=== empty text
--- path: /line
--- send eval: text('')
--- response_body eval: stext('') . sclose(1000)

=== binary, not UTF-8
--- path: /bytes?n=3
--- send eval: binary("\xff\x00\xc0")
--- response_body eval: sbinary("\xff\x00\xc0") . sclose(1000)

=== 125 octets
--- path: /line
--- send eval: text('a' x 125)
--- response_body eval: "\x81\x7d" . 'a' x 125 . sclose(1000)

=== 126 octets
--- path: /line
--- send eval: text('a' x 126)
--- response_body eval: "\x81\x7e\x00\x7e" . 'a' x 126 . sclose(1000)

=== 65535 octets
--- path: /line
--- send eval: text('a' x 65535)
--- response_body eval: "\x81\x7e\xff\xff" . 'a' x 65535 . sclose(1000)

=== 65536 octets
--- path: /line
--- send eval: text('a' x 65536)
--- response_body eval: "\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00" . 'a' x 65536 . sclose(1000)

=== a mask of zeros
--- path: /line
--- send eval: text('hello', mask => "\0\0\0\0")
--- frames
text "hello"
close 1000

=== unmasked
--- send eval: text('a', mask => undef)
--- frames: close 1002

=== unmasked, header alone
--- send eval: "\x81\x05"
--- frames: close 1002

=== unmasked Ping
--- send eval: ping('a', mask => undef)
--- frames: close 1002

=== RSV1 without an extension
--- send eval: text('a', rsv1 => 1)
--- frames: close 1002

=== RSV1 on a continuation
--- send eval: text('a', fin => 0) . cont('b', rsv1 => 1)
--- frames: close 1002

=== RSV1 on a Ping
--- send eval: ping('a', rsv1 => 1)
--- frames: close 1002

=== RSV2
--- send eval: text('a', rsv2 => 1)
--- frames: close 1002

=== RSV3
--- send eval: text('a', rsv3 => 1)
--- frames: close 1002

=== RSV2 on a Close
--- send eval: close_frame(1000, '', rsv2 => 1)
--- frames: close 1002

=== opcode 3, header alone
--- send eval: frame(0x3, '', length => 100)
--- frames: close 1002

=== opcode 4, header alone
--- send eval: frame(0x4, '', length => 100)
--- frames: close 1002

=== opcode 5, header alone
--- send eval: frame(0x5, '', length => 100)
--- frames: close 1002

=== opcode 6, header alone
--- send eval: frame(0x6, '', length => 100)
--- frames: close 1002

=== opcode 7, header alone
--- send eval: frame(0x7, '', length => 100)
--- frames: close 1002

=== opcode B, header alone
--- send eval: frame(0xb, '', length => 100)
--- frames: close 1002

=== opcode C, header alone
--- send eval: frame(0xc, '', length => 100)
--- frames: close 1002

=== opcode D, header alone
--- send eval: frame(0xd, '', length => 100)
--- frames: close 1002

=== opcode E, header alone
--- send eval: frame(0xe, '', length => 100)
--- frames: close 1002

=== opcode F, header alone
--- send eval: frame(0xf, '', length => 100)
--- frames: close 1002

=== Ping over 125 octets, header alone
--- send eval: frame(PING, '', form => 16, length => 126)
--- frames: close 1002

=== Pong over 125 octets, header alone
--- send eval: frame(PONG, '', form => 16, length => 126)
--- frames: close 1002

=== Close over 125 octets, header alone
--- send eval: frame(CLOSE, '', form => 16, length => 126)
--- frames: close 1002

=== Ping without FIN
--- send eval: ping('a', fin => 0)
--- frames: close 1002

=== Pong without FIN
--- send eval: pong('a', fin => 0)
--- frames: close 1002

=== Close without FIN
--- send eval: close_frame(1000, '', fin => 0)
--- frames: close 1002

=== continuation first
--- send eval: cont('a')
--- frames: close 1002

=== continuation first, without FIN
--- send eval: cont('a', fin => 0)
--- frames: close 1002

=== continuation after a whole message
--- send eval: text('a') . cont('b')
--- frames: close 1002

=== continuation after the last fragment
--- send eval: text('a', fin => 0) . cont('b') . cont('c')
--- frames: close 1002

=== text inside a fragmented message
--- send eval: text('a', fin => 0) . text('b')
--- frames: close 1002

=== binary inside a fragmented message
--- send eval: text('a', fin => 0) . binary('b', fin => 0)
--- frames: close 1002

=== two fragments
--- path: /line
--- send eval: text('ab', fin => 0) . cont('cd')
--- frames
text "abcd"
close 1000

=== three fragments, a packet each
--- path: /line
--- send eval: [text('ab', fin => 0), cont('cd', fin => 0), cont('ef')]
--- frames
text "abcdef"
close 1000

=== Ping between fragments
--- path: /line
--- send eval: text('ab', fin => 0) . ping('p') . cont('cd')
--- frames
pong "p"
text "abcd"
close 1000

=== Ping in an unfinished message is answered at once
--- send eval: text('ab', fin => 0) . ping('p') . close_frame(1000)
--- frames
pong "p"
close 1000

=== Close in an unfinished message
--- send eval: text('ab', fin => 0) . close_frame(1000)
--- frames: close 1000

=== Pong between fragments
--- path: /line
--- send eval: text('ab', fin => 0) . pong('p') . cont('cd')
--- frames
text "abcd"
close 1000

=== empty fragments
--- path: /line
--- send eval: text('', fin => 0) . cont('', fin => 0) . cont('abc')
--- frames
text "abc"
close 1000

=== an empty last fragment
--- path: /line
--- send eval: text('abc', fin => 0) . cont('')
--- frames
text "abc"
close 1000

=== nothing but empty fragments
--- path: /line
--- send eval: text('', fin => 0) . cont('', fin => 0) . cont('')
--- frames
text ""
close 1000

=== length with the top bit set
--- send eval: frame(BINARY, '', form => 64, length => 1 << 63)
--- frames: close 1002

=== the largest length, header alone
--- send eval: frame(BINARY, '', form => 64, length => (1 << 63) - 1)
--- frames: close 1009

=== one octet over the default limit, header alone
--- send eval: frame(BINARY, '', length => (1 << 20) + 1)
--- frames: close 1009

=== at websocket_max_message_size
--- path: /small
--- send eval: text('a' x 16)
--- frames
text "aaaaaaaaaaaaaaaa"
close 1000

=== over websocket_max_message_size, header alone
--- path: /small
--- send eval: frame(TEXT, '', length => 17)
--- frames: close 1009

=== sum of fragments at websocket_max_message_size
--- path: /small
--- send eval: text('a' x 10, fin => 0) . cont('a' x 6)
--- frames
text "aaaaaaaaaaaaaaaa"
close 1000

=== sum of fragments over websocket_max_message_size, header alone
--- path: /small
--- send eval: text('a' x 10, fin => 0) . frame(CONT, '', length => 7)
--- frames: close 1009

=== at websocket_max_frame_size
--- path: /short
--- send eval: text('a' x 8)
--- frames
text "aaaaaaaa"
close 1000

=== over websocket_max_frame_size, header alone
--- path: /short
--- send eval: frame(TEXT, '', length => 9)
--- frames: close 1009

=== websocket_max_frame_size bounds each frame, not the message
--- path: /short
--- send eval: text('a' x 8, fin => 0) . cont('b' x 8)
--- frames
text "aaaaaaaabbbbbbbb"
close 1000

=== a Ping within websocket_max_frame_size
--- path: /short
--- send eval: ping('a' x 8) . close_frame(1000)
--- frames
pong "aaaaaaaa"
close 1000

=== a 16-bit length where 7 bits would do
--- path: /line
--- send eval: text('abc', form => 16)
--- frames
text "abc"
close 1000

=== a 64-bit length where 7 bits would do
--- path: /line
--- send eval: text('abc', form => 64)
--- frames
text "abc"
close 1000

=== UTF-8 of every length
--- path: /line
--- send eval: text("\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf")
--- response_body eval: stext("\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf") . sclose(1000)

=== NUL in text
--- path: /line
--- send eval: text("a\0b")
--- response_body eval: stext("a\0b") . sclose(1000)

=== overlong, two octets
--- send eval: text("\xc0\xaf")
--- frames: close 1007

=== overlong, three octets
--- send eval: text("\xe0\x80\xaf")
--- frames: close 1007

=== overlong, four octets
--- send eval: text("\xf0\x80\x80\xaf")
--- frames: close 1007

=== surrogate
--- send eval: text("\xed\xa0\x80")
--- frames: close 1007

=== above U+10FFFF
--- send eval: text("\xf4\x90\x80\x80")
--- frames: close 1007

=== F5
--- send eval: text("\xf5\x80\x80\x80")
--- frames: close 1007

=== FF
--- send eval: text("a\xff")
--- frames: close 1007

=== a continuation octet alone
--- send eval: text("\x80")
--- frames: close 1007

=== cut off at the end
--- send eval: text("ab\xe2\x82")
--- frames: close 1007

=== cut off at the end of the last fragment
--- send eval: text("ab", fin => 0) . cont("\xe2\x82")
--- frames: close 1007

=== cut off, then an empty last fragment
--- send eval: text("\xe2\x82", fin => 0) . cont('')
--- frames: close 1007

=== a wrong octet in an unfinished message
--- send eval: text("a\xc0", fin => 0)
--- frames: close 1007

=== a wrong octet in an unfinished frame
--- send eval: frame(TEXT, "a\xff", length => 100)
--- frames: close 1007

=== the second octet of a surrogate, frame unfinished
--- send eval: frame(TEXT, "\xed\xa0", length => 100)
--- frames: close 1007

=== the second octet above U+10FFFF, frame unfinished
--- send eval: frame(TEXT, "\xf4\x90", length => 100)
--- frames: close 1007

=== the second octet of an overlong form, in the next fragment
--- send eval: text("\xe0", fin => 0) . frame(CONT, "\x80", length => 100)
--- frames: close 1007

=== a code point broken off by the next fragment
--- send eval: text("\xe2\x82", fin => 0) . cont("A")
--- frames: close 1007

=== a code point split over fragments
--- path: /line
--- send eval: text("\xf0", fin => 0) . cont("\x9f\x98", fin => 0) . cont("\x80")
--- response_body eval: stext("\xf0\x9f\x98\x80") . sclose(1000)

=== a code point split over packets
--- path: /line
--- send eval: [substr(text("ab\xe2\x82\xac"), 0, 9), substr(text("ab\xe2\x82\xac"), 9)]
--- response_body eval: stext("ab\xe2\x82\xac") . sclose(1000)

=== Close without payload
--- send eval: close_frame()
--- response_body eval: sclose()

=== Close with one octet
--- send eval: frame(CLOSE, "\x03")
--- frames: close 1002

=== Close 0
--- send eval: close_frame(0)
--- frames: close 1002

=== Close 999
--- send eval: close_frame(999)
--- frames: close 1002

=== Close 1000
--- send eval: close_frame(1000)
--- frames: close 1000

=== Close 1001
--- send eval: close_frame(1001)
--- frames: close 1001

=== Close 1002
--- send eval: close_frame(1002)
--- frames: close 1002

=== Close 1003
--- send eval: close_frame(1003)
--- frames: close 1003

=== Close 1004
--- send eval: close_frame(1004)
--- frames: close 1002

=== Close 1005
--- send eval: close_frame(1005)
--- frames: close 1002

=== Close 1006
--- send eval: close_frame(1006)
--- frames: close 1002

=== Close 1007
--- send eval: close_frame(1007)
--- frames: close 1007

=== Close 1008
--- send eval: close_frame(1008)
--- frames: close 1008

=== Close 1009
--- send eval: close_frame(1009)
--- frames: close 1009

=== Close 1010
--- send eval: close_frame(1010)
--- frames: close 1010

=== Close 1011
--- send eval: close_frame(1011)
--- frames: close 1011

=== Close 1012
--- send eval: close_frame(1012)
--- frames: close 1012

=== Close 1013
--- send eval: close_frame(1013)
--- frames: close 1013

=== Close 1014
--- send eval: close_frame(1014)
--- frames: close 1014

=== Close 1015
--- send eval: close_frame(1015)
--- frames: close 1002

=== Close 1016
--- send eval: close_frame(1016)
--- frames: close 1002

=== Close 2999
--- send eval: close_frame(2999)
--- frames: close 1002

=== Close 3000
--- send eval: close_frame(3000)
--- frames: close 3000

=== Close 3999
--- send eval: close_frame(3999)
--- frames: close 3999

=== Close 4000
--- send eval: close_frame(4000)
--- frames: close 4000

=== Close 4999
--- send eval: close_frame(4999)
--- frames: close 4999

=== Close 5000
--- send eval: close_frame(5000)
--- frames: close 1002

=== Close 65535
--- send eval: close_frame(65535)
--- frames: close 1002

=== Close with a reason of 123 octets
--- send eval: close_frame(1000, 'r' x 123)
--- frames: close 1000

=== Close with a reason in UTF-8
--- send eval: close_frame(1000, "\xe2\x82\xac")
--- frames: close 1000

=== Close with a reason that is not UTF-8
--- send eval: close_frame(1000, "\xe2\x82")
--- frames: close 1007

=== anything after the client's Close is ignored
--- send eval: close_frame(1000) . ping('late') . text('late') . "\x00\x00garbage" . close_frame(4000)
--- frames: close 1000

=== Ping
--- send eval: ping('abc') . close_frame(1000)
--- response_body eval: spong('abc') . sclose(1000)

=== empty Ping
--- send eval: ping() . close_frame(1000)
--- response_body eval: spong() . sclose(1000)

=== Ping of 125 octets
--- send eval: ping("\xff" x 125) . close_frame(1000)
--- response_body eval: spong("\xff" x 125) . sclose(1000)

=== Pings are answered in order
--- send eval: CORE::join('', map { ping($_) } 1 .. 5) . close_frame(1000)
--- response_body eval: CORE::join('', map { spong($_) } 1 .. 5) . sclose(1000)

=== an unsolicited Pong is ignored
--- send eval: pong('x') . pong() . ping('y') . close_frame(1000)
--- frames
pong "y"
close 1000

=== a protocol error after answered Pings
--- send eval: ping('a') . ping('b') . text('c', rsv2 => 1) . ping('d')
--- frames
pong "a"
pong "b"
close 1002
