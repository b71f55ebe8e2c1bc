# A channel as an EventSource: events, positions, gaps, keepalives, the end.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Stream qw(subscribers);

my $ngx = Ws::Nginx->start(workers => 2, http => 'websocket_channel_zone 8m;', server => <<'SERVER');
    location = /sub    { websocket_channel $arg_id; }
    location = /oldest { websocket_channel $arg_id; websocket_channel_start oldest; }
    location = /last2  { websocket_channel $arg_id; websocket_channel_start -2; }
    location = /second { websocket_channel $arg_id; websocket_channel_start 2; }
    location = /many   { websocket_channel $arg_a $arg_b; websocket_channel_start oldest; }
    location = /pub    { websocket_channel $arg_id mode=pub; }
    location = /keep3  { websocket_channel $arg_id mode=pub; websocket_channel_history length=3; }
    location = /alive  { websocket_channel $arg_id; websocket_ping_interval 200ms; }
    location = /other  { websocket_channel $arg_id; websocket_channel_transports websocket longpoll; }
SERVER

my $port = $ngx->port;

case 'events' => sub {
    my @streams = map { events($port, '/sub?id=e') } 1 .. 6;
    is($streams[0]{status}, 200);
    is($streams[0]{headers}{'content-type'}[0], 'text/event-stream; charset=utf-8');
    is($streams[0]{headers}{'cache-control'}[0], 'no-cache');
    publish($port, '/pub?id=e', 'hello');
    publish($port, '/pub?id=e', "a\nb\r\nc", 'X-EventSource-Event' => 'named');
    publish($port, '/pub?id=e', '');
    for my $stream (@streams) {
        my @events = await_events($stream, 3);
        is_deeply([map { "$_->{event} $_->{data}" } @events], ['message hello', "named a\nb\nc", 'message ']);
        is_deeply([map { $_->{id} =~ /^\d+:(\d+)$/ } @events], [1, 2, 3]);
    }
};

case 'a publisher cannot say that messages are lost' => sub {
    my $stream = events($port, '/sub?id=forged');
    for my $name ('gap', ' gap ') {
        is(request($port, 'POST', '/pub?id=forged', body => '5', 'X-EventSource-Event' => $name)->{status}, 400);
    }
    publish($port, '/pub?id=forged', 'x', 'X-EventSource-Event' => 'gaps');
    is((await_events($stream, 1))[0]{event}, 'gaps');
};

case 'an event comes at once, not when there is more' => sub {
    my $stream = events($port, '/sub?id=prompt');
    for my $n (1 .. 20) {
        publish($port, '/pub?id=prompt', $n);
        is((await_events($stream, 1, 3))[0]{data}, $n) or last;
    }
};

case 'where a new one begins' => sub {
    publish($port, '/pub?id=begin', $_) for 1 .. 4;
    for my $row (['/oldest', 1 .. 4], ['/last2', 3, 4], ['/second', 2 .. 4]) {
        my ($path, @expected) = @$row;
        my $stream = events($port, "$path?id=begin");
        is_deeply([map { $_->{data} } await_events($stream, scalar @expected)], \@expected, $path);
    }
};

case 'coming back' => sub {
    my $stream = events($port, '/sub?id=back');
    $stream->{client}->wait_until(sub { $stream->parse; $stream->{id} }, 'the position');
    my $first = $stream->{id};
    like($first, qr/^\d+:0$/, 'a position before the first event');
    publish($port, '/pub?id=back', $_) for 1 .. 5;
    my @ids = map { $_->{id} } await_events($stream, 5);
    for my $row ([$first, 1 .. 5], [$ids[1], 3 .. 5], [$ids[4]]) {
        my ($id, @expected) = @$row;
        my $again = events($port, '/sub?id=back', 'Last-Event-ID' => $id);
        is_deeply([map { $_->{data} } await_events($again, scalar @expected)], \@expected, "after $id");
        my $argument = events($port, "/sub?id=back&last_event_id=$id");
        is_deeply([map { $_->{data} } await_events($argument, scalar @expected)], \@expected);
    }
    # A script may repeat the ETag that it got from a long-poll, with its quotes.
    my $tag = events($port, qq(/sub?id=back&last_event_id=%22$ids[2]%22));
    is_deeply([map { $_->{data} } await_events($tag, 2)], [4, 5]);
    # A browser repeats the address that it began with; the header is newer.
    my $both = events($port, "/sub?id=back&last_event_id=$ids[0]", 'Last-Event-ID' => $ids[3]);
    is((await_events($both, 1))[0]{data}, 5);
};

