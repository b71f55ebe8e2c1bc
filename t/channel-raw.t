# A channel as a stream of messages with a separator behind each.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Process qw(status_field);
use Ws::Stream;

my $ngx = Ws::Nginx->start(workers => 2, http => 'websocket_channel_zone 8m;', server => stream_locations('raw') . <<'SERVER');
    location = /beside    { websocket_channel $arg_id; websocket_channel_transports websocket eventsource longpoll raw; }
    location = /semicolon { websocket_channel $arg_id; websocket_channel_transports raw; websocket_channel_separator ";\r\n"; }
    location = /nothing   { websocket_channel $arg_id; websocket_channel_transports raw; websocket_channel_separator ""; }
SERVER

my $port = $ngx->port;

stream_cases($ngx, 'raw');

case 'the separator' => sub {
    my $stream = stream($port, 'raw', '/semicolon?id=separator');
    my $nothing = stream($port, 'raw', '/nothing?id=separator');
    $stream->{separator} = ";\r\n";
    publish($port, '/pub?id=separator', $_) for "a\nb", '', 'c;', ';';
    is_deeply($stream->data(4), ["a\nb", '', 'c;', ';']);
    $nothing->{separator} = 'c;;';
    is_deeply($nothing->data(1), ["a\nb"], 'none: messages follow each other');
};

case 'an empty message is one' => sub {
    my $stream = stream($port, 'raw', '/sub?id=empty');
    publish($port, '/pub?id=empty', $_) for 'a', '', 'b';
    is_deeply($stream->data(3), ['a', '', 'b']);
};

case 'the request chooses' => sub {
    my $stream = stream($port, 'raw', '/beside?id=choose');
    is($stream->{headers}{'content-type'}[0], 'text/plain; charset=utf-8');
    publish($port, '/pub?id=choose', 'x');
    is_deeply($stream->data(1), ['x'], 'stands in the way of long-polls, which look the same');
    my $events = events($port, '/beside?id=choose');
    like($events->{headers}{'content-type'}[0], qr{^text/event-stream});
    is(Ws::Client->open($port, '/beside?id=choose')->close(1000), 'close 1000');
    is(request($port, 'GET', '/sub?id=choose', Accept => 'text/event-stream')->{status}, 406);
};

case 'HTTP/1.0: to the end of the connection' => sub {
    my $client = Ws::Client->connect(port => $port);
    $client->send("GET /sub?id=old HTTP/1.0\r\nHost: localhost\r\n\r\n");
    $client->wait_until(sub { $client->{in} =~ /\r\n\r\n/ }, 'the head');
    unlike($client->{in}, qr/^transfer-encoding/mi);
    publish($port, '/pub?id=old', 'a');
    $client->wait_until(sub { $client->{in} =~ /\r\n\r\na\n$/ }, 'the message');
    request($port, 'DELETE', '/pub?id=old');
    $client->wait_until(sub { $client->{end} }, 'the end');
    is($client->{end}, 'eof');
};

$ngx->stop;

case 'messages of next to nothing that are not read cost bounded memory' => sub {
    my $ngx = Ws::Nginx->start(listen => 'sndbuf=8k', http => 'websocket_channel_zone 8m;', server => <<'EOT');
    websocket_channel_transports raw;
    location = /line    { websocket_channel $arg_id; }
    location = /nothing { websocket_channel $arg_id; websocket_channel_separator ""; }
    location = /pub     { websocket_channel $arg_id mode=pub; websocket_channel_history length=100000; }
EOT
    my @deaf = map { stream($ngx->port, 'raw', "/$_?id=tiny", -rcvbuf => 4096) } ('nothing', 'line') x 5;
    $_->{client}->reading(0) for @deaf;
    my $publisher = Ws::Client->open($ngx->port, '/pub?id=tiny');
    # More than the system takes, less than websocket_send_buffer.
    $publisher->send(text('x' x 50_000))->text;
    my ($worker) = $ngx->workers;
    my $before = status_field($worker, 'VmRSS');
    for (1 .. 20) {
        $publisher->send(map { text('') } 1 .. 1000);
        $publisher->text for 1 .. 1000;
    }
    grew_less($worker, $before, 12_000, 'the worker');
    $_->{client}->reset for @deaf;
    $publisher->close(1000);
    $ngx->stop;
};

done_testing();
