# What is said when nginx starts of limits that its connections and descriptors cannot reach; and that they can be reached where
# nothing is said.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;

# said(server, name => value ...): what "nginx -t" says of limits.
sub said {
    my ($server, %opt) = @_;

    my ($status, $text) = Ws::Nginx->new(server => $server, %opt)->check_config;
    is($status, 0, 'the configuration is taken') or diag($text);
    return join '', map { "$_\n" } grep { /cannot be reached/ } split /\n/, $text;
}

sub exec_max { return "location = /cat { websocket_exec /bin/cat; websocket_exec_max $_[0]; $_[1] }" }

case 'connections' => sub {
    like(said(exec_max(300, ''), connections => 768),
        qr{\[warn\].*"websocket_exec_max" of 300 in location "= /cat" cannot be reached: 1 worker process has room for 254, of 3 connections each, with "worker_connections 768"});
    is(said(exec_max(254, ''), connections => 768), '', 'as many as there is room for');
    is(said(exec_max(300, ''), connections => 768, workers => 2), '', 'more workers have room for more');
    is(said(exec_max(300, 'websocket_exec_stderr null;'), connections => 768), '', 'and so has one without standard error');
    like(said(exec_max(254, 'websocket_exec_notes on;'), connections => 768), qr/room for 190, of 4 connections/, 'notes take one more');
    is(said(exec_max(190, 'websocket_exec_notes on;'), connections => 768), '', 'as many as there is room for');
    is(said(exec_max(0, ''), connections => 64), '', 'no limit');
    unlike(said('location = /cat { websocket_exec /bin/cat; }', connections => 768), qr/\[warn\]/, 'the default is no warning');
    is(said('location = /tcp { websocket_tcp 127.0.0.1:1; }', connections => 64), '', 'nothing of services');
};

case 'programs that are started ahead' => sub {
    my $pools = sub {
        my $n = 0;
        return join ' ', map { 'location = /pool' . $n++ . " { websocket_exec /bin/cat; websocket_exec_max 0; websocket_exec_pool $_; }" } @_;
    };
    # An eighth of the connections is left to clients.
    like(said($pools->(26), connections => 64),
        qr{\[warn\].*"websocket_exec_pool" of 26 in location "= /pool0" cannot be reached: 1 worker process has room for 25, of 2 connections each, beside});
    is(said($pools->(25), connections => 64), '', 'as many as there is room for');
    like(said($pools->(13, 13), connections => 64), qr/\A[^\n]*"websocket_exec_pool" of 13 in location "= \/pool1" .* room for 12, [^\n]*\n\z/, 'two pools take from one room');
    is(said($pools->(13, 12), connections => 64, workers => 3), '');
    like(said($pools->(100, 150), connections => 4096, nofile => 500), qr/of 150 in .* room for \d+, of 3 descriptors each/);
};

case 'descriptors' => sub {
    like(said(exec_max(300, ''), connections => 4096, nofile => 1000),
        qr{\[warn\].*"websocket_exec_max" of 300 .* room for 245, of 4 descriptors each, with "worker_rlimit_nofile 1000"});
    is(said(exec_max(200, ''), connections => 4096, nofile => 1000), '');
    like(said(exec_max(200, '') . ' location = /news { websocket_channel news; }', connections => 900, nofile => 900),
        qr/room for 188, of 4 descriptors/, 'channels take some');
};

case 'subscribers' => sub {
    my $location = sub { "location = /news { websocket_channel news; $_[0] }" };
    like(said($location->('websocket_channel_max_subscribers 5000;')),
        qr{"websocket_channel_max_subscribers" of 5000 in location "= /news" cannot be reached: 1 worker process has room for \d+, of 1 });
    is(said($location->('websocket_channel_max_subscribers 500;')), '');
    like(said($location->('websocket_channel_group_limits subscribers=5000;')), qr/"websocket_channel_group_limits subscribers" of 5000/);
    is(said($location->('websocket_channel_group_limits subscribers=500;')), '');
};

case 'what is not warned of can be reached' => sub {
    my $room = 20;
    is(said(exec_max($room, ''), connections => 3 * $room + 6), '', 'nothing is said');
    isnt(said(exec_max($room + 1, ''), connections => 3 * $room + 6), '', 'of one more something is');
    my $ngx = Ws::Nginx->start(connections => 3 * $room + 6, server => exec_max($room, ''));
    # Connections of the test's looks at whether nginx is up may still be there.
    my @open;
    await('all of them', sub {
        push @open, eval { Ws::Client->open($ngx->port, '/cat') } // ();
        return @open == $room;
    });
    for my $client (@open) {
        $client->send(text('x'));
        is($client->text, 'x');
    }
    $_->close(1000) for @open;
    $ngx->stop;
};

done_testing();
