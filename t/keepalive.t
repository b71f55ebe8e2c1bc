# Pings, idle sessions, clients that accept nothing, and the two sizes of what is sent.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Time::HiRes qw(time sleep);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;

# The kernel reports room in a socket only when a third of its buffer is free: with a small one a slow reader is noticed.
my $ngx = Ws::Nginx->start(tls => 1, listen => 'sndbuf=8k', http => <<'EOT', server => <<'EOT2');
    log_format keep "$uri code=[$websocket_close_code]";
    access_log %%PREFIX%%/access.log keep;
EOT
    websocket_close_timeout 1s;
    websocket_exec_stop 100ms 300ms;
    location = /default  { websocket_exec /bin/cat; }
    location = /ping     { websocket_exec /bin/cat; websocket_ping_interval 200ms; websocket_ping_timeout 600ms; }
    location = /no-ping  { websocket_exec /bin/cat; websocket_ping_interval 0; websocket_ping_timeout 100ms; }
    location = /once     { websocket_exec /usr/bin/head -n 1; websocket_ping_interval 100ms; }
    location = /idle     { websocket_exec /bin/cat; websocket_idle_timeout 400ms; }
    location = /idle-and-ping {
        websocket_exec /bin/cat;
        websocket_idle_timeout 700ms;
        websocket_ping_interval 100ms;
    }
    location = /talk     { websocket_exec %%PREFIX%%/bin/talk; websocket_idle_timeout 500ms; }
    location = /flood    { websocket_exec /usr/bin/yes; websocket_send_timeout 500ms; }
    location = /small-buffer { websocket_exec /usr/bin/yes; websocket_send_buffer 4k; }
    location = /large-buffer { websocket_exec /usr/bin/yes; websocket_send_buffer 4m; }
    location = /pieces   { websocket_exec /bin/cat; websocket_exec_format messages; websocket_fragment_size 4; }
    location = /lines    { websocket_exec /bin/cat; websocket_fragment_size 4; }
EOT2
$ngx->program('talk', "#!/usr/bin/perl\n\$| = 1;\nfor (1 .. 12) { print \"\$_\\n\"; select undef, undef, undef, 0.1 }\nsleep 60;\n");

for my $tls (0, 1) {
    my $how = $tls ? 'TLS' : 'plain';
    my $open = sub { my ($path, @opt) = @_; Ws::Client->open($tls ? $ngx->tls_port : $ngx->port, $path, tls => $tls, @opt) };

    case "$how: a silent client is pinged, and lives as long as it answers" => sub {
        my $client = $open->('/ping');
        my $since = time;
        for (1 .. 5) {
            my $frame = $client->frame;
            is($frame->{opcode}, PING);
            $client->send(pong($frame->{payload}));
        }
        cmp_ok(time - $since, '>', 0.8, 'an interval each');
        is($client->close(1000), 'close 1000');
    };

    case "$how: a client that does not answer is dropped" => sub {
        my $client = $open->('/ping');
        my $since = time;
        my @frames = $client->frames;
        ok(!(grep { $_->{opcode} != PING } @frames), 'nothing but Pings');
        cmp_ok(scalar @frames, '>=', 1, 'one at least');
        cmp_ok(time - $since, '>', 0.6, 'not before the time');
        cmp_ok(time - $since, '<', 5, 'and not long after');
        $ngx->await_programs(0);
    };
}

case 'a client that talks but never sends a Pong is alive' => sub {
    my $client = Ws::Client->open($ngx->port, '/ping');
    for (1 .. 15) {
        $client->send(text("$_"));
        my $frame;
        do { $frame = $client->frame } while $frame->{opcode} == PING;
        is($frame->{payload}, $_);
        sleep 0.1;
    }
    $client->send(close_frame(1000));
    is(describe(($client->frames)[-1]), 'close 1000');
};

case 'an unsolicited Pong is activity' => sub {
    my $client = Ws::Client->open($ngx->port, '/ping');
    for (1 .. 15) { $client->send(pong('')); sleep 0.1 }
    $client->send(text('alive'));
    my $frame;
    do { $frame = $client->frame } while $frame->{opcode} == PING;
    is($frame->{payload}, 'alive');
};

