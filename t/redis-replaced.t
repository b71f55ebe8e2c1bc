# An engine whose address leads to another server from one moment on, while connections to the one before go on: the worker that listens
# finds out, and all workers of the node follow.

use strict;
use warnings;

use lib 't/lib';
use IO::Select;
use IO::Socket::INET;
use POSIX ();
use Test::More;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Nginx;
use Ws::Redis;

my ($first, $second) = map { Ws::Redis->start } 1 .. 2;

# An address that leads to one of the two: new connections go where the file says, those that are there stay.
my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 64, ReuseAddr => 1) or die "listen: $!\n";
my $file = $first->{directory} . '/target';

sub lead_to {
    my ($redis) = @_;

    open my $out, '>', "$file.new" or die "$file: $!\n";
    print $out $redis->port;
    close $out or die "$file: $!\n";
    rename "$file.new", $file or die "$file: $!\n";
    return;
}
lead_to($first);

my $proxy = fork // die "fork: $!\n";
if (!$proxy) {
    my ($select, %other) = (IO::Select->new($listen));
    while (my @ready = $select->can_read) {
        for my $socket (@ready) {
            if ($socket == $listen) {
                my $client = $listen->accept or next;
                open my $in, '<', $file or POSIX::_exit(1);
                my $server = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => scalar <$in>);
                next if !$server;
                @other{$client, $server} = ($server, $client);
                $select->add($client, $server);
                next;
            }
            my $peer = $other{$socket} or next;
            if (sysread $socket, my $octets, 65_536) {
                while (length $octets) {
                    my $count = syswrite $peer, $octets or last;
                    substr $octets, 0, $count, '';
                }
                next;
            }
            delete @other{$socket, $peer};
            $select->remove($socket, $peer);
            close $_ for $socket, $peer;
        }
    }
    POSIX::_exit(0);
}

my $ngx = Ws::Nginx->start(
    workers => 3,
    # Each worker gets its share of connections that come one after the other.
    listen => 'reuseport',
    http   => 'websocket_channel_zone 4m; websocket_channel_redis_timeout 2s; websocket_channel_redis redis://127.0.0.1:' . $listen->sockport . ';',
    server => <<'SERVER',
    location = /pub { websocket_channel $arg_id mode=pub; }
    location = /sub { websocket_channel $arg_id; }
SERVER
);
my $port = $ngx->port;

sub published {
    my ($text) = @_;

    return eval { request($port, 'POST', '/pub?id=a', body => $text)->{status} } // 0;
}

my $row = 0;
await('the engine', sub { $row = published('x') =~ /^20[12]$/ ? $row + 1 : 0; return $row >= 12 });

case 'all workers follow' => sub {
    my $client = Ws::Client->open($port, '/sub?id=a', headers => ['Sec-WebSocket-Protocol' => 'ws+meta.nchan']);
    is(published('before'), 201);
    like($client->message->{payload}, qr/before\z/);
    lead_to($second);
    # Nobody notices yet, and everybody is still at the first one.
    is(published('still'), 201) for 1 .. 6;
    like($client->message->{payload}, qr/still\z/) for 1 .. 6;
    $first->command('CLIENT', 'KILL', 'TYPE', 'pubsub');
    # From some moment on nothing goes to the first one any more, whichever worker is asked.
    my $commands = sub { ($_[0]->command('INFO', 'commandstats') =~ /cmdstat_xadd:calls=(\d+)/)[0] // 0 };
    my $begin = $commands->($first);
    my ($seen, $same) = (-1, 0);
    await('the first one is left alone', sub {
        published('x');
        my $now = $commands->($first);
        $same = $now == $seen ? $same + 1 : 0;
        $seen = $now;
        return $same >= 30;
    }, 60);
    # Workers that found out each second would have left some thirty with it.
    cmp_ok($commands->($first) - $begin, '<', 20, 'all workers leave it at once');
    cmp_ok($commands->($second), '>=', 30, 'the second one has it all');
    is(published("after $_") =~ /^20[12]$/ ? 1 : 0, 1) for 1 .. 12;
    my @got;
    while (!@got || $got[-1] !~ /after 12\z/) {
        push @got, $client->message->{payload};
    }
    is(scalar(grep { /^gap: 0$/m } @got), 1, 'the subscriber is told of one gap');
    is_deeply([map { /(after \d+)\z/ ? $1 : () } @got], [map { "after $_" } 1 .. 12], 'and has what every worker publishes');
};

$_->kill for $first, $second;
kill 'KILL', $proxy;
waitpid $proxy, 0;
$ngx->stop;
done_testing();
