# What a program starts with: descriptors, signals, process group, directory; and what it does with stderr.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Cwd qw(abs_path);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Process qw(descriptors status_field group session parent);

my $ngx = Ws::Nginx->start(tls => 1, workers => 1, server => <<'EOT');
    websocket_close_timeout 500ms;
    location = /cat     { websocket_exec /bin/cat; }
    location = /in      { websocket_exec /bin/cat; websocket_exec_cwd %%PREFIX%%/html; }
    location = /var     { websocket_exec /bin/cat; websocket_exec_cwd %%PREFIX%%/$arg_dir; }
    location = /own     { websocket_exec %%PREFIX%%/bin/own; }
    location = /log     { websocket_exec %%PREFIX%%/bin/stderr; }
    location = /client  { websocket_exec %%PREFIX%%/bin/stderr; websocket_exec_stderr client; }
    location = /null    { websocket_exec %%PREFIX%%/bin/stderr; websocket_exec_stderr null; }
    location = /pipe    { websocket_exec %%PREFIX%%/bin/pipe; }
    location = /name    { websocket_exec cat; }
EOT
$ngx->program('own', "#!/bin/sh\nexec cat\n");
$ngx->program('stderr', <<'EOT');
#!/usr/bin/perl
$| = 1;
print STDERR "one\nesc\e[31m \"quoted\" \x80\nlast";
print "done\n";
EOT
$ngx->program('pipe', <<'EOT');
#!/usr/bin/perl
# A child that writes to a pipe nobody reads must die of SIGPIPE, as everywhere else.
pipe my $r, my $w;
if (!(my $pid = fork)) { close $r; sleep 1 while syswrite $w, 'x'; exit 0 }
close $w; close $r; wait;
print "signal ", $? & 127, "\n";
EOT

sub one_program {
    my ($path, $code, @opt) = @_;

    my $client = Ws::Client->open($ngx->port, $path, @opt);
    my ($pid) = $ngx->await_programs(1);
    $code->($pid);
    is($client->close(1000), 'close 1000');
    $ngx->await_programs(0);
}

case 'descriptors 0 to 2, pipes all' => sub {
    # Other sessions, with and without TLS, and an idle HTTP connection, all of which the program must not hold.
    my @others = (
        Ws::Client->open($ngx->port, '/cat'), Ws::Client->open($ngx->tls_port, '/cat', tls => 1),
        Ws::Client->connect(port => $ngx->port),
    );
    my %before = map { $_ => 1 } $ngx->await_programs(2);
    my $client = Ws::Client->open($ngx->port, '/cat');
    for my $pid ($ngx->await_programs(3)) {
        my $has = descriptors($pid);
        # One more is valgrind's own.
        is_deeply([sort { $a <=> $b } keys %$has], [0, 1, 2], 'the numbers') if !under_valgrind();
        like($has->{$_}, qr/^(?:pipe|socket):/, "descriptor $_") for 0, 1;
    }
    is($_->close(1000), 'close 1000') for $client, @others[0, 1];
    $ngx->await_programs(0);
};

case 'its end of the pipes blocks' => sub {
    one_program('/cat', sub {
        my ($pid) = @_;
        for my $fd (0, 1) {
            open my $in, '<', "/proc/$pid/fdinfo/$fd" or die "fdinfo: $!\n";
            my ($flags) = map { /^flags:\s*([0-7]+)/ ? oct $1 : () } <$in>;
            is($flags & 04000, 0, "no O_NONBLOCK on $fd");
        }
    });
};

case 'signals are as after login' => sub {
    one_program('/cat', sub {
        my ($pid) = @_;
        is(hex status_field($pid, 'SigIgn'), 0, 'none ignored');
        is(hex status_field($pid, 'SigBlk'), 0, 'none blocked');
        is(hex status_field($pid, 'SigCgt'), 0, 'none caught');
    });
};

case 'SIGPIPE works' => sub {
    my $client = Ws::Client->open($ngx->port, '/pipe');
    is($client->text, 'signal 13');
    is($client->server_close, 'close 1000');
};

case 'a group of its own, away from nginx' => sub {
    one_program('/cat', sub {
        my ($pid) = @_;
        is(group($pid), $pid, 'leader of its group');
        isnt(group($pid), group($ngx->master), 'not in that of nginx');
        is(session($pid), session($ngx->spawners), 'no session of its own, which the scheduler would take for another user');
    });
};

case 'its parent is the spawner, which holds no socket of a client' => sub {
    my $client = Ws::Client->open($ngx->port, '/cat');
    my ($pid) = $ngx->await_programs(1);
    my ($spawner) = $ngx->spawners;
    is(parent($pid), $spawner, 'the parent');
    my %inet;
    for my $table (qw(tcp tcp6)) {
        open my $in, '<', "/proc/net/$table" or next;
        while (<$in>) { my @f = split; $inet{"socket:[$f[9]]"} = 1 if defined $f[9] }
    }
    my $has = descriptors($spawner);
    is_deeply([grep { $inet{$_} } values %$has], [], 'no TCP socket');
    cmp_ok(scalar keys %$has, '<', 12, 'few descriptors at all') if !under_valgrind();
    is($client->close(1000), 'close 1000');
    $ngx->await_programs(0);
};

case 'one spawner a worker' => sub {
    is(scalar $ngx->spawners, 1);
};

case 'it starts in its own directory' => sub {
    one_program('/own', sub { is(readlink "/proc/$_[0]/cwd", $ngx->prefix . '/bin') });
    one_program('/cat', sub { is(readlink "/proc/$_[0]/cwd", abs_path('/bin')) });
};

case 'websocket_exec_cwd' => sub {
    one_program('/in', sub { is(readlink "/proc/$_[0]/cwd", $ngx->prefix . '/html') });
    one_program('/var?dir=conf', sub { is(readlink "/proc/$_[0]/cwd", $ngx->prefix . '/conf') });
};

case 'stderr goes to the error log, escaped' => sub {
    my $client = Ws::Client->open($ngx->port, '/log');
    is($client->server_close, 'close 1000');
    is(join(',', map { $_->{payload} } @{$client->{skipped}}), 'done');
    like($ngx->await_log(qr/.*\[error\].*\bone\b.*/), qr/one/);
    my $line = $ngx->await_log(qr/.*\[error\].*esc.*quoted.*/);
    unlike($line, qr/[^\x20-\x7e]/, 'nothing but printable ASCII');
    $ngx->await_log(qr/.*\[error\].*\blast\b.*/);
};

case 'stderr goes to the client' => sub {
    my $client = Ws::Client->open($ngx->port, '/client');
    like($client->server_close, qr/^close (?:1000|1007)/);
    my @got = sort map { describe($_) } @{$client->{skipped}};
    ok((grep { $_ eq 'text "one"' } @got), 'the first line') or diag(join ', ', @got);
    ok((grep { $_ eq 'text "done"' } @got), 'and stdout');
};

case 'stderr goes nowhere' => sub {
    my $before = () = $ngx->log =~ /quoted/g;
    my $client = Ws::Client->open($ngx->port, '/null');
    is($client->server_close, 'close 1000');
    is(join(',', map { $_->{payload} } @{$client->{skipped}}), 'done');
    my $after = () = $ngx->log =~ /quoted/g;
    is($after, $before);
};

case 'a program without a path is looked for in PATH, or refused' => sub {
    my $client = Ws::Client->connect(port => $ngx->port);
    my $status = $client->handshake('/name')->{status};
    ok($status == 101 || $status == 500, "status $status");
    $client->abandon;
    $ngx->await_programs(0);
};

$ngx->stop;
done_testing();
