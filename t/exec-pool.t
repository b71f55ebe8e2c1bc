# Programs that are started ahead of their clients: websocket_exec_pool.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use JSON::PP ();
use Time::HiRes qw(time sleep);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Process qw(command state);

my $ngx = Ws::Nginx->new(
    noise  => [qr/worker process \d+ exited on signal 9/, qr/shared memory zone "ws_exec_\w+" was locked by/],
    server => <<'EOT');
    websocket_close_timeout 500ms;
    websocket_exec_stop 1s 3s;
    location = /cat      { websocket_exec %%PREFIX%%/bin/cat; websocket_exec_pool 3; }
    location = /early    { websocket_exec %%PREFIX%%/bin/early; websocket_exec_pool 1; }
    location = /gone     { websocket_exec %%PREFIX%%/bin/gone; websocket_exec_pool 2; }
    location = /missing  { websocket_exec %%PREFIX%%/bin/none; websocket_exec_pool 4; }
    location = /closes   { websocket_exec %%PREFIX%%/bin/closes %%PREFIX%%/close; websocket_exec_pool 1; }
    location = /few      { websocket_exec %%PREFIX%%/bin/few; websocket_exec_pool 3; websocket_exec_max 2; }
    location /env/       { websocket_exec %%PREFIX%%/bin/env; websocket_exec_pool 1; websocket_exec_env SET=yes; }
    location /records/   { websocket_exec %%PREFIX%%/bin/records; websocket_exec_pool 1;
        websocket_exec_format messages; websocket_exec_env SET=yes; }
    location = /echo     { websocket_exec %%PREFIX%%/bin/echoes; websocket_exec_pool 1; websocket_exec_format messages; }
    location = /beside   { websocket_exec %%PREFIX%%/bin/beside; websocket_exec_pool 1; websocket_exec_format messages;
        websocket_cgi %%PREFIX%%/bin/page; }
    location = /both     { websocket_exec %%PREFIX%%/bin/stderr; websocket_exec_pool 1; websocket_exec_stderr both; }
    location = /if       { websocket_exec %%PREFIX%%/bin/if; websocket_exec_pool 1;
        if ($arg_plain) { set $x 1; }
        if ($arg_own)   { websocket_exec_env OWN=1; } }
    location = /status   { websocket_status; }
EOT
# One that tells who it is.
my $CAT = <<'EOP';
#!/usr/bin/perl
$| = 1;
$SIG{TERM} = 'IGNORE';
while (<STDIN>) { print "$$ $_" }
EOP
$ngx->program($_, $CAT) for qw(cat few if);
$ngx->program('early', "#!/usr/bin/perl\n\$| = 1;\nprint \"\$\$ begins\\n\" . 'x' x 40_000 . \"\\n\";\n1 while <STDIN>;\n");
$ngx->program('gone', "#!/bin/sh\necho hi\necho why >&2\nexit 3\n");
$ngx->program('closes', <<'EOP');
#!/usr/bin/perl
$| = 1;
print "$$ begins\n";
if (-e $ARGV[0]) { close STDOUT }
1 while <STDIN>;
EOP
$ngx->program('env', "#!/bin/sh\nenv\necho end\ncat\n");
$ngx->program('records', <<'EOP');
#!/usr/bin/perl
$| = 1;
my $env = join ' ', map { "$_=$ENV{$_}" } sort grep { /^(?:REMOTE|QUERY|HTTP)_/ } keys %ENV;
read STDIN, my $letter, 2;
my $length = <STDIN>;
read STDIN, my $payload, $length;
printf "T %d\n%s", length($_), $_ for "env: $env", $letter, $payload;
while (read STDIN, $_, 1) { print }
EOP
$ngx->program('echoes', "#!/bin/sh\nexec cat\n");
$ngx->program('beside', "#!/bin/sh\nexec cat\n");
$ngx->program('page', "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n%s ' \"\$GATEWAY_INTERFACE\"\ncat\n");
$ngx->program('stderr', "#!/bin/sh\necho early >&2\nexec cat\n");
$ngx->start;
my $port = $ngx->port;

# of(location): the figures of a location.
sub of {
    my ($location) = @_;

    my $status = JSON::PP::decode_json(request($port, 'GET', '/status')->{body});
    my ($found) = grep { $_->{location} eq $location } @{$status->{locations}};
    return $found;
}

# settled(location, idle): until so many programs wait; their figures.
sub settled {
    my ($location, $idle) = @_;

    my $pool;
    await("$idle programs of $location wait", sub { $pool = of($location)->{pool}; $pool->{idle} == $idle }, 90);
    return $pool;
}