case 'octets of an unfinished frame are activity' => sub {
    my $client = Ws::Client->open($ngx->port, '/ping');
    for my $octet (split //, text('alive and well')) { $client->send($octet); sleep 0.08 }
    my $frame;
    do { $frame = $client->frame } while $frame->{opcode} == PING;
    is($frame->{payload}, 'alive and well');
};

case 'websocket_ping_interval 0: never' => sub {
    my $client = Ws::Client->open($ngx->port, '/no-ping');
    is($client->maybe_frame(0.6), undef);
    is($client->close(1000), 'close 1000');
};

case 'no Ping after the Close' => sub {
    my $client = Ws::Client->open($ngx->port, '/once');
    $client->send(text('x'));
    my @frames = $client->frames;
    is(describe($frames[-1]), 'close 1000');
    # The client dies of octets after the Close.
    is($client->end, 'eof');
};

case 'websocket_idle_timeout: 1001' => sub {
    my $since = time;
    my $client = Ws::Client->open($ngx->port, '/idle');
    like($client->server_close, qr/^close 1001/);
    cmp_ok(time - $since, '>', 0.3);
    $ngx->await_access_log(qr{^/idle code=\[1001\]}m);
    $ngx->await_programs(0);
};

case 'Pings are no messages' => sub {
    my $client = Ws::Client->open($ngx->port, '/idle-and-ping');
    my $since = time;
    my $frame;
    while (1) {
        $frame = $client->frame;
        last if $frame->{opcode} != PING;
        $client->send(pong($frame->{payload}), ping('mine too'));
        while (($frame = $client->frame)->{opcode} != PONG) { last if $frame->{opcode} == CLOSE }
        last if $frame->{opcode} == CLOSE;
    }
    like(describe($frame), qr/^close 1001/);
    cmp_ok(time - $since, '<', 5);
};

case 'messages in keep it' => sub {
    my $client = Ws::Client->open($ngx->port, '/idle');
    for (1 .. 8) { $client->send(text('x')); is($client->text, 'x'); sleep 0.1 }
    like($client->server_close, qr/^close 1001/);
};

case 'messages out keep it' => sub {
    my $client = Ws::Client->open($ngx->port, '/talk');
    is($client->text, $_) for 1 .. 12;
    like($client->server_close, qr/^close 1001/);
    $ngx->await_programs(0);
};

for my $tls (0, 1) {
    my $how = $tls ? 'TLS' : 'plain';

    # Over TLS this leaves a write that cannot be finished, and nothing may be written behind it.
    case "$how: websocket_send_timeout: a client that accepts nothing is dropped" => sub {
        my $client = Ws::Client->open($tls ? $ngx->tls_port : $ngx->port, '/flood', tls => $tls, rcvbuf => 8192);
        $client->reading(0);
        my $lines = () = $ngx->access_log =~ m{^/flood}mg;
        my $since = time;
        $ngx->await_programs(1);
        $ngx->await_programs(0);
        cmp_ok(time - $since, '>', 0.4);
        cmp_ok(time - $since, '<', instrumented() ? 30 : 6);
        await('the session to be logged', sub { (() = $ngx->access_log =~ m{^/flood}mg) > $lines });
    };
}

case 'a slow client that accepts something is not' => sub {
    my $client = Ws::Client->open($ngx->port, '/flood', rcvbuf => 8192);
    $client->reading(0);
    for (1 .. 12) { $client->{in} = ''; sleep 0.1; $client->read_some for 1 .. 3 }
    is(scalar $ngx->programs, 1, 'it is still served');
    $client->reset;
    $ngx->await_programs(0);
};

case 'websocket_send_buffer: how much is taken from the program' => sub {
    my %written;
    for my $path (qw(/small-buffer /large-buffer)) {
        my $client = Ws::Client->open($ngx->port, $path, rcvbuf => 8192);
        $client->reading(0);
        my ($pid) = $ngx->await_programs(1);
        $written{$path} = await_paused($pid);
        $client->reset;
        $ngx->await_programs(0);
    }
    # Each line of two octets is a frame of three.
    my $more = $written{'/large-buffer'} - $written{'/small-buffer'};
    cmp_ok($more, '>', 1_000_000, "octets more in the larger one: $more");
    cmp_ok($more, '<', 8_000_000);
};

for my $row (
    ['shorter',            'abc',       'text "abc"'],
    ['exactly the size',   'abcd',      'text "abcd"'],
    ['one octet more',     'abcde',     'text (first) "abcd", continuation "e"'],
    ['a multiple',         'abcdefgh',  'text (first) "abcd", continuation "efgh"'],
    ['three and a half',   'a' x 14,    'text (first) "aaaa", continuation (more) "aaaa", continuation (more) "aaaa", continuation "aa"'],
    ['empty',              '',          'text ""'],
) {
    my ($name, $message, $expected) = @$row;
    for my $path (qw(/pieces /lines)) {
        case "websocket_fragment_size: $name, $path" => sub {
            my $client = Ws::Client->open($ngx->port, $path);
            $client->send(text($message));
            my @frames = ($client->frame);
            push @frames, $client->frame while !$frames[-1]{fin};
            is(join(', ', map { describe($_) } @frames), $expected);
            is($client->close(1000), 'close 1000');
        };
    }
}

case 'websocket_fragment_size and binary' => sub {
    my $client = Ws::Client->open($ngx->port, '/pieces');
    $client->send(binary("\xff" x 9));
    my $message = $client->message;
    is_deeply([@$message{qw(opcode payload fragments)}], [BINARY, "\xff" x 9, 3]);
    is($client->close(1000), 'close 1000');
};

$ngx->stop;
done_testing();
