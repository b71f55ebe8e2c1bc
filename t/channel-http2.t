# Channels over HTTP/2: EventSource, long-poll, publishing; a WebSocket needs HTTP/1.1.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use IO::Select;
use Time::HiRes qw(time);
use Ws::Nginx;
use Ws::Http;

plan skip_all => 'this nginx has no HTTP/2' if !nginx_has('--with-http_v2_module');
my $curl = `curl --version 2>/dev/null` || '';
plan skip_all => 'curl with HTTP/2 is not installed' if $curl !~ /\bHTTP2\b/;

my $on = nginx_version() >= 1025001;
my $ngx = Ws::Nginx->start(
    workers    => 2,
    tls        => 1,
    tls_listen => $on ? 'ssl' : 'ssl http2',
    http       => 'websocket_channel_zone 8m;',
    server     => ($on ? "http2 on;\n" : '') . <<'SERVER');
    location = /sub    { websocket_channel $arg_id; websocket_ping_interval 300ms; }
    location = /oldest { websocket_channel $arg_id; websocket_channel_start oldest; }
    location = /pub    { websocket_channel $arg_id mode=pub; }
    location = /others { websocket_channel $arg_id; websocket_channel_transports chunked multipart raw; }
    location = /chunks { websocket_channel $arg_id; websocket_channel_transports chunked; }
    location = /poll   { websocket_channel $arg_id; websocket_channel_transports poll; websocket_channel_start oldest; }
    location = /run    { websocket_exec /bin/sh -c "sed s/^/got.and.no.more:/"; websocket_channel run-$arg_id; websocket_exec_request post;
        websocket_exec_linger 1h; websocket_channel_transports eventsource; }
    location = /idle   { websocket_channel $arg_id; websocket_idle_timeout 300ms; }
SERVER

my $port = $ngx->port;

# curl(path, arguments): a running curl: { pid, out, text }.
sub curl {
    my ($path, @arguments) = @_;

    my $pid = open my $out, '-|', 'sh', '-c', 'exec "$0" "$@" 2>&1', 'curl', '-s', '-k', '-i', '-N', '--max-time', $Ws::Nginx::TIMEOUT + 5, '--http2', @arguments,
        'https://127.0.0.1:' . $ngx->tls_port . $path or die "curl: $!\n";
    return { pid => $pid, out => $out, text => '' };
}

sub await_text {
    my ($run, $pattern) = @_;

    my $deadline = time + $Ws::Nginx::TIMEOUT;
    while ($run->{text} !~ $pattern) {
        die "deadline: $pattern did not come: $run->{text}\n" if time > $deadline;
        next if !IO::Select->new($run->{out})->can_read(0.1);
        sysread $run->{out}, $run->{text}, 65536, length $run->{text} or last;
    }
    return like($run->{text}, $pattern);
}

sub finish {
    my ($run) = @_;

    kill 'TERM', $run->{pid};
    close $run->{out};
}

case 'EventSource' => sub {
    my $run = curl('/sub?id=e', '-H', 'Accept: text/event-stream');
    await_text($run, qr{^HTTP/2 200.*content-type: text/event-stream}s);
    await_text($run, qr/\nid: \d+:0\n/);
    for my $n (1 .. 5) {
        publish($port, '/pub?id=e', "event $n");
        await_text($run, qr/id: \d+:$n\ndata: event $n\n\n/);
    }
    await_text($run, qr/\n:\n\n/);
    finish($run);
    ok(await('the subscriber to be gone', sub { request($port, 'GET', '/pub?id=e')->{body} =~ /active subscribers: 0/ }));
};

