# A channel by long-polling: one message a response, the position in ETag.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Time::HiRes qw(time);
use Ws::Nginx;
use Ws::Client;
use Ws::Http;

my $ngx = Ws::Nginx->start(workers => 2, http => <<'HTTP', server => <<'SERVER');
    websocket_channel_zone 8m;
    lingering_timeout 1s;
    lingering_time 2s;
    log_format uri "$request_uri";
    access_log %%PREFIX%%/access.log uri;
HTTP
    location = /sub    { websocket_channel $arg_id; }
    location = /oldest { websocket_channel $arg_id; websocket_channel_start oldest; }
    location = /many   { websocket_channel $arg_a $arg_b; websocket_channel_start oldest; }
    location = /pub    { websocket_channel $arg_id mode=pub; }
    location = /keep3  { websocket_channel $arg_id mode=pub; websocket_channel_history length=3; }
    location = /ws     { websocket_channel $arg_id; websocket_channel_transports websocket; }
    location = /events { websocket_channel $arg_id; websocket_channel_transports eventsource; }
    location = /other  { websocket_channel $arg_id; websocket_idle_timeout 300ms; error_page 408 =204 /none; }
    location = /text   { websocket_channel $arg_id; websocket_idle_timeout 300ms; error_page 408 = @text; }
    location = /none   { return 204; }
    location @text     { add_header X-Why $arg_id always; return 200 "nothing new"; }
    location = /full   { websocket_channel $arg_id; websocket_channel_max_subscribers 1; }
SERVER

my $port = $ngx->port;

sub waiting {
    my ($path, @headers) = @_;

    my $client = Ws::Client->connect(port => $port);
    $client->send(request_text('GET', $path, @headers));
    return $client;
}

sub subscribers {
    my ($id) = @_;

    return request($port, 'GET', "/pub?id=$id", Accept => 'text/json')->{body} =~ /"subscribers": (\d+)/ ? $1 : 0;
}

case 'one message after another' => sub {
    publish($port, '/pub?id=one', "m$_", 'Content-Type' => "text/x$_") for 1 .. 3;
    my @headers;
    for my $n (1 .. 3) {
        my $response = request($port, 'GET', '/oldest?id=one', @headers);
        is($response->{status}, 200);
        is($response->{body}, "m$n");
        is($response->{headers}{'content-type'}[0], "text/x$n");
        like($response->{headers}{etag}[0], qr/^"\d+:$n"$/);
        like($response->{headers}{'last-modified'}[0], qr/^\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT$/);
        like($response->{headers}{vary}[0], qr/If-None-Match/);
        is($response->{headers}{'content-length'}[0], 2);
        @headers = ('If-None-Match' => $response->{headers}{etag}[0]);
    }
    my $client = waiting('/oldest?id=one', @headers);
    await('a subscriber', sub { subscribers('one') });
    publish($port, '/pub?id=one', 'm4');
    is($client->response->{body}, 'm4', 'waited for');
    # The connection goes on.
    $client->send(request_text('GET', '/oldest?id=one', 'If-None-Match' => $client->header('etag')));
    await('the subscriber again', sub { subscribers('one') });
    publish($port, '/pub?id=one', 'm5');
    is($client->response->{body}, 'm5', 'the same connection');
};

case 'everybody who waits gets it' => sub {
    my @clients = map { waiting('/sub?id=all') } 1 .. 20;
    await('twenty subscribers', sub { subscribers('all') == 20 });
    is(publish($port, '/pub?id=all', 'now')->{status}, 201);
    is($_->response->{body}, 'now') for @clients;
    await('none', sub { subscribers('all') == 0 });
};

case 'two messages between two requests' => sub {
    my $client = waiting('/sub?id=two');
    await('a subscriber', sub { subscribers('two') });
    publish($port, '/pub?id=two', $_) for 1 .. 3;
    my $response = $client->response;
    is($response->{body}, 1);
    for my $n (2, 3) {
        $response = request($port, 'GET', '/sub?id=two', 'If-None-Match' => $response->{headers}{etag}[0]);
        is($response->{body}, $n);
    }
};

