# Channels over TLS: small and large messages, bursts, subscribers that pause.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;

my $ngx = Ws::Nginx->start(workers => 2, tls => 1, http => 'websocket_channel_zone 16m;', server => <<'SERVER');
    client_max_body_size 2m;
    websocket_close_timeout 500ms;
    location = /sub    { websocket_channel $arg_id; }
    location = /pub    { websocket_channel $arg_id mode=pub; websocket_channel_history length=5000; }
    location = /pubsub { websocket_channel $arg_id mode=pubsub; }
    location = /filter { websocket_channel $arg_id; websocket_channel_transports websocket chunked; ssi on; ssi_types *; add_header X-Long $arg_long always; }
SERVER

my $port = $ngx->port;
my %tls = (tls => 1, alpn => ['http/1.1']);

case 'one message after another' => sub {
    my @clients = map { Ws::Client->open($ngx->tls_port, '/pubsub?id=a', %tls) } 1 .. 4;
    for my $n (1 .. 50) {
        $clients[$n % 4]->send(text("message $n"));
        is($_->text, "message $n") || return for @clients;
    }
    is($_->close(1000), 'close 1000') for @clients;
};

case 'large messages to a client that pauses' => sub {
    my $client = Ws::Client->open($ngx->tls_port, '/sub?id=b', %tls, rcvbuf => 8192)->reading(0);
    my @sizes = map { ($_ * 7919) % 60_000 } 1 .. 150;
    publish($port, '/pub?id=b', "$_ " . 'x' x $sizes[$_ - 1]) for 1 .. 150;
    publish($port, '/pub?id=b', 'y' x 1_000_000);
    $client->reading(1);
    for my $n (1 .. 150) {
        my $text = $client->text;
        ok($text eq "$n " . 'x' x $sizes[$n - 1], "message $n") or return;
    }
    is(length $client->text, 1_000_000);
};

case 'a burst' => sub {
    my @clients = map { Ws::Client->open($ngx->tls_port, '/sub?id=c', %tls) } 1 .. 3;
    my $publisher = Ws::Client->open($port, '/pub?id=c');
    $publisher->send(map { text("burst $_") } 1 .. 3000)->flush;
    for my $client (@clients) {
        for my $n (1 .. 3000) {
            is($client->text, "burst $n") or return;
        }
    }
};

# The filter keeps a flush that has no octets to itself; a head beyond postpone_output waits in the buffer of TLS.
case 'a head leaves a filter' => sub {
    for my $length (1, 3000) {
        my $client = Ws::Client->open($ngx->tls_port, "/filter?id=d$length&long=" . 'x' x $length, %tls);
        publish($port, "/pub?id=d$length", 'hello');
        is($client->text, 'hello', "$length octets");
        my $stream = Ws::Client->connect(port => $ngx->tls_port, %tls);
        $stream->send(request_text('GET', "/filter?id=d$length&long=" . 'x' x $length, TE => 'chunked'));
        $stream->wait_until(sub { $stream->{in} =~ /\r\n\r\n/ }, "the head of a stream, $length octets");
    }
};

$ngx->stop;
done_testing();
