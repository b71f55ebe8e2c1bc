# One program for all clients of a channel, over all workers: websocket_exec and websocket_channel in one location.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Time::HiRes qw(time sleep);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Process qw(state status_field);
use Ws::Stream;

my %NGINX = (
    workers => 2,
    noise   => [qr/worker process \d+ exited on signal 9/, qr/shared memory zone "ws_exec_\w+" was locked by/],
    http    => 'websocket_channel_zone 4m; add_header X-Worker $pid always; websocket_exec_stop 200ms 700ms;'
        . 'log_format shared "$websocket_endpoint $websocket_channel_id $websocket_exec_pid $websocket_exec_status '
        . '$websocket_messages_in $websocket_messages_out"; access_log %%PREFIX%%/access.log shared;',
);

my $ngx = Ws::Nginx->new(%NGINX, server => <<'EOT');
    location = /echo   { websocket_exec %%PREFIX%%/bin/echo; websocket_channel echo-$arg_id; }
    location = /race   { websocket_exec %%PREFIX%%/bin/echo; websocket_channel race-$arg_id; websocket_channel_start oldest; }
    location = /linger { websocket_exec %%PREFIX%%/bin/echo; websocket_channel linger; websocket_exec_linger 700ms; }
    location = /long   { websocket_exec %%PREFIX%%/bin/echo; websocket_channel long; websocket_exec_linger 1h; }
    location = /burst  { websocket_channel burst; websocket_exec %%PREFIX%%/bin/burst; websocket_channel_history length=2000; }
    location = /end    { websocket_exec %%PREFIX%%/bin/end; websocket_channel end-$arg_id; websocket_exec_linger 1h; }
    location = /gone   { websocket_exec %%PREFIX%%/bin/none; websocket_channel gone; }
    location = /one    { websocket_exec %%PREFIX%%/bin/echo; websocket_channel one-$arg_id; websocket_exec_max 1; }
    location = /bytes  { websocket_exec %%PREFIX%%/bin/bytes; websocket_channel bytes; websocket_exec_format bytes; }
    location = /records { websocket_exec %%PREFIX%%/bin/records; websocket_channel records;
        websocket_exec_format messages; websocket_max_message_size 200k; }
    location = /err    { websocket_exec %%PREFIX%%/bin/err; websocket_channel err; websocket_exec_stderr client; }
    location = /env    { websocket_exec %%PREFIX%%/bin/env; websocket_channel env; websocket_exec_cwd /tmp;
        websocket_exec_env SET=yes CHANNEL=$websocket_channel_id; websocket_channel_start oldest; }
    location = /deaf   { websocket_exec %%PREFIX%%/bin/deaf; websocket_channel deaf; }
    location = /flood  { websocket_exec /usr/bin/yes; websocket_channel flood; websocket_channel_lag skip; }
    location = /four   { websocket_exec /bin/sh -c "read x; echo got; exit 4"; websocket_channel four; }
    location = /status { websocket_status; }
    location = /ask    { websocket_exec %%PREFIX%%/bin/echo; websocket_channel asked; websocket_channel_join_request /hook; }
    location = /hook   { internal; if ($arg_in = 1) { return 204; } return 403; }
    location = /watch  { websocket_channel $arg_id; }
    location = /pub    { websocket_channel $arg_id mode=pub; }
EOT

# Lines come back with the process that they went to.
$ngx->program('echo', <<'EOT');
#!/usr/bin/perl
$| = 1;
$SIG{TERM} = sub { print "$$ term\n"; exit 0 };
print "$$ begins\n";
while (<STDIN>) { print "$$ $_" }
print "$$ eof\n";
EOT
$ngx->program('burst', "#!/usr/bin/perl\nprint map { \"line \$_\\n\" } 1 .. 1000;\n\$| = 1; print ''; sleep 600;\n");
$ngx->program('end', <<'EOT');
#!/usr/bin/perl
$| = 1;
print "$$ begins\n";
while (<STDIN>) {
    if (/^exit (\d+)/) { print "last\n"; exit $1 }
    kill 'KILL', $$ if /^kill/;
    if (/^binary/) { print "\xff\n"; sleep 600 }
}
EOT
$ngx->program('bytes', "#!/bin/sh\nexec cat\n");
$ngx->program('records', "#!/bin/sh\nexec cat\n");
$ngx->program('err', "#!/bin/sh\necho out; echo err >&2; exec sleep 600\n");
$ngx->program('env', "#!/bin/sh\nenv; pwd; echo end; exec sleep 600\n");
$ngx->program('deaf', "#!/bin/sh\necho \$\$; exec sleep 600\n");
$ngx->start;
my $port = $ngx->port;

