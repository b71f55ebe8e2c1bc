# Positions of epochs that a node does not have: of one that is over, what its client has does not come again; of one that the node has not heard
# of yet, nothing old comes.

use strict;
use warnings;

use lib 't/lib', 'tests/chaos/lib';
use Chaos::Relay;
use MIME::Base64 qw(encode_base64url);
use Test::More;
use Time::HiRes qw(time);
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Nginx;
use Ws::Redis;

my $redis = Ws::Redis->start;
my $port_of_relay = Ws::Nginx::free_port();
my $relay = Chaos::Relay->new($port_of_relay, $redis->port);

sub node {
    my ($url) = @_;

    return Ws::Nginx->start(
        workers => 2,
        http    => "websocket_channel_zone 4m; websocket_channel_history length=100; websocket_channel_redis $url; websocket_channel_redis_timeout 8s;",
        noise   => [qr/channels: /],
        server  => <<'SERVER');
    location = /sub { websocket_channel $arg_id; websocket_channel_start oldest; }
    location = /two { websocket_channel $arg_id other; websocket_channel_start oldest; }
    location = /pub { websocket_channel $arg_id mode=pub; }
    location = /status { websocket_status; }
SERVER
}

my @nodes = (node($redis->url), node("redis://127.0.0.1:$port_of_relay"));
my ($one, $two) = map { $_->port } @nodes;

# A client of ws+meta.nchan, after a position.
sub subscribe {
    my ($port, $path, $position) = @_;

    return Ws::Client->open($port, $path . (defined $position ? "&last_event_id=$position" : ''),
        timeout => 20, headers => ['Sec-WebSocket-Protocol' => 'ws+meta.nchan']);
}

# got(client, last): what comes until that message: "gap 0", or messages; and the id of the last one.
sub got {
    my ($client, $last) = @_;

    my @got;
    while (1) {
        my ($head, $payload) = split /\n\n/, $client->message->{payload}, 2;
        my ($id) = $head =~ /^id: (\S+)$/m;
        if ($head =~ /^gap: (\d+)$/m) {
            push @got, "gap $1";
            next;
        }
        push @got, $payload;
        return (join(' ', @got), $id) if $payload eq $last;
    }
}

Ws::Redis::connected(@nodes);
publish($_, '/pub?id=ready', 'x') for $one, $two;

case 'an engine that comes back with less' => sub {
    publish($one, '/pub?id=less', $_) for 1 .. 3;
    $redis->command('SAVE');
    publish($one, '/pub?id=less', $_) for 4 .. 6;
    my ($all, $after_six) = got(subscribe($one, '/sub?id=less'), 6);
    is($all, '1 2 3 4 5 6');
    my ($epoch) = split /:/, $after_six;
    my (undef, $other) = got(subscribe($one, '/sub?id=ready'), 'x');
    $redis->kill;
    $redis->launch;
    Ws::Redis::connected(@nodes);
    publish($two, '/pub?id=less', $_) for 7 .. 8;
    for my $port ($one, $two) {
        is((got(subscribe($port, '/sub?id=less', $after_six), 8))[0], 'gap 0 7 8', "nothing comes again at $port");
        is((got(subscribe($port, '/sub?id=less', "$epoch:2"), 8))[0], 'gap 0 3 7 8', 'what was left is there');
        # The other epoch is of a channel that is not there: that may have been either of them.
        is((got(subscribe($port, '/two?id=less', "$epoch:6,$other"), 8))[0], 'gap 0 gap 0 7 8', 'one of two channels');
        my $poll = request($port, 'GET', "/sub?id=less&last_event_id=$after_six", Accept => '*/*');
        is($poll->{body}, 7);
        is($poll->{headers}{'x-channel-gap'}[0], 0);
    }
};

case 'an engine that comes back from before an epoch' => sub {
    publish($one, '/pub?id=undone', $_) for 1 .. 6;
    $redis->command('SAVE');
    is(request($one, 'DELETE', '/pub?id=undone')->{status}, 200);
    publish($one, '/pub?id=undone', $_) for 7 .. 8;
    my @there = map { subscribe($_, '/sub?id=undone') } $one, $two;
    my ($all, $id) = got($there[0], 8);
    is($all, '7 8');
    is((got($there[1], 8))[0], '7 8');
    $redis->kill;
    $redis->launch;
    Ws::Redis::connected(@nodes);
    publish($one, '/pub?id=undone', 9);
    is((got($_, 9))[0], 'gap 0 9', 'who was there gets nothing of before') for @there;
    is((got(subscribe($_, '/sub?id=undone', $id), 9))[0], 'gap 0 9', 'nor who comes back') for $one, $two;
};

