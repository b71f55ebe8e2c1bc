# An endpoint that takes nothing, a client that takes little or is gone: nobody waits for ever, and nobody loses octets unseen.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Digest::MD5 qw(md5_hex);
use Socket qw(SOL_SOCKET SO_RCVBUF);
use Time::HiRes qw(time sleep);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Process qw(descriptors cpu_ticks status_field);
use Ws::Service;

use constant SLACK => 8 * 1024;

my $service = Ws::Service->listen(rcvbuf => 8192);
my $address = $service->address;
my $wide = Ws::Service->listen;
my $at = $wide->address;

my $ngx = Ws::Nginx->new(http => <<'EOT', server => <<"EOT2");
    log_format ends '$uri code=[$websocket_close_code] by=[$websocket_closed_by] status=[$websocket_exec_status]';
    access_log %%PREFIX%%/access.log ends;
EOT
    websocket_close_timeout 1s;
    websocket_exec_stop 100ms 300ms;
    location = /tcp       { websocket_tcp $address; }
    location = /tcp/pings { websocket_tcp $address; websocket_ping_interval 1s; websocket_ping_timeout 1s; }
    location = /tcp/time  { websocket_tcp $address; websocket_tcp_send_timeout 2s; }
    location = /wide      { websocket_tcp $at; }
    location = /sleep     { websocket_exec /bin/sleep 600; }
    location = /exec/time { websocket_exec /bin/sleep 600; websocket_exec_send_timeout 2s; }
    location = /exec/slow { websocket_exec %%PREFIX%%/bin/slow; websocket_exec_send_timeout 2s; websocket_exec_format bytes; }
    location = /shared    { websocket_exec /bin/sleep 600; websocket_channel c; websocket_exec_send_timeout 2s; }
    location = /flood     { websocket_tcp $at; websocket_ping_interval 1s; websocket_ping_timeout 2s;
                            websocket_send_timeout 2s; }
    location = /cat       { websocket_exec /bin/cat; websocket_exec_stop 20s 20s; }
    location = /exit      { websocket_exec %%PREFIX%%/bin/exit; websocket_exec_stop 20s 20s; }
EOT2
$ngx->program('slow', <<'EOT');
#!/usr/bin/perl
while (sysread STDIN, my $octets, 10) { select undef, undef, undef, 0.2 }
EOT
$ngx->program('exit', <<'EOT');
#!/usr/bin/perl
1 while <STDIN>;
exit 7;
EOT
$ngx->start;
my ($worker) = $ngx->workers;

sub pair {
    my ($path, %opt) = @_;
    my $client = Ws::Client->open($ngx->port, $path, %opt);
    return ($client, ($path eq '/wide' || $path eq '/flood' ? $wide : $service)->accept);
}

# Everything is loaded once before anything is measured.
Ws::Client->open($ngx->port, '/cat')->close(1000);

case 'Ping and Close are answered while the service takes nothing' => sub {
    my ($client, $peer) = pair('/tcp');
    # More than its buffers take.
    $client->send(binary('x' x 50_000)) for 1 .. 60;
    $client->send(ping('behind'));
    is(describe($client->frame), 'pong "behind"');
    my $since = time;
    is($client->close(1000), 'close 1000');
    cmp_ok(time - $since, '<', 3);
    is(length $peer->rest, 3_000_000, 'all of it arrives');
    is($peer->how, 'eof');
};

case 'a flood for a service that takes nothing costs bounded memory' => sub {
    my $before = status_field($worker, 'VmRSS');
    my ($client, $peer) = pair('/tcp');
    my $sent = $client->send_until_stalled(binary('y' x 65_000), 1);
    grew_less($worker, $before, SLACK, "memory ($sent octets)");
    my $ticks = cpu_ticks($worker);
    sleep 0.5;
    cmp_ok(cpu_ticks($worker) - $ticks, '<=', 10, 'the worker is idle') if !instrumented();
    $client->reset;
    is(length $peer->rest > 0, 1);
};

case 'pings go on, and a client that has vanished behind unread octets is noticed' => sub {
    my $count = keys %{descriptors($worker)};
    my ($client, $peer) = pair('/tcp/pings');
    $client->send_until_stalled(binary('z' x 65_000), 1);
    is(describe($client->frame), 'ping ""');
    is(describe($client->frame), 'ping ""', 'a client that takes its Pings is alive');
    $client->abandon;
    await('the session to be gone', sub { keys %{descriptors($worker)} <= $count + 1 });
    pass('it is');
    $peer->close;
};

case 'websocket_tcp_send_timeout' => sub {
    my ($client, $peer) = pair('/tcp/time');
    $client->send(binary('x' x 50_000)) for 1 .. 60;
    my $since = time;
    my ($close) = grep { $_->{opcode} == CLOSE } $client->frames;
    like(describe($close), qr/^close 1014 the service does not read/);
    cmp_ok(time - $since, '>', 1.5);
    cmp_ok(time - $since, '<', 10);
    $ngx->await_log(qr/the service does not read/);
    $client->abandon;
};

