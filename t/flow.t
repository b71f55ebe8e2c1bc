# Flow control: whoever does not read slows the other down, costs bounded memory, and blocks nobody else.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Time::HiRes qw(time);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Process qw(status_field cpu_ticks);

# What a session may cost beyond its limits, in kB, the allocator's slack included.
use constant SLACK => 6 * 1024;

my $ngx = Ws::Nginx->new(tls => 1, server => <<'EOT');
    # What is queued at the end must get through a slow client.
    websocket_close_timeout 15s;
    websocket_exec_stop 100ms 300ms;
    location = /cat     { websocket_exec /bin/cat; }
    location = /echo    { websocket_exec /bin/cat; websocket_exec_format messages; }
    location = /flood   { websocket_exec /usr/bin/yes 0123456789012345678901234567890123456789; }
    location = /zero    { websocket_exec /bin/cat /dev/zero; websocket_exec_format bytes; }
    location = /sleep   { websocket_exec /bin/sleep 600; }
    location = /line    { websocket_exec %%PREFIX%%/bin/line; }
    location = /reverse { websocket_exec %%PREFIX%%/bin/reverse; }
EOT
# One line of 20 MB.
$ngx->program('line', "#!/usr/bin/perl\nprint 'x' x 20_000_000, \"\\n\", \"next\\n\";\n");
# Reads everything until a line says "go", then answers with the number of lines.
$ngx->program('reverse', <<'EOT');
#!/usr/bin/perl
$| = 1;
my $lines = 0;
while (<STDIN>) { last if /^go$/; $lines++ }
print "$lines\n";
EOT
$ngx->start;
my ($worker) = $ngx->workers;

sub rss { return status_field($worker, 'VmRSS') }

# A client is paused: the worker neither grows nor spins.
sub is_idle {
    my ($name) = @_;

    my ($ticks, $since) = (cpu_ticks($worker), time);
    select undef, undef, undef, 0.5;
    return if instrumented();
    cmp_ok(cpu_ticks($worker) - $ticks, '<=', 10, "$name: the worker is idle");
}

# Everything is loaded once before anything is measured.
Ws::Client->open($ngx->port, '/cat')->close(1000);

for my $tls (0, 1) {
    my $how = $tls ? 'TLS' : 'plain';
    my @to = ($tls ? $ngx->tls_port : $ngx->port);

    for my $path (qw(/flood /zero)) {
        case "$how: a flooding program and a client that does not read ($path)" => sub {
            my $before = rss();
            my $client = Ws::Client->open(@to, $path, tls => $tls, rcvbuf => 8192);
            $client->reading(0);
            my ($program) = $ngx->await_programs(1);
            await_paused($program);
            is_idle('paused');
            grew_less($worker, $before, SLACK, 'memory');
            my $other = Ws::Client->open($ngx->port, '/cat');
            $other->send(text('alive'));
            is($other->text, 'alive', 'another session is served');
            is($other->close(1000), 'close 1000');
            # And it goes on where it was.
            $client->reading(1);
            my $octets = 0;
            while ($octets < 4_000_000) { $octets += length $client->message->{payload} }
            grew_less($worker, $before, SLACK, 'memory while it flows');
            $client->send(close_frame(1000));
            is(describe(($client->frames)[-1]), 'close 1000');
            $ngx->await_programs(0);
        };
    }

    case "$how: a flooding client and a program that does not read" => sub {
        my $before = rss();
        my $client = Ws::Client->open(@to, '/sleep', tls => $tls, sndbuf => 65_536);
        $ngx->await_programs(1);
        # What the client may have outstanding: the kernel's buffers, the pipe, and websocket_max_message_size.
        my $sent = $client->send_until_stalled(text('x' x 1000), 0.5);
        cmp_ok($sent, '>', 64 * 1024, "octets taken: $sent");
        cmp_ok($sent, '<', 16 * 1024 * 1024, 'but not without bound');
        is_idle('paused');
        grew_less($worker, $before, SLACK, 'memory');
        my $other = Ws::Client->open($ngx->port, '/cat');
        $other->send(text('alive'));
        is($other->text, 'alive', 'another session is served');
        is($other->close(1000), 'close 1000');
        $client->reset;
        $ngx->await_programs(0);
    };

    case "$how: Ping and Close are answered while the program's stdin is blocked" => sub {
        my $client = Ws::Client->open(@to, '/sleep', tls => $tls);
        $ngx->await_programs(1);
        # More than a pipe takes, less than what is read ahead.
        $client->send(text('x' x 1000)) for 1 .. 300;
        $client->send(ping("number $_")) for 1 .. 3;
        is(describe($client->frame), "pong \"number $_\"") for 1 .. 3;
        $client->send(text('y' x 1000), ping('again'));
        is(describe($client->frame), 'pong "again"');
        my $since = time;
        is($client->close(4000), 'close 4000');
        cmp_ok(time - $since, '<', 2);
        $ngx->await_programs(0);
    };
}

