# A channel by polling: the next message, or 304.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Http;
use Ws::Stream;

my $ngx = Ws::Nginx->start(workers => 2, http => 'websocket_channel_zone 8m;', server => <<'SERVER');
    websocket_channel_transports poll;
    location = /sub    { websocket_channel $arg_id; }
    location = /oldest { websocket_channel $arg_id; websocket_channel_start oldest; }
    location = /many   { websocket_channel $arg_a $arg_b; websocket_channel_start oldest; }
    location = /known  { websocket_channel $arg_id; websocket_channel_create off; }
    location = /beside { websocket_channel $arg_id; websocket_channel_transports websocket eventsource longpoll poll raw; }
    location = /long   { websocket_channel $arg_id; websocket_channel_transports longpoll; websocket_channel_max_subscribers 1; }
    location = /one    { websocket_channel $arg_id; websocket_channel_max_subscribers 1; }
    location = /pub    { websocket_channel $arg_id mode=pub; }
    location = /keep3  { websocket_channel $arg_id mode=pub; websocket_channel_history length=3; }
SERVER

my $port = $ngx->port;

case 'one message after another, then 304' => sub {
    publish($port, '/pub?id=one', "m$_", 'Content-Type' => "text/x$_") for 1 .. 3;
    my @headers;
    for my $n (1 .. 3) {
        my $response = request($port, 'GET', '/oldest?id=one', @headers);
        is($response->{status}, 200);
        is($response->{body}, "m$n");
        is($response->{headers}{'content-type'}[0], "text/x$n");
        like($response->{headers}{etag}[0], qr/^"\d+:$n"$/);
        like($response->{headers}{'last-modified'}[0], qr/GMT$/);
        @headers = ('If-None-Match' => $response->{headers}{etag}[0]);
    }
    my $client = Ws::Client->connect(port => $port);
    for (1 .. 3) {
        $client->send(request_text('GET', '/oldest?id=one', @headers));
        my $nothing = $client->response;
        is($nothing->{status}, 304);
        is($nothing->{headers}{etag}[0], $headers[1]);
        is($nothing->{headers}{'content-length'}, undef);
        is($nothing->{headers}{'transfer-encoding'}, undef);
    }
    publish($port, '/pub?id=one', 'm4');
    $client->send(request_text('GET', '/oldest?id=one', @headers));
    is($client->response->{body}, 'm4', 'on the same connection');
};

case 'who begins with the newest misses nothing from then on' => sub {
    publish($port, '/pub?id=newest', 'before');
    my $first = request($port, 'GET', '/sub?id=newest');
    is($first->{status}, 304);
    publish($port, '/pub?id=newest', $_) for 1, 2;
    my $next = request($port, 'GET', '/sub?id=newest', 'If-None-Match' => $first->{headers}{etag}[0]);
    is($next->{body}, 1);
    is(request($port, 'GET', '/sub?id=newest', 'Last-Event-ID' => $next->{headers}{etag}[0] =~ /"(.*)"/)->{body}, 2);
    is(request($port, 'GET', '/sub?id=never')->{status}, 304, 'a channel that nobody has published to');
};

case 'nobody stays' => sub {
    for (1 .. 5) {
        is(request($port, 'GET', '/one?id=stays')->{status}, 304);
        is(subscribers($port, 'stays'), 0, 'it went before it had its answer');
    }
    is(publish($port, '/pub?id=stays', 'x')->{status}, 202);
};

case 'a gap' => sub {
    publish($port, '/keep3?id=gap', $_) for 1 .. 3;
    my $first = request($port, 'GET', '/oldest?id=gap');
    publish($port, '/keep3?id=gap', $_) for 4 .. 9;
    my $next = request($port, 'GET', '/oldest?id=gap', 'If-None-Match' => $first->{headers}{etag}[0]);
    is($next->{body}, 7);
    is($next->{headers}{'x-channel-gap'}[0], 5);
    is(request($port, 'DELETE', '/pub?id=gap')->{status}, 200);
    publish($port, '/keep3?id=gap', 'new');
    my $new = request($port, 'GET', '/oldest?id=gap', 'If-None-Match' => $next->{headers}{etag}[0]);
    is($new->{body}, 'new');
    is($new->{headers}{'x-channel-gap'}[0], 0, 'the channel was deleted in between');
};

case 'several channels' => sub {
    publish($port, "/pub?id=s$_->[0]", $_->[1]) for [1, 'a'], [2, 'b'], [2, 'c'], [1, 'd'];
    my ($got, $response, @headers) = '';
    for (1 .. 4) {
        $response = request($port, 'GET', '/many?a=s1&b=s2', @headers);
        $got .= $response->{body};
        @headers = ('If-None-Match' => $response->{headers}{etag}[0]);
    }
    is($got, 'abcd');
    is(request($port, 'GET', '/many?a=s1&b=s2', @headers)->{status}, 304);
};

case 'limits' => sub {
    is(request($port, 'GET', '/known?id=unknown')->{status}, 403);
    publish($port, '/pub?id=known', 'x');
    is(request($port, 'GET', '/known?id=known')->{status}, 304);
    my $waiting = Ws::Client->connect(port => $port);
    $waiting->send(request_text('GET', '/long?id=full'));
    await('a subscriber', sub { subscribers($port, 'full') == 1 });
    is(request($port, 'GET', '/one?id=full')->{status}, 503);
    $waiting->abandon;
    await('nobody', sub { subscribers($port, 'full') == 0 });
    is(request($port, 'GET', '/one?id=full')->{status}, 304) for 1, 2;
};

case 'HEAD is GET without the body' => sub {
    publish($port, '/pub?id=head', 'body');
    my $response = request($port, 'HEAD', '/oldest?id=head');
    is_deeply([@$response{qw(status body)}], [200, '']);
    is($response->{headers}{'content-length'}[0], 4);
    is(request($port, 'HEAD', '/oldest?id=head', 'If-None-Match' => $response->{headers}{etag}[0])->{status}, 304);
};

case 'a large message' => sub {
    my $large = join '', map { chr(97 + $_ % 26) } 1 .. 900_000;
    publish($port, '/pub?id=large', $large);
    ok(request($port, 'GET', '/oldest?id=large')->{body} eq $large);
};

case 'nonsense is no position' => sub {
    publish($port, '/pub?id=odd', $_) for 1, 2;
    for my $tag ('*', '"x"', '"', '1:1,', "\x01\xff", 'x' x 4000) {
        is(request($port, 'GET', '/oldest?id=odd', 'If-None-Match' => $tag)->{body}, 1, $tag =~ s/[^ -~]/?/gr);
    }
    is(request($port, 'GET', '/oldest?id=odd', 'If-Modified-Since' => 'Sat, 01 Jan 2124 00:00:00 GMT')->{body}, 1);
};

case 'it stands in the way of long-polls and raw streams, which look the same' => sub {
    is(request($port, 'GET', '/beside?id=beside')->{status}, 304);
    like(events($port, '/beside?id=beside')->{headers}{'content-type'}[0], qr{^text/event-stream});
    is(Ws::Client->open($port, '/beside?id=beside')->close(1000), 'close 1000');
    is(request($port, 'GET', '/sub?id=beside', Accept => 'text/event-stream')->{status}, 406);
    is(request($port, 'POST', '/sub?id=beside', body => 'x')->{status}, 405);
};

$ngx->stop;
done_testing();