case 'a gap' => sub {
    publish($port, '/keep3?id=gap', $_) for 1 .. 3;
    my $first = request($port, 'GET', '/oldest?id=gap');
    is($first->{headers}{'x-channel-gap'}, undef);
    publish($port, '/keep3?id=gap', $_) for 4 .. 9;
    my $next = request($port, 'GET', '/oldest?id=gap', 'If-None-Match' => $first->{headers}{etag}[0]);
    is($next->{body}, 7);
    is($next->{headers}{'x-channel-gap'}[0], 5);
    my $after = request($port, 'GET', '/oldest?id=gap', 'If-None-Match' => $next->{headers}{etag}[0]);
    is($after->{body}, 8);
    is($after->{headers}{'x-channel-gap'}, undef);
};

case 'several channels' => sub {
    publish($port, "/pub?id=s$_->[0]", $_->[1]) for [1, 'a'], [2, 'b'], [2, 'c'], [1, 'd'];
    my ($got, @headers) = '';
    for (1 .. 4) {
        my $response = request($port, 'GET', '/many?a=s1&b=s2', @headers);
        $got .= $response->{body};
        @headers = ('If-None-Match' => $response->{headers}{etag}[0]);
    }
    is($got, 'abcd');
};

case 'deletion is 410' => sub {
    my @clients = map { waiting('/sub?id=gone') } 1 .. 4;
    await('four subscribers', sub { subscribers('gone') == 4 });
    is(request($port, 'DELETE', '/pub?id=gone')->{status}, 200);
    is($_->response->{status}, 410) for @clients;
};

# A page that takes a 408 for a failure.
case 'an error_page for those who have waited long enough' => sub {
    for my $row (['/other', 204, ''], ['/text', 200, 'nothing new']) {
        my ($path, $status, $body) = @$row;
        my $client = waiting("$path?id=page");
        my $response = $client->response;
        is($response->{status}, $status, $path);
        is($response->{body}, $body);
        like($response->{headers}{etag}[0], qr/^"\d+:\d+"$/, 'the position');
        is_deeply($response->{headers}{'cache-control'}, ['no-store']);
        publish($port, '/pub?id=page', "after $path");
        $client->send(request_text('GET', '/sub?id=page', 'If-None-Match' => $response->{headers}{etag}[0]));
        is($client->response->{body}, "after $path", 'on the same connection');
    }
    await('nobody', sub { request($port, 'GET', '/pub?id=page')->{body} =~ /active subscribers: 0/ });
};

case 'who goes is not counted' => sub {
    my @clients = map { waiting('/sub?id=left') } 1 .. 4;
    await('four subscribers', sub { subscribers('left') == 4 });
    $clients[0]->abandon;
    $clients[1]->reset;
    $clients[2]->fin;
    await('one subscriber', sub { subscribers('left') == 1 });
    publish($port, '/pub?id=left', 'x');
    is($clients[3]->response->{body}, 'x');
};

case 'a large message' => sub {
    my @clients = map { waiting('/sub?id=large') } 1 .. 3;
    await('three subscribers', sub { subscribers('large') == 3 });
    my $large = join '', map { chr(97 + $_ % 26) } 1 .. 900_000;
    publish($port, '/pub?id=large', $large);
    ok($_->response->{body} eq $large) for @clients;
};

case 'HEAD is GET without the body' => sub {
    publish($port, '/pub?id=head', 'body');
    my $response = request($port, 'HEAD', '/oldest?id=head');
    is($response->{status}, 200);
    is($response->{headers}{'content-length'}[0], 4);
    is($response->{body}, '');
};

case 'nonsense is no position' => sub {
    publish($port, '/pub?id=odd', $_) for 1, 2;
    for my $tag ('*', '"x"', 'W/"1:1:1"', '"', '1:1,', '"18446744073709551616:1"', "\x01\xff", 'x' x 4000) {
        is(request($port, 'GET', '/oldest?id=odd', 'If-None-Match' => $tag)->{body}, 1, $tag =~ s/[^ -~]/?/gr);
    }
    is(request($port, 'GET', '/oldest?id=odd', 'If-Modified-Since' => 'Sat, 01 Jan 2124 00:00:00 GMT')->{body}, 1);
    is(request($port, 'GET', '/oldest?id=odd', 'If-Match' => '"x"')->{body}, 1);
    is(request($port, 'GET', '/oldest?id=odd', 'Range' => 'bytes=5-')->{body}, 1);
};

