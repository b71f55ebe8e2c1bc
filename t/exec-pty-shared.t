# A terminal that the clients of a channel share: websocket_exec_pty beside websocket_channel.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Time::HiRes qw(time);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;

plan skip_all => no_terminals() if no_terminals();

my $ngx = Ws::Nginx->new(
    workers => 2,
    noise   => [qr/worker process \d+ exited on signal 9/, qr/shared memory zone "ws_exec_\w+" was locked by/],
    http    => 'websocket_channel_zone 4m; add_header X-Worker $pid always;',
    server  => <<'EOT');
    websocket_exec_format bytes;
    websocket_exec_pty on;
    websocket_exec_env PS1=ready: TERM=dumb;
    websocket_channel_history length=1000;
    websocket_channel_start oldest;
    websocket_record %%PREFIX%%/rec/$arg_record;

    location = /sh       { websocket_exec /bin/sh; websocket_channel sh-$arg_id; }
    location = /writer   { websocket_exec /bin/sh; websocket_channel w-$arg_id; websocket_exec_pty_size writer; }
    location = /linger   { websocket_exec /bin/sh; websocket_channel linger; websocket_exec_linger 1h; }
    location = /bash     { websocket_exec /bin/bash --norc -i; websocket_channel bash; websocket_exec_stop 10s 20s; }
    location = /lines    { websocket_exec /bin/sh -c "stty -echo; echo begins; exec cat"; websocket_channel lines; websocket_exec_format lines; }
    location = /login    { websocket_exec %%PREFIX%%/bin/reopen; websocket_channel login; }
    location = /winch    { websocket_exec %%PREFIX%%/bin/winch; websocket_channel winch; }
    location = /watch    { websocket_channel $arg_id mode=sub; }
    location = /pub      { websocket_channel $arg_id mode=pub; }
EOT
# Tells of each change of its size.
$ngx->program('winch', <<'EOT');
#!/usr/bin/perl
$| = 1;
$SIG{WINCH} = sub { print 'size ', `stty size` };
print "begins\n";
while (1) { select undef, undef, undef, 60 }
EOT
$ngx->program('reopen', <<'EOT');
#!/usr/bin/perl
use POSIX;
$| = 1;
$SIG{HUP} = 'IGNORE';
my $name = POSIX::ttyname(0);
print "on $name\n";
<STDIN>;
close $_ for *STDIN, *STDOUT, *STDERR;
POSIX::close($_) for 0 .. 9;
select undef, undef, undef, 0.5;
POSIX::setsid();
POSIX::open($name, O_RDWR) == 0 or exit 8;
POSIX::dup2(0, 1);
POSIX::write(1, "again\n", 6);
POSIX::read(0, my $line, 100);
POSIX::write(1, "got $line", 4 + length $line);
POSIX::_exit(3);
EOT
mkdir $ngx->prefix . '/rec' or die "rec: $!\n";
chmod 0777, $ngx->prefix . '/rec';
$ngx->start;
my $port = $ngx->port;

sub worker_of { return $_[0]{head}{headers}{'x-worker'}[0] }

# at(worker, path): a client of this worker, or of another one if the worker is not.
sub at {
    my ($worker, $path) = @_;

    my $not = $worker =~ s/^not //;
    return await("a client of worker $worker", sub {
        my $client = Ws::Client->open($port, $path);
        return $client if (worker_of($client) == $worker) != $not;
        $client->abandon;
        return;
    });
}

# until(client, pattern): reads until it has come, and returns what did; sizes are in brackets.
sub read_until {
    my ($client, $pattern) = @_;

    my $got = '';
    while ($got !~ $pattern) {
        my $message = $client->message;
        if ($message->{opcode} == 1) {
            my ($rows, $columns) = $message->{payload} =~ /^\e\[8;(\d+);(\d+)t$/ or die "a text message: $message->{payload}\n";
            $got .= "[$rows $columns]";
        } else {
            $got .= $message->{payload};
        }
    }
    return $got;
}

sub size { return text("\e[8;$_[0];$_[1]t") }

# says(client, line, pattern): types a line, and returns all until the answer, and the prompt after it.
sub says {
    my ($client, $line, $pattern) = @_;

    $client->send(text("$line\n"));
    return read_until($client, qr/$pattern(?:.*\])?ready:$/s);
}

sub idle { $ngx->await_programs(0) }