# The keys of a channel as they are now, and these keys as they were then, in one go.
sub keys_of {
    my ($id) = @_;

    my $name = encode_base64url($id);
    return map { ($_ => $redis->command('DUMP', $_)) } grep { /\Q$name\E/ } @{$redis->command('KEYS', '*')};
}

sub put_back {
    my (%dump) = @_;

    my @names = sort keys %dump;
    my $script = 'for nth, key in ipairs(KEYS) do redis.call("RESTORE", key, 0, ARGV[nth], "REPLACE") end return #KEYS';
    is($redis->command('EVAL', $script, scalar @names, @names, @dump{@names}), scalar @names, 'the keys are as they were');
    return;
}

case 'a master that comes back without having heard of the epoch between' => sub {
    my @there = map { subscribe($_, '/sub?id=deposed') } $one, $two;
    publish($one, '/pub?id=deposed', $_) for 1 .. 2;
    my %replica = keys_of('deposed');
    publish($one, '/pub?id=deposed', $_) for 3 .. 4;
    is((got($_, 4))[0], '1 2 3 4') for @there;
    my %master = keys_of('deposed');
    # The replica has two of them. What it knows of its master it sees to be of another one.
    put_back(%replica);
    $redis->command('HSET', (grep { /:h\z/ } keys %replica)[0], 'r', 'of another master');
    publish($one, '/pub?id=deposed', 5);
    my @between = map { my ($all, $id) = got($_, 5); is($all, 'gap 0 5', 'a replica is promoted'); $id } @there;
    put_back(%master);
    publish($two, '/pub?id=deposed', 6);
    is((got($_, 6))[0], 'gap 0 6', 'what was here of the epoch before does not come again') for @there;
    for my $nth (0, 1) {
        is((got(subscribe(($one, $two)[$nth], '/sub?id=deposed', $between[$nth]), 6))[0], 'gap 0 6', 'nor to who comes back');
    }
    is((got(subscribe($one, '/sub?id=deposed'), 6))[0], '1 2 3 4 6', 'who is new has all of it');
};

case 'a node that has not heard of the epoch' => sub {
    publish($one, '/pub?id=behind', $_) for 1 .. 3;
    my $listener = subscribe($two, '/sub?id=behind');
    is((got($listener, 3))[0], '1 2 3', 'the node has a copy');
    # Nothing comes to this node for a while.
    $relay->fault('oneway', 4);
    $redis->command('DEL', grep { /YmVoaW5k.*:h\z/ } @{$redis->command('KEYS', '*')});
    publish($one, '/pub?id=behind', 4);
    my ($all, $id) = got(subscribe($one, '/sub?id=behind'), 4);
    is($all, '1 2 3 4');
    # It either gets nothing that it has, or is told to try again.
    my $late = eval { subscribe($two, '/sub?id=behind', $id) };
    $late //= await('the node to hear of it', sub { eval { subscribe($two, '/sub?id=behind', $id) } }, 20);
    publish($one, '/pub?id=behind', 5);
    is((got($late, 5))[0], 5, 'what is new, and no gap');
    is((got($listener, 5))[0], 'gap 0 4 5', 'who was there is told');
};

case 'an engine that is away' => sub {
    publish($one, '/pub?id=away', $_) for 1 .. 2;
    my ($all, $id) = got(subscribe($one, '/sub?id=away'), 2);
    is($all, '1 2');
    my $listener = subscribe($one, '/sub?id=away');
    got($listener, 2);
    $redis->kill;
    await('it to be known', sub { request($one, 'POST', '/pub?id=away', body => 'x')->{status} == 503 }) for 1 .. 4;
    my ($epoch, $offset) = split /:/, $id;
    is((got(subscribe($one, '/sub?id=away', "$epoch:1"), 2))[0], 2, 'a position that is known is served');
    my $begun = time;
    my $response = Ws::Client->connect(port => $one)->handshake('/sub?id=away&last_event_id=' . ($epoch + 1) . ':1');
    is($response->{status}, 503, 'of another one nobody knows');
    ok($response->{headers}{'retry-after'});
    cmp_ok(time - $begun, '<', 5, 'at once');
};

$relay->kill;
$_->{noise} = [qr/channels: /] for @nodes;
kill 'TERM', $nodes[1]->master;
waitpid $nodes[1]->master, 0;
delete $nodes[1]{master};
$nodes[0]->stop;
done_testing();
