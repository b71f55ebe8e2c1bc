# A channel by "TE: chunked": one message is one chunk.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Stream;

my $ngx = Ws::Nginx->start(workers => 2, http => 'websocket_channel_zone 8m;', server => stream_locations('chunked') . <<'SERVER');
    location = /beside { websocket_channel $arg_id; websocket_channel_transports websocket longpoll chunked; }
    location = /plain  { websocket_channel $arg_id; websocket_channel_transports longpoll chunked; chunked_transfer_encoding off; }
SERVER

my $port = $ngx->port;

stream_cases($ngx, 'chunked');

case 'the request chooses' => sub {
    publish($port, '/pub?id=choose', 'x');
    for my $te ('chunked', 'trailers, chunked', 'Chunked;q=0.5') {
        my $stream = stream($port, 'chunked', '/beside?id=choose&last_event_id=1:0', TE => $te);
        is($stream->{status}, 200);
        is($stream->{headers}{'content-type'}[0], 'text/plain; charset=utf-8');
        is_deeply($stream->data(1), ['x'], $te);
    }
    # Not asked for, or not possible: a long-poll.
    for my $row (['/beside'], ['/beside', TE => 'trailers'], ['/beside', TE => 'chunked;q=0'], ['/plain', TE => 'chunked']) {
        my ($path, @headers) = @$row;
        my $response = request($port, 'GET', "$path?id=choose&last_event_id=1:0", @headers);
        is($response->{headers}{'content-length'}[0], 1, "@$row");
        is($response->{body}, 'x');
    }
    is(request($port, 'GET', '/sub?id=choose')->{status}, 406, 'without TE');
    my $client = Ws::Client->connect(port => $port);
    $client->send("GET /sub?id=choose HTTP/1.0\r\nHost: localhost\r\nTE: chunked\r\n\r\n");
    is($client->response->{status}, 406, 'HTTP/1.0 has no chunks');
};

case 'an empty message would be the end' => sub {
    my $stream = stream($port, 'chunked', '/sub?id=empty');
    publish($port, '/pub?id=empty', $_) for 'a', '', 'b', '', '';
    publish($port, '/pub?id=empty', 'c');
    is_deeply($stream->data(3), ['a', 'b', 'c']);
    my $again = stream($port, 'chunked', '/sub?id=empty', 'Last-Event-ID' => $stream->position);
    is_deeply($again->data(3), ['a', 'b', 'c'], 'several at once');
};

case 'octets as they are' => sub {
    my $stream = stream($port, 'chunked', '/sub?id=octets');
    my $octets = join '', map { chr } 0 .. 255;
    publish($port, '/pub?id=octets', $octets, 'Content-Type' => 'application/octet-stream');
    publish($port, '/pub?id=octets', "0\r\n\r\n");
    is_deeply($stream->data(2), [$octets, "0\r\n\r\n"]);
};

$ngx->stop;
done_testing();