# running(name): the processes of a program.
sub running {
    my ($name) = @_;

    return grep { command($_) =~ m{/bin/\Q$name\E(?: |$)} } $ngx->programs;
}

sub pid_of {
    my ($client) = @_;

    $client->send(text('x'));
    my ($pid) = $client->text =~ /^(\d+) x$/;
    return $pid;
}

case 'they are there before their clients, and each serves one' => sub {
    settled('/cat', 3);
    my @waiting = sort { $a <=> $b } running('cat');
    is(scalar @waiting, 3);
    my @clients = map { Ws::Client->open($port, '/cat') } 1 .. 3;
    my @pids = map { pid_of($_) } @clients;
    my %taken = map { $_ => 1 } @pids;
    is(scalar keys %taken, 3, 'each has its own');
    ok((grep { $taken{$_} } @waiting) > 0, 'one that had waited');
    settled('/cat', 3);
    is(scalar(grep { $taken{$_} } running('cat')), 3, 'they still run');
    is(of('/cat')->{programs}{running}, 3);
    is($_->close(1000), 'close 1000') for @clients;
    await('those that have served go', sub { !grep { $taken{$_} } running('cat') });
    my $again = Ws::Client->open($port, '/cat');
    ok(!$taken{pid_of($again)}, 'and serve nobody else');
    $again->close(1000);
    my $pool = settled('/cat', 3);
    is($pool->{started}, 7);
    is($pool->{replaced}, 0);
};

case 'a client that vanishes at once takes its program along' => sub {
    settled('/cat', 3);
    my %before = map { $_ => 1 } running('cat');
    my $started = of('/cat')->{pool}{started};
    my $client = Ws::Client->open($port, '/cat');
    $client->reset;
    await('another one is started', sub { of('/cat')->{pool}{started} == $started + 1 });
    settled('/cat', 3);
    ok(eval { await('its program is gone', sub { grep({ !kill 0, $_ } keys %before) == 1 }) }, 'its program is gone');
};

case 'many clients at once' => sub {
    my @clients = map { Ws::Client->connect(port => $port) } 1 .. 30;
    $_->send(upgrade('/cat')) for @clients;
    my %pids;
    for my $client (@clients) {
        is($client->response->{status}, 101) or last;
        $pids{pid_of($client)}++;
    }
    is(scalar keys %pids, 30, 'never two have one');
    $_->close(1000) for @clients;
    settled('/cat', 3);
    await('nobody else runs', sub { running('cat') == 3 });
};

case 'what it writes before its client comes is delivered first' => sub {
    settled('/early', 1);
    my ($pid) = running('early');
    sleep 0.1;
    my $client = Ws::Client->open($port, '/early');
    is($client->text, "$pid begins");
    is(length $client->text, 40_000, 'all of it');
    $client->close(1000);
};

