# websocket_tcp_upload_rate and websocket_tcp_download_rate: how fast either side is read.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Time::HiRes qw(time sleep);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Process;
use Ws::Service;

my $service = Ws::Service->listen;
my $address = $service->address;

my $ngx = Ws::Nginx->new(tls => 1);
$ngx->{server} = <<"EOT";
    websocket_close_timeout 5s;
    websocket_tcp_upload_rate   40k;
    websocket_tcp_download_rate 40k;
    location = /both  { websocket_tcp $address; }
    location = /text  { websocket_tcp $address; websocket_tcp_format text; websocket_fragment_size 1000; }
    location = /up    { websocket_tcp $address; websocket_tcp_download_rate 0; }
    location = /down  { websocket_tcp $address; websocket_tcp_upload_rate 0; }
    location = /free  { websocket_tcp $address; websocket_tcp_upload_rate 0; websocket_tcp_download_rate 0; limit_rate 1k; }
    location = /deflate { websocket_tcp $address; websocket_deflate on; }
    location = /some  { websocket_tcp $address; websocket_tcp_upload_rate \$arg_up; websocket_tcp_download_rate \$arg_down; }
    location = /close { websocket_tcp $address; websocket_tcp_upload_rate \$arg_up; websocket_refuse_with_close 500=4500; }
    location = /slow  {
        websocket_tcp $address;
        websocket_tcp_upload_rate   2k;
        websocket_tcp_download_rate 2k;
        websocket_send_timeout      300ms;
        websocket_tcp_send_timeout  300ms;
    }
    location = /drip {
        websocket_tcp $address;
        websocket_tcp_upload_rate   2;
        websocket_ping_interval     200ms;
        websocket_ping_timeout      200ms;
    }
    location = /if {
        websocket_tcp $address;
        websocket_tcp_upload_rate 0;
        if (\$arg_slow) { websocket_tcp_upload_rate 40k; }
    }
EOT
$ngx->start;

sub pair {
    my ($location, %opt) = @_;

    my $client = Ws::Client->open($opt{tls} ? $ngx->tls_port : $ngx->port, $location, %opt);
    return ($client, $service->accept);
}

# How long a service takes to get so many octets that the client has sent at once.
sub upload {
    my ($client, $peer, $octets) = @_;

    my $begin = time;
    $client->send(binary('u' x $octets));
    while (length $peer->{in} < $octets) {
        $client->write_some;
        $peer->more if !$peer->silent(0.001);
    }
    is($peer->read($octets), 'u' x $octets, 'all that was sent');
    return time - $begin;
}

# How long a client takes to get so many octets that the service has sent at once.
sub download {
    my ($client, $peer, $octets) = @_;

    my $begin = time;
    $peer->send('d' x $octets);
    my $got = '';
    $got .= $client->message->{payload} while length $got < $octets;
    is($got, 'd' x $octets, 'all that was sent');
    return time - $begin;
}

# 120k at 40k a second, of which the first second is free.
use constant OCTETS => 120 * 1024;
use constant LEAST  => 1.9;

for my $row (['/both', 1, 1], ['/both', 1, 1, tls => 1], ['/up', 1, 0], ['/down', 0, 1], ['/free', 0, 0], ['/some?up=40k', 1, 0], ['/some?down=40k&up=', 0, 1],
    ['/if?slow=1', 1, 1], ['/if', 0, 1]) {
    my ($location, $up, $down, %opt) = @$row;
    case $location . ($opt{tls} ? ' by TLS' : '') => sub {
        my ($client, $peer) = pair($location, %opt);
        my $took = upload($client, $peer, OCTETS);
        $up ? cmp_ok($took, '>', LEAST, "the client is held back: $took") : cmp_ok($took, '<', LEAST, "the client is not held back: $took");
        $took = download($client, $peer, OCTETS);
        $down ? cmp_ok($took, '>', LEAST, "the service is held back: $took") : cmp_ok($took, '<', LEAST, "the service is not held back: $took");
        is($client->close(1000), 'close 1000');
        is($peer->rest, '');
        is($peer->how, 'eof');
    };
}

case 'not more than the rate in between' => sub {
    my ($client, $peer) = pair('/both');
    my $begin = time;
    $client->send(binary('u' x 200_000));
    $peer->send('d' x 200_000);
    my ($up, $down, $most) = (0, 0, 0);
    while (time - $begin < 2) {
        while (my $message = $client->maybe_frame(0.02)) {
            $down += length $message->{payload};
        }
        $peer->more if IO::Select->new($peer->peer)->can_read(0.001);
        # A second before the clock of this test began, and what may come in a pause.
        my $limit = 40_960 * (time - $begin + 1.2);
        cmp_ok($_, '<=', $limit, 'so many after ' . (time - $begin)) for grep { $_ > $limit } length $peer->{in}, $down;
    }
    cmp_ok(length $peer->{in}, '>', 60_000, 'the client gets on');
    cmp_ok($down, '>', 40_000, 'and so does the service');
    $client->reset;
};

case 'text and fragments' => sub {
    my ($client, $peer) = pair('/text');
    my $text = "\xe2\x82\xac" x 40_000;
    my $begin = time;
    $peer->send($text);
    my $got = '';
    $got .= $client->text while length $got < length $text;
    is($got, $text);
    cmp_ok(time - $begin, '>', LEAST);
    is($client->close(1000), 'close 1000');
};