case 'one terminal for clients of all workers' => sub {
    my $first = Ws::Client->open($port, '/sh');
    like(read_until($first, qr/ready:/), qr/^\ec.*ready:$/s, 'the screen is reset before the program writes');
    my $second = at('not ' . worker_of($first), '/sh');
    like(read_until($second, qr/ready:/), qr/^\ec.*ready:$/s, 'the history has the screen');
    like(says($second, 'tty', qr{/dev/pts/\d+\r\n}), qr/^tty\r\n/, 'what is typed is echoed');
    read_until($first, qr{/dev/pts/\d+\r\nready:});
    like(says($first, "echo \$((6*7)) caf\xc3\xa9", qr/42 .*\n/), qr/42 caf\xc3\xa9\r\n/);
    read_until($second, qr/42 caf\xc3\xa9\r\nready:/);
    $ngx->await_programs(1);
    # What is interrupted is interrupted for all.
    $second->send(text("sleep 1000\n"));
    $ngx->await_command(qr/^sleep 1000/);
    $first->send(text("\x03"));
    $ngx->await_programs(1);
    $_->abandon for $first, $second;
    idle();
};

case 'the size is the smallest of all clients, and all are told' => sub {
    my $first = Ws::Client->open($port, '/sh?id=size');
    read_until($first, qr/ready:/);
    like(says($first, 'stty size', qr/\d+ \d+\r\n/), qr/^stty size\r\n24 80\r\n/, 'at first');
    $first->send(size(50, 132));
    read_until($first, qr/\[50 132\]/);
    like(says($first, 'stty size', qr/\d+ \d+\r\n/), qr/\n50 132\r\n/);
    my $second = at('not ' . worker_of($first), '/sh?id=size');
    $second->send(size(60, 100));
    read_until($_, qr/\[50 100\]/) for $first, $second;
    my $third = at(worker_of($first), '/sh?id=size');
    $third->send(size(20, 200));
    read_until($_, qr/\[20 100\]/) for $first, $second, $third;
    like(says($third, 'stty size', qr/\d+ \d+\r\n/), qr/\n20 100\r\n/, 'the smallest of rows and of columns');
    $third->abandon;
    read_until($first, qr/\[50 100\]/);
    $second->abandon;
    read_until($first, qr/\[50 132\]/);
    # One that only watches, and one that says nothing of its size, do not count.
    my $watch = Ws::Client->open($port, '/watch?id=sh-size');
    my $silent = Ws::Client->open($port, '/sh?id=size');
    read_until($silent, qr/\[20 100\].*\[50 132\]/s);
    like(says($silent, 'stty size', qr/\d+ \d+\r\n/), qr/\n50 132\r\n/);
    read_until($watch, qr/\[20 100\].*50 132\r\nready:/s);
    $_->abandon for $first, $watch, $silent;
    idle();
};

case 'who only watches sends nothing' => sub {
    my $first = Ws::Client->open($port, '/sh?id=watch');
    read_until($first, qr/ready:/);
    for my $message (text("exit\n"), size(10, 10)) {
        my $watch = Ws::Client->open($port, '/watch?id=sh-watch');
        read_until($watch, qr/ready:/);
        $watch->send($message);
        like($watch->server_close, qr/^close 1008/);
    }
    like(says($first, 'stty size', qr/\d+ \d+\r\n/), qr/\n24 80\r\n/, 'and nothing of it has come');
    $first->abandon;
    idle();
};

case 'the size of the one who writes' => sub {
    my $first = Ws::Client->open($port, '/writer');
    read_until($first, qr/ready:/);
    $first->send(size(50, 132));
    read_until($first, qr/\[50 132\]/);
    my $second = at('not ' . worker_of($first), '/writer');
    my $third = at(worker_of($first), '/writer');
    $second->send(size(30, 90));
    read_until($first, qr/\[30 90\]/);
    $third->send(size(40, 80));
    read_until($first, qr/\[40 80\]/);
    for my $round (1 .. 2) {
        like(says($first, 'stty size', qr/\n\d+ \d+\r\n/), qr/\[50 132\].*\n50 132\r\n/s, 'of one worker');
        $second->send(text("stty size\n"));
        like(read_until($first, qr/\n30 90\r\nready:/), qr/\[30 90\]/, 'of the other worker');
    }
    $second->abandon;
    like(says($third, 'stty size', qr/\n40 80\r\n/), qr/\[30 90\].*\[40 80\].*\n40 80\r\n/s);
    $_->abandon for $first, $third;
    idle();
};

case 'who comes sees the screen drawn anew' => sub {
    my $first = Ws::Client->open($port, '/winch');
    read_until($first, qr/begins/);
    $first->send(size(30, 90));
    read_until($first, qr/\[30 90\].*size 30 90\r\n/s);
    my $second = at('not ' . worker_of($first), '/winch');
    $second->send(size(30, 90));
    like(read_until($second, qr/size 29 90.*size 30 90\r\n/s), qr/begins.*\[30 90\].*\[30 90\].*size 29 90/s,
        'the program has another size for a moment');
    $_->abandon for $first, $second;
    idle();
};

