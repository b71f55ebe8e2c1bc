# What a channel keeps is decided by the location that publishes, at whichever node somebody subscribes, and whatever its location keeps itself.

use strict;
use warnings;

use lib 't/lib';
use JSON::PP qw(decode_json);
use MIME::Base64 qw(encode_base64);
use Test::More;
use Time::HiRes qw(sleep);
use Ws::Client;
use Ws::Http;
use Ws::Nginx;
use Ws::Redis;

my $redis = Ws::Redis->start;

sub node {
    my ($redis) = @_;

    return Ws::Nginx->start(
        workers => 2,
        http    => "websocket_channel_zone 4m; websocket_channel_redis $redis; websocket_channel_redis_timeout 2s;",
        server  => <<'SERVER');
    # Clients that are not looked at for long stay.
    websocket_ping_interval 0;
    location = /many   { websocket_channel $arg_id mode=pub; websocket_channel_history length=100 time=1h; }
    location = /few    { websocket_channel $arg_id mode=pub; websocket_channel_history length=3 time=0; }
    location = /brief  { websocket_channel $arg_id mode=pub; websocket_channel_history length=100 time=2s; }
    location = /off    { websocket_channel $arg_id mode=pub; websocket_channel_history off; }
    location = /sub    { websocket_channel $arg_id; websocket_channel_start oldest; }
    location = /poll   { websocket_channel $arg_id; websocket_channel_start oldest; websocket_channel_transports poll; }
    location = /info   { websocket_channel $arg_id mode=info; }
    location = /status { websocket_status; }
SERVER
}

my @nodes = (node($redis->url), node($redis->url));
my ($one, $two) = map { $_->port } @nodes;

# The same without an engine.
my $alone = node('off');

sub info {
    my ($port, $id) = @_;

    my $response = request($port, 'GET', "/info?id=$id", Accept => 'text/json');
    return $response->{status} == 200 ? decode_json($response->{body}) : undef;
}

# stored(port, id, position): what somebody gets who comes with a position, or with none.
sub stored {
    my ($port, $id, @position) = @_;

    my @got;
    my %headers = @position ? ('If-None-Match' => "\"$position[0]\"") : ();
    while (1) {
        my $response = request($port, 'GET', "/poll?id=$id", %headers);
        last if $response->{status} != 200;
        my ($gap) = @{$response->{headers}{'x-channel-gap'} // []};
        push @got, defined $gap ? "gap $gap" : (), $response->{body};
        %headers = ('If-None-Match' => $response->{headers}{etag}[0]);
    }
    return join ' ', @got;
}

sub epoch { my ($port, $id) = @_; return info($port, $id)->{last_message_id} =~ s/:.*//r }

Ws::Redis::connected(@nodes);

for my $pair ([$one, $two], [$two, $one], [$one, $one], [$alone->port, $alone->port]) {
    my ($from, $to) = @$pair;

    for my $has_copy (0, 1) {
        my $where = ($to == $alone->port ? 'without an engine' : $from == $to ? 'at one node' : "from $from to $to")
            . ($has_copy ? ', which has a copy' : '');
        my $id = join '-', @$pair, $has_copy;
        my @listener = $has_copy ? map { Ws::Client->open($to, "/sub?id=$_$id") } qw(many few brief off) : ();

        case "how many, $where" => sub {
            publish($from, "/many?id=many$id", $_) for 1 .. 50;
            if ($has_copy) {
                is($listener[0]->text, $_) for 1 .. 50;
            }
            await('all messages', sub { length stored($to, "many$id") >= 140 });
            is(stored($to, "many$id"), join(' ', 1 .. 50), 'more than the location of the subscriber keeps');
            is(stored($to, "many$id", epoch($to, "many$id") . ':20'), join(' ', 21 .. 50), 'behind a position');
            publish($from, "/few?id=many$id", $_) for 51, 52;
            if ($has_copy) {
                is($listener[0]->text, $_) for 51, 52;
            }
            await('the newest message', sub { stored($to, "many$id") =~ /52/ });
            is(stored($to, "many$id"), '50 51 52', 'who publishes next may keep less');
            is(stored($to, "many$id", epoch($to, "many$id") . ':20'), 'gap 29 50 51 52');
        };

        case "how long, $where" => sub {
            publish($from, "/brief?id=brief$id", $_) for 1 .. 5;
            publish($from, "/brief?id=later$id", $_) for 1 .. 5;
            if ($has_copy) {
                is($listener[2]->text, $_) for 1 .. 5;
            }
            await('all messages', sub { stored($to, "brief$id") eq '1 2 3 4 5' });
            await('messages to expire', sub { info($to, "brief$id")->{messages} == 0 }, 10);
            is(info($from, "brief$id")->{messages}, 0, 'nor at the other node');
            is(stored($to, "brief$id"), '', 'nothing is there any more');
            # An eighth longer: of some of them a publisher does not know it before.
            sleep 0.5;
            like(request($from, 'POST', "/brief?id=brief$id", body => 6)->{body}, qr/queued messages: 1\r/, 'the next one is alone');
            # A copy has it a moment after the publisher's answer.
            await('the next message', sub { stored($to, "brief$id") eq '6' });
            like(request($from, 'POST', "/many?id=later$id", body => 6)->{body}, qr/queued messages: 1\r/, 'one that is kept longer, too');
            await('the next message', sub { stored($to, "later$id") eq '6' });
        };

        case "nothing at all, $where" => sub {
            publish($from, "/off?id=off$id", $_) for 1 .. 20;
            if ($has_copy) {
                is($listener[3]->text, $_) for 1 .. 20;
            }
            is(stored($to, "off$id"), '', 'nobody gets it later');
        };
        $_->close for @listener;
    }
}

case 'what is kept for ever' => sub {
    my %known = map { $_ => 1 } @{$redis->command('KEYS', '*')};
    for my $path ('/brief', '/few', '/many', '/few') {
        publish($one, "$path?id=ever", $path);
        my @keys = grep { !$known{$_} } @{$redis->command('KEYS', '*')};
        is(@keys, 2, 'a stream and a hash');
        is($redis->command('PTTL', $_) < 0, $path eq '/few', "$path: $_") for @keys;
    }
};

case 'another worker listens' => sub {
    my $listener = Ws::Client->open($two, '/sub?id=goes-on');
    publish($one, '/many?id=goes-on', $_) for 1 .. 30;
    $nodes[1]->reload;
    publish($one, '/many?id=goes-on', $_) for 31 .. 40;
    is($listener->text, $_) for 1 .. 40;
    is(stored($two, 'goes-on'), join ' ', 1 .. 40);
    $listener->close;
};

case 'what the engine has of a channel that keeps nothing goes, and of one that keeps messages for ever stays' => sub {
    for my $one_of (['off', 60_000, 67_500], ['few', -1, -1]) {
        my ($location, $least, $most) = @$one_of;
        publish($one, "/$location?id=lives-$location", 'x');
        my $id = encode_base64("lives-$location", '') =~ tr{+/=}{-_}dr;
        my ($hash) = grep { /\Q.$id}:h\E\z/ } @{$redis->command('KEYS', '*')};
        my $left = $redis->command('PTTL', $hash);
        cmp_ok($left, '>=', $least - ($least > 0 ? 5_000 : 0), "$location: $left");
        cmp_ok($left, '<=', $most, "$location: $left");
    }
};

# No process may be left of any of them.
for my $one ($alone, $nodes[1]) {
    kill 'TERM', $one->master;
    waitpid $one->master, 0;
    is($?, 0);
    delete $one->{master};
    $one->log_is_clean;
}
$redis->kill;
$nodes[0]->stop;
done_testing();