case 'a line of 20 MB' => sub {
    my $before = rss();
    my $client = Ws::Client->open($ngx->port, '/line', rcvbuf => 262_144);
    my $message = $client->message(60);
    is(length $message->{payload}, 20_000_000);
    is($message->{payload} =~ tr/x//, 20_000_000);
    is($client->text, 'next');
    is($client->server_close, 'close 1000');
    grew_less($worker, $before, SLACK, 'memory');
};

case 'a message of 2000 lines through cat' => sub {
    my $client = Ws::Client->open($ngx->port, '/cat');
    $client->send(text(join "\n", map { 'z' x 500 } 1 .. 2000));
    my $lines = 0;
    while ($lines < 2000) { $lines += 1 + ($client->message(60)->{payload} =~ tr/\n//) }
    is($lines, 2000);
    is($client->close(1000), 'close 1000');
};

case '20,000 pipelined messages through cat' => sub {
    for my $path (qw(/cat /echo)) {
        my $client = Ws::Client->open($ngx->port, $path);
        $client->send(join '', map { text("message number $_") } 1 .. 20_000);
        my $wrong = 0;
        for (1 .. 20_000) { $wrong++ if $client->text(60) ne "message number $_" }
        is($wrong, 0, $path);
        is($client->close(1000), 'close 1000');
    }
};

case 'the same when the client reads only after it has sent everything it can' => sub {
    my $client = Ws::Client->open($ngx->port, '/cat', rcvbuf => 65_536, sndbuf => 65_536);
    $client->reading(0);
    my $before = rss();
    my $one = text('w' x 990);
    my $sent = $client->send_until_stalled($one, 0.5);
    grew_less($worker, $before, SLACK, 'memory');
    $client->reading(1);
    my $whole = int(($sent + length($one) - 1) / length $one);
    my $wrong = 0;
    for (1 .. $whole) { $wrong++ if length $client->text(60) != 990 }
    is($wrong, 0, "$whole messages");
    is($client->close(1000), 'close 1000');
};

case 'a flood of Pings from a client that does not read stays in bounded memory' => sub {
    my $client = Ws::Client->open($ngx->port, '/cat', rcvbuf => 8192);
    $client->reading(0);
    my $before = rss();
    my $octets = ping('p' x 125) x 1000;
    my $sent = 0;
    for (1 .. 200) {
        $client->send($octets);
        my $ok = eval { $client->flush(0.5) };
        last if !$ok || $client->{end} || $client->{broken};
        $sent += length $octets;
    }
    grew_less($worker, $before, SLACK, 'memory');
    $client->reset;
    $ngx->await_programs(0);
};

case 'a client that talks much and is answered late' => sub {
    my $client = Ws::Client->open($ngx->port, '/reverse');
    my $chunk = text('v' x 100) x 1000;
    my $before = rss();
    for (1 .. 50) { $client->send($chunk)->flush }
    $client->send(text('go'));
    is($client->text, 50_000);
    grew_less($worker, $before, SLACK, 'memory');
    is($client->server_close, 'close 1000');
};

$ngx->stop;
done_testing();