sub worker_of { return $_[0]{head}{headers}{'x-worker'}[0] }

# at(worker, path): a client of this worker, or of another one if the worker is not.
sub at {
    my ($server, $worker, $path) = @_;

    my $not = $worker =~ s/^not //;
    return await("a client of worker $worker", sub {
        my $client = Ws::Client->open($server->port, $path);
        return $client if (worker_of($client) == $worker) != $not;
        # What stays might keep a program.
        $client->abandon;
        return;
    });
}

# idle(): nothing runs any more.
sub idle { $ngx->await_programs(0) }

sub begins {
    my ($client) = @_;

    my ($pid) = $client->text =~ /^(\d+) begins$/ or die "not a beginning\n";
    return $pid;
}

case 'the first client starts it, all get what it says, the last one stops it' => sub {
    my $first = Ws::Client->open($port, '/echo');
    my $pid = begins($first);
    my @others = map { Ws::Client->open($port, '/echo') } 1 .. 6;
    my $stream = events($port, '/echo');
    my $watch = Ws::Client->open($port, '/watch?id=echo-');
    my %workers = map { worker_of($_) => 1 } $first, @others;
    is(keys %workers, 2, 'clients at both workers');
    for my $client ($first, @others) {
        $client->send(text("from " . worker_of($client)));
        is($_->text, "$pid from " . worker_of($client)) for $first, @others, $watch;
        is((await_events($stream, 1))[0]{data}, "$pid from " . worker_of($client), 'EventSource');
    }
    $ngx->await_programs(1);
    is($first->close(1000), 'close 1000');
    is($_->close(1000), 'close 1000') for @others;
    $ngx->await_programs(1);
    $stream->{client}->abandon;
    idle();
    is($watch->text, "$pid eof", 'stdin was closed; its last words are for those who only watch the channel');
    $watch->abandon;
};

case 'the first clients come at the same time' => sub {
    for my $round (1 .. 10) {
        my @clients = map { Ws::Client->connect(port => $port) } 1 .. 8;
        $_->send(upgrade("/race?id=$round")) for @clients;
        is($_->response->{status}, 101) for @clients;
        my @pids = map { begins($_) } @clients;
        is(scalar(grep { $_ != $pids[0] } @pids), 0, "round $round: one program");
        $ngx->await_programs(1);
        $_->abandon for @clients;
        idle();
    }
};

case 'input from clients at two workers: nothing lost, nothing mixed' => sub {
    my $reader = Ws::Client->open($port, '/echo?id=input');
    my $pid = begins($reader);
    my @clients = (at($ngx, worker_of($reader), '/echo?id=input'),
        at($ngx, 'not ' . worker_of($reader), '/echo?id=input'));
    my $count = instrumented() ? 200 : 1500;
    my %expected;
    for my $nth (0 .. 1) {
        $expected{$nth} = 1;
        $clients[$nth]->send(text("$nth $_ " . 'x' x ($_ % 700))) for 1 .. $count;
    }
    my $left = 2 * $count;
    my $stream = events($port, '/echo?id=input');
    # They are read while they send.
    while ($left) {
        for my $client (@clients) {
            1 while $client->write_some;
            $client->read_some;
        }
        while (my $frame = $reader->maybe_frame(0.001)) {
            my ($nth, $n, $x) = $frame->{payload} =~ /^$pid (\d) (\d+) (x*)$/ or die "mixed: $frame->{payload}\n";
            $n == $expected{$nth}++ && length $x == $n % 700 or die "client $nth: $n\n";
            $left--;
        }
        for my $client (@clients) { 1 while $client->parse }
    }
    is($expected{$_}, $count + 1, "client $_") for 0, 1;
    $_->abandon for $reader, @clients, $stream->{client};
    idle();
};

