# Channels with subscribers on which nothing happens, at two nodes of one Redis: what they cost it, and what it still knows of them after a while.

use strict;
use warnings;

use lib 't/lib';
use JSON::PP ();
use Test::More;
use Time::HiRes qw(sleep time);
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Nginx;
use Ws::Redis;

my $CHANNELS = 300;

my $redis = Ws::Redis->start;
my $url = $redis->url;
my $json = JSON::PP->new->utf8->canonical;

sub node {
    return Ws::Nginx->start(
        workers => 2,
        http    => "websocket_channel_zone 16m; websocket_channel_redis $url;",
        noise   => [qr/channels: /],
        server  => <<"SERVER");
    # The clients say nothing all the while.
    websocket_ping_interval 0;
    websocket_channel_max_subscriptions $CHANNELS;
    websocket_channel_presence \$arg_user;
    location = /plain {
        websocket_channel plain;
        websocket_channel_names ~^plain mode=pubsub;
    }
    location = /grouped {
        websocket_channel grouped;
        websocket_channel_names ~^grouped mode=pubsub;
        websocket_channel_group quiet;
    }
    location = /plain/info   { websocket_channel \$arg_id mode=pub; }
    location = /grouped/info { websocket_channel \$arg_id mode=pub; websocket_channel_group quiet; }
    location = /group        { websocket_channel_group quiet; websocket_channel_group_info; }
    location = /status       { websocket_status; }
SERVER
}

my @nodes = (node(), node());
my ($one, $two) = map { $_->port } @nodes;
Ws::Redis::connected(@nodes);

# subscriber(port, kind, user): a client of all channels of a kind.
sub subscriber {
    my ($port, $kind, $user) = @_;

    my $client = Ws::Client->open($port, "/$kind?user=$user", timeout => 60, headers => ['Sec-WebSocket-Protocol' => 'channels.v1']);
    for my $channel (1 .. $CHANNELS) {
        $client->send(text($json->encode({ op => 'subscribe', channel => "$kind$channel", ref => $channel })));
        my $said = $client->text;
        is($json->decode($said)->{op}, 'subscribed', "$kind$channel") if $channel == 1 || $channel == $CHANNELS;
    }
    return $client;
}

# calls(command): how often Redis has executed it, by scripts too.
sub calls { my ($command) = @_; return ($redis->command('INFO', 'commandstats') =~ /cmdstat_$command:calls=(\d+)/)[0] // 0 }

sub present {
    my ($port, $path) = @_;

    my $response = request($port, 'GET', "$path&presence");
    return $response->{status} if $response->{status} != 200;
    return join ' ', map { $_->{id} } @{$json->decode($response->{body})->{present}};
}

for my $kind (qw(plain grouped)) {
    case "many channels, $kind" => sub {
        my @clients = (subscriber($one, $kind, 'anna'), subscriber($two, $kind, 'bob'));
        my @some = map { $kind . $_ } 1, $CHANNELS / 2, $CHANNELS;
        await("both are on $_", sub { present($one, "/$kind/info?id=$_") eq 'anna bob' }, 30) for @some;
        my $quiet_since = time;

        # All that is told of them has been told.
        sleep 3;
        my ($compared, $scripts) = (calls('hmget'), calls('evalsha'));
        await('each channel was compared twice by each node', sub { calls('hmget') >= $compared + 4 * $CHANNELS }, 60);
        $scripts = calls('evalsha') - $scripts;
        cmp_ok($scripts, '<=', 2 * $CHANNELS, 'at most a script for two of them, their announcements included');
        cmp_ok($scripts, '>=', 4 * $CHANNELS / 16 - 1, 'and one has not too many of them');

        # What a node announces is void after 24 seconds.
        sleep 1 while time < $quiet_since + 27;
        for my $id (@some) {
            is(present($_, "/$kind/info?id=$id"), 'anna bob', $id) for $one, $two;
        }
        my @lives = map { $redis->command('PTTL', $_) } @{$redis->command('KEYS', $kind eq 'plain' ? 'ws:{.*:h' : 'ws:{cXVpZXQ.*:h')};
        is(join(' ', scalar @lives, grep { $_ < 55_000 } @lives), $CHANNELS, 'all live for a while');
        for ($kind eq 'grouped' ? ($one, $two) : ()) {
            my $group = $json->decode(request($_, 'GET', '/group', Accept => 'text/json')->{body});
            is($group->{subscribers}, 2 * $CHANNELS, 'the group has them all');
            is($group->{channels}, $CHANNELS);
        }

        # It is no channel's first message, and no gap, that comes to a channel that was quiet.
        my $published = request($one, 'POST', "/$kind/info?id=$some[1]", body => 'news');
        is($published->{status}, 201);
        is($json->decode($_->text)->{data}, 'news') for @clients;
        $_->close for @clients;
        await('the channels are let go', sub { present($one, "/$kind/info?id=$some[1]") eq '' }, 60);
    };
}

kill 'TERM', $nodes[1]->master;
waitpid $nodes[1]->master, 0;
is($?, 0);
delete $nodes[1]{master};
$nodes[1]->log_is_clean;
$redis->kill;
$nodes[0]->stop;
done_testing();
