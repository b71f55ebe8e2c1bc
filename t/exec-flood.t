# Shared programs that write all the time, one message as small as can be after the other: they take turns with everybody else
# in the worker.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Time::HiRes qw(time);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;

my $PROGRAMS = 6;

my $ngx = Ws::Nginx->new(
    workers => 1,
    http    => 'websocket_channel_zone 4m; websocket_exec_stop 200ms 700ms;',
    server  => <<'EOT',
    location = /flood { websocket_exec /usr/bin/yes; websocket_channel flood-$arg_id; websocket_channel_lag skip; }
    location = /echo  { websocket_exec /bin/cat; }
    location = /plain { return 200 "here\n"; }
    location = /watch { websocket_channel beside; }
    location = /pub   { websocket_channel beside mode=pub; }
EOT
);
$ngx->start;
my $port = $ngx->port;

case 'clients of flooding programs and of other locations are served' => sub {
    my @floods = map { Ws::Client->open($port, "/flood?id=$_") } 1 .. $PROGRAMS;
    for my $client (@floods) {
        is($client->text, 'y', 'a frame') for 1 .. 20;
    }
    # Some read on, and some do not read at all.
    $_->reading(0) for @floods[0 .. $PROGRAMS / 2];
    my $echo = Ws::Client->open($port, '/echo');
    my $watch = Ws::Client->open($port, '/watch');
    my $worst = 0;
    for my $round (1 .. 5) {
        my $since = time;
        $echo->send(text("round $round"));
        is($echo->text, "round $round", 'an echo');
        is(request($port, 'GET', '/plain')->{status}, 200, 'an answer');
        is(request($port, 'POST', '/pub', body => "message $round")->{status}, 201, 'a publication');
        is($watch->text, "message $round", 'a message of another channel');
        is($floods[-1]->text, 'y', 'a frame');
        my $took = time - $since;
        $worst = $took if $took > $worst;
    }
    cmp_ok($worst, '<', instrumented() ? 60 : 5, sprintf 'within a moderate time: %.3f s', $worst);
    $_->abandon for @floods, $echo, $watch;
    $ngx->await_programs(0);
};

done_testing;
