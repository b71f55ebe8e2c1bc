# A program behind a channel that a POST starts, and whose run is kept: websocket_exec_request.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Time::HiRes qw(time);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Stream;

my %NGINX = (
    workers => 2,
    noise   => [qr/worker process \d+ exited on signal 9/, qr/shared memory zone "ws_exec_\w+" was locked by/],
    http    => 'websocket_channel_zone 4m; add_header X-Worker $pid always; websocket_exec_stop 200ms 700ms;'
        . 'websocket_channel_history length=1000; websocket_exec_request post;'
        . 'log_format run "$request_method $status $websocket_endpoint $websocket_channel_id $websocket_exec_status '
        . '$websocket_messages_in $websocket_messages_out"; access_log %%PREFIX%%/access.log run;',
);

my $SERVER = <<'EOT';
    location = /ask     { websocket_exec %%PREFIX%%/bin/ask; websocket_channel ask-$arg_id; websocket_exec_linger 1h;
        websocket_channel_transports websocket eventsource longpoll chunked multipart; }
    location = /raw     { websocket_exec %%PREFIX%%/bin/ask; websocket_channel raw-$arg_id; websocket_exec_linger 1h;
        websocket_channel_transports eventsource raw; }
    location = /poll    { websocket_exec %%PREFIX%%/bin/ask; websocket_channel poll-$arg_id; websocket_exec_linger 1h;
        websocket_channel_transports websocket eventsource poll; }
    location = /sockets { websocket_exec %%PREFIX%%/bin/ask; websocket_channel s-$arg_id; websocket_channel_transports websocket; }
    location = /short   { websocket_exec %%PREFIX%%/bin/ask; websocket_channel short-$arg_id; websocket_exec_linger %%SHORT%%; }
    location = /none    { websocket_exec %%PREFIX%%/bin/ask; websocket_channel none-$arg_id; }
    location = /gone    { websocket_exec %%PREFIX%%/bin/nothing; websocket_channel gone-$arg_id; websocket_exec_linger 1h; }
    location = /one     { websocket_exec %%PREFIX%%/bin/ask; websocket_channel one-$arg_id; websocket_exec_linger 1h;
        websocket_exec_max 1; }
    location = /small   { websocket_exec %%PREFIX%%/bin/ask; websocket_channel small-$arg_id; websocket_max_message_size 20; }
    location = /body    { websocket_exec %%PREFIX%%/bin/ask; websocket_channel body-$arg_id; client_max_body_size 10; }
    location = /whole   { websocket_exec %%PREFIX%%/bin/whole; websocket_channel whole-$arg_id; websocket_exec_format bytes;
        websocket_exec_linger 1h; websocket_channel_transports eventsource raw; }
    location = /history { websocket_exec %%PREFIX%%/bin/ask; websocket_channel history-$arg_id; websocket_exec_linger 1h;
        websocket_channel_history length=3; }
    location = /brief   { websocket_exec %%PREFIX%%/bin/ask; websocket_channel brief-$arg_id; websocket_exec_linger 1h;
        websocket_channel_history length=1000 time=1s; websocket_channel_lag skip;
        websocket_channel_transports eventsource longpoll chunked multipart; }
    location = /middle  { websocket_exec %%PREFIX%%/bin/ask; websocket_channel middle-$arg_id; websocket_exec_linger 1h;
        websocket_channel_history length=3; websocket_channel_lag skip; websocket_channel_transports websocket eventsource chunked; }
    location = /env     { websocket_exec /usr/bin/env; websocket_channel env;
        websocket_exec_env CONTENT=$content_type; websocket_channel_transports eventsource raw; }
    location = /asked   { websocket_exec %%PREFIX%%/bin/ask; websocket_channel asked; websocket_exec_linger 1h;
        websocket_channel_join_request /hook; }
    location = /hook    { internal; if ($arg_in = 1) { return 204; } return 403; }
    location = /origin  { websocket_exec %%PREFIX%%/bin/ask; websocket_channel origin; websocket_origin https://app.test; }
    location = /if      { websocket_exec %%PREFIX%%/bin/ask; websocket_channel if-$arg_id; websocket_exec_request off;
        if ($request_method = POST) { websocket_exec_request post; } }
    location = /anybody { websocket_exec %%PREFIX%%/bin/ask; websocket_channel ask-$arg_id; websocket_exec_request off; }
    location = /app     { proxy_pass http://127.0.0.1:%%PORT%%/grant?id=$arg_id; }
    location = /grant   { add_header X-Accel-Redirect /granted?id=$arg_id; return 200; }
    location = /granted { internal; websocket_exec %%PREFIX%%/bin/ask; websocket_channel ask-$arg_id; websocket_exec_linger 1h; }
    location = /mirror  { mirror /mirrored; proxy_pass http://127.0.0.1:%%PORT%%/nothing; }
    location = /mirrored { websocket_exec %%PREFIX%%/bin/ask; websocket_channel poll-mirror; websocket_exec_linger 1h; }
    location = /nothing { return 200 ok; }
    location = /watch   { websocket_channel $arg_id; websocket_channel_start oldest; }
    location = /pub     { websocket_channel $arg_id mode=pub; }
    location = /status  { websocket_status; }
EOT

# A client that comes back is to be there before that.
$SERVER =~ s/%%SHORT%%/instrumented() ? '5s' : '1s'/e;

my $ngx = Ws::Nginx->new(%NGINX, server => $SERVER);

# What a line of a client says is done, word for word.
$ngx->program('ask', <<'EOT');
#!/usr/bin/perl
$| = 1;
$SIG{TERM} = sub { exit 0 };
print "$$ begins\n";
while (my $line = <STDIN>) {
    for (split ' ', $line) {
        if (/^count=(\d+)/) { print "$_\n" for 1 .. $1 }
        elsif (/^exit=(\d+)/) { exit $1 }
        elsif (/^large=(\d+)/) { print 'x' x $1, "\n" }
        else { print "$_\n" }
    }
}
print "eof\n";
EOT
$ngx->program('whole', "#!/usr/bin/perl\nlocal \$/; my \$all = <STDIN>; print length(\$all), ':', \$all;\n");
$ngx->start;
my $port = $ngx->port;

sub idle { $ngx->await_programs(0) }

sub worker_of { return $_[0]{headers}{'x-worker'}[0] }

sub data { return join ' ', map { $_->{data} =~ s/^\d+ begins$/begins/r } @_ }

# posted(path, body, ...): the response to a POST that is not read as a stream.
sub posted {
    my ($path, $body, @headers) = @_;

    return request($port, 'POST', $path, @headers, body => $body);
}

# at(server, worker, code): what the code returns once its answer comes from this worker, or from another one if the worker is not.
sub at {
    my ($server, $worker, $path, @headers) = @_;

    my $not = $worker =~ s/^not //;
    return await("an answer of worker $worker", sub {
        my $stream = events($server->port, $path, @headers);
        return $stream if (worker_of($stream) == $worker) != $not;
        $stream->{client}->abandon;
        return;
    });
}

case 'a POST starts it with its body, and is answered with what it says' => sub {
    my $stream = posted_events($port, '/ask?id=1', 'one two');
    is($stream->{status}, 200);
    like($stream->{headers}{'content-type'}[0], qr{^text/event-stream});
    is(data(await_events($stream, 3)), 'begins one two');
    $ngx->await_programs(1);
    is(posted('/ask?id=1', 'three')->{status}, 409, 'it has a run');
    my $socket = Ws::Client->open($port, '/ask?id=1');
    like($socket->text, qr/begins/, 'a WebSocket begins with the run');
    is($socket->text, 'one');
    is($socket->text, 'two');
    $socket->send(text('more exit=0'));
    is($socket->text, 'more', 'and talks to the program');
    is($socket->server_close, 'close 1000');
    is(data(await_end($stream)), 'more', 'the stream ends with the program');
    idle();
    $ngx->await_access_log(qr/^POST 200 exec ask-1 0 1 4$/m);
};

case 'an EventSource comes back' => sub {
    my $stream = posted_events($port, '/ask?id=2', 'count=5');
    my @events = await_events($stream, 3);
    my $id = $events[1]{id};
    $stream->{client}->abandon;
    for my $worker ('', 'not ') {
        my $back = at($ngx, $worker . worker_of($stream), '/ask?id=2', 'Last-Event-ID' => $id);
        is(data(await_events($back, 4)), '2 3 4 5', 'after its position');
        $back->{client}->abandon;
        my $anew = at($ngx, $worker . worker_of($stream), '/ask?id=2');
        is(data(await_events($anew, 6)), 'begins 1 2 3 4 5', 'without one from the beginning of the run');
        $anew->{client}->abandon;
    }
    my $socket = Ws::Client->open($port, '/ask?id=2');
    $socket->send(text('count=1 exit=3'));
    is($socket->server_close, 'close 1011 exit 3');
    idle();
    my $rest = events($port, '/ask?id=2', 'Last-Event-ID' => $id);
    is($rest->{status}, 200);
    my @rest = await_end($rest);
    is(data(@rest), '2 3 4 5 1', 'also when it has ended');
    for (1 .. 4) {
        my $all = events($port, '/ask?id=2', 'Last-Event-ID' => $rest[-1]{id});
        is($all->{status}, 204, 'who has everything is told to stay away');
        $all->{client}->abandon;
    }
    is(posted('/ask?id=2', 'x', Accept => 'text/event-stream')->{status}, 409, 'it is kept');
    my $late = Ws::Client->open($port, '/ask?id=2');
    is($late->server_close, 'close 1011 exit 3', 'a WebSocket gets what is left, and how it ended');
    is(scalar(grep { $_->{opcode} == 1 } @{$late->{skipped}}), 7);
    is(scalar($ngx->programs), 0, 'nothing was started');
};

case 'nobody else starts it' => sub {
    is(events($port, '/ask?id=3')->{status}, 404, 'EventSource');
    is(events($port, '/ask?id=3', 'Last-Event-ID' => '1:1')->{status}, 404, 'one with a position');
    is(request($port, 'GET', '/ask?id=3')->{status}, 404, 'long-poll');
    is(request($port, 'HEAD', '/ask?id=3')->{status}, 404, 'HEAD');
    is(Ws::Client->connect(port => $port)->handshake('/ask?id=3')->{status}, 404, 'WebSocket');
    is(request($port, 'GET', '/pub?id=ask-3')->{status}, 404, 'and there is no channel of it');
    is(scalar($ngx->programs), 0);
    is(request($port, 'PUT', '/ask?id=3', body => 'x')->{status}, 405);
    my $options = request($port, 'OPTIONS', '/ask?id=3');
    is($options->{headers}{allow}[0], 'GET, HEAD, POST, OPTIONS');
};

case 'other transports' => sub {
    my $chunked = posted('/ask?id=4', 'count=2 exit=0', TE => 'chunked');
    is($chunked->{status}, 200);
    like($chunked->{body}, qr/^\d+ begins12$/, 'chunked');
    my $parts = posted('/ask?id=5', 'count=1 exit=0', Accept => 'multipart/mixed');
    like($parts->{body}, qr/\r\n1\r\n--\S+--\r\n$/, 'multipart, with its end');
    my $raw = posted('/raw?id=6', 'count=2 exit=0');
    like($raw->{body}, qr/^\d+ begins\n1\n2\n$/, 'raw');
    like(request($port, 'GET', '/raw?id=6')->{body}, qr/^\d+ begins\n1\n2\n$/, 'and again');
    my $one = posted('/ask?id=7', 'count=2');
    is($one->{status}, 200);
    like($one->{body}, qr/^\d+ begins$/, 'a long-poll gets the first message');
    my $next = request($port, 'GET', '/ask?id=7', 'If-None-Match' => $one->{headers}{etag}[0]);
    is($next->{body}, '1', 'and goes on');
    my $socket = Ws::Client->open($port, '/ask?id=7');
    $socket->send(text('exit=0'));
    $socket->server_close;
    $next = request($port, 'GET', '/ask?id=7', 'If-None-Match' => $next->{headers}{etag}[0]);
    is($next->{body}, '2');
    is(request($port, 'GET', '/ask?id=7', 'If-None-Match' => $next->{headers}{etag}[0])->{status}, 204, 'to the end');
    my $poll = posted('/poll?id=8', 'count=1');
    like($poll->{status}, qr/^20[02]$/, 'a poll does not wait');
    is(posted('/sockets?id=9', 'x')->{status}, 406, 'a POST cannot become a WebSocket');
    is(posted('/raw?id=10', 'x', Accept => 'multipart/mixed')->{status}, 406);
    is(events($port, '/raw?id=10')->{status}, 404, 'and has started nothing');
    request($port, 'DELETE', "/pub?id=$_") for 'poll-8';
    idle();
};

case 'standard input ends with the body where nobody can send more' => sub {
    my $answer = posted('/whole?id=1', "a\nb\0");
    is($answer->{body}, "4:a\nb\0\n");
    is(posted('/whole?id=2', '')->{body}, "0:\n", 'an empty body');
    my $large = posted('/whole?id=3', 'y' x 300_000)->{body};
    is($large =~ tr/y//, 300_000, 'a large one');
    is(posted('/whole?id=4', 'y' x 900_000)->{status}, 507, 'larger than the zone has room for');
    is(events($port, '/whole?id=4')->{status}, 404, 'which starts nothing');
    idle();
};

case 'bodies' => sub {
    is(data(await_end(posted_events($port, '/env', 'hello', 'Content-Type' => 'text/x'))) =~ /CONTENT=text\/x/, 1, 'variables of the POST');
    is(posted('/small?id=1', 'z' x 21)->{status}, 413, 'websocket_max_message_size');
    my $fits = posted_events($port, '/small?id=1', 'z' x 20);
    is(data(await_events($fits, 2)), 'begins ' . 'z' x 20, 'one octet less');
    $fits->{client}->abandon;
    is(posted('/body?id=1', '12345678901')->{status}, 413, 'client_max_body_size');
    is(posted('/ask?id=11', "\xff", Accept => 'text/event-stream')->{status}, 415, 'binary for lines');
    is(posted('/ask?id=11', 'x', 'Content-Type' => 'application/octet-stream')->{status}, 415);
    is(events($port, '/ask?id=11')->{status}, 404, 'nothing was started');
    my $empty = posted_events($port, '/ask?id=11', '');
    is(data(await_events($empty, 1)), 'begins', 'an empty line');
    my $slow = Ws::Client->connect(port => $port);
    $slow->send(request_text('POST', '/ask?id=12', Accept => 'text/event-stream', 'Transfer-Encoding' => 'chunked'));
    is(events($port, '/ask?id=12')->{status}, 404, 'not before the body is there');
    $slow->send("7\r\none two\r\n6\r\n exit=\r\n1\r\n0\r\n0\r\n\r\n");
    $slow->wait_until(sub { $slow->{in} =~ /data: two\n\n/ }, 'what a body in chunks asks for');
    $_->abandon for $slow, $empty->{client};
    request($port, 'DELETE', "/pub?id=ask-11");
    idle();
};

case 'it is kept for as long as was said' => sub {
    my $stream = posted_events($port, '/short?id=1', 'one');
    await_events($stream, 2);
    $stream->{client}->abandon;
    my $back = events($port, '/short?id=1');
    is($back->{status}, 200, 'without clients for a moment');
    is(data(await_events($back, 2)), 'begins one');
    $back->{client}->abandon;
    my $since = time;
    idle();
    cmp_ok(time - $since, '>', 0.8, 'without clients it is stopped in time');
    is(events($port, '/short?id=1')->{status}, 404, 'nothing is kept of a run that was given up');
    $since = time;
    my $next = posted_events($port, '/short?id=1', 'two exit=0');
    is(data(await_end($next)), 'begins two', 'the next one has its own output only');
    my $kept = events($port, '/short?id=1');
    is(data(await_end($kept)), 'begins two', 'the next run alone, though the history has more') if $kept->{status} == 200;
    await('the end of what is kept', sub { events($port, '/short?id=1')->{status} == 404 });
    cmp_ok(time - $since, '>', 0.9, 'for some time after its end');
    my $third = posted_events($port, '/short?id=1', 'three exit=0');
    is($third->{status}, 200, 'then a POST begins another one');
    is(data(await_end($third)), 'begins three');
};

case 'without websocket_exec_linger' => sub {
    my $stream = posted_events($port, '/none?id=1', 'one');
    await_events($stream, 2);
    my $other = events($port, '/none?id=1');
    is(data(await_events($other, 2)), 'begins one', 'it can be joined');
    $_->{client}->abandon for $stream, $other;
    idle();
    is(events($port, '/none?id=1')->{status}, 404);
    is(data(await_end(posted_events($port, '/none?id=1', 'exit=0'))), 'begins');
    is(data(await_end(posted_events($port, '/none?id=1', 'exit=0'))), 'begins', 'nothing is kept');
};

case 'two at the same time' => sub {
    for my $round (1 .. (instrumented() ? 3 : 10)) {
        my @clients = map { Ws::Client->connect(port => $port) } 1 .. 8;
        $_->send(request_text('POST', "/ask?id=race$round", Accept => 'text/event-stream', body => 'x')) for @clients;
        my %statuses;
        for my $client (@clients) {
            $client->wait_until(sub { $client->{in} =~ /\r\n\r\n/ }, 'a head');
            $statuses{$1}++ if $client->{in} =~ m{^HTTP/1\.1 (\d+)};
        }
        is_deeply(\%statuses, { 200 => 1, 409 => 7 }, 'one wins');
        $ngx->await_programs(1);
        $_->abandon for @clients;
        request($port, 'DELETE', "/pub?id=ask-race$round");
        idle();
    }
};

case 'it cannot be started' => sub {
    # Valgrind gives a child no memory in common with its parent, which does not hear that it failed.
    for (1 .. (under_valgrind() ? 0 : 3)) {
        is(posted('/gone?id=1', 'x')->{status}, 500, 'as with a WebSocket');
        is(events($port, '/gone?id=1')->{status}, 404, 'and no run is kept');
    }
    my $one = posted_events($port, '/one?id=1', 'x');
    await_events($one, 2);
    my $busy = posted('/one?id=2', 'x');
    is($busy->{status}, 503, 'websocket_exec_max');
    ok($busy->{headers}{'retry-after'});
    is(events($port, '/one?id=2')->{status}, 404);
    request($port, 'DELETE', '/pub?id=one-1');
    is(data(await_end($one)), '', 'a channel that is deleted takes its program along');
    idle();
    is(events($port, '/one?id=1')->{status}, 404);
    my $two = posted_events($port, '/one?id=2', 'exit=0');
    is(data(await_end($two)), 'begins', 'and there is room');
};

case 'a history that is shorter than the output' => sub {
    is(data(await_end(posted_events($port, '/history?id=1', 'count=9 exit=0'))) =~ /9$/, 1);
    my @events = await_end(events($port, '/history?id=1'));
    is($events[0]{event}, 'gap', 'who comes later is told what is lost');
    is(data(@events[1 .. $#events]), '7 8 9');
};

case 'a history that is over before the run is not kept any more' => sub {
    my @all = await_end(posted_events($port, '/brief?id=1', 'count=4 exit=0'));
    is(data(@all), 'begins 1 2 3 4');
    my $messages = sub { request($port, 'GET', '/pub?id=brief-1', Accept => 'text/json')->{body} =~ /"messages": (\d+)/ && $1 };
    await('the messages to go', sub { $messages->() == 0 });
    my ($second, $last) = map { qq("$_->{id}") } @all[1, 4];
    for my $way ([TE => 'chunked'], [Accept => 'multipart/mixed'], []) {
        my $behind = request($port, 'GET', '/brief?id=1', 'If-None-Match' => $second, @$way);
        is("$behind->{status} $behind->{headers}{'x-channel-gap'}[0] $behind->{headers}{etag}[0]", "204 3 $last", "what is lost is told: @$way");
        my $whole = request($port, 'GET', '/brief?id=1', 'If-None-Match' => $last, @$way);
        is($whole->{status}, 204);
        is($whole->{headers}{'x-channel-gap'}, undef, 'and not to who has everything');
    }
    my @events = await_end(events($port, '/brief?id=1', 'Last-Event-ID' => $all[1]{id}));
    is(join(' ', map { $_->{event} // 'message' } @events), 'gap', 'by an event');
    is(events($port, '/brief?id=1', 'Last-Event-ID' => $events[0]{id})->{status}, 204);
};

case 'what was lost before the beginning is told in the middle of a run, too' => sub {
    my $posted = posted_events($port, '/middle?id=1', 'count=9');
    await_events($posted, 10);
    my $behind = Ws::Client->connect(port => $port);
    $behind->send(request_text('GET', '/middle?id=1', TE => 'chunked'));
    $behind->wait_until(sub { $behind->{in} =~ /\r\n9\r\n/ }, 'the last message');
    like($behind->{in}, qr/^X-Channel-Gap: 7\r\n/mi);
    request($port, 'DELETE', '/pub?id=middle-1');
    $_->abandon for $behind, $posted->{client};
    idle();
};

case 'who may' => sub {
    is(posted('/asked', 'x')->{status}, 403, 'a hook is asked');
    is(scalar($ngx->programs), 0);
    my $stream = posted_events($port, '/asked?in=1', 'one exit=0');
    is(data(await_end($stream)), 'begins one');
    is(events($port, '/asked')->{status}, 403, 'also of who comes back');
    is(data(await_end(events($port, '/asked?in=1'))), 'begins one');
    is(posted('/origin', 'x', Origin => 'https://evil.test')->{status}, 403, 'a page of another site');
    my $page = posted_events($port, '/origin', 'one exit=0', Origin => 'https://app.test');
    is(data(await_end($page)), 'begins one');
    is($page->{headers}{'access-control-allow-origin'}[0], 'https://app.test');
};

case 'requests that nginx makes of others' => sub {
    my $stream = posted_events($port, '/app?id=app', 'one exit=0');
    is(data(await_end($stream)), 'begins one', 'an application lets it in, by X-Accel-Redirect');
    is(data(await_end(events($port, '/ask?id=app'))), 'begins one');
    is(posted('/mirror', 'one exit=0')->{body}, 'ok', 'mirror');
    is(data(await_end(await('the run', sub {
        my $run = events($port, '/poll?id=mirror');
        return $run if $run->{status} == 200;
        $run->{client}->abandon;
        return;
    }))), 'begins one');
    idle();
};

case 'blocks and other locations' => sub {
    is(posted('/if?id=1', 'count=1 exit=0')->{status}, 200);
    idle();
    my $stream = posted_events($port, '/ask?id=13', 'one');
    await_events($stream, 2);
    my $watch = Ws::Client->open($port, '/watch?id=ask-13');
    like($watch->text, qr/begins/);
    is($watch->text, 'one', 'the channel is one like others');
    my $anybody = Ws::Client->open($port, '/anybody?id=13');
    $anybody->send(text('two exit=0'));
    is($anybody->text, 'two', 'another location shares it');
    is($anybody->server_close, 'close 1000');
    is(data(await_end($stream)), 'two');
    $anybody = Ws::Client->open($port, '/anybody?id=13');
    like($anybody->text, qr/begins/, 'and may start another run');
    is(posted('/ask?id=13', 'x')->{status}, 409);
    $_->abandon for $anybody, $watch;
    idle();
};

# A worker has come in the place of one that was killed, and has cleared its slot.
sub await_another {
    my ($killed) = @_;

    await('another worker', sub { my @workers = $ngx->workers; @workers == 2 && !grep { $_ == $killed } @workers });
    return;
}

case 'its worker is killed' => sub {
    my $stream = posted_events($port, '/ask?id=14', 'one');
    my $id = (await_events($stream, 2))[0]{id};
    my $other = at($ngx, 'not ' . worker_of($stream), '/ask?id=14');
    is(data(await_events($other, 2)), 'begins one');
    my $killed = worker_of($stream);
    kill 'KILL', $killed;
    is(data(await_end($other)), '', 'nobody runs it again');
    idle();
    await_another($killed);
    is(data(await_end(events($port, '/ask?id=14', 'Last-Event-ID' => $id))), 'one', 'what it has said is kept');
    is(posted('/ask?id=14', 'x')->{status}, 409);
    my $socket = Ws::Client->open($port, '/ask?id=14');
    is($socket->server_close, 'close 1011 the program was lost');
    my $alone = posted_events($port, '/ask?id=15', 'one');
    await_events($alone, 2);
    $killed = worker_of($alone);
    kill 'KILL', $killed;
    $alone->{client}->abandon;
    # Who comes before the slot of the dead is cleared has the run, which is kept for it.
    await_another($killed);
    idle();
    await('nothing of it', sub { events($port, '/ask?id=15')->{status} == 404 });
};

case 'a reload' => sub {
    my $stream = posted_events($port, '/ask?id=16', 'one');
    await_events($stream, 2);
    my ($pid) = $ngx->await_programs(1);
    $ngx->reload;
    my $new = Ws::Client->open($port, '/ask?id=16');
    like($new->text, qr/^$pid begins/, 'clients of the new workers find it');
    is($new->text, 'one');
    $stream->{client}->abandon;
    $new->send(text('two'));
    is($new->text, 'two', 'it goes on in the old worker');
    $new->abandon;
    my $back = events($port, '/ask?id=16');
    is(data(await_events($back, 3)), 'begins one two', 'also when it has had no clients for a moment');
    my $socket = Ws::Client->open($port, '/ask?id=16');
    $socket->send(text('exit=0'));
    is($socket->server_close, 'close 1000');
    is(data(await_end($back)), '');
    await('the old workers to leave', sub { !$ngx->old_workers });
    is(data(await_end(events($port, '/ask?id=16'))), 'begins one two', 'the run is kept when they have gone');
};

$ngx->stop;

case 'worker_shutdown_timeout' => sub {
    my $time = instrumented() ? '30s' : '5s';
    my $impatient = Ws::Nginx->new(%NGINX, main => "worker_shutdown_timeout $time;", server => $SERVER);
    $impatient->program($_, $ngx->read_file("bin/$_")) for qw(ask whole);
    $impatient->start;
    my $stream = posted_events($impatient->port, '/ask?id=1', 'one');
    await_events($stream, 2);
    $stream->{client}->abandon;
    $impatient->reload;
    my $back = events($impatient->port, '/ask?id=1');
    is(data(await_events($back, 2)), 'begins one', 'the old worker stays for a run without clients');
    await('the old workers to leave', sub { !$impatient->old_workers });
    is(data(await_end($back)), '', 'as long as it may');
    $impatient->await_programs(0);
    $impatient->stop;
};

done_testing;
