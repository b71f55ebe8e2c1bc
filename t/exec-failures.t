# Programs that cannot be started: the answer comes before the 101, and the log names the program and the reason.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Process qw(descriptors);

my $ngx = Ws::Nginx->new(workers => 2, server => <<'EOT');
    websocket_close_timeout 500ms;
    location = /cat         { websocket_exec /bin/cat; }
    location = /missing     { websocket_exec %%PREFIX%%/bin/missing; }
    location = /no-dir      { websocket_exec %%PREFIX%%/nowhere/at/all; }
    location = /not-exec    { websocket_exec %%PREFIX%%/bin/not-executable; }
    location = /directory   { websocket_exec %%PREFIX%%/bin; }
    location = /interpreter { websocket_exec %%PREFIX%%/bin/bad-interpreter; }
    location = /not-a-program { websocket_exec %%PREFIX%%/bin/garbage; }
    location = /cwd         { websocket_exec /bin/cat; websocket_exec_cwd %%PREFIX%%/nowhere; }
    location = /empty       { websocket_exec $arg_program; }
    location = /variable    { websocket_exec %%PREFIX%%/bin/$arg_program; }
    location = /too-large   {
        set $a "0123456789abcdef0123456789abcdef";
        set $b "$a$a$a$a$a$a$a$a$a$a$a$a$a$a$a$a";
        set $c "$b$b$b$b$b$b$b$b$b$b$b$b$b$b$b$b";
        set $d "$c$c$c$c$c$c$c$c$c$c$c$c$c$c$c$c";
        websocket_exec /bin/cat;
        websocket_exec_env BIG=$d;
    }
    location = /too-long    {
        set $a "0123456789abcdef0123456789abcdef";
        set $b "$a$a$a$a$a$a$a$a$a$a$a$a$a$a$a$a";
        set $c "$b$b$b$b$b$b$b$b$b$b$b$b$b$b$b$b";
        set $d "$c$c$c$c$c$c$c$c$c$c$c$c$c$c$c$c";
        websocket_exec /bin/echo $d$d;
    }
    location = /max         { websocket_exec /bin/cat; websocket_exec_max 2; }
    location = /max-missing { websocket_exec %%PREFIX%%/bin/missing; websocket_exec_max 1; }
    location = /page        { websocket_exec %%PREFIX%%/bin/missing; error_page 500 503 /sorry; }
    location = /sorry       { return 200 "sorry"; }
EOT
$ngx->file('bin/not-executable', "#!/bin/sh\ncat\n", 0644);
$ngx->program('bad-interpreter', "#!/nowhere/interpreter\n");
$ngx->program('garbage', "\x7fELF and no more\n");
$ngx->start;

sub try {
    my ($path) = @_;

    my $client = Ws::Client->connect(port => $ngx->port);
    my $response = $client->handshake($path);
    $client->abandon if $response->{status} != 101;
    return ($response, $client);
}

# A place becomes free when the worker has heard of the end of the program that had it.
sub place {
    return await('a place', sub { eval { Ws::Client->open($ngx->port, '/max') } });
}

# fails(name, code): a case of programs that cannot be started.
sub fails {
    my ($name, $code) = @_;

    return case $name => sub {
        plan skip_all => 'valgrind gives a child no memory in common with its parent, which does not hear why it failed'
            if under_valgrind();
        $code->();
    };
}

for my $row (
    ['missing',                        '/missing',     qr{bin/missing.*No such file or directory}],
    ['missing with its directory',     '/no-dir',      qr{nowhere/at/all.*No such file or directory}],
    ['not executable',                 '/not-exec',    qr{bin/not-executable.*Permission denied}],
    ['a directory',                    '/directory',   qr{/bin\b.*(?:Permission denied|Is a directory)}],
    ['a bad interpreter',              '/interpreter', qr{bin/bad-interpreter.*No such file or directory}],
    ['not a program',                  '/not-a-program', qr{bin/garbage.*Exec format error}],
    ['a directory to start in that is missing', '/cwd', qr{(?:/bin/cat.*nowhere|nowhere.*/bin/cat).*No such file or directory|/bin/cat.*No such file or directory.*nowhere}],
    ['an empty name',                  '/empty',       qr{websocket_exec|program}],
    ['a name from the request',        '/variable?program=missing', qr{bin/missing.*No such file or directory}],
    ['one variable that is too large', '/too-large',   qr{/bin/cat.*Argument list too long}],
    ['one argument that is too large', '/too-long',    qr{/bin/echo.*Argument list too long}],
) {
    my ($name, $path, $log) = @$row;
    fails "$name: 500" => sub {
        my $before = length $ngx->log;
        my ($response) = try($path);
        is($response->{status}, 500);
        my $line = await("a line like $log in the log", sub { substr($ngx->log, $before) =~ /(.*\[(?:error|crit)\].*$log.*)/ ? $1 : undef });
        like($line, qr/\[error\]/, 'at level error');
        like($line, qr/client: 127\.0\.0\.1/, 'with the client');
        $ngx->await_programs(0);
        $ngx->no_zombies;
    };
}