case 'a client that subscribes from the beginning has all of a burst' => sub {
    my @clients = map { Ws::Client->open($port, '/burst?id=x') } 1;
    is($clients[0]->text, "line $_") for 1 .. 1000;
    $_->abandon for @clients;
    idle();
};

case 'it lingers' => sub {
    my $client = Ws::Client->open($port, '/linger');
    my $pid = begins($client);
    is($client->close(1000), 'close 1000');
    my $since = time;
    $client = at($ngx, 'not ' . worker_of($client), '/linger');
    $client->send(text('again'));
    is($client->text, "$pid again", 'the same one');
    is($client->close(1000), 'close 1000');
    $since = time;
    idle();
    cmp_ok(time - $since, '>', 0.6, 'for the time that it was told');
};

case 'it ends by itself' => sub {
    for my $row (['exit 0', 'close 1000', 0], ['exit 3', 'close 1011 exit 3', 3], ['kill', 'close 1011 signal 9', 'signal 9'],
        ['binary', 'close 1007']) {
        my ($how, $close) = @$row;
        my $first = Ws::Client->open($port, "/end?id=x");
        my $pid = begins($first);
        my $other = at($ngx, 'not ' . worker_of($first), "/end?id=x");
        my $stream = events($port, "/end?id=x");
        $other->send(text($how));
        for my $client ($first, $other) {
            is($client->text, 'last') if $how =~ /^exit/;
            like($client->server_close, qr/^\Q$close\E/, "$how: $close");
        }
        await_events($stream, 1) if $how =~ /^exit/;
        ok(await('the end of the stream', sub { eval { $stream->{client}->read_some }; $stream->parse; $stream->{end} }),
            'EventSource ends');
        $stream->{client}->abandon;
        idle();
        my $next = Ws::Client->open($port, "/end?id=x");
        isnt(begins($next), $pid, 'the next client starts it anew');
        $next->send(text('exit 0'));
        is($next->text, 'last');
        is($next->server_close, 'close 1000');
    }
};

case 'it cannot be started' => sub {
    # Valgrind gives a child no memory in common with its parent, which does not hear that it failed.
    for (1 .. (under_valgrind() ? 0 : 3)) {
        is(Ws::Client->connect(port => $port)->handshake('/gone')->{status}, 500, 'WebSocket');
        is(request($port, 'GET', '/gone', Accept => 'text/event-stream')->{status}, 500, 'EventSource');
        is(request($port, 'GET', '/gone')->{status}, 500, 'long-poll');
    }
    $ngx->program('none', "#!/bin/sh\necho here\nexec cat\n");
    my $client = Ws::Client->open($port, '/gone');
    is($client->text, 'here', 'now it can');
    $client->abandon;
    idle();
    my $one = Ws::Client->open($port, '/one?id=1');
    begins($one);
    my $more = Ws::Client->open($port, '/one?id=1');
    my $busy = Ws::Client->connect(port => $port)->handshake('/one?id=2');
    is($busy->{status}, 503, 'websocket_exec_max counts programs, not clients');
    ok($busy->{headers}{'retry-after'});
    for my $n (1 .. 4) {
        is(request($port, 'GET', '/one?id=2', Accept => 'text/event-stream')->{status}, 503);
        is(request($port, 'GET', '/one?id=2')->{status}, 503);
        is(subscribers($port, 'one-2'), 0, 'who was refused is no subscriber');
        publish($port, '/pub?id=one-2', 'x');
    }
    $_->abandon for $one, $more;
    idle();
};

case 'formats' => sub {
    my @clients = map { Ws::Client->open($port, '/bytes') } 1 .. 2;
    $clients[1]->send(binary("\0\xff\n"));
    for my $client (@clients) {
        my $message = $client->message;
        is($message->{opcode}, 2);
        is($message->{payload}, "\0\xff\n");
    }
    $_->abandon for @clients;
    @clients = map { Ws::Client->open($port, '/records') } 1 .. 4;
    my $large = 'y' x 150_000;
    $clients[2]->send(binary("\0\n"), text("a\nb"), text($large))->flush;
    for my $client (@clients) {
        is($client->message->{payload}, "\0\n");
        is($client->text, "a\nb");
        is($client->text, $large);
    }
    $_->abandon for @clients;
    my $lines = Ws::Client->open($port, '/echo?id=lines');
    begins($lines);
    $lines->send(binary('x'));
    like($lines->server_close, qr/^close 1003/, 'a binary message for lines');
    my $err = Ws::Client->open($port, '/err');
    is(join(' ', sort $err->text, $err->text), 'err out', 'standard error for clients');
    $err->abandon;
    idle();
};

