# A subscriber that does not read costs bounded memory and nothing else.

use strict;
use warnings;

use lib 't/lib';
use IO::Socket::UNIX;
use Test::More;
use Time::HiRes qw(time);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Process qw(status_field);

my $ngx = Ws::Nginx->start(http => 'websocket_channel_zone 8m;', server => <<'SERVER');
    websocket_close_timeout 500ms;
    websocket_send_buffer 64k;
    websocket_ping_interval 0;
    listen unix:%%PREFIX%%/socket;
    location = /sub  { websocket_channel $arg_id; }
    location = /skip { websocket_channel $arg_id; websocket_channel_lag skip; }
    location = /pub  { websocket_channel $arg_id mode=pub; websocket_channel_history length=20; }
    location = /deep { websocket_channel $arg_id mode=pub; websocket_channel_history length=100000; }
    location = /paced { websocket_channel $arg_id; websocket_channel_start oldest; websocket_send_timeout 500ms; limit_rate 2k; }
    location = /delete { websocket_channel $arg_id mode=pub; }
    location = /parts   { websocket_channel $arg_id; websocket_send_timeout 500ms; websocket_channel_transports multipart; }
    location = /raw     { websocket_channel $arg_id; websocket_send_timeout 500ms; websocket_channel_transports raw; }
    location = /patient { websocket_channel $arg_id; websocket_send_timeout 1s; }
    location = /impatient { websocket_channel $arg_id; websocket_send_timeout 500ms; websocket_channel_lag skip; }
SERVER

my $port = $ngx->port;
my ($worker) = $ngx->workers;

# flood(path, n, size): publishes; each is answered.
sub flood {
    my ($path, $count, $size) = @_;

    my $publisher = Ws::Client->open($port, $path);
    for my $n (1 .. $count) {
        $publisher->send(text("$n " . 'x' x $size));
        $publisher->text;
    }
    $publisher->close(1000);
}

case 'everybody else gets everything, and memory stays' => sub {
    my @deaf = map { Ws::Client->open($port, $_, rcvbuf => 4096)->reading(0) } ('/sub?id=a', '/skip?id=a') x 5;
    my @deaf_streams = map { events($port, '/sub?id=a', -rcvbuf => 4096) } 1 .. 5;
    $_->{client}->reading(0) for @deaf_streams;
    my $reader = Ws::Client->open($port, '/sub?id=a');
    my $stream = events($port, '/sub?id=a');
    my $before = status_field($worker, 'VmRSS');
    my $publisher = Ws::Client->open($port, '/pub?id=a');
    for my $n (1 .. 3000) {
        $publisher->send(text("$n " . 'x' x 10_000));
        $publisher->text;
        my @got = map { /^(\d+)/ ? $1 : '' } $reader->text, (await_events($stream, 1))[0]{data};
        is_deeply(\@got, [$n, $n]) or last if "@got" ne "$n $n";
    }
    pass('3000 messages were answered and delivered');
    grew_less($worker, $before, 12_000, 'the worker');
    $_->reset for @deaf;
    $_->{client}->reset for @deaf_streams;
    $publisher->close(1000);
};

case 'lag close: 1013; lag skip: goes on; EventSource: a gap' => sub {
    my $close = Ws::Client->open($port, '/sub?id=b', rcvbuf => 4096)->reading(0);
    my $skip = Ws::Client->open($port, '/skip?id=b', rcvbuf => 4096)->reading(0);
    my $stream = events($port, '/sub?id=b', -rcvbuf => 4096);
    $stream->{client}->reading(0);
    flood('/pub?id=b', 1500, 10_000);
    $_->reading(1) for $close, $skip, $stream->{client};
    like($close->server_close, qr/^close 1013 \d+ messages are lost/);
    my @got = map { $_->{payload} =~ /^(\d+)/ ? $1 : () } @{$close->{skipped}};
    is_deeply(\@got, [1 .. @got], 'what came before is whole and in order') if @got;
    my $last = 0;
    my $skipped = 0;
    while ($last < 1500) {
        my ($n) = $skip->text =~ /^(\d+)/;
        $skipped++ if $n != $last + 1;
        cmp_ok($n, '>', $last) or last;
        $last = $n;
    }
    is($skipped, 1, 'one gap');
    my ($next, $gaps) = (1, 0);
    while ($next <= 1500) {
        my ($event) = await_events($stream, 1);
        if ($event->{event} eq 'gap') {
            $gaps++;
            $next += $event->{data};
            next;
        }
        is($event->{data} =~ /^(\d+)/ ? $1 : '', $next) or last;
        $next++;
    }
    is($gaps, 1, 'one gap, with the number of lost messages');
};

