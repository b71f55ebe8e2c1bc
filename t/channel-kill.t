# Workers killed with SIGKILL at any moment never break the zone: afterwards publishing and subscribing work, counts are right,
# and its use is what the stored messages need.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Time::HiRes qw(time sleep);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;

my $KILLS = instrumented() ? 20 : 200;
my $SECONDS = instrumented() ? 120 : 60;

my $ngx = Ws::Nginx->start(
    workers => 3,
    noise   => [qr/worker process \d+ exited on signal 9/, qr/shared memory zone "ws_exec_channels" was locked by/],
    http    => 'websocket_channel_zone 1m;',
    server  => <<'SERVER');
    client_max_body_size 4m;
    websocket_channel_presence $arg_id;
    websocket_channel_group_limits subscribers=100000;
    location = /group  { websocket_channel_group_info; }
    location = /sub    { websocket_channel $arg_id; }
    location = /oldest { websocket_channel $arg_id; websocket_channel_start oldest; }
    location = /pub    { websocket_channel $arg_id mode=pub; }
    location = /pubsub { websocket_channel $arg_id mode=pubsub; websocket_channel_history length=50; }
SERVER

my $port = $ngx->port;

# load(n): a process that publishes and subscribes until it is told to stop, whatever happens to its connections.
sub load {
    my ($seed) = @_;

    defined(my $pid = fork) or die "fork: $!\n";
    return $pid if $pid;
    my $go = 1;
    local $SIG{TERM} = sub { $go = 0 };
    my $round = 0;
    while ($go) {
        $round++;
        eval {
            my $channel = ($seed + $round) % 5;
            my @clients = map { Ws::Client->open($port, "/pubsub?id=k$channel", timeout => 3) } 1 .. 3;
            my $stream = events($port, "/oldest?id=k$channel", -timeout => 3);
            for my $n (1 .. 20) {
                $clients[$n % 3]->send(text("$seed $round $n " . 'x' x (($n * 997) % 9000)));
                $_->maybe_frame(0.01) for @clients;
            }
            request($port, 'DELETE', "/pub?id=k$channel") if $round % 7 == 0;
            $_->abandon for @clients, $stream->{client};
        };
    }
    POSIX::_exit(0);
}

case 'under load' => sub {
    my @load = map { load($_) } 1 .. 3;
    my $since = time;
    my $kills = 0;
    while ($kills < $KILLS && time - $since < $SECONDS) {
        my @workers = $ngx->workers;
        if (@workers) {
            kill 'KILL', $workers[rand @workers];
            $kills++;
        }
        sleep 0.02 + rand 0.1;
    }
    kill 'TERM', @load;
    waitpid $_, 0 for @load;
    diag("$kills kills in " . int(time - $since) . ' s');
    cmp_ok($kills, '>', instrumented() ? 5 : 50);
};

case 'afterwards' => sub {
    await('all workers', sub { $ngx->workers == 3 });
    for my $n (0 .. 4) {
        my $info = sub { request($port, 'GET', "/pub?id=k$n", Accept => 'text/json') };
        publish($port, "/pub?id=k$n", 'after');
        ok(await('nobody to be counted', sub { $info->()->{body} =~ /"subscribers": 0/ }), "channel $n");
        my @clients = map { Ws::Client->open($port, "/sub?id=k$n") } 1 .. 6;
        like($info->()->{body}, qr/"subscribers": 6/);
        for my $message (1 .. 20) {
            publish($port, "/pub?id=k$n", "message $message");
            is($_->text, "message $message") for @clients;
        }
        $_->close(1000) for @clients;
        my $history = Ws::Client->open($port, "/oldest?id=k$n");
        is($history->text, "message $_") for 11 .. 20;
    }
};

case 'the group knows what it has, and nobody is listed who is gone' => sub {
    for my $n (0 .. 4) {
        ok(await('nobody', sub {
            request($port, 'GET', "/pub?id=k$n&presence")->{body} eq '{"subscribers": 0, "present": []}';
        }), "channel $n");
    }
    my $group = request($port, 'GET', '/group')->{body};
    like($group, qr/^channels: \d+\r\nsubscribers: 0\r\n/);
    request($port, 'DELETE', '/group');
    like(request($port, 'GET', '/group')->{body}, qr/^channels: 0\r\nsubscribers: 0\r\nmessages: 0\r\n.*: 0 bytes\r\n/);
};

case 'no cell was lost' => sub {
    # What fits into a new zone of this size fits again.
    my $fits = sub {
        my ($server) = @_;

        my $most = 0;
        for my $size (map { $_ * 20_000 } 20 .. 52) {
            my $status = request($server, 'POST', '/pub?id=probe', body => 'x' x $size)->{status};
            $most = $size if $status =~ /^20/;
        }
        return $most;
    };
    my $here = $fits->($port);
    my $fresh = Ws::Nginx->start(http => 'websocket_channel_zone 1m;', server => 'client_max_body_size 4m;
        location = /pub { websocket_channel $arg_id mode=pub; }');
    my $there = $fits->($fresh->port);
    is($here, $there, "a message of $there octets");
    $fresh->signal('TERM');
    waitpid delete $fresh->{master}, 0;
};

$ngx->stop;
done_testing();