case 'large events' => sub {
    my $run = curl('/sub?id=large', '-H', 'Accept: text/event-stream');
    await_text($run, qr/\nid: \d+:0\n/);
    publish($port, '/pub?id=large', 'x' x 700_000);
    publish($port, '/pub?id=large', 'end');
    # There may be keepalives between them.
    await_text($run, qr/data: x+\n\n(?::\n\n)*id: \d+:2\ndata: end\n\n/);
    is($run->{text} =~ tr/x//, 700_000 + ($run->{text} =~ s/data: x.*//sr) =~ tr/x//);
    finish($run);
};

case 'deletion ends the stream' => sub {
    my $run = curl('/sub?id=gone', '-H', 'Accept: text/event-stream');
    await_text($run, qr/\nid: \d+:0\n/);
    is(request($port, 'DELETE', '/pub?id=gone')->{status}, 200);
    my $since = time;
    close $run->{out};
    is($? >> 8, 0, 'curl has seen the end');
    cmp_ok(time - $since, '<', $Ws::Nginx::TIMEOUT);
};

case 'long-poll' => sub {
    publish($port, '/pub?id=l', 'first');
    my $run = curl('/oldest?id=l');
    await_text($run, qr{^HTTP/2 200.*etag: "\d+:1".*\r\n\r\nfirst}s);
    my ($tag) = $run->{text} =~ /etag: (\S+)/;
    close $run->{out};
    $run = curl('/oldest?id=l', '-H', "If-None-Match: $tag");
    await('the subscriber', sub { request($port, 'GET', '/pub?id=l')->{body} =~ /active subscribers: 1/ });
    publish($port, '/pub?id=l', 'second');
    await_text($run, qr/\r\n\r\nsecond/);
    close $run->{out};
    is($? >> 8, 0);
};

case 'the other transports' => sub {
    my $parts = curl('/others?id=o', '-H', 'Accept: multipart/mixed');
    await_text($parts, qr{^HTTP/2 200.*content-type: multipart/mixed; boundary=[0-9a-f]{32}\r\n.*\r\n\r\n--[0-9a-f]{32}$}s);
    # curl shows the head when there is something behind it, except on its standard error.
    my $raw = curl('/others?id=o', '-v');
    await_text($raw, qr{^< HTTP/2 200.*^< content-type: text/plain.*^< etag: "\d+:0"}ms);
    for my $n (1 .. 5) {
        publish($port, '/pub?id=o', "message $n");
        await_text($parts, qr/\r\nEtag: "\d+:$n"\r\n\r\nmessage $n\r\n--[0-9a-f]{32}$/);
        await_text($raw, qr/\nmessage $n\n$/);
    }
    is(request($port, 'DELETE', '/pub?id=o')->{status}, 200);
    await_text($parts, qr/--\r\n$/);
    close $_->{out} and is($? >> 8, 0) for $parts, $raw;
    await_text(curl('/chunks?id=o'), qr{^HTTP/2 406});
    publish($port, '/pub?id=p1', 'first');
    my $poll = curl('/poll?id=p1');
    await_text($poll, qr{^HTTP/2 200.*\r\n\r\nfirst$}s);
    my ($tag) = $poll->{text} =~ /etag: (\S+)/;
    await_text(curl('/poll?id=p1', '-H', "If-None-Match: $tag"), qr{^HTTP/2 304.*etag: \Q$tag\E\r\n.*\r\n\r\n$}s);
};

case 'nothing comes for the idle timeout' => sub {
    my $stream = curl('/idle?id=i', '-H', 'Accept: text/event-stream');
    await_text($stream, qr/\nid: \d+:0\n\n$/);
    close $stream->{out};
    is($? >> 8, 0, 'the stream has ended');
    my $poll = curl('/idle?id=i');
    await_text($poll, qr{^HTTP/2 408.*etag: "\d+:0"}s);
    close $poll->{out};
    is($? >> 8, 0);
};

case 'publishing' => sub {
    my $run = curl('/pub?id=p', '-d', 'by HTTP/2');
    await_text($run, qr{^HTTP/2 202.*queued messages: 1}s);
    close $run->{out};
    is(request($port, 'GET', '/oldest?id=p')->{body}, 'by HTTP/2');
};

case 'a stream that is reset, again and again' => sub {
    for (1 .. 20) {
        my $run = curl('/sub?id=reset', '-H', 'Accept: text/event-stream');
        await_text($run, qr/\nid: /);
        publish($port, '/pub?id=reset', 'x' x 100_000);
        kill 'KILL', $run->{pid};
        close $run->{out};
    }
    ok(await('nobody to be left', sub { request($port, 'GET', '/pub?id=reset')->{body} =~ /active subscribers: 0/ }));
};

case 'a POST that starts a program' => sub {
    plan skip_all => 'a program is not shared where something else has the channels' if $ENV{TEST_WS_TEST_BACKEND};
    my $posted = curl('/run?id=1', '-H', 'Accept: text/event-stream', '--data-binary', 'question');
    await_text($posted, qr/^HTTP\/2 200.*data: got.and.no.more:question\n\n/s);
    finish($posted);
    my $again = curl('/run?id=1', '-H', 'Accept: text/event-stream');
    await_text($again, qr/^HTTP\/2 200.*id: (\d+:1)\ndata: got/s);
    my ($id) = $again->{text} =~ /id: (\d+:1)\n/;
    finish($again);
    my $all = curl('/run?id=1', '-H', 'Accept: text/event-stream', '-H', "Last-Event-ID: $id");
    await_text($all, qr/^HTTP\/2 204/);
    finish($all);
    my $other = curl('/run?id=1', '-H', 'Accept: text/event-stream', '--data-binary', 'question');
    await_text($other, qr/^HTTP\/2 409/);
    finish($other);
    my $large = curl('/run?id=2', '-H', 'Accept: text/event-stream', '--data-binary', 'z' x 50_000);
    await_text($large, qr/data: got.and.no.more:z{50000}\n\n/);
    finish($large);
};

$ngx->stop;
done_testing();