fails 'error_page catches it' => sub {
    my ($response) = try('/page');
    is($response->{body}, 'sorry');
};

case 'websocket_exec_max over all workers: 503 with Retry-After' => sub {
    my @clients = map { place() } 1 .. 2;
    for (1 .. 6) {
        my ($response) = try('/max');
        is($response->{status}, 503);
        like($response->{headers}{'retry-after'}[0], qr/^\d+$/);
    }
    like($ngx->log, qr{\[(?:error|warn)\].*websocket_exec_max});
    is((try('/cat'))[0]{status}, 101, 'another location is not concerned');
    is($clients[0]->close(1000), 'close 1000');
    push @clients, place();
    my ($response) = try('/max');
    is($response->{status}, 503, 'but one');
    is($_->close(1000), 'close 1000') for @clients[1, 2];
    $ngx->await_programs(0);
};

fails 'a program that did not start takes no place' => sub {
    is((try('/max-missing'))[0]{status}, 500) for 1 .. 5;
};

case 'a reload keeps the count' => sub {
    my @clients = map { place() } 1 .. 2;
    $ngx->reload;
    is((try('/max'))[0]{status}, 503);
    $_->reset for @clients;
    $ngx->await_programs(0);
    place()->abandon;
    $ngx->await_programs(0);
};

case 'a killed worker gives its places back' => sub {
    my @clients = map { place() } 1 .. 2;
    is((try('/max'))[0]{status}, 503);
    push @{$ngx->{noise}}, qr/worker process \d+ exited on signal 9/;
    kill 'KILL', $ngx->workers;
    $_->abandon for @clients;
    place()->abandon;
    $ngx->await_programs(0);
};

$ngx->stop;

# No process to be had. root may always fork, so its workers are somebody else who may not even have a spawner; an ordinary
# user's spawner is limited later, since nginx could not start its workers otherwise.
my $root = $> == 0;
my $alone = under_valgrind() ? undef : Ws::Nginx->start(
    $root ? (user => 'nobody nogroup', through => [qw(prlimit --nproc=1:)]) : (),
    # AddressSanitizer looks for leaks with a process of its own.
    $ENV{ASAN_OPTIONS} ? (env => { ASAN_OPTIONS => "$ENV{ASAN_OPTIONS}:detect_leaks=0" }) : (),
    server => 'location = /cat { websocket_exec /bin/cat; websocket_close_timeout 500ms; }',
);

case 'EAGAIN: 503 with Retry-After' => sub {
    plan skip_all => 'valgrind does not start with so little' if !$alone;
    if (!$root) {
        my ($spawner) = $alone->spawners;
        system('prlimit', "--pid=$spawner", '--nproc=1:') == 0 or die "prlimit\n";
    }
    my $client = Ws::Client->connect(port => $alone->port);
    my $response = $client->handshake('/cat');
    is($response->{status}, 503);
    like($response->{headers}{'retry-after'}[0], qr/^\d+$/);
    like($alone->await_log(qr{.*\[error\].*/bin/cat.*}), qr/Resource temporarily unavailable/);
    is(scalar $alone->programs, 0);
};

$alone->stop if $alone;

# No descriptors left in the worker: 503 before the 101, and it recovers.
my $poor;
case 'EMFILE' => sub {
    plan skip_all => 'valgrind does not let a process change its limit of descriptors' if under_valgrind();
    $poor = Ws::Nginx->start(
        nofile => 64,
        noise  => [qr/(?:accept4?\(\)|socket\(\)|pipe|socketpair|open).*failed \(24: /, qr/Too many open files/],
        server => 'location = /cat { websocket_exec /bin/cat; websocket_close_timeout 500ms; }',
    );
    my ($worker) = $poor->workers;
    my $idle = keys %{descriptors($worker)};
    my (@clients, $refused);
    for (1 .. 64) {
        my $client = Ws::Client->connect(port => $poor->port);
        my $response = eval { $client->{timeout} = 2; $client->handshake('/cat') };
        if (!$response || $response->{status} != 101) {
            $refused = $response ? $response->{status} : 'no answer';
            $client->abandon;
            last;
        }
        $client->{timeout} = $Ws::Client::TIMEOUT;
        push @clients, $client;
    }
    cmp_ok(scalar @clients, '>', 5, 'some were served: ' . @clients);
    is($refused, 503);
    $clients[0]->send(text('still here'));
    is($clients[0]->text, 'still here');
    is($_->close(1000), 'close 1000') for @clients;
    $poor->await_programs(0);
    await('all descriptors to be closed', sub { keys %{descriptors($worker)} <= $idle + 1 });
    my $client = Ws::Client->open($poor->port, '/cat');
    $client->send(text('again'));
    is($client->text, 'again');
    is($client->close(1000), 'close 1000');
    $poor->await_programs(0);
};

$poor->stop if $poor;
done_testing();
