# The subprotocol channels.v1 over two nodes and one Redis: subscriptions, publications and presence, positions at either node, and an engine
# that goes away and comes back.

use strict;
use warnings;

use lib 't/lib';
use JSON::PP ();
use Test::More;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Nginx;
use Ws::Redis;

my $redis = Ws::Redis->start;
my $url = $redis->url;
my $json = JSON::PP->new->utf8->canonical;

sub node {
    return Ws::Nginx->start(
        workers => 2,
        http    => "websocket_channel_zone 4m; websocket_channel_history length=100; websocket_channel_redis $url; websocket_channel_redis_timeout 2s;",
        noise   => [qr/channels: /],
        server  => <<'SERVER');
    location = /rooms {
        websocket_channel $arg_id;
        websocket_channel_names ~^rooms/ mode=pubsub;
        websocket_channel_presence $arg_user;
        websocket_channel_start oldest;
    }
    location = /pub { websocket_channel $arg_id mode=pub; }
    location = /status { websocket_status; }
SERVER
}

my @nodes = (node(), node());
my ($one, $two) = map { $_->port } @nodes;
Ws::Redis::connected(@nodes);

sub opened { my ($port, $query) = @_;
    return Ws::Client->open($port, "/rooms?$query", timeout => 20, headers => ['Sec-WebSocket-Protocol' => 'channels.v1']) }
sub hear { my ($client) = @_; return $json->decode($client->text) }

# ask(client, name => value ...): what is answered, by the same "ref"; what comes before it is left for messages().
my $ref = 0;
my %heard;
sub ask {
    my ($client, %command) = @_;

    $client->send(text($json->encode({ %command, ref => ++$ref })));
    while (1) {
        my $said = hear($client);
        return $said if ($said->{ref} // 0) == $ref;
        push @{$heard{$client}}, $said;
    }
}

# messages(client, last): the texts that come until that one, and the position after it; gaps as "gap N".
sub messages {
    my ($client, $last) = @_;

    my @texts;
    while (1) {
        my $said = shift @{$heard{$client}} // hear($client);
        push @texts, $said->{op} eq 'gap' ? "gap $said->{lost}" : $said->{data};
        return (join(' ', @texts), $said->{id}) if ($said->{data} // '') eq $last;
    }
}

case 'several channels, and publications of either node' => sub {
    my ($here, $there) = (opened($one, 'id=own&user=ann'), opened($two, 'id=own&user=bob'));
    is(ask($_, op => 'subscribe', channel => 'rooms/a')->{op}, 'subscribed') for $here, $there;
    is(ask($there, op => 'subscribe', channel => 'rooms/b')->{op}, 'subscribed');
    is(ask($there, op => 'subscribe')->{op}, 'subscribed', 'and the channel of the location');
    my $said = ask($here, op => 'publish', channel => 'rooms/a', data => 'a1');
    is_deeply([@$said{qw(op subscribers messages)}], ['published', 2, 1]);
    is((messages($_, 'a1'))[1], $said->{id}, 'the same id at both') for $here, $there;
    ask($here, op => 'publish', channel => 'rooms/b', data => 'b1');
    is((messages($there, 'b1'))[0], 'b1');
    publish($one, '/pub?id=own', 'own1');
    is((messages($there, 'own1'))[0], 'own1');
    is(ask($here, op => 'subscribe', channel => 'other')->{status}, 403);
    my $present = await('both', sub {
        my $answer = ask($here, op => 'presence', channel => 'rooms/a');
        return $answer->{subscribers} == 2 && @{$answer->{present}} == 2 && $answer->{present};
    });
    is(join(' ', sort map { $_->{id} } @$present), 'ann bob');
    is(ask($there, op => 'unsubscribe', channel => 'rooms/a')->{op}, 'unsubscribed');
    await('one to be left', sub { ask($here, op => 'publish', channel => 'rooms/a', data => 'a2')->{subscribers} == 1 });
    publish($two, '/pub?id=rooms/b', 'b2');
    is((messages($there, 'b2'))[0], 'b2', 'nothing of what was left');
    is(request($two, 'DELETE', '/pub?id=rooms/b')->{status}, 200);
    is_deeply(hear($there), { op => 'unsubscribed', channel => 'rooms/b', status => 410, reason => 'the channel was deleted' });
    $_->close(1000) for $here, $there;
};

case 'positions of one node at the other' => sub {
    publish($one, '/pub?id=rooms/p', $_) for 1 .. 4;
    my $client = opened($one, 'id=x');
    ask($client, op => 'subscribe', channel => 'rooms/p');
    my ($all, $id) = messages($client, 4);
    is($all, '1 2 3 4');
    $client->abandon;
    my ($epoch) = split /:/, $id;
    publish($two, '/pub?id=rooms/p', $_) for 5 .. 6;
    for my $port ($two, $one) {
        my $again = opened($port, 'id=x');
        is(ask($again, op => 'subscribe', channel => 'rooms/p', after => $id)->{id}, $id);
        is((messages($again, 6))[0], '5 6');
        ask($again, op => 'unsubscribe', channel => 'rooms/p');
        ask($again, op => 'subscribe', channel => 'rooms/p', after => "$epoch:2");
        is((messages($again, 6))[0], '3 4 5 6');
        $again->close(1000);
    }
};

case 'an engine that goes and comes back' => sub {
    my $client = opened($one, 'id=x');
    ask($client, op => 'subscribe', channel => 'rooms/e');
    ask($client, op => 'publish', channel => 'rooms/e', data => 'first');
    is((messages($client, 'first'))[0], 'first');
    $redis->command('SAVE');
    $redis->kill;
    is(await('it to be known', sub { my $said = ask($client, op => 'publish', channel => 'rooms/e', data => 'lost'); $said->{op} eq 'error' && $said })
        ->{status}, 503);
    is(ask($client, op => 'subscribe', channel => 'rooms/new')->{status}, 503, 'nobody knows what it has');
    is(ask($client, op => 'ping')->{op}, 'pong', 'the connection stays');
    $redis->launch;
    Ws::Redis::connected(@nodes);
    is(ask($client, op => 'subscribe', channel => 'rooms/new')->{op}, 'subscribed');
    ask($client, op => 'publish', channel => 'rooms/e', data => 'last');
    like((messages($client, 'last'))[0], qr/^(?:gap 0 )?last$/);
    is($client->close(1000), 'close 1000');
};

kill 'TERM', $nodes[1]->master;
waitpid $nodes[1]->master, 0;
is($?, 0);
delete $nodes[1]{master};
ok($nodes[1]->log_is_clean);
$redis->kill;
$nodes[0]->stop;
done_testing();
