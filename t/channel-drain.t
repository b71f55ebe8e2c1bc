# HTTP subscribers of a worker that is leaving, and those that nothing comes for: each ends as a whole response, comes back to
# another worker, and misses nothing.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Time::HiRes qw(sleep time);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Stream;

my $SERVER = <<'EOT';
    websocket_close_timeout 500ms;
    location = /pub       { websocket_channel $arg_id mode=pub; }
    location = /drain     { websocket_channel $arg_id; websocket_drain 2s; }
    location = /chunked   { websocket_channel $arg_id; websocket_drain 500ms; websocket_channel_transports chunked; }
    location = /multipart { websocket_channel $arg_id; websocket_drain 500ms; websocket_channel_transports multipart; }
    location = /raw       { websocket_channel $arg_id; websocket_drain 500ms; websocket_channel_transports raw; }
    location = /stay      { websocket_channel $arg_id; }
    location = /blocked   { websocket_channel $arg_id; websocket_drain 500ms; websocket_send_buffer 1m; }
    location = /idle      { websocket_channel $arg_id; websocket_idle_timeout %%IDLE%%ms; websocket_ping_interval 100ms; }
    location = /idle-parts { websocket_channel $arg_id; websocket_idle_timeout %%IDLE%%ms; websocket_channel_transports multipart; }
EOT

# Seconds without a message after which a response ends: much longer than it takes to publish one.
my $IDLE = Ws::Nginx::instrumented() ? 8 : 2.4;
$SERVER =~ s/%%IDLE%%/$IDLE * 1000/ge;

sub start {
    # When each response ended, by the clock of its worker.
    return Ws::Nginx->start(server => $SERVER, @_,
        http => 'websocket_channel_zone 8m; log_format ends "$msec $uri"; access_log %%PREFIX%%/access.log ends;');
}

sub waiting {
    my ($port, $path, @headers) = @_;

    my $client = Ws::Client->connect(port => $port);
    $client->send(request_text('GET', $path, @headers));
    return $client;
}

# ended(stream): whether an EventSource has ended as a whole response.
sub ended {
    my ($stream, $timeout) = @_;

    return eval { $stream->{client}->wait_until(sub { $stream->parse; $stream->{end} }, 'the end', $timeout) } ? 1 : $@;
}

case 'EventSources: spread over the time; they come back by their ids' => sub {
    my $ngx = start();
    my $port = $ngx->port;
    my @streams = map { events($port, '/drain?id=e') } 1 .. 10;
    my $stay = events($port, '/stay?id=e');
    my ($old) = $ngx->workers;
    publish($port, '/pub?id=e', 1);
    await_events($_, 1) for @streams, $stay;
    my $since = time;
    $ngx->reload;
    publish($port, '/pub?id=e', 2);
    is_deeply([map { ended($_) } @streams], [(1) x 10], 'each is whole');
    my @ends = sort { $a <=> $b } await('all ends', sub {
        my @ends = $ngx->access_log =~ m{^(\S+) /drain$}mg;
        return @ends == 10 && \@ends;
    })->@*;
    cmp_ok($ends[-1] - $ends[0], '>', 0.8, 'some early, some late');
    cmp_ok($ends[-1] - $since, '<', $Ws::Nginx::TIMEOUT / 2, 'but in time');
    publish($port, '/pub?id=e', 3);
    for my $stream (@streams) {
        my @got = map { $_->{data} } @{$stream->{events}};
        my $again = events($port, '/drain?id=e', 'Last-Event-ID' => $stream->{id});
        push @got, map { $_->{data} } await_events($again, 2 - @got);
        is_deeply(\@got, [2, 3], 'nothing lost, nothing twice');
    }
    is_deeply([map { $_->{data} } await_events($stay, 2)], [2, 3], 'without websocket_drain it stays');
    ok(kill(0, $old), 'and its worker with it');
    $stay->{client}->abandon;
    await('the old worker to leave', sub { !kill 0, $old });
    $ngx->stop;
};