case 'websocket_exec_send_timeout' => sub {
    for my $path ('/exec/time', '/shared') {
        my $client = Ws::Client->open($ngx->port, $path);
        my $since = time;
        $client->send(text('x' x 50_000)) for 1 .. 60;
        my ($close) = grep { $_->{opcode} == CLOSE } $client->frames;
        like(describe($close), qr/^close 1011 the program does not read/, $path);
        cmp_ok(time - $since, '>', 1.5);
        cmp_ok(time - $since, '<', 10);
        $client->abandon;
        $ngx->await_programs(0);
    }
};

case 'a slow program is none that does not read' => sub {
    my $client = Ws::Client->open($ngx->port, '/exec/slow');
    $client->send(binary('x' x 90_000));
    is($client->maybe_frame(5), undef);
    is($client->close(1000), 'close 1000');
    # It has much to read yet.
    kill KILL => $ngx->programs;
    $ngx->await_programs(0);
};

case 'FIN without Close after a stall: all of it arrives' => sub {
    my ($client, $peer) = pair('/wide');
    my $octets = join '', map { pack 'N', $_ * 2654435761 % 4294967296 } 1 .. 250_000;
    if (!fork) {
        # What waits for the service is read after a while.
        $client->send(binary($octets)) for 1 .. 10;
        eval { $client->flush(30); shutdown $client->{socket}, 1; sleep 20 };
        POSIX::_exit(0);
    }
    $client->abandon;
    sleep 1;
    my $got = $peer->rest;
    is($peer->how, 'eof');
    is(length $got, 10_000_000);
    is(md5_hex($got), md5_hex($octets x 10));
};

case 'FIN without Close, and the service never goes on: it sees a reset' => sub {
    my ($client, $peer) = pair('/tcp/time');
    $client->send_until_stalled(binary('z' x 65_000), 1);
    shutdown $client->{socket}, 1;
    my $lines = () = $ngx->access_log =~ m{^/tcp/time}mg;
    await('the session to end', sub { (() = $ngx->access_log =~ m{^/tcp/time}mg) > $lines }, 30);
    $peer->rest;
    is($peer->how, 'reset');
    $client->abandon;
};

case 'the service ends in the middle of a message of the client, and that does not' => sub {
    my ($client, $peer) = pair('/wide');
    $client->send(binary('begun', fin => 0));
    is($peer->read(5), 'begun');
    $peer->fin;
    my $since = time;
    is($client->server_close, 'close 1000');
    cmp_ok(time - $since, '>', 0.7, 'not at once');
    cmp_ok(time - $since, '<', 6);
    is($peer->rest, '');

    ($client, $peer) = pair('/wide');
    $client->send(binary('begun', fin => 0));
    is($peer->read(5), 'begun');
    $peer->fin;
    $client->send(cont(' and ended'));
    is($peer->read(10), ' and ended');
    is($client->server_close, 'close 1000', 'the end of the message is awaited');
};

case 'a client that reads all the time over a slow line is alive' => sub {
    my ($client, $peer) = pair('/flood', rcvbuf => 4096);
    $client->reading(0);
    # Some of it waits in the kernel for longer than all time limits together.
    $peer->send('f' x 600_000);
    my ($read, $end) = (0, time + 9);
    while (time < $end) {
        my $got = $client->{socket}->sysread(my $octets, 3000) // 0;
        $read += $got;
        sleep 0.15;
    }
    cmp_ok($read, '>', 100_000, "$read octets in 9 s");
    $client->reading(1);
    my $rest = 600_000;
    # What came first is in the middle of a frame: only that it comes counts.
    my $more = 0;
    await('the rest', sub { my $got = $client->{socket}->sysread(my $octets, 65_536) // 0; $more += $got; $read + $more > 600_000 });
    pass("and then the other $more");
    $client->reset;
    $peer->rest;
};

case 'one that is gone is not' => sub {
    my ($client, $peer) = pair('/flood', rcvbuf => 4096);
    $client->reading(0);
    my $since = time;
    $peer->send('f' x 100_000);
    $ngx->await_access_log(qr{^/flood code=\[1006\]}m);
    cmp_ok(time - $since, '<', 12);
};

case 'the log tells how a program has ended that the client has left' => sub {
    for (['/cat', '0'], ['/exit', '7'], ['/sleep', 'signal 15']) {
        my ($path, $status) = @$_;
        my $client = Ws::Client->open($ngx->port, "$path?close");
        my $lines = () = $ngx->access_log =~ m{^$path code}mg;
        is($client->close(1000), 'close 1000');
        await('the line', sub { (() = $ngx->access_log =~ m{^$path code}mg) > $lines });
        my ($line) = (reverse grep { m{^$path code} } split /\n/, $ngx->access_log);
        is($line, "$path code=[1000] by=[client] status=[$status]");
        $client = Ws::Client->open($ngx->port, "$path?gone");
        $lines++;
        $client->reset;
        await('the line', sub { (() = $ngx->access_log =~ m{^$path code}mg) > $lines });
        ($line) = (reverse grep { m{^$path code} } split /\n/, $ngx->access_log);
        is($line, "$path code=[1006] by=[-] status=[$status]");
    }
};

$ngx->stop;
done_testing();
