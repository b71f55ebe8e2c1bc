# What a program writes to its standard error: at the level error, quoted, and not more than a log should hold.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;

my $ngx = Ws::Nginx->new(server => <<'EOT');
    error_log %%PREFIX%%/stock.log;
    websocket_close_timeout 500ms;
    location /a      { websocket_exec %%PREFIX%%/bin/run $arg_what; }
    location /both   { websocket_exec %%PREFIX%%/bin/run $arg_what; websocket_exec_stderr both; }
    location /sharedboth { websocket_exec %%PREFIX%%/bin/run $arg_what; websocket_channel both$arg_what; websocket_exec_stderr both; }
    location /shared { websocket_exec %%PREFIX%%/bin/run $arg_what; websocket_channel shared$arg_what; }
EOT
$ngx->program('run', <<'EOP');
#!/usr/bin/perl
$| = 1;
my $what = shift;
if ($what eq 'trace') { print STDERR "Traceback:\n  say \"hi\"\x07\n"; exit 1 }
if ($what eq 'flood') { print STDERR "flood $_ " . 'x' x 80 . "\n" for 1 .. 200_000; print STDERR "the reason\n"; exit 4 }
if ($what eq 'signal') { kill 'ABRT', $$; sleep 10 }
if ($what eq 'says') { print "to stdout\n"; print STDERR "to stderr\x01\n"; 1 while <STDIN>; exit 0 }
if ($what eq 'reads') { 1 while <STDIN>; exit 9 }
EOP
$ngx->start;

sub stock { return $ngx->read_file('stock.log') }

# until_log(pattern): the line of the log with the stock level that matches.
sub until_log {
    my ($pattern) = @_;

    my $line;
    await("$pattern in the log", sub { ($line) = stock() =~ /^(.*$pattern.*)$/m });
    return $line;
}

for my $path (qw(/a /shared)) {
    case "$path: a traceback, and how it ended" => sub {
        my $client = Ws::Client->open($ngx->port, "$path?what=trace");
        like($client->server_close, qr/^close 1011 exit 1/);
        until_log(qr/\[error\].*Traceback:"/);
        my $line = until_log(qr/\[error\].*say/);
        like($line, qr/"  say "hi"\\x07"/, 'quoted, escaped');
        like(until_log(qr/\[error\].*run".*ended by itself with exit 1/), qr/bin\/run/);
    };
}

case 'a signal' => sub {
    my $client = Ws::Client->open($ngx->port, '/a?what=signal');
    like($client->server_close, qr/^close 1011 signal 6/);
    until_log(qr/\[error\].*ended by itself with signal 6/);
};

for my $path (qw(/both /sharedboth)) {
    case "$path: in the log and for the client, who can tell" => sub {
        # A program that is shared has no request in whose log it could be.
        my $log = sub { $path eq '/both' ? stock() : $ngx->log };
        my $before = length $log->();
        my $client = Ws::Client->open($ngx->port, "$path?what=says");
        # They come by two pipes, in no certain order.
        my @got = sort map { $client->text } 1 .. 2;
        is_deeply(\@got, ["stderr: to stderr\x01", 'to stdout']);
        my $said;
        await('it is in the log', sub { ($said) = substr($log->(), $before) =~ /^(.*\[error\].*to stderr.*)$/m });
        like($said, qr/"to stderr\\x01"/, 'as it was written, and escaped');
        $client->close(1000);
        $ngx->await_programs(0);
    };
}

case 'a program that was told to go is no news' => sub {
    my $client = Ws::Client->open($ngx->port, '/a?what=reads');
    is($client->close(1000), 'close 1000');
    $ngx->await_programs(0);
    unlike(stock(), qr/exit 9/);
};

case 'a flood: bounded, counted, and its end is there' => sub {
    my $before = length stock();
    my $client = Ws::Client->open($ngx->port, '/a?what=flood');
    like($client->server_close, qr/^close 1011 exit 4/);
    until_log(qr/the reason/);
    my $log = substr stock(), $before;
    # So much a second: a worker that is watched takes longer to read all of it.
    cmp_ok(length $log, '<', instrumented() ? 8 << 20 : 1 << 20, 'of 18 MB');
    my $written = () = $log =~ /"flood \d+ x+"/g;
    my $dropped = 0;
    $dropped += $_ for $log =~ /(\d+) lines \(\d+ bytes\) are not logged/g;
    is($written + $dropped, 200_000, 'every line is there or counted');
    like($log, qr/"flood 200000 x+"/, 'the last ones');
};

$ngx->stop;
done_testing;
