# websocket_channel_history off: a message is for those who are there.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use JSON::PP;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;

my $ngx = Ws::Nginx->start(workers => 2, http => 'websocket_channel_zone 2m; websocket_channel_history off;', server => <<'SERVER');
    location = /pub   { websocket_channel $arg_id mode=pub; }
    location = /kept  { websocket_channel $arg_id mode=pub; websocket_channel_history length=5; }
    location = /info  { websocket_channel $arg_id mode=info; }
    location = /sub   { websocket_channel $arg_id; websocket_channel_start oldest; }
    location = /skip  { websocket_channel $arg_id; websocket_channel_lag skip; }
    location = /poll  { websocket_channel $arg_id; websocket_channel_start oldest; websocket_channel_transports poll; }
    location = /both  { websocket_channel $arg_id mode=pubsub; }
    location = /status { websocket_status; }
SERVER
my $port = $ngx->port;

sub stored { return decode_json(request($port, 'GET', '/status')->{body})->{channels}{messages} }

case 'live subscribers of every kind get each message once, in order' => sub {
    my @sockets = map { Ws::Client->open($port, '/sub?id=live') } 1 .. 6;
    my @events = map { events($port, '/sub?id=live', Accept => 'text/event-stream') } 1 .. 3;
    my $id;
    for my $n (1 .. 200) {
        my $response = publish($port, '/pub?id=live', "message $n");
        is($response->{status}, 201) if $n == 1;
        ($id) = $response->{body} =~ /last message id: (\d+:\d+)/;
        is($id =~ s/.*://r, $n, 'no holes') if $n % 50 == 0;
        like($response->{body}, qr/^queued messages: 0\r/) if $n == 200;
    }
    my $expected = join ',', map { "message $_" } 1 .. 200;
    for my $client (@sockets) {
        is(join(',', map { $client->text } 1 .. 200), $expected);
    }
    for my $stream (@events) {
        my @got = await_events($stream, 200);
        is(join(',', map { $_->{data} } @got), $expected);
        is($got[-1]{id}, $id);
    }
    await('the zone to be empty', sub { stored() == 0 });
    $_->close(1000) for @sockets;
};

case 'a burst of large messages' => sub {
    my $here = Ws::Client->open($port, '/sub?id=large');
    my $sender = Ws::Client->open($port, '/both?id=large');
    my @large = map { chr(96 + $_) x 100_000 } 1 .. 8;
    $sender->send(map { text($_) } @large);
    $sender->flush;
    for my $client ($here, $sender) {
        for my $n (0 .. 7) {
            ok($client->text eq $large[$n], "message $n");
        }
    }
    await('the zone to be empty', sub { stored() == 0 });
};

case 'nobody is there' => sub {
    my $response = publish($port, '/pub?id=alone', 'x');
    is($response->{status}, 202);
    like($response->{body}, qr/^queued messages: 0\r\n/);
    like(publish($port, '/pub?id=alone', 'x')->{body}, qr/last message id: \d+:2$/);
    is(stored(), 0);
    is(request($port, 'GET', '/poll?id=alone')->{status}, 304, 'nothing for who comes later');
};

case 'who comes back is told what is lost' => sub {
    my $first = publish($port, '/pub?id=back', 'x');
    my ($id) = $first->{body} =~ /last message id: (\d+:1)/;
    is(request($port, 'GET', '/poll?id=back', 'If-None-Match' => "\"$id\"")->{status}, 304, 'nothing');
    publish($port, '/pub?id=back', $_) for 2 .. 4;
    my $stream = events($port, '/sub?id=back', Accept => 'text/event-stream', 'Last-Event-ID' => $id);
    my ($gap) = await_events($stream, 1);
    is($gap->{event}, 'gap');
    is($gap->{data}, 3);
    publish($port, '/pub?id=back', 'five');
    my ($five) = await_events($stream, 1);
    is($five->{data}, 'five');
    like($five->{id}, qr/:5$/);
};

case 'the location that publishes decides' => sub {
    publish($port, '/kept?id=mixed', $_) for 1 .. 3;
    is(stored(), 3);
    like(request($port, 'GET', '/info?id=mixed')->{body}, qr/^queued messages: 3\r/);
    publish($port, '/pub?id=mixed', 4);
    is(stored(), 0, 'what was kept has gone');
    publish($port, '/kept?id=mixed', 5);
    is(request($port, 'GET', '/poll?id=mixed')->{body}, 5);
};

$ngx->stop;
done_testing();
