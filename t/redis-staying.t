# Who stays connected to workers that were told to go, where no other worker of their zone listens to the engine any more: the engine is
# another one, or none, or the zone is, or nginx quits. They get what others publish as long as they stay.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Client;
use Ws::Http;
use Ws::Nginx;
use Ws::Redis;

my $redis = Ws::Redis->start;
my $same = 'redis://localhost:' . $redis->port;

# A node; "zone" and "engine" say what is different.
sub http {
    my (%its) = @_;

    my $engine = $its{engine} // $redis->url;
    my $zone = $its{zone} // '4m';
    return "websocket_channel_zone $zone; websocket_channel_history length=1000; websocket_channel_redis_timeout 2s; websocket_channel_redis $engine;";
}

sub node {
    my $node = Ws::Nginx->start(workers => 2, http => http(), server => <<'SERVER');
    location = /pub    { websocket_channel $arg_id mode=pub; }
    location = /sub    { websocket_channel $arg_id; }
    location = /status { websocket_status; }
SERVER
    Ws::Redis::connected($node);
    return $node;
}

my $other = node();
my $number = 0;

# gone(node): it ends by itself, or was told to. The other one stays.
sub gone {
    my ($node) = @_;

    await('nginx to exit', sub { waitpid($node->master, 1) == $node->master });
    is($?, 0, 'nginx ends with status 0');
    delete $node->{master};
    $node->log_is_clean;
    return;
}

# get_all(name, client ...): what is published at the other node from now on.
sub get_all {
    my ($name, @clients) = @_;

    publish($other->port, '/pub?id=stays', ++$number) for 1 .. 5;
    for my $client (@clients) {
        is(join(' ', map { $client->text } $number - 4 .. $number), join(' ', $number - 4 .. $number), $name);
    }
    return;
}

# With several engines the clients of all of them stay.
my %changes = (
    'another engine'      => [{ engine => $same }, { engine => "unix:@{[$redis->socket]}" }, {}],
    'no engine'           => [{ engine => 'off' }, {}],
    'another zone'        => [{ zone => '5m' }, { zone => '6m' }],
    'the same, and again' => [{}, {}],
);
for my $name (sort keys %changes) {
    case $name => sub {
        my $node = node();
        my @clients = map { Ws::Client->open($node->port, '/sub?id=stays') } 1 .. 6;
        get_all('before', @clients);
        for my $change (@{$changes{$name}}) {
            $node->{http} = http(%$change);
            $node->write_config;
            $node->reload;
            get_all('stays', @clients);
            push @clients, Ws::Client->open($node->port, '/sub?id=stays') if ($change->{engine} // '') ne 'off';
            get_all('has come', @clients);
        }
        is($_->close(1000), 'close 1000') for @clients;
        $node->signal('TERM');
        gone($node);
    };
}

case 'nginx quits' => sub {
    my $node = node();
    my @clients = map { Ws::Client->open($node->port, '/sub?id=stays') } 1 .. 12;
    get_all('before', @clients);
    $node->signal('QUIT');
    get_all('still', @clients);
    # The worker that listens ends with its last client, and another one with clients goes on.
    while (@clients) {
        is((shift @clients)->close(1000), 'close 1000');
        get_all((scalar @clients) . ' are left', @clients);
    }
    gone($node);
};

$redis->kill;
$other->stop;
done_testing();