case 'a client that compresses is read by what it sends' => sub {
    require Ws::Deflate;
    my ($client, $peer) = pair('/deflate', headers => ['Sec-WebSocket-Extensions' => 'permessage-deflate']);
    my $begin = time;
    $client->send(binary(Ws::Deflate->new->deflate('x' x 1_000_000), rsv1 => 1));
    is(length $peer->read(1_000_000), 1_000_000);
    cmp_ok(time - $begin, '<', 10, 'a few octets of the wire');
    is($client->close(1000), 'close 1000');
};

case 'what is held back is not stuck, and costs no time of the processor' => sub {
    my ($client, $peer) = pair('/slow');
    my ($worker) = $ngx->workers;
    my $before = Ws::Process::cpu_ticks($worker);
    $client->send(binary('u' x 8_000), ping('mine'));
    $peer->send('d' x 8_000);
    my ($got, $pong) = ('', undef);
    my $begin = time;
    while (!$pong || length $got < 8_000) {
        my $frame = $client->frame;
        if ($frame->{opcode} == PONG) {
            $pong = $frame->{payload};
        } else {
            $got .= $frame->{payload};
        }
    }
    cmp_ok(time - $begin, '>', 2.8);
    is($pong, 'mine', 'a Ping is answered behind what was sent before it');
    is($peer->read(8_000), 'u' x 8_000);
    my $ticks = Ws::Process::cpu_ticks($worker) - $before;
    cmp_ok($ticks, '<', 30, "$ticks hundredths of a second") if !instrumented();
    is($client->close(1000), 'close 1000');
};

case 'while a client is not read, that it takes Pings is a sign of life' => sub {
    my ($client, $peer) = pair('/drip');
    # Seven octets: a Pong would be behind them.
    $client->send(binary('u'));
    my $pings = 0;
    while ($peer->silent(0)) {
        my $frame = $client->maybe_frame(0.05) or next;
        is($frame->{opcode}, PING) if $frame->{opcode} != PING;
        $pings++;
    }
    is($peer->read(1), 'u');
    cmp_ok($pings, '>', 1, "after $pings Pings without a Pong");
    $client->reset;
};

case 'a service that is held back does not hold its client up' => sub {
    my ($client, $peer) = pair('/slow');
    $peer->send('d' x 20_000);
    my $begin = time;
    $client->send(ping('at once'));
    my $frame;
    do { $frame = $client->frame } until $frame->{opcode} == PONG;
    is($frame->{payload}, 'at once');
    is($client->close(1000), 'close 1000');
    cmp_ok(time - $begin, '<', 5, 'neither the Pong nor the Close waits for 20000 octets');
    is($peer->rest, '');
};

case 'a Close comes behind what was sent before it' => sub {
    my ($client, $peer) = pair('/both');
    my $begin = time;
    $client->send(binary('u' x OCTETS), close_frame(1000));
    $client->flush;
    is(describe($client->frame), 'close 1000');
    cmp_ok(time - $begin, '>', LEAST);
    is(length $peer->rest, OCTETS);
    is($peer->how, 'eof');
    is($client->end, 'eof');
};

case 'the end of a client that says no Close comes behind what was sent before it' => sub {
    my ($client, $peer) = pair('/both');
    my $begin = time;
    $client->send(binary('u' x OCTETS));
    $client->fin;
    is(length $peer->rest, OCTETS);
    is($peer->how, 'eof');
    cmp_ok(time - $begin, '>', LEAST);

    # The system has it still, whatever has become of the connection.
    my ($broken, $other) = pair('/slow');
    $broken->send(binary('u' x 6_000));
    $other->read(1_000);
    $broken->reset;
    is(length $other->rest, 5_000);
    is($other->how, 'eof');
};

case 'the end of the service comes behind what it has sent' => sub {
    my ($client, $peer) = pair('/down');
    my $begin = time;
    $peer->send('d' x OCTETS);
    $peer->close;
    is($client->server_close, 'close 1000');
    cmp_ok(time - $begin, '>', LEAST);
    my $got = join '', map { $_->{payload} } @{$client->{skipped}};
    is(length $got, OCTETS);
};

case 'the end of a service whose client is held back' => sub {
    my ($client, $peer) = pair('/slow');
    $client->send(map { binary('u' x 500) } 1 .. 16);
    $peer->read(1_000);
    $peer->fin;
    # As soon as a read of the client ends where one of its messages does, or all of them were read.
    is(describe($client->frame), 'close 1000');
    $client->send(close_frame(1000));
    is(length($peer->rest), 7_000, 'and what the client has sent is still passed on');
    is($peer->how, 'eof');
    is($client->end, 'eof');
};

case 'a rate that is none' => sub {
    my $client = Ws::Client->connect(port => $ngx->port);
    is($client->handshake('/some?up=fast')->{status}, 500);
    $ngx->await_log(qr/"websocket_tcp_upload_rate" cannot be "fast"/);
    $client = Ws::Client->connect(port => $ngx->port);
    is($client->handshake('/close?up=-1')->{status}, 500, 'there is nothing that could be opened for a Close');
    ok(!$service->waiting, 'and the service is not connected');
};

case 'a reload while both sides are held back' => sub {
    my ($client, $peer) = pair('/both');
    $client->send(binary('u' x OCTETS));
    $peer->send('d' x OCTETS);
    $ngx->reload;
    my $got = '';
    $got .= $client->message->{payload} while length $got < OCTETS;
    is(length $peer->read(OCTETS), OCTETS);
    is($client->close(1000), 'close 1000');
    await('the old worker to leave', sub { !$ngx->old_workers });
};

$service->close;
$ngx->stop;
done_testing();
