# ?subscribers: who is on a channel one by one, as far as they have said who they are.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use JSON::PP;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;

my $ngx = Ws::Nginx->new(workers => 2, http => 'websocket_channel_zone 1m;', server => <<'EOT');
    websocket_channel_presence $arg_name;
    websocket_close_timeout 500ms;
    location = /sub    { websocket_channel $arg_id; }
    location = /skip   { websocket_channel $arg_id; websocket_channel_lag skip; }
    location = /all    { websocket_channel $arg_id; websocket_channel_transports chunked multipart raw; }
    location = /polls  { websocket_channel $arg_id; websocket_channel_transports poll; websocket_channel_start oldest; }
    location = /two    { websocket_channel $arg_id other; }
    location = /v1     { websocket_channel $arg_id; }
    location = /pub    { websocket_channel $arg_id mode=pub; websocket_console on; }
    location = /both   { websocket_channel $arg_id other mode=pub; }
    location = /pubsub { websocket_channel $arg_id mode=pubsub; websocket_channel_start oldest; }
    location = /info   { websocket_channel $arg_id mode=info; }
EOT
$ngx->start;
my $port = $ngx->port;

sub join_as { my ($id, $name, $path, %opt) = @_; return Ws::Client->open($port, ($path // '/sub') . "?id=$id&name=$name", %opt) }

# What the answer is, and the list without times and workers: "anna:websocket".
sub subscribers {
    my ($id, $path, $query) = @_;

    my $response = request($port, 'GET', ($path // '/info') . "?id=$id&subscribers" . ($query // ''));
    return $response->{status} if $response->{status} != 200;
    my $got = decode_json($response->{body});
    return join ' ', (map { "$_->{id}:$_->{transport}" } @{$got->{list}}), "of $got->{subscribers}" . ($got->{more} ? ' and more' : '');
}

case 'coming and going' => sub {
    # What has the channels of other machines as well may have this one: nobody on this machine has subscribed to it.
    is(subscribers('a'), $ENV{TEST_WS_TEST_BACKEND} ? 'of 0' : 404, 'no channel');
    my @clients = map { join_as('a', $_) } qw(anna bob), '';
    is(subscribers('a', $_), 'bob:websocket anna:websocket of 3', "the newest first, at $_") for '/info', '/pub';
    $clients[0]->close(1000);
    is(subscribers('a'), 'bob:websocket of 2');
    $_->close(1000) for @clients[1, 2];
    is(subscribers('a'), 'of 0');
};

case 'the answer' => sub {
    my $before = time;
    my $client = join_as('json', 'anna');
    for my $query ('subscribers', 'subscribers=1', 'subscribers&limit=1') {
        my $response = request($port, 'GET', "/info?id=json&$query", Accept => 'text/xml');
        is($response->{status}, 200);
        is($response->{headers}{'content-type'}[0], 'application/json');
        is($response->{headers}{'cache-control'}[0], 'no-store');
        my $got = decode_json($response->{body});
        my ($one) = @{$got->{list}};
        is_deeply([sort keys %$got], [qw(list more scope subscribers)]);
        is_deeply([sort keys %$one], [qw(behind channel id since transport worker)], 'no address');
        is("$got->{scope} $one->{channel} $one->{id} $one->{transport}", 'machine json anna websocket');
        ok($one->{since} >= $before - 1 && $one->{since} <= time + 1, 'the time');
        ok((grep { $_ == $one->{worker} } $ngx->workers), 'the worker');
    }
    is(request($port, 'HEAD', '/info?id=json&subscribers')->{body}, '');
    is(request($port, 'GET', '/info?id=json&subscribers', Origin => 'http://elsewhere.example')->{status}, 403);
    like(request($port, 'GET', '/pub?id=json&subscribers', Accept => 'text/html')->{body}, qr/^\{/, 'no page');
    like(request($port, 'GET', "/info?id=json&$_")->{body}, qr/^queued messages/, "$_ is something else") for 'subscribersx', 'x=subscribers';
    $client->close(1000);
};

case 'how far behind' => sub {
    my %behind = map { $_ => undef } qw(slow quick);
    my $look = sub {
        my $got = decode_json(request($port, 'GET', '/info?id=behind&subscribers')->{body});
        %behind = map { $_->{id} => $_->{behind} } @{$got->{list}};
    };
    my $slow = join_as('behind', 'slow', '/skip', rcvbuf => 4096);
    my $quick = join_as('behind', 'quick');
    $look->();
    is_deeply(\%behind, { slow => 0, quick => 0 }, 'nobody');
    my $message = 'x' x 60_000;
    my $sent = 0;
    # What fits into the buffers of the kernel is not known.
    while ($sent < 500 && !$behind{slow}) {
        for (1 .. 10) {
            is(request($port, 'POST', '/pub?id=behind', body => $message)->{status}, 201) or last;
            is(length $quick->text, 60_000) or last;
        }
        $sent += 10;
        $look->();
    }
    await('all that it has still to get', sub { my $before = $behind{slow}; $look->(); return $before && $behind{slow} == $before });
    cmp_ok($behind{slow}, '>', 0, "one that does not read, of $sent");
    cmp_ok($behind{slow}, '<', $sent, 'what was sent to it is not counted');
    is($behind{quick}, 0, 'one that reads');
    request($port, 'POST', '/pub?id=behind', body => 'the end');
    1 while $slow->text ne 'the end';
    await('it to have everything', sub { $look->(); return $behind{slow} == 0 });
    $_->abandon for $slow, $quick;
};

case 'every transport' => sub {
    my $stream = events($port, '/sub?id=t&name=stream');
    my $poll = Ws::Client->connect(port => $port);
    $poll->send(request_text('GET', '/sub?id=t&name=poll'));
    my $pubsub = join_as('t', 'pubsub', '/pubsub');
    my %stream = (chunked => [TE => 'chunked'], multipart => [Accept => 'multipart/mixed'], raw => []);
    my @streams = map {
        my $client = Ws::Client->connect(port => $port);
        $client->send(request_text('GET', "/all?id=t&name=$_", @{$stream{$_}}));
        $client;
    } sort keys %stream;
    my $v1 = join_as('t', 'v1', '/v1', headers => ['Sec-WebSocket-Protocol' => 'channels.v1']);
    $v1->send(text('{"op": "subscribe"}'));
    my %expected = (stream => 'eventsource', poll => 'longpoll', pubsub => 'websocket', v1 => 'websocket', map { $_ => $_ } keys %stream);
    my $all = join ' ', map { "$_:$expected{$_}" } sort keys %expected;
    my $got;
    eval { await('all of them', sub { $got = join ' ', grep { /:/ } sort split ' ', subscribers('t'); $got eq $all }) };
    is($got, $all);
    $_->abandon for @streams, $poll, $v1, $stream->{client};
    $pubsub->close(1000);
};

case 'a client that subscribes is told nothing' => sub {
    my $client = join_as('s', 'anna');
    publish($port, '/pub?id=s', 'a message');
    is(request($port, 'GET', '/polls?id=s&subscribers')->{body}, 'a message', 'at a location with mode=sub');
    my $stream = events($port, '/sub?id=s&subscribers');
    like($stream->{headers}{'content-type'}[0], qr{^text/event-stream});
    $stream->{client}->abandon;
    is(request($port, 'GET', '/pubsub?id=s&subscribers')->{body}, 'a message', 'nor with mode=pubsub');
    $client->close(1000);
};

case 'limits' => sub {
    my @clients = map { join_as('l', "client$_") } 1 .. 101;
    is(scalar(() = subscribers('l') =~ /client/g), 100, 'a hundred if nothing is said');
    like(subscribers('l'), qr/^client101:.* of 101 and more$/);
    unlike(subscribers('l', '/info', '&limit=101'), qr/more/);
    is(subscribers('l', '/info', '&limit=2'), 'client101:websocket client100:websocket of 101 and more');
    like(subscribers('l', '/info', '&limit=1000'), qr/of 101$/);
    is(subscribers('l', '/info', "&limit=$_"), 400, "limit=$_") for 0, 1001, '', 'x', -1;
    $_->close(1000) for @clients;
};

case 'several channels' => sub {
    my $client = join_as('one', 'anna', '/two');
    my $other = join_as('other', 'bob');
    is(subscribers('one'), 'anna:websocket of 1');
    is(subscribers('one', '/both'), 'anna:websocket bob:websocket anna:websocket of 3');
    is(subscribers('one', '/both', '&limit=2'), 'anna:websocket bob:websocket of 3 and more');
    is(subscribers('one', '/both', '&limit=1'), 'anna:websocket of 3 and more');
    $_->close(1000) for $client, $other;
};

case 'names that a client has chosen' => sub {
    my $client = join_as('n', '%22%3C"}]<b>');
    my $body = request($port, 'GET', '/info?id=n&subscribers')->{body};
    unlike($body, qr/[<>]/, 'nothing of HTML');
    is(decode_json($body)->{list}[0]{id}, '%22%3C"}]<b>');
    $client->close(1000);
};

case 'a reload' => sub {
    my $client = join_as('r', 'old');
    my ($old) = map { $_->{worker} } @{decode_json(request($port, 'GET', '/info?id=r&subscribers')->{body})->{list}};
    $ngx->reload;
    my $new = join_as('r', 'new');
    my $list = decode_json(request($port, 'GET', '/info?id=r&subscribers')->{body})->{list};
    is_deeply([map { $_->{id} } @$list], [qw(new old)]);
    is($list->[1]{worker}, $old, 'the worker that is leaving');
    isnt($list->[0]{worker}, $old);
    $_->close(1000) for $client, $new;
};

$ngx->stop;
done_testing();