case 'a gap is told once' => sub {
    my $stream = events($port, '/sub?id=gap');
    publish($port, '/keep3?id=gap', 1);
    my ($event) = await_events($stream, 1);
    $stream->{client}->abandon;
    # What a worker with a subscriber has still to copy is kept longer.
    await('it to be gone', sub { subscribers($port, 'gap') == 0 });
    publish($port, '/keep3?id=gap', $_) for 2 .. 8;
    my $again = events($port, '/sub?id=gap', 'Last-Event-ID' => $event->{id});
    my @events = await_events($again, 4);
    is_deeply([map { "$_->{event} $_->{data}" } @events], ['gap 4', map { "message $_" } 6 .. 8]);
    my $told = events($port, '/sub?id=gap', 'Last-Event-ID' => $events[0]{id});
    is_deeply([map { "$_->{event} $_->{data}" } await_events($told, 3)], [map { "message $_" } 6 .. 8]);
};

case 'several channels: one order, one position' => sub {
    my $stream = events($port, '/many?a=s1&b=s2');
    publish($port, "/pub?id=s$_->[0]", $_->[1]) for [1, 'a'], [2, 'b'], [2, 'c'], [1, 'd'], [2, 'e'];
    my @events = await_events($stream, 5);
    is(join('', map { $_->{data} } @events), 'abcde');
    for my $n (0 .. 4) {
        my $again = events($port, '/many?a=s1&b=s2', 'Last-Event-ID' => $events[$n]{id});
        is(join('', map { $_->{data} } await_events($again, 4 - $n)), substr('abcde', $n + 1));
        is($again->{client}{end}, undef);
    }
};

case 'keepalive' => sub {
    my $stream = events($port, '/alive?id=alive');
    $stream->{client}->wait_until(sub { $stream->parse; $stream->{keepalives} >= 3 }, 'three comments', 5);
    publish($port, '/pub?id=alive', 'still here');
    is((await_events($stream, 1))[0]{data}, 'still here');
};

case 'deletion ends it' => sub {
    my $stream = events($port, '/sub?id=gone');
    publish($port, '/pub?id=gone', 'last words');
    is(request($port, 'DELETE', '/pub?id=gone')->{status}, 200);
    is((await_events($stream, 1))[0]{data}, 'last words');
    $stream->{client}->wait_until(sub { $stream->parse; $stream->{end} }, 'the end of the response');
    pass('the end');
};

case 'who goes is not counted' => sub {
    my @streams = map { events($port, '/sub?id=count') } 1 .. 5;
    my $count = sub {
        return request($port, 'GET', '/pub?id=count', Accept => 'text/json')->{body} =~ /"subscribers": (\d+)/ ? $1 : 0;
    };
    await('five subscribers', sub { $count->() == 5 });
    $_->{client}->abandon for @streams[0 .. 2];
    await('two subscribers', sub { $count->() == 2 });
    $streams[3]{client}->reset;
    await('one subscriber', sub { $count->() == 1 });
    publish($port, '/pub?id=count', 'x');
    is((await_events($streams[4], 1))[0]{data}, 'x');
};

case 'many events at once' => sub {
    my $stream = events($port, '/sub?id=burst');
    my $publisher = Ws::Client->open($port, '/pub?id=burst');
    $publisher->send(map { text("event $_ " . 'x' x 200) } 1 .. 2000);
    $publisher->flush;
    for my $n (1 .. 200) {
        my @events = await_events($stream, 10);
        is($events[9]{data} =~ /^event (\d+)/ ? $1 : '', $n * 10) or last;
    }
};

case 'large events' => sub {
    my $stream = events($port, '/sub?id=large');
    publish($port, '/pub?id=large', 'y' x 800_000);
    is(length((await_events($stream, 1))[0]{data}), 800_000);
};

case 'where it is not a transport' => sub {
    is(request($port, 'GET', '/other?id=x', Accept => 'text/event-stream')->{status}, 406);
};

case 'HEAD' => sub {
    my $response = request($port, 'HEAD', '/sub?id=head', Accept => 'text/event-stream');
    is($response->{status}, 200);
    is($response->{body}, '');
};

$ngx->stop;
done_testing();
