# How a session ends when its program ends: the code, the reason, and nothing of the output lost.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Time::HiRes qw(time);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;

my $ngx = Ws::Nginx->new(http => <<'EOT', server => <<'EOT2');
    log_format exits "$uri$is_args$args status=[$websocket_exec_status] code=[$websocket_close_code]";
    access_log %%PREFIX%%/access.log exits;
EOT
    websocket_close_timeout 500ms;
    websocket_exec_stop 200ms 500ms;
    location = /sh      { websocket_exec %%PREFIX%%/bin/run $arg_what; }
    location = /long    { websocket_exec /usr/bin/seq 1 200000; }
    location = /unread  { websocket_exec %%PREFIX%%/bin/unread; }
    location = /holder  { websocket_exec %%PREFIX%%/bin/holder; }
    location = /quiet   { websocket_exec %%PREFIX%%/bin/quiet-holder; }
    location = /closed  { websocket_exec %%PREFIX%%/bin/closed; }
    location = /records { websocket_exec %%PREFIX%%/bin/records $arg_hex; websocket_exec_format messages; }
EOT2
$ngx->program('run', <<'EOT');
#!/bin/sh
case $1 in
exit*)   exit ${1#exit} ;;
signal*) kill -${1#signal} $$; sleep 60 ;;
last)    printf 'one\ntwo' ;;
fail)    printf 'one\ntwo'; exit 7 ;;
ignore)  exec 0<&-; echo done ;;
esac
EOT
# Writes 400 kB and ends, with input in its pipe that it never read.
$ngx->program('unread', <<'EOT');
#!/usr/bin/perl
$| = 1; print "ready\n";
select undef, undef, undef, 0.2;
print 'x' x 99, "\n" for 1 .. 4000;
print "last";
EOT
# Ends at once; a child of its own has the pipe and goes on writing.
$ngx->program('holder', <<'EOT');
#!/bin/sh
echo begin
(while :; do echo more; sleep 0.05; done) &
exit 0
EOT
$ngx->program('quiet-holder', "#!/bin/sh\necho begin\nsleep 600 &\nexit 5\n");
# Closes its output and lives on.
$ngx->program('closed', "#!/bin/sh\necho begin\nexec >&- 2>&-\nsleep 600\n");
$ngx->program('records', "#!/usr/bin/perl\nprint pack 'H*', shift;\n");
$ngx->start;

for my $row (
    ['exit 0',   '/sh?what=exit0',    'close 1000',           '0',        '1000'],
    ['exit 3',   '/sh?what=exit3',    'close 1011 exit 3',    '3',        '1011'],
    ['exit 255', '/sh?what=exit255',  'close 1011 exit 255',  '255',      '1011'],
    ['SIGKILL',  '/sh?what=signal9',  'close 1011 signal 9',  'signal 9', '1011'],
    ['SIGTERM',  '/sh?what=signal15', 'close 1011 signal 15', 'signal 15', '1011'],
    ['SIGSEGV',  '/sh?what=signal11', 'close 1011 signal 11', 'signal 11', '1011'],
) {
    my ($name, $path, $close, $status, $code) = @$row;
    case $name => sub {
        my $client = Ws::Client->open($ngx->port, $path);
        is($client->server_close, $close);
        $ngx->await_access_log(qr/^\Q$path\E status=\[$status\] code=\[$code\]$/m);
        $ngx->await_log(qr/\[(?:info|notice|warn|error)\].*(?:exit|status|signal)\D*\Q${\ ($status =~ s{signal }{}r)}\E/i) if $status ne '0';
    };
}

case 'the last line needs no newline' => sub {
    my $client = Ws::Client->open($ngx->port, '/sh?what=last');
    is($client->server_close, 'close 1000');
    is(join(' ', map { describe($_) } @{$client->{skipped}}), 'text "one" text "two"');
};

case 'nor when it fails' => sub {
    my $client = Ws::Client->open($ngx->port, '/sh?what=fail');
    is($client->server_close, 'close 1011 exit 7');
    is(join(' ', map { describe($_) } @{$client->{skipped}}), 'text "one" text "two"');
};