case 'one that pauses and has its messages in the history loses nothing' => sub {
    my $client = Ws::Client->open($port, '/sub?id=c', rcvbuf => 4096)->reading(0);
    my $stream = events($port, '/sub?id=c', -rcvbuf => 4096);
    $stream->{client}->reading(0);
    flood('/deep?id=c', 400, 10_000);
    $_->reading(1) for $client, $stream->{client};
    for my $n (1 .. 400) {
        is($client->text =~ /^(\d+)/ ? $1 : '', $n) or last;
    }
    my @events = await_events($stream, 400);
    is(scalar(grep { $events[$_]{event} eq 'message' && $events[$_]{data} =~ /^${\ ($_ + 1)} / } 0 .. 399), 400);
};

case 'one that accepts nothing for the send timeout is dropped' => sub {
    my $client = Ws::Client->open($port, '/impatient?id=d', rcvbuf => 4096)->reading(0);
    my $stream = events($port, '/impatient?id=d', -rcvbuf => 4096);
    $stream->{client}->reading(0);
    flood('/pub?id=d', 1000, 10_000);
    ok(await('both to be gone', sub { request($port, 'GET', '/pub?id=d')->{body} =~ /active subscribers: 0/ }));
};

case 'one that a rate keeps waiting gets the end as well' => sub {
    publish($port, '/pub?id=e', "$_ " . 'x' x 1000) for 1 .. 8;
    my $stream = events($port, '/paced?id=e');
    # Everything is on its way: four seconds of it, each of which is longer than both timeouts.
    request($port, 'DELETE', '/delete?id=e');
    is(join(' ', map { $_->{data} =~ /^(\d+)/ } await_events($stream, 8)), join(' ', 1 .. 8));
    await_end($stream);
};

# The system has room for all of it, and the worker nothing left to send.
case 'streams that leave in the system what they were sent' => sub {
    for my $path ('/impatient', '/parts', '/raw') {
        my $stream = Ws::Client->connect(port => $port, rcvbuf => 4096);
        $stream->send(request_text('GET', "$path?id=left", $path eq '/raw' ? () : (Accept => 'text/event-stream, multipart/mixed')));
        $stream->wait_until(sub { $stream->{in} =~ /\r\n\r\n/ }, "the head of $path");
        $stream->reading(0);
        await('it', sub { request($port, 'GET', '/pub?id=left')->{body} =~ /active subscribers: 1/ });
        flood('/pub?id=left', 10, 5000);
        ok(await("$path to be gone", sub { request($port, 'GET', '/pub?id=left')->{body} =~ /active subscribers: 0/ }), $path);
        $stream->reset;
    }
};

# To a socket of the file system all is on its way that was not read. Nothing is looked at as long as there are no messages.
case 'one that gets a message now and then is given time for each' => sub {
    my $stream = IO::Socket::UNIX->new(Peer => $ngx->prefix . '/socket') or die "no connection: $@\n";
    $stream->syswrite(request_text('GET', '/raw?id=rare'));
    $stream->sysread(my $octets, 65536);
    like($octets, qr/^HTTP\/1\.1 200 /);
    for my $n (1 .. 3) {
        sleep 1;
        publish($port, '/pub?id=rare', "rare $n\n");
        select undef, undef, undef, 0.1;
        $stream->sysread($octets, 65536);
        like($octets, qr/rare $n\n/);
    }
    like(request($port, 'GET', '/pub?id=rare')->{body}, qr/active subscribers: 1/);
    $stream->close;
};

# The system can be written to again when it has much less: until then the worker sees nothing of what the client takes.
case 'one that reads slowly is not taken for one that does not' => sub {
    plan skip_all => 'publications take their time' if $ENV{TEST_WS_TEST_BACKEND};
    my $stream = Ws::Client->connect(port => $port, rcvbuf => 4096);
    $stream->send(request_text('GET', '/patient?id=slow', Accept => 'text/event-stream'));
    $stream->wait_until(sub { $stream->{in} =~ /\r\n\r\n/ }, 'the head');
    $stream->reading(0);
    await('it', sub { request($port, 'GET', '/pub?id=slow')->{body} =~ /active subscribers: 1/ });
    # It goes on reading while there is more and more for it, however long that takes.
    for (1 .. 60) {
        flood('/deep?id=slow', 10, 10_000);
        $stream->{socket}->sysread(my $octets, 8192);
    }
    for (1 .. 16) {
        select undef, undef, undef, 0.25;
        $stream->{socket}->sysread(my $octets, 8192);
    }
    like(request($port, 'GET', '/pub?id=slow')->{body}, qr/active subscribers: 1/, 'after four times the send timeout');
    $stream->reset;
};

$ngx->stop;
done_testing();
