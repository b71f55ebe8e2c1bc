# A full zone: what goes first, and that nothing but messages is lost.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;

my $ngx = Ws::Nginx->start(workers => 2, http => 'websocket_channel_zone 1m;', server => <<'SERVER');
    client_max_body_size 4m;
    websocket_close_timeout 500ms;
    location = /sub    { websocket_channel $arg_id; }
    location = /skip   { websocket_channel $arg_id; websocket_channel_lag skip; }
    location = /oldest { websocket_channel $arg_id; websocket_channel_start oldest; }
    location = /pub    { websocket_channel $arg_id mode=pub; websocket_channel_history length=0 time=0; }
    location = /brief  { websocket_channel $arg_id mode=pub; websocket_channel_history length=0 time=1s; }
SERVER

my $port = $ngx->port;

sub stored {
    my ($id) = @_;

    return request($port, 'GET', "/pub?id=$id", Accept => 'text/json')->{body} =~ /"messages": (\d+)/ ? $1 : 0;
}

case 'what was published keeps coming' => sub {
    my @clients = map { Ws::Client->open($port, '/sub?id=flow') } 1 .. 4;
    for my $n (1 .. 400) {
        is(publish($port, '/pub?id=flow', "$n " . 'x' x 20_000)->{status}, 201) or last;
        my @got = map { $_->text =~ /^(\d+)/ ? $1 : '' } @clients;
        is_deeply(\@got, [($n) x 4]) or last;
    }
    cmp_ok(stored('flow'), '<', 60, 'the oldest went');
    my $late = Ws::Client->open($port, '/oldest?id=flow');
    my ($first) = $late->text =~ /^(\d+)/;
    cmp_ok($first, '>', 300);
    for my $n ($first + 1 .. 400) {
        is($late->text =~ /^(\d+)/ ? $1 : '', $n) or last;
    }
};

case 'the publishing channel pays first' => sub {
    request($port, 'DELETE', '/pub?id=flow');
    publish($port, '/pub?id=quiet', "kept $_") for 1 .. 5;
    publish($port, '/pub?id=loud', 'y' x 30_000) for 1 .. 100;
    is(stored('quiet'), 5);
    cmp_ok(stored('loud'), '>', 5);
};

case 'expired messages before those that are not' => sub {
    publish($port, '/brief?id=short', 'z' x 1000) for 1 .. 10;
    await('they to expire', sub { stored('short') == 0 });
    publish($port, '/pub?id=loud', 'y' x 30_000) for 1 .. 20;
    is(stored('quiet'), 5);
};

case 'too large for the whole zone: 507, and everything else goes on' => sub {
    is(request($port, 'POST', '/pub?id=huge', body => 'x' x 2_000_000)->{status}, 507);
    my $client = Ws::Client->open($port, '/sub?id=after');
    publish($port, '/pub?id=after', 'fine');
    is($client->text, 'fine');
    my $publisher = Ws::Client->open($port, '/pub?id=huge');
    $publisher->send(text('x' x 1_000_000));
    like($publisher->server_close, qr/^close 1009/);
};

case 'many channels: the oldest of the zone make room' => sub {
    for my $n (1 .. 3000) {
        is(request($port, 'POST', "/pub?id=many$n", body => 'x' x 200)->{status}, 202) or last;
    }
    is(stored('many3000'), 1);
    is(stored('many1'), 0);
};

case 'subscribers that read slowly cannot fill it' => sub {
    my @deaf = map { Ws::Client->open($port, "/skip?id=deaf$_", rcvbuf => 4096)->reading(0) } 1 .. 8;
    for my $round (1 .. 30) {
        for my $n (1 .. 8) {
            is(publish($port, "/pub?id=deaf$n", 'x' x 50_000)->{status}, 201) or return;
        }
    }
    $_->reset for @deaf;
    ok(await('nobody to be left', sub {
        !grep { request($port, 'GET', "/pub?id=deaf$_")->{body} !~ /active subscribers: 0/ } 1 .. 8;
    }));
};

$ngx->stop;
done_testing();