case 'where it is not a transport' => sub {
    my $response = request($port, 'GET', '/ws?id=x');
    is($response->{status}, 426);
    is($response->{headers}{upgrade}[0], 'websocket');
    is(request($port, 'GET', '/events?id=x')->{status}, 406);
    my $client = Ws::Client->connect(port => $port);
    is($client->handshake('/events?id=x')->{status}, 406);
};

case 'a limit' => sub {
    my $client = waiting('/full?id=full');
    await('a subscriber', sub { subscribers('full') == 1 });
    my $response = request($port, 'GET', '/full?id=full');
    is($response->{status}, 503);
    ok($response->{headers}{'retry-after'}[0]);
};

case 'a client that goes together with its request' => sub {
    # Request and end are there at once when the workers look.
    for my $headers ([], [Accept => 'text/event-stream']) {
        my $id = @$headers ? 'together-events' : 'together';
        my @workers = $ngx->workers;
        kill 'STOP', @workers;
        waiting("/sub?id=$id", @$headers) for 1 .. 4;
        kill 'CONT', @workers;
        await('what is logged of them', sub { 4 == (() = $ngx->access_log =~ m{^/sub\?id=$id$}mg) });
        pass("$id: noticed");
    }
};

case 'a client that sends its body later, or not all of it' => sub {
    # The body behind the head, and what of it is sent only when the answer is there.
    my @bodies = (
        ['a body', 'Content-Length: 4', 'body', ''],
        ['a part of one', 'Content-Length: 4', 'bo', 'dy'],
        ['none of it', 'Content-Length: 4', '', 'body'],
        ['chunks', 'Transfer-Encoding: chunked', "4\r\nbody\r\n0\r\n\r\n", ''],
        ['a part of them', 'Transfer-Encoding: chunked', "4\r\nbo", "dy\r\n0\r\n\r\n"],
    );
    my $starting = sub {
        my ($id, $accept, $length, $body) = @_;
        my $client = Ws::Client->connect(port => $port);
        $client->send("GET /sub?id=$id HTTP/1.1\r\nHost: localhost\r\nAccept: $accept\r\n$length\r\n\r\n");
        await('a subscriber', sub { subscribers($id) == 1 });
        $client->send($body);
        return $client;
    };
    for my $accept ('*/*', 'text/event-stream') {
        for my $nth (0 .. $#bodies) {
            my ($name, $length, $body) = @{$bodies[$nth]};
            my $id = "body-$nth" . ($accept =~ /event/ ? '-events' : '');
            my $client = $starting->($id, $accept, $length, $body);
            my $logged = sub { () = $ngx->access_log =~ m{^/sub\?id=$id$}mg };
            undef $client;
            await("$name: the end of $accept", sub { $logged->() == 1 });
            is(subscribers($id), 0, "$name: its end is noticed ($accept)");
        }
    }
    # nginx waits so long for a body that it drops: these have it in time, and wait for a message longer than that.
    my @clients = map { [$_, $starting->("patient-$_", '*/*', $bodies[$_][1], $bodies[$_][2])] } 0 .. $#bodies;
    sleep 3;
    for (@clients) {
        my ($nth, $client) = @$_;
        my ($name, $rest) = @{$bodies[$nth]}[0, 3];
        publish($port, "/pub?id=patient-$nth", 'a message');
        is($client->response->{body}, 'a message', "$name: it is answered");
        $client->send($rest . request_text('GET', "/oldest?id=patient-$nth"));
        is($client->response->{body}, 'a message', "$name: the next request is what comes behind the body");
    }
};

case 'a body that is none' => sub {
    for my $path ('/sub?id=none', '/pub?id=none') {
        my $client = Ws::Client->connect(port => $port);
        $client->send("GET $path HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nXYZ\r\n");
        is($client->response->{status}, 400, $path);
    }
};

case 'an idle one does not keep a worker busy, and a worker that leaves does not leave it alone' => sub {
    my $client = waiting('/sub?id=stay');
    await('a subscriber', sub { subscribers('stay') == 1 });
    $ngx->reload;
    publish($port, '/pub?id=stay', 'from the new worker');
    is($client->response->{body}, 'from the new worker');
};

$ngx->stop;
done_testing();
