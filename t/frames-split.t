# The same conversation, however its octets arrive: at once, one by one, in pieces of every size, with the handshake or
# after it, plain and over TLS.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;

my $ngx = Ws::Nginx->start(tls => 1, server => <<'EOT');
    websocket_close_timeout 300ms;
    location = /echo { websocket_exec /bin/cat; websocket_exec_format messages; }
    location = /hi   { return 200 "hi"; }
EOT

my $said = text("caf\xc3\xa9 \xe2\x82\xac")
    . ping('in between')
    . binary("\xff" x 130, fin => 0) . cont('', fin => 0) . ping('') . cont('x' x 3)
    . text('', form => 16)
    . text("\xf0\x9f\x98\x80" x 40, fin => 0) . cont("\xf0\x9f", fin => 0) . cont("\x98\x80");

my @answers = (
    'text "caf\xc3\xa9 \xe2\x82\xac"',
    'binary "' . ('\xff' x 50) . '... of 133"',
    'text ""',
    'text "' . ('\xf0\x9f\x98\x80' x 12) . '\xf0\x9f' . '... of 164"',
);

# Pongs come when they can, the program's answers when it has answered: each in its own order.
sub conversation_ends {
    my ($client) = @_;

    my (@messages, @pongs);
    while (@messages < @answers) {
        my $frame = $client->frame;
        if ($frame->{opcode} & 8) {
            push @pongs, describe($frame);
        } else {
            push @messages, describe($frame);
        }
    }
    is_deeply(\@messages, \@answers, 'messages');
    is_deeply(\@pongs, ['pong "in between"', 'pong ""'], 'pongs');
    is($client->close(1000), 'close 1000');
}

for my $tls (0, 1) {
    my $how = $tls ? 'TLS' : 'plain';
    my @to = (port => $tls ? $ngx->tls_port : $ngx->port, tls => $tls);

    case "$how, all frames in one segment" => sub {
        my $client = Ws::Client->open($to[1], '/echo', @to);
        $client->send($said);
        conversation_ends($client);
    };

    case "$how, head and frames in one segment" => sub {
        my $client = Ws::Client->open($to[1], '/echo', @to, after => $said);
        conversation_ends($client);
    };

    case "$how, one octet at a time" => sub {
        my $client = Ws::Client->open($to[1], '/echo', @to);
        $client->send_slowly($said);
        conversation_ends($client);
    };

    case "$how, head and frames one octet at a time" => sub {
        my $client = Ws::Client->connect(@to);
        $client->send_slowly(upgrade('/echo') . $said);
        is($client->response->{status}, 101);
        conversation_ends($client);
    };

    for my $size (2, 3, 5, 7, 14, 127) {
        case "$how, pieces of $size octets" => sub {
            my $client = Ws::Client->open($to[1], '/echo', @to);
            for my $piece ($said =~ /(.{1,$size})/gs) {
                $client->send($piece);
                $client->flush;
            }
            conversation_ends($client);
        };
    }

    case "$how, the second request of a connection" => sub {
        my $client = Ws::Client->connect(@to);
        $client->send("GET /hi HTTP/1.1\r\nHost: localhost\r\n\r\n");
        is($client->response->{body}, 'hi');
        is($client->handshake('/echo', after => $said)->{status}, 101);
        conversation_ends($client);
    };

    case "$how, pipelined behind another request" => sub {
        my $client = Ws::Client->connect(@to);
        $client->send("GET /hi HTTP/1.1\r\nHost: localhost\r\n\r\n" . upgrade('/echo') . $said);
        is($client->response->{body}, 'hi');
        is($client->response->{status}, 101);
        conversation_ends($client);
    };

    case "$how, an error in a header, one octet at a time" => sub {
        my $client = Ws::Client->open($to[1], '/echo', @to);
        $client->send_slowly(substr text('a', rsv2 => 1), 0, 2);
        like($client->server_close, qr/^close 1002/);
    };
}

case 'a split at every octet' => sub {
    my $octets = text("a\xe2\x82\xac") . ping('p') . binary("b" x 126);
    my $client = Ws::Client->open($ngx->port, '/echo');
    for my $at (1 .. length($octets) - 1) {
        $client->send(substr $octets, 0, $at);
        # A Pong tells that what was sent has been looked at; it can only be asked for between frames.
        $client->flush;
        $client->send(substr $octets, $at);
        my @got = map { describe($client->frame) } 1 .. 3;
        my @messages = grep { !/^pong/ } @got;
        if ("@messages" ne 'text "a\xe2\x82\xac" binary "' . ('b' x 50) . '... of 126"' || @messages != 2) {
            is("@got", '', "split at $at");
            return;
        }
    }
    is($client->close(1000), 'close 1000');
};

$ngx->stop;
done_testing();
