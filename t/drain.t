# websocket_drain: sessions of a worker that is leaving are closed one after the other with 1012.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Time::HiRes qw(time);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;

# Time for the client's Close, on which the kind of end depends.
my $CLOSE = instrumented() ? '10s' : '500ms';

my $SERVER = "websocket_close_timeout $CLOSE;\n" . <<'EOT';
    websocket_exec_stop 100ms 300ms;
    location = /drain { websocket_exec /bin/cat; websocket_drain 2s; }
    location = /stay  { websocket_exec /bin/cat; }
    location = /zero  { websocket_exec /bin/cat; websocket_drain 0; }
    location = /long  { websocket_exec /bin/cat; websocket_drain 60s; }
    location = /events { websocket_channel x; websocket_channel_transports eventsource; websocket_drain 2s; }
    location = /flood { websocket_exec /usr/bin/yes; websocket_drain 1s; }
EOT

# closed(clients): when each got its Close and what it said, in seconds from now, in the order of arrival.
sub closed {
    my ($since, @clients) = @_;

    my @seen;
    while (@clients) {
        my @left;
        for my $client (@clients) {
            my $frame = $client->maybe_frame(0.01);
            if (!$frame) {
                push @left, $client;
                next;
            }
            push @seen, [time - $since, describe($frame)];
            $client->send(close_frame($frame->{code} // 1000));
            # A Close because of the time that is up is not waited upon.
            my $end = $client->end;
            is($end, 'eof') if $frame->{code} == 1012;
        }
        @clients = @left;
        die "deadline: " . @clients . " sessions were not closed\n" if time - $since > 30;
    }
    return @seen;
}

for my $signal (qw(HUP QUIT)) {
    case "$signal: 1012, spread over the time" => sub {
        my $ngx = Ws::Nginx->start(server => $SERVER);
        my @clients = map { Ws::Client->open($ngx->port, '/drain') } 1 .. 20;
        my $stay = Ws::Client->open($ngx->port, '/stay');
        my $zero = Ws::Client->open($ngx->port, '/zero');
        my ($old) = $ngx->workers;
        my $since = time;
        $ngx->signal($signal);
        my @seen = closed($since, @clients);
        is((grep { $_->[1] =~ /^close 1012/ } @seen), 20, 'all with 1012');
        my @times = map { $_->[0] } @seen;
        cmp_ok($times[0], '<', instrumented() ? 3 : 1.5, "the first early: $times[0]");
        cmp_ok($times[-1], '>', 1, "the last late: $times[-1]");
        cmp_ok($times[-1], '<', instrumented() ? 10 : 4, 'but in time');
        # Evenly: no quarter of a second has more than half of them.
        my $most = 0;
        for my $from (@times) {
            my $count = grep { $_ >= $from && $_ < $from + 0.25 } @times;
            $most = $count if $count > $most;
        }
        cmp_ok($most, '<=', instrumented() ? 19 : 10, "at most $most in a quarter of a second");
        for my $client ($stay, $zero) {
            $client->send(text('still here'));
            is($client->text, 'still here', 'the others stay');
            is($client->close(1000), 'close 1000');
        }
        await('the old worker to leave', sub { !kill 0, $old });
        $ngx->stop($signal eq 'QUIT' ? 'gone' : 'TERM');
    };
}

case 'more clients than are given their times in one turn, of which some leave meanwhile' => sub {
    my $ngx = Ws::Nginx->start(server => $SERVER, http => 'websocket_channel_zone 8m;');
    my @streams = map { events($ngx->port, '/events') } 1 .. 600;
    my ($old) = $ngx->workers;
    $ngx->signal('HUP');
    $_->{client}->abandon for splice @streams, 100, 50;
    await_end($_) for @streams;
    pass('all of them end');
    await('the old worker to go', sub { !kill 0, $old });
};

case 'a new session after the reload is not touched' => sub {
    my $ngx = Ws::Nginx->start(server => $SERVER);
    my $old = Ws::Client->open($ngx->port, '/drain');
    $ngx->reload;
    my $new = Ws::Client->open($ngx->port, '/drain');
    like($old->server_close, qr/^close 1012/);
    is($new->maybe_frame(0.3), undef);
    $new->send(text('here'));
    is($new->text, 'here');
    is($new->close(1000), 'close 1000');
    $ngx->stop;
};

case 'worker_shutdown_timeout comes first: 1001 in time, nothing is cut without a Close' => sub {
    my $ngx = Ws::Nginx->start(server => $SERVER, main => 'worker_shutdown_timeout 1s;');
    my @clients = map { Ws::Client->open($ngx->port, '/long') } 1 .. 10;
    my $since = time;
    $ngx->signal('HUP');
    my @seen = closed($since, @clients);
    is((grep { $_->[1] =~ /^close (?:1001|1012)/ } @seen), 10, 'all with a Close');
    cmp_ok((grep { $_->[1] =~ /^close 1001/ } @seen), '>=', 8, 'most with 1001');
    cmp_ok($seen[-1][0], '<', instrumented() ? 20 : 6);
    $ngx->stop;
};

# begun(ngx, path): a client whose request has not come whole.
sub begun {
    my ($ngx, $path, $text) = @_;

    my $client = Ws::Client->connect(port => $ngx->port);
    $client->{rest} = substr($text // upgrade($path), 20);
    $client->send(substr $text // upgrade($path), 0, 20)->flush;
    return $client;
}

for my $signal (qw(HUP QUIT)) {
    case "$signal: handshakes that end after it are drained as well" => sub {
        my $ngx = Ws::Nginx->start(server => $SERVER);
        my @clients = map { begun($ngx, '/drain') } 1 .. 8;
        my $stream = begun($ngx, '/events', "GET /events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n");
        # The programs of these two are being started.
        my ($spawner) = await('the spawner', sub { $ngx->spawners });
        kill 'STOP', $spawner;
        my @starting = map { my $client = Ws::Client->connect(port => $ngx->port); $client->send(upgrade('/drain')) } 1 .. 2;
        # nginx looks at one client after the other.
        Ws::Client->connect(port => $ngx->port)->handshake('/nowhere');
        my ($old) = $ngx->workers;
        my $since = time;
        $ngx->signal($signal);
        await('the worker to know', sub { $ngx->old_workers });
        kill 'CONT', $spawner;
        $_->send(delete $_->{rest}) for @clients, $stream;
        is($_->response->{status}, 101, 'it is let in') for @clients, @starting;
        my @seen = closed($since, @clients, @starting);
        is((grep { $_->[1] =~ /^close 1012/ } @seen), 10, 'all with 1012');
        cmp_ok($seen[-1][0], '<', instrumented() ? 20 : 5, 'in time');
        $stream->wait_until(sub { $stream->{end} || $stream->{in} =~ /\r\n0\r\n\r\n$/ }, 'the end of the stream');
        pass('a stream as well');
        await('the old worker to leave', sub { !kill 0, $old });
        $ngx->stop($signal eq 'QUIT' ? 'gone' : 'TERM');
    };
}

case 'blocked clients do not hold it up' => sub {
    my $ngx = Ws::Nginx->start(server => $SERVER);
    my @clients = map { Ws::Client->open($ngx->port, '/flood', rcvbuf => 8192)->reading(0) } 1 .. 3;
    my ($old) = $ngx->workers;
    my $since = time;
    $ngx->reload;
    await('the old worker to leave', sub { !kill 0, $old });
    cmp_ok(time - $since, '<', instrumented() ? 40 : 8);
    await('its programs to go', sub { !$ngx->programs });
    $ngx->stop;
};

done_testing();