case 'what one client sent is not for the others' => sub {
    my $client = Ws::Client->connect(port => $port);
    is($client->handshake('/env?secret=1', headers => ['Cookie: secret=2', 'Authorization: Basic c2VjcmV0OjM=',
        'X-Secret: 4', 'User-Agent: secret'])->{status}, 101);
    my @lines;
    push @lines, $client->text until @lines && $lines[-1] eq 'end';
    my $said = join "\n", @lines;
    unlike($said, qr/secret|HTTP_|127\.0\.0\.1/i, 'nothing of the client');
    like($said, qr/^$_$/m) for 'SET=yes', 'CHANNEL=env', 'GATEWAY_INTERFACE=websocket-CGI/0\.1', 'SCRIPT_NAME=/env',
        'SERVER_NAME=localhost', 'QUERY_STRING=', 'REMOTE_ADDR=', '/tmp';
    $client->abandon;
    idle();
};

case 'a program that does not read' => sub {
    my $client = Ws::Client->open($port, '/deaf');
    my $pid = $client->text;
    my $other = at($ngx, 'not ' . worker_of($client), '/deaf');
    my @before = map { status_field($_, 'VmRSS') } sort $ngx->workers;
    $_->send_until_stalled(text('z' x 5000), 1) for $client, $other;
    grew_less($_, shift @before, 16_000, 'memory of a worker') for sort $ngx->workers;
    # Both are still served.
    my $third = Ws::Client->open($port, '/deaf');
    $third->send(text('small'), ping('there'));
    is($third->frame->{payload}, 'there', 'a Ping is answered');
    is($third->close(1000), 'close 1000');
    # With what it has not been able to send, a client that closes would not be noticed.
    $_->reset for $client, $other;
    idle();
};

case 'a program that floods' => sub {
    my $client = Ws::Client->open($port, '/flood');
    is($client->text, 'y') for 1 .. 200;
    my $deaf = at($ngx, 'not ' . worker_of($client), '/flood');
    $deaf->reading(0);
    is($client->text, 'y') for 1 .. 200;
    is(request($port, 'POST', '/pub?id=beside', body => 'x')->{status}, 202, 'others can publish');
    $_->abandon for $client, $deaf;
    idle();
};

case 'the channel is deleted' => sub {
    my $client = Ws::Client->open($port, '/long');
    my $pid = begins($client);
    my $other = at($ngx, 'not ' . worker_of($client), '/long');
    is(request($port, 'DELETE', '/pub?id=long')->{status}, 200);
    is($_->server_close, 'close 1001 channel deleted') for $client, $other;
    idle();
    my $next = Ws::Client->open($port, '/long');
    isnt(begins($next), $pid);
    request($port, 'DELETE', '/pub?id=long');
    $next->abandon;
    idle();
};

case 'the worker that runs it is killed' => sub {
    for my $round (1 .. (instrumented() ? 2 : 5)) {
        my $path = "/echo?id=kill$round";
        my $owner = Ws::Client->open($port, $path);
        my $pid = begins($owner);
        my $stays = at($ngx, 'not ' . worker_of($owner), $path);
        my $stream = await('a stream of the other worker', sub {
            my $stream = events($port, $path);
            return $stream if $stream->{headers}{'x-worker'}[0] != worker_of($owner);
            $stream->{client}->abandon;
            return;
        });
        kill 'KILL', worker_of($owner);
        $stays->send(text('at once'));
        my @lines;
        push @lines, $stays->text until @lines && $lines[-1] =~ / at once$/;
        my ($now) = $lines[-1] =~ /^(\d+) /;
        isnt($now, $pid, 'another one');
        my @seen;
        push @seen, (await_events($stream, 1))[0]{data} until @seen && $seen[-1] =~ /at once/;
        is($seen[-1], "$now at once", 'EventSource goes on');
        $ngx->await_programs(1);
        await('all workers', sub { $ngx->workers == 2 });
        my $new = Ws::Client->open($port, $path);
        $new->send(text('x'));
        for my $client ($stays, $new) {
            my $line;
            do { $line = $client->text } until $line =~ / x$/;
            is($line, "$now x");
        }
        $_->abandon for $owner, $stays, $new, $stream->{client};
        idle();
    }
};

