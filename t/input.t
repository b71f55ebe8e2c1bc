# What a client has sent before it closes is for the program: all of it, unless the program does not take it.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Digest::MD5 qw(md5_hex);
use Time::HiRes qw(time);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;

my $ngx = Ws::Nginx->new(tls => 1, server => <<'EOT');
    websocket_max_message_size 4m;
    websocket_exec_env OUT=%%PREFIX%%/$arg_out;
    location = /lines    { websocket_exec %%PREFIX%%/bin/save; }
    location = /bytes    { websocket_exec %%PREFIX%%/bin/save; websocket_exec_format bytes; }
    location = /messages { websocket_exec %%PREFIX%%/bin/save; websocket_exec_format messages; }
    location = /small    { websocket_exec %%PREFIX%%/bin/save; websocket_max_message_size 64k; }
    location = /tee      { websocket_exec %%PREFIX%%/bin/tee; websocket_exec_format bytes; }
    location = /late     { websocket_exec %%PREFIX%%/bin/late; websocket_exec_format bytes; }
    location = /slow     { websocket_exec %%PREFIX%%/bin/slow; websocket_exec_format bytes; }
    location = /pty      { websocket_exec %%PREFIX%%/bin/save; websocket_exec_pty on; websocket_exec_format bytes; }
    location = /never    { websocket_exec %%PREFIX%%/bin/never; websocket_exec_stop 100ms 3s; }
    location = /shared   { websocket_exec %%PREFIX%%/bin/save; websocket_channel $arg_out; }
    location = /shared-late  { websocket_exec %%PREFIX%%/bin/late; websocket_channel $arg_out; }
    location = /shared-never { websocket_exec %%PREFIX%%/bin/never; websocket_channel $arg_out; websocket_exec_stop 100ms 1s; }
EOT
# Each writes what it reads to a file, and renames that at the end of its input.
my $save = <<'EOT';
open my $out, '>', "$ENV{OUT}.part" or die;
while (sysread STDIN, my $octets, %SIZE%) { syswrite $out, $octets; %ALSO% }
close $out;
rename "$ENV{OUT}.part", $ENV{OUT} or die;
EOT
sub saver {
    my ($name, $before, $size, $also) = @_;
    $ngx->program($name, "#!/usr/bin/perl\n$before\n" . ($save =~ s/%SIZE%/$size/r =~ s/%ALSO%/$also/r));
}
saver('save', '', 65_536, '');
# Whoever passes its input on must be able to.
saver('tee', '', 65_536, 'my $at = 0; while ($at < length $octets) { $at += syswrite STDOUT, $octets, length($octets) - $at, $at }');
saver('late', 'select undef, undef, undef, 1;', 65_536, '');
saver('slow', '', 8192, 'select undef, undef, undef, 0.02;');
$ngx->program('never', <<'EOT');
#!/usr/bin/perl
$SIG{TERM} = sub { syswrite STDERR, "asked to end\n"; select undef, undef, undef, 0.3; syswrite STDERR, "ends now\n"; exit 3 };
sleep 600;
EOT
$ngx->start;

my $number = 0;

# The file that a program has written, once it has come to the end of its input.
sub saved {
    my ($out) = @_;

    my $file = $ngx->prefix . "/$out";
    await("the input of $out", sub { -e $file }, instrumented() ? 120 : 30);
    return $ngx->read_file($out);
}

sub lines { return map { 'x' x 990 . sprintf '%09d', $_ } 1 .. $_[0] }

for my $count (100, 1000) {
    for my $how ('Close', 'FIN', 'TLS') {
        for my $path (qw(/lines /bytes /messages /small /tee /late /slow /shared /shared-late)) {
            next if $path eq '/slow' && $count == 1000;
            case "$path: ${\ ($count)} kB and $how at once" => sub {
                my $out = 'out' . ++$number;
                my @to = $how eq 'TLS' ? ($ngx->tls_port, "$path?out=$out", tls => 1) : ($ngx->port, "$path?out=$out");
                my $client = Ws::Client->open(@to);
                my @lines = lines($count);
                $client->send(map { text($_) } @lines);
                if ($how eq 'FIN') {
                    $client->fin;
                    is($client->end, 'eof') if $path ne '/tee';
                } else {
                    like($client->close(1000), qr/^close 1000/);
                }
                my $expected = join '', map {
                    $path =~ /bytes|tee|^.late|slow/ ? $_ : $path eq '/messages' ? "T 999\n$_" : "$_\n"
                } @lines;
                my $got = saved($out);
                is(length $got, length $expected);
                is(md5_hex($got), md5_hex($expected));
                $ngx->await_programs(0);
            };
        }
    }
}

case 'on a terminal' => sub {
    plan skip_all => no_terminals() if no_terminals();
    for my $how (qw(Close FIN)) {
        my $out = 'out' . ++$number;
        my $client = Ws::Client->open($ngx->port, "/pty?out=$out");
        my $octets = join '', map { "$_\n" } lines(200);
        $client->send(binary($octets));
        if ($how eq 'FIN') { $client->fin } else { $client->send(close_frame(1000))->flush }
        is(md5_hex(saved($out)), md5_hex($octets), $how);
        $client->reset;
        $ngx->await_programs(0);
    }
};

case 'a message in pieces, and one whose end was never sent' => sub {
    for my $how (qw(Close FIN)) {
        my $out = 'out' . ++$number;
        my $client = Ws::Client->open($ngx->port, "/bytes?out=$out");
        my $rest = cont('b' x 150_000);
        $client->send(text('a' x 150_000, fin => 0), substr $rest, 0, 100_008, '');
        if ($how eq 'FIN') { $client->fin } else { $client->send($rest, close_frame(1000))->flush }
        my $got = saved($out);
        is($got =~ tr/a//, 150_000, "$how: the first piece");
        is($got =~ tr/b//, $how eq 'FIN' ? 99_994 : 150_000, "$how: and of the second one what came");
        $client->abandon;
        $ngx->await_programs(0);
    }
};

case 'a program that does not read is stopped by its ladder, and the log says what is lost' => sub {
    my $client = Ws::Client->open($ngx->port, '/never');
    $client->send(text('x' x 1000)) for 1 .. 300;
    $client->flush;
    my $since = time;
    is($client->close(1000), 'close 1000');
    cmp_ok(time - $since, '<', 3, 'the client does not wait for it');
    $ngx->await_programs(0);
    cmp_ok(time - $since, '<', 10);
    $ngx->await_log(qr/does not read: \d+ octets of a client that has gone are lost/);
    $ngx->await_log(qr/asked to end/);
    $ngx->await_log(qr/ends now/);
};

case 'the same for the last client of a shared one' => sub {
    my $client = Ws::Client->open($ngx->port, '/shared-never?out=never');
    $client->send(text('x' x 1000)) for 1 .. 300;
    $client->flush;
    my $since = time;
    is($client->close(1000), 'close 1000');
    $ngx->await_programs(0);
    cmp_ok(time - $since, '<', 10);
    $ngx->await_log(qr/for channel .* does not read: \d+ octets of clients that have gone are lost/);
};

$ngx->stop;
done_testing();