case 'it stays while nobody is there' => sub {
    my $client = Ws::Client->open($port, '/linger');
    read_until($client, qr/ready:/);
    $client->send(size(30, 90));
    like(says($client, 'secret=kept; echo here', qr/\nhere\r\n/), qr/here/);
    $client->reset;
    $ngx->await_programs(1);
    $client = at('not ' . worker_of($client), '/linger');
    like(read_until($client, qr/\nhere\r\n/), qr/^\ec.*\[30 90\].*here/s, 'the screen comes back');
    like(says($client, 'echo $secret; stty size', qr/\nkept\r\n\d+ \d+\r\n/), qr/\n30 90\r\n/, 'the same one, of the same size');
    $client->send(text("exit\n"));
    read_until($client, qr/exit\r\n/);
    is($client->server_close, 'close 1000');
    # The next one has the history of this one, and a screen of its own after it.
    $client = Ws::Client->open($port, '/linger');
    like(read_until($client, qr/exit.*\ec.*ready:$/s), qr/exit.*\ecready:$/s);
    request($port, 'DELETE', '/pub?id=linger');
    idle();
};

case 'a shell that ignores SIGTERM is hung up' => sub {
    my $client = Ws::Client->open($port, '/bash');
    read_until($client, qr/ready:/);
    # As soon as it runs, it is in the foreground of the terminal.
    $client->send(text("sh -c 'echo \$((1 + 1)); exec sleep 1000'\n"));
    read_until($client, qr/\n2\r\n/);
    my $since = time;
    $client->abandon;
    idle();
    cmp_ok(time - $since, '<', 8, 'before the first time of websocket_exec_stop');
};

case 'the worker that runs it is killed' => sub {
    my $owner = Ws::Client->open($port, '/sh?id=kill');
    read_until($owner, qr/ready:/);
    my $stays = at('not ' . worker_of($owner), '/sh?id=kill');
    read_until($stays, qr/ready:/);
    $stays->send(size(33, 77));
    read_until($stays, qr/\[33 77\]/);
    kill 'KILL', worker_of($owner);
    like(read_until($stays, qr/\ec(?=.*\[33 77\]).*ready:/s), qr/\ec/, 'another one begins with an empty screen, and has the size');
    like(says($stays, 'stty size', qr/\n\d+ \d+\r\n/), qr/\n33 77\r\n/);
    $_->abandon for $owner, $stays;
    idle();
    await('all workers', sub { $ngx->workers == 2 });
};

case 'a terminal that is hung up and opened again' => sub {
    my $client = Ws::Client->open($port, '/login');
    read_until($client, qr/on \S+\r\n/);
    $client->send(text("go\n"));
    read_until($client, qr/again\r\n/);
    $client->send(text("there\n"));
    read_until($client, qr/got there\r\n/);
    like($client->server_close, qr/^close 1011 exit 3/);
    idle();
};

case 'lines: for the sake of the buffers of a program, not of a terminal' => sub {
    my $client = Ws::Client->open($port, '/lines');
    is($client->text, 'begins', 'nothing but what the program writes');
    $client->send(size(10, 20), text('x'));
    is($client->text, 'x');
    $client->abandon;
    idle();
};

case 'a recording has the size that there is' => sub {
    my $other = Ws::Client->open($port, '/sh?id=rec');
    read_until($other, qr/ready:/);
    $other->send(size(30, 90));
    read_until($other, qr/\[30 90\]/);
    my $client = Ws::Client->open($port, '/sh?id=rec&record=shared.cast');
    $client->send(size(50, 132));
    read_until($client, qr/\[30 90\]/);
    says($client, 'echo $((6 * 7))', qr/42\r\n/);
    is($client->close(1000), 'close 1000');
    my $file = $ngx->prefix . '/rec/shared.cast';
    my $recorded = await('the recording', sub {
        open my $in, '<', $file or return;
        local $/;
        my $text = <$in>;
        return $text =~ /42/ && $text;
    });
    my @sizes = $recorded =~ /"r","(\w+)"/g;
    ok(@sizes && !(grep { $_ ne '90x30' } @sizes), 'the size of the terminal') or diag("@sizes");
    like($recorded, qr/"i","echo /, 'what this client typed');
    $other->abandon;
    idle();
};

$ngx->stop;
done_testing();