case 'one that ends at once: seldom tried, logged, and the location works' => sub {
    # Two together, another one after 100 ms, one after a second.
    await('it has been tried', sub { of('/gone')->{pool}{replaced} >= 3 });
    for (1 .. 5) {
        my $client = Ws::Client->open($port, '/gone');
        is($client->text, 'hi');
        like($client->server_close, qr/^close 1011 exit 3/);
    }
    sleep 2;
    my $pool = of('/gone')->{pool};
    cmp_ok($pool->{started}, '<', 12, 'not one after the other');
    is($pool->{idle}, 0);
    my @said = $ngx->log =~ /(bin\/gone" ended with exit 3 before a client came.*)/g;
    ok(@said > 0 && @said < 8, @said . ' lines about it');
    like($said[-1], qr/websocket_exec_pool\): the next one is started ahead in \d+ m?s/);
    like($ngx->log, qr/bin\/gone": stderr of the program: "why"/, 'and what it said');
};

case 'one that is missing' => sub {
    await('it has been tried', sub { $ngx->log =~ /cannot start "\S+bin\/none".*websocket_exec_pool/ });
    my $client = Ws::Client->connect(port => $port);
    is($client->handshake('/missing')->{status}, 500);
    $ngx->program('none', $CAT);
    $client = Ws::Client->open($port, '/missing');
    like(pid_of($client), qr/^\d+$/, 'as without a pool');
    $client->close(1000);
    settled('/missing', 4);
};

case 'one that is killed before its client comes is replaced' => sub {
    settled('/early', 1);
    my $before = of('/early')->{pool}{replaced};
    my ($pid) = running('early');
    kill 'KILL', $pid;
    await('it is noticed', sub { of('/early')->{pool}{replaced} == $before + 1 });
    settled('/early', 1);
    my ($other) = running('early');
    isnt($other, $pid);
    my $client = Ws::Client->open($port, '/early');
    is($client->text, "$other begins");
    $client->close(1000);
};

case 'one that has closed its output is replaced' => sub {
    settled('/closes', 1);
    my $pool = of('/closes')->{pool};
    $ngx->file('close', '');
    my ($open) = running('closes');
    kill 'KILL', $open;
    # Those that come after it close their output.
    await('one has closed it', sub { $ngx->log =~ m{bin/closes" has closed its output before a client came} });
    unlink $ngx->prefix . '/close' or die;
    settled('/closes', 1);
    my $client = Ws::Client->open($port, '/closes');
    like($client->text, qr/^\d+ begins$/);
    $client->close(1000);
    await('those that were of no use are gone', sub { running('closes') <= 1 });
};

case 'those that wait keep no client out' => sub {
    settled('/few', 2);
    my @clients = map { Ws::Client->open($port, '/few') } 1 .. 2;
    my %pids = map { pid_of($_) => 1 } @clients;
    is(scalar keys %pids, 2);
    my $third = Ws::Client->connect(port => $port);
    is($third->handshake('/few')->{status}, 503, 'as many as may run');
    is(of('/few')->{pool}{idle}, 0, 'and none waits beside them');
    $clients[0]->close(1000);
    await('its program has gone', sub { of('/few')->{programs}{running} == 1 });
    my $fourth = Ws::Client->open($port, '/few');
    ok(!$pids{pid_of($fourth)});
    $_->close(1000) for $clients[1], $fourth;
    settled('/few', 2);
};

case 'the environment is that of the location' => sub {
    settled('/env/', 1);
    my $client = Ws::Client->open($port, '/env/a?b=c', headers => ['X-Secret' => 'd']);
    my %env;
    while ((my $line = $client->text) ne 'end') {
        $env{$1} = $2 if $line =~ /^(\w+)=(.*)$/;
    }
    is($env{SET}, 'yes');
    is($env{SERVER_NAME}, 'localhost');
    is($env{SCRIPT_NAME}, '/env');
    is($env{GATEWAY_INTERFACE}, 'websocket-CGI/0.1');
    like($env{SERVER_SOFTWARE}, qr{^nginx/1\.\d+\.\d+$});
    ok($env{PATH});
    ok(!exists $env{$_}, "no $_") for qw(REMOTE_ADDR QUERY_STRING REQUEST_URI PATH_INFO HTTP_X_SECRET HTTP_HOST UNIQUE_ID);
    $client->close(1000);
};

case 'with records the first one tells of the client' => sub {
    settled('/records/', 1);
    for my $pooled (1, 0) {
        # The second client comes before another one waits, most of the time.
        my $client = Ws::Client->open($port, '/records/a?b=c', headers => ['X-What' => "d\te"]);
        my $env = $client->text;
        is($env, 'env: ', 'its environment is that of the location') if $pooled;
        is($client->text, 'E ');
        my %told = map { /^(\w+)=(.*)$/ ? ($1 => $2) : () } split /\n/, $client->text;
        is($told{SET}, 'yes');
        is($told{QUERY_STRING}, 'b=c');
        is($told{PATH_INFO}, '/a');
        is($told{SCRIPT_NAME}, '/records');
        is($told{REMOTE_ADDR}, '127.0.0.1');
        is($told{HTTP_X_WHAT}, "d\te");
        $client->send(text('hello'));
        is($client->text, 'hello', 'and messages follow');
        $client->close(1000);
    }
};

case 'cat is an echo there as well' => sub {
    settled('/echo', 1);
    my $client = Ws::Client->open($port, '/echo');
    $client->send(text('one'), binary("t\nwo"));
    is($client->text, 'one');
    is($client->message->{payload}, "t\nwo");
    is($client->close(1000), 'close 1000');
};

case 'a CGI program beside them is started for its request, and gets the body alone' => sub {
    settled('/beside', 1);
    is(request($port, 'POST', '/beside', body => 'the body')->{body}, 'CGI/1.1 the body');
    my $pool = of('/beside')->{pool};
    is("$pool->{idle} $pool->{started}", '1 1', 'none that waits was taken');
    my $client = Ws::Client->open($port, '/beside');
    $client->send(text('one'));
    is($client->text, 'one');
    is($client->close(1000), 'close 1000');
};

case 'standard error for the client waits for it' => sub {
    settled('/both', 1);
    my $client = Ws::Client->open($port, '/both');
    is($client->text, 'stderr: early');
    like($ngx->log, qr/stderr of the program: "early"/);
    $client->send(text('x'));
    is($client->text, 'x');
    $client->close(1000);
};

case 'a block "if" has the same pool, unless it starts other programs' => sub {
    await('two pools', sub { running('if') == 2 });
    settled('/if', 2);
    my %before = map { $_ => 1 } running('if');
    for my $arguments ('?plain=1', '?own=1') {
        my $client = Ws::Client->open($port, "/if$arguments");
        my $pid = pid_of($client);
        ok($before{$pid}, "$arguments gets one that has waited");
        open my $file, '<', "/proc/$pid/environ" or die "environ: $!\n";
        my $text = do { local $/; <$file> };
        is($text =~ /OWN=1/ ? 1 : 0, $arguments =~ /own/ ? 1 : 0, 'with its own environment');
        $client->close(1000);
        settled('/if', 2);
    }
};

case 'the forms of the figures' => sub {
    settled('/cat', 3);
    like($ngx->config, qr/websocket_status;/);
    my $status = request($port, 'GET', '/status')->{body};
    like($status, qr/"location": "\/cat",.*"pool": \{"idle": 3, "started": \d+, "replaced": \d+\}/);
};

case 'when the spawner dies, its programs are replaced' => sub {
    settled('/cat', 3);
    my %before = map { $_ => 1 } running('cat');
    my $replaced = of('/cat')->{pool}{replaced};
    kill 'KILL', $ngx->spawners;
    await('it is noticed', sub { of('/cat')->{pool}{replaced} == $replaced + 3 });
    settled('/cat', 3);
    is(scalar(grep { $before{$_} } running('cat')), 0, 'by others');
};

case 'a reload stops those of the old worker, also while it has clients' => sub {
    settled('/cat', 3);
    my $client = Ws::Client->open($port, '/cat');
    my $pid = pid_of($client);
    settled('/cat', 3);
    my %before = map { $_ => 1 } running('cat');
    $ngx->reload;
    await('only the one with a client is left', sub { my @old = grep { $before{$_} } running('cat'); @old == 1 && $old[0] == $pid });
    settled('/cat', 3);
    is(pid_of($client), $pid, 'which goes on');
    $client->close(1000);
    await('the old worker is gone', sub { !$ngx->old_workers });
};

case 'a worker that is killed leaves none behind' => sub {
    settled('/cat', 3);
    my %before = map { $_ => 1 } running('cat');
    my ($worker) = $ngx->workers;
    kill 'KILL', $worker;
    ok(eval { await('its programs are gone', sub { !grep { $before{$_} } running('cat') }) }, 'its programs are gone');
    await('another worker', sub { my @now = $ngx->workers; @now == 1 && $now[0] != $worker });
    settled('/cat', 3);
};

settled('/cat', 3);
$ngx->stop('QUIT');

case 'nothing is left after TERM' => sub {
    $ngx->start;
    $port = $ngx->port;
    settled('/cat', 3);
    $ngx->stop('TERM');
};

case 'on a terminal, whose size the client sets' => sub {
    my $terminals = Ws::Nginx->new(server => <<'EOT');
    location = /pty { websocket_exec %%PREFIX%%/bin/pty; websocket_exec_pool 1; websocket_exec_pty on; websocket_exec_format bytes; }
    location = /status { websocket_status; }
EOT
    $terminals->program('pty', "#!/bin/sh\nstty -echo\necho ready\nread x\nstty size\ncat\n");
    plan skip_all => 'no terminals' if $terminals->no_terminals;
    $terminals->start;
    await('it waits', sub { request($terminals->port, 'GET', '/status')->{body} =~ /"idle": 1/ });
    my $client = Ws::Client->open($terminals->port, '/pty');
    my $said = $client->message->{payload};
    like($said, qr/ready/);
    $client->send(text("\e[8;40;132t"), text("\n"));
    $said .= $client->message->{payload} until $said =~ /\d+ \d+/;
    like($said, qr/40 132/);
    $client->close(1000);
    $terminals->stop;
};

# idle(nginx): how many programs wait in all of its locations.
sub idle {
    my ($of) = @_;

    my $status = JSON::PP::decode_json(request($of->port, 'GET', '/status')->{body});
    my $sum = 0;
    $sum += $_->{pool}{idle} // 0 for @{$status->{locations}};
    return $sum;
}

case 'those that wait take no connection that a client needs' => sub {
    my $few = Ws::Nginx->new(connections => 64, server => <<'EOT');
    location = /cat    { websocket_exec %%PREFIX%%/bin/cat; websocket_exec_pool 60; }
    location = /room   { websocket_channel room mode=pubsub; }
    location = /status { websocket_status; }
EOT
    $few->program('cat', $CAT);
    $few->start;
    await('some wait', sub { idle($few) >= 15 });
    my @clients = map { Ws::Client->open($few->port, '/room') } 1 .. 45;
    $clients[0]->send(text('x'));
    my @got = grep { $_->text eq 'x' } @clients;
    is(scalar @got, 45, 'all clients are served');
    cmp_ok(idle($few), '<', 6, 'in place of those that wait');
    ok(eval { await('those that have gone run no more', sub { $few->programs < 12 }) }, 'which are stopped');
    $_->close(1000) for @clients;
    await('some wait again', sub { idle($few) >= 15 });
    my $client = Ws::Client->open($few->port, '/cat');
    like(pid_of($client), qr/^\d+$/);
    $client->close(1000);
    unlike($few->log, qr/worker_connections are not enough(?!, reusing)/);
    $few->stop;
};

case 'over all workers, those that wait give way to clients' => sub {
    my $two = Ws::Nginx->new(workers => 2, server => <<'EOT');
    location = /few    { websocket_exec %%PREFIX%%/bin/few; websocket_exec_pool 3; websocket_exec_max 3; }
    location = /status { websocket_status; }
EOT
    $two->program('few', $CAT);
    $two->start;
    my $running = sub { scalar grep { command($_) =~ m{/bin/few$} } $two->programs };
    for my $round (1 .. 5) {
        await('three wait', sub { idle($two) == 3 && $running->() == 3 });
        my @clients = map { Ws::Client->connect(port => $two->port) } 1 .. 3;
        is($_->handshake('/few')->{status}, 101, 'a client is served') for @clients;
        my %pids = map { pid_of($_) => 1 } @clients;
        is(scalar keys %pids, 3);
        ok(eval { await('nobody else runs', sub { $running->() == 3 && idle($two) == 0 }) }, 'and nobody waits beside them') or last;
        my $fourth = Ws::Client->connect(port => $two->port);
        is($fourth->handshake('/few')->{status}, 503);
        $_->close(1000) for @clients;
    }
    $two->stop;
};

# refused(name, server, patterns): what "nginx -t" says of a pool that cannot be.
sub refused {
    my ($name, $server, @patterns) = @_;

    case "refused: $name" => sub {
        my $other = Ws::Nginx->new(server => $server);
        my ($status, $said) = $other->check_config;
        isnt($status, 0);
        like($said, qr/\[emerg\].*"websocket_exec_pool" directive/);
        like($said, $_) for @patterns;
    };
}

refused('a program of the request', 'location / { websocket_exec /bin/$arg_x; websocket_exec_pool 1; }', qr/the program "\/bin\/\$arg_x"/);
refused('an argument', 'location / { websocket_exec /bin/echo a $arg_x; websocket_exec_pool 1; }', qr/the argument "\$arg_x"/, qr/nginx\.conf:\d+/);
refused('a variable', 'location / { websocket_exec /bin/cat; websocket_exec_env A=1 B=$remote_user; websocket_exec_pool 1; }',
    qr/"websocket_exec_env B="/, qr/"\$remote_user"/);
refused('a directory', 'location / { websocket_exec /bin/cat; websocket_exec_cwd /srv/$arg_x; websocket_exec_pool 1; }', qr/"websocket_exec_cwd"/);
refused('a limit', 'location / { websocket_exec /bin/cat; websocket_exec_limit cpu=$arg_x; websocket_exec_pool 1; }', qr/"websocket_exec_limit"/);
refused('websocket_exec_dir', 'location / { websocket_exec_dir /bin; websocket_exec_pool 1; }', qr/"websocket_exec_dir"/);
refused('a shared program', 'location / { websocket_exec /bin/cat; websocket_channel x; websocket_exec_pool 1; }', qr/"websocket_channel"/);
refused('an inherited pool', 'websocket_exec_pool 1; location / { websocket_exec /bin/$arg_x; }', qr/the program/);
refused('a block', 'location / { websocket_exec /bin/cat; websocket_exec_pool 1; if ($arg_x) { websocket_exec_env A=$arg_x; } }', qr/"websocket_exec_env A="/);

case 'accepted' => sub {
    for my $server (
        'websocket_exec_pool 1; location / { websocket_exec /bin/$arg_x; websocket_exec_pool 0; }',
        'websocket_exec_pool 1; location / { websocket_tcp 127.0.0.1:1; }',
        'websocket_exec_pool 1; location / { websocket_channel x; } location = /s { websocket_status; }',
    ) {
        my $other = Ws::Nginx->new(server => $server);
        my ($status, $said) = $other->check_config;
        is($status, 0, $server) or diag($said);
    }
};

done_testing;