case 'a worker that does not run it is killed' => sub {
    my $owner = Ws::Client->open($port, '/echo?id=other');
    my $pid = begins($owner);
    my $other = at($ngx, 'not ' . worker_of($owner), '/echo?id=other');
    kill 'KILL', worker_of($other);
    await('all workers', sub { $ngx->workers == 2 });
    $owner->send(text('x'));
    is($owner->text, "$pid x", 'it goes on');
    # The dead do not keep it.
    $_->abandon for $owner, $other;
    idle();
};

case 'a reload' => sub {
    my $owner = Ws::Client->open($port, '/echo?id=reload');
    my $pid = begins($owner);
    my $old = at($ngx, 'not ' . worker_of($owner), '/echo?id=reload');
    $ngx->reload;
    $owner->send(text('x'));
    is($_->text, "$pid x", 'as long as nobody else wants it') for $owner, $old;
    my $new = Ws::Client->open($port, '/echo?id=reload');
    my @lines;
    $new->send(text('after'));
    push @lines, $owner->text until @lines && $lines[-1] =~ /after/;
    my ($now) = $lines[-1] =~ /^(\d+) /;
    isnt($now, $pid, 'a worker that stays starts it anew');
    like("@lines", qr/$pid (?:eof|term).*$now begins/, 'after the other one has ended');
    $ngx->await_programs(1);
    $owner->send(text('y'));
    for my $client ($owner, $old, $new) {
        my $line;
        do { $line = $client->text } until $line =~ / y$/;
        is($line, "$now y", 'clients of old and new workers');
    }
    $_->abandon for $owner, $old, $new;
    idle();
    await('the old workers to leave', sub { !$ngx->old_workers });
};

case 'a worker that was told to go is killed, and none comes in its place' => sub {
    my $old = Ws::Client->open($port, '/echo?id=told');
    begins($old);
    $ngx->reload;
    my $new = Ws::Client->open($port, '/echo?id=told');
    my $line;
    $new->send(text('x'));
    do { $line = $new->text } until $line =~ / x$/;
    kill 'KILL', worker_of($old);
    await('its end', sub { !$ngx->old_workers });
    $_->abandon for $old, $new;
    idle();
    pass('the dead do not keep it');
};

case 'a hook is asked before anything is started' => sub {
    is(Ws::Client->connect(port => $port)->handshake('/ask')->{status}, 403, 'WebSocket');
    is(request($port, 'GET', '/ask')->{status}, 403, 'long-poll');
    is(scalar($ngx->programs), 0);
    my $client = Ws::Client->open($port, '/ask?in=1');
    my $pid = begins($client);
    my $stream = events($port, '/ask?in=1');
    $client->send(text('x'));
    is($client->text, "$pid x");
    is((await_events($stream, 1))[0]{data}, "$pid x");
    $_->abandon for $client, $stream->{client};
    idle();
};

case 'status and variables' => sub {
    my $client = Ws::Client->open($port, '/four');
    my ($pid) = $ngx->await_programs(1);
    like(request($port, 'GET', '/status')->{body}, qr/"running":\s*1\b/, 'it is counted');
    $client->send(text('a'));
    is($client->text, 'got');
    is($client->server_close, 'close 1011 exit 4');
    like($ngx->await_access_log(qr/^exec four.*/m), qr/^exec four $pid 4 1 1$/);
};

case 'quit' => sub {
    my $client = Ws::Client->open($port, '/echo?id=quit');
    begins($client);
    my $long = Ws::Client->open($port, '/long');
    $long->abandon;
    $ngx->stop;
};

done_testing();