case 'a program that closes its stdin may talk on' => sub {
    my $client = Ws::Client->open($ngx->port, '/sh?what=ignore');
    $client->send(text('x')) for 1 .. 3;
    is($client->server_close, 'close 1000');
    is(join(' ', map { describe($_) } @{$client->{skipped}}), 'text "done"');
};

case 'a long output is delivered to the end' => sub {
    my $client = Ws::Client->open($ngx->port, '/long');
    is($client->server_close(60), 'close 1000');
    is(scalar @{$client->{skipped}}, 200_000);
    is($client->{skipped}[-1]{payload}, '200000');
};

case 'also to a client that begins to read only when the program is gone' => sub {
    my $client = Ws::Client->open($ngx->port, '/unread', rcvbuf => 4096);
    $client->reading(0);
    # It ends before that if sockets and pipe take all of it, which is the kernel's affair.
    eval { $ngx->await_programs(0, 2) };
    $client->reading(1);
    is($client->text, 'ready');
    is($client->server_close, 'close 1000');
    is(scalar @{$client->{skipped}}, 4001);
    is($client->{skipped}[-1]{payload}, 'last');
};

case 'everything comes although input was left unread' => sub {
    my $client = Ws::Client->open($ngx->port, '/unread');
    is($client->text, 'ready');
    $client->send(text('y' x 1000)) for 1 .. 30;
    is($client->server_close, 'close 1000');
    is(scalar @{$client->{skipped}}, 4001);
    is($client->{skipped}[-1]{payload}, 'last');
};

case 'everything comes although more input is left than the pipe takes' => sub {
    my $client = Ws::Client->open($ngx->port, '/unread');
    is($client->text, 'ready');
    $client->send(text('y' x 1000)) for 1 .. 500;
    is($client->server_close, 'close 1000');
    is(scalar @{$client->{skipped}}, 4001);
    is($client->{skipped}[-1]{payload}, 'last');
};

case 'a descendant that goes on writing is taken down by the stop ladder' => sub {
    my $since = time;
    my $client = Ws::Client->open($ngx->port, '/holder');
    is($client->text, 'begin');
    is($client->server_close, 'close 1000');
    cmp_ok(time - $since, '<', 5);
    $ngx->await_programs(0);
};

case 'a descendant that holds the pipe and is silent, too' => sub {
    my $since = time;
    my $client = Ws::Client->open($ngx->port, '/quiet');
    is($client->text, 'begin');
    is($client->server_close, 'close 1011 exit 5');
    cmp_ok(time - $since, '<', 5);
    $ngx->await_programs(0);
};

case 'a program that closes its output ends the session or keeps it, but never hangs its client' => sub {
    my $client = Ws::Client->open($ngx->port, '/closed');
    is($client->text, 'begin');
    my $frame = $client->maybe_frame(2);
    if ($frame) {
        like(describe($frame), qr/^close/);
        $client->send(close_frame(1000));
        is($client->end, 'eof');
    } else {
        $client->send(ping('x'));
        is(describe($client->frame), 'pong "x"');
        is($client->close(1000), 'close 1000');
    }
    $ngx->await_programs(0);
};

case 'a whole record before the end' => sub {
    my $client = Ws::Client->open($ngx->port, '/records?hex=' . unpack 'H*', "T 2\nab");
    is($client->server_close, 'close 1000');
    is(describe($client->{skipped}[0]), 'text "ab"');
};

for my $row (['half a head', 'T 1'], ['half a payload', "T 4\nab"], ['pieces without an end', "t 2\nab"]) {
    my ($name, $octets) = @$row;
    case "$name at the end is a failure" => sub {
        my $client = Ws::Client->open($ngx->port, '/records?hex=' . unpack 'H*', $octets);
        like($client->server_close, qr/^close 1011/);
    };
}

case 'nothing is left' => sub {
    $ngx->await_programs(0);
    $ngx->no_zombies;
};

$ngx->stop;
done_testing();