case 'long-polls: 408 with the position' => sub {
    my $ngx = start();
    my $port = $ngx->port;
    publish($port, '/pub?id=l', 'before');
    my @clients = map { waiting($port, '/drain?id=l', $_ ? ('Last-Event-ID' => '1:1') : ()) } 0, 0, 0;
    await('three subscribers', sub { subscribers($port, 'l') == 3 });
    my ($old) = $ngx->workers;
    $ngx->reload;
    my @responses = map { $_->response } @clients;
    publish($port, '/pub?id=l', 'later');
    for my $response (@responses) {
        is($response->{status}, 408);
        is($response->{body}, '');
        is($response->{headers}{connection}[0], 'close', 'the next request is for another worker');
        like($response->{headers}{etag}[0], qr/^"\d+:1"$/);
        is(request($port, 'GET', '/drain?id=l', 'If-None-Match' => $response->{headers}{etag}[0])->{body}, 'later');
    }
    await('the old worker to leave', sub { !kill 0, $old });
    $ngx->stop;
};

case 'the other streams' => sub {
    my $ngx = start();
    my $port = $ngx->port;
    my %streams = map { $_ => stream($port, $_, "/$_?id=s") } qw(chunked multipart raw);
    my ($old) = $ngx->workers;
    publish($port, '/pub?id=s', 'x');
    is_deeply($streams{$_}->data(1), ['x'], $_) for sort keys %streams;
    $ngx->reload;
    is($streams{$_}->ended, 'whole', $_) for sort keys %streams;
    is($streams{multipart}{text}, "--\r\n");
    await('the old worker to leave', sub { !kill 0, $old });
    $ngx->stop;
};

case 'who takes nothing is waited for, and not for long' => sub {
    my $ngx = start();
    my $port = $ngx->port;
    my @streams = map { events($port, '/blocked?id=b', -rcvbuf => 4096) } 1, 2;
    $_->{client}->reading(0) for @streams;
    publish($port, '/pub?id=b', 'x' x 900_000) for 1 .. 8;
    my ($old) = $ngx->workers;
    $ngx->reload;
    await('the old worker to leave', sub { !kill 0, $old });
    $ngx->await_log(qr/the client accepted nothing in time/);
    $ngx->stop;
};

case 'a worker that is stopped at once says good-bye' => sub {
    my $ngx = start();
    my $port = $ngx->port;
    my $stream = events($port, '/stay?id=t');
    my $parts = stream($port, 'multipart', '/multipart?id=t');
    my $poll = waiting($port, '/stay?id=t');
    await('three subscribers', sub { subscribers($port, 't') == 3 });
    $ngx->signal('TERM');
    is(ended($stream), 1, 'EventSource');
    is($parts->ended, 'whole', 'multipart');
    is($poll->response->{status}, 408);
    $ngx->stop('gone');
};

case 'nothing comes for the idle timeout' => sub {
    my $ngx = start();
    my $port = $ngx->port;
    my $since = time;
    my $stream = events($port, '/idle?id=i');
    my $parts = stream($port, 'multipart', '/idle-parts?id=i');
    my $poll = waiting($port, '/idle?id=other');
    for my $n (1 .. 3) {
        sleep $IDLE / 2;
        publish($port, '/pub?id=i', $n);
        is((await_events($stream, 1))[0]{data}, $n, 'a message puts it off');
        is_deeply($parts->data(1), [$n]);
    }
    cmp_ok(time - $since, '>', $IDLE);
    my $response = $poll->response;
    is($response->{status}, 408, 'a long-poll');
    $poll->send(request_text('GET', '/idle?id=other', 'If-None-Match' => $response->{headers}{etag}[0]));
    await('it to ask again', sub { subscribers($port, 'other') == 1 });
    publish($port, '/pub?id=other', 'x');
    is($poll->response->{body}, 'x', 'on the same connection');
    is(ended($stream), 1, 'an EventSource, its keepalives notwithstanding');
    cmp_ok($stream->{keepalives}, '>', 3);
    is($parts->ended, 'whole');
    await('nobody to be left', sub { subscribers($port, 'i') == 0 });
    $ngx->stop;
};

done_testing();
