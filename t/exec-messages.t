# websocket_exec_format messages: records of a type, a length and a payload, the same in both directions.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Digest::MD5 qw(md5_hex);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Process qw(status_field);

my $ngx = Ws::Nginx->start(server => <<'EOT');
    websocket_close_timeout 500ms;
    websocket_exec_format messages;
    websocket_max_message_size 16m;
    location = /echo   { websocket_exec /bin/cat; }
    location = /said   { websocket_exec %%PREFIX%%/bin/said $arg_hex; }
    location = /heard  { websocket_exec %%PREFIX%%/bin/heard; }
    location = /sizes  { websocket_exec %%PREFIX%%/bin/sizes; }
EOT

# Writes the octets of its argument, and stays.
$ngx->program('said', <<'EOT');
#!/usr/bin/perl
$| = 1;
print pack 'H*', shift;
sleep 60;
EOT

# Tells what records it was given: type and length of each, as one text record.
$ngx->program('sizes', <<'EOT');
#!/usr/bin/perl
$| = 1;
my $all = '';
while (defined(my $head = <STDIN>)) {
    my ($type, $length) = $head =~ /^([TtBb]) (\d+)\n$/ or die "head: $head";
    read(STDIN, my $payload, $length) == $length or die "short";
    $all .= $payload;
    next if $type =~ /[tb]/;
    my $text = "$type " . length($all);
    print 'T ', length $text, "\n", $text;
    $all = '';
}
EOT

# Gives back each record as it was read, head and payload, in the payload of a binary record.
$ngx->program('heard', <<'EOT');
#!/usr/bin/perl
$| = 1;
while (defined(my $head = <STDIN>)) {
    my ($type, $length) = $head =~ /^([TtBb]) (\d+)\n$/ or die "head: $head";
    my $payload = '';
    read(STDIN, $payload, $length) == $length or die "short" if $length;
    print 'B ', length($head . $payload), "\n", $head . $payload;
}
EOT

sub said {
    my ($octets) = @_;

    return Ws::Client->open($ngx->port, '/said?hex=' . unpack 'H*', $octets);
}

case 'cat keeps types and boundaries' => sub {
    my $client = Ws::Client->open($ngx->port, '/echo');
    my @sent = ([TEXT, 'a'], [BINARY, "\xff"], [TEXT, ''], [BINARY, ''], [TEXT, "b\nT 1\n"], [BINARY, "x\ny"]);
    $client->send(map { frame(@$_) } @sent);
    for my $sent (@sent) {
        my $got = $client->message;
        is_deeply([@$got{qw(opcode payload)}], $sent);
    }
    is($client->close(1000), 'close 1000');
};

case 'records as the program sees them' => sub {
    my $client = Ws::Client->open($ngx->port, '/heard');
    for my $row (
        [text('abc'), "T 3\nabc"],
        [binary("\0\xff"), "B 2\n\0\xff"],
        [text(''), "T 0\n"],
        [binary(''), "B 0\n"],
        [text("\xe2\x82\xac"), "T 3\n\xe2\x82\xac"],
    ) {
        my ($frame, $record) = @$row;
        $client->send($frame);
        is($client->message->{payload}, $record);
    }
    is($client->close(1000), 'close 1000');
};

case 'a fragmented message reaches the program in pieces that make the message' => sub {
    my $client = Ws::Client->open($ngx->port, '/heard');
    $client->send(text('ab', fin => 0) . cont('', fin => 0) . cont("c\xe2", fin => 0) . cont("\x82\xac"));
    my ($all, $last) = ('', '');
    while ($last ne 'T') {
        my ($type, $length, $payload) = $client->message->{payload} =~ /^([Tt]) (\d+)\n(.*)$/s or die "not text\n";
        is(length $payload, $length);
        ($all, $last) = ($all . $payload, $type);
    }
    is($all, "abc\xe2\x82\xac");
    is($client->close(1000), 'close 1000');
};

case 'messages in the program\'s pieces' => sub {
    my $client = said("t 2\nabt 0\nt 3\nc\xe2\x82T 1\n\xac" . "b 1\n\xffB 0\n" . "T 0\n");
    my @got = map { $client->message } 1 .. 3;
    is_deeply([map { [@$_{qw(opcode payload)}] } @got], [[TEXT, "abc\xe2\x82\xac"], [BINARY, "\xff"], [TEXT, '']]);
    is($client->close(1000), 'close 1000');
};

case 'a Ping is answered while the program\'s message is unfinished' => sub {
    my $client = said("t 2\nab");
    $client->send(ping('x'));
    my @got = ($client->frame);
    push @got, $client->frame if $got[0]{opcode} != PONG;
    is(describe($got[-1]), 'pong "x"');
    is($client->close(1000), 'close 1000');
};

case 'the program closes with a code and a reason' => sub {
    my $client = said("T 1\nxC 4001 see you later\nT 1\ny");
    is($client->text, 'x');
    is($client->server_close, 'close 4001 see you later');
    is(scalar @{$client->{skipped}}, 0, 'nothing after it');
    $ngx->await_programs(0);
};

case 'the program closes with a code alone' => sub {
    is(said("C 3000\n")->server_close, 'close 3000');
};

case 'a long reason is cut between code points' => sub {
    my $client = said("C 4000 " . ("\xe2\x82\xac" x 60) . "\n");
    is($client->server_close, 'close 4000 ' . ("\xe2\x82\xac" x 41));
};

for my $row (
    ['a record of no known type',        "X 1\na"],
    ['a length that is no number',       "T abc\na"],
    ['no length',                        "T\na"],
    ['a length with a sign',             "T -1\na"],
    ['a length beyond any memory',       "T 99999999999999999999\na"],
    ['pieces of two types',              "t 1\naB 1\nb"],
    ['a head that does not end',         "T " . ('0' x 100)],
    ['a code that must not be sent',     "C 1005 no\n"],
    ['a code out of range',              "C 70000 no\n"],
) {
    my ($name, $octets) = @$row;
    case "$name: 1011 and a log line" => sub {
        my $before = length $ngx->log;
        my $client = said($octets);
        like($client->server_close, qr/^close 1011/);
        await('a log line', sub { substr($ngx->log, $before) =~ /\[(?:warn|error)\].*said/ });
        pass('logged');
        $ngx->await_programs(0);
    };
}

case 'text of the program that is not UTF-8: 1007' => sub {
    like(said("T 2\na\xff")->server_close, qr/^close 1007/);
};

case 'text of the program that is cut off: 1007' => sub {
    like(said("t 2\na\xe2T 1\nb")->server_close, qr/^close 1007/);
};

case 'binary of the program may be anything' => sub {
    my $client = said("B 2\na\xff");
    is($client->message->{payload}, "a\xff");
    is($client->close(1000), 'close 1000');
};

case '16 MiB, binary' => sub {
    my $octets = pack('N', 0xdeadbeef) . "\0\1\2\3" x (4 * 1024 * 1024 - 1);
    my $client = Ws::Client->open($ngx->port, '/echo');
    $client->send(binary($octets));
    my $got = $client->message(60);
    is($got->{opcode}, BINARY);
    is(length $got->{payload}, 16 * 1024 * 1024);
    is(md5_hex($got->{payload}), md5_hex($octets));
    is($client->close(1000), 'close 1000');
};

case '16 MiB, text in fragments of 64 KiB' => sub {
    my $part = "\xe2\x82\xac" x 21_845 . 'x';
    my $client = Ws::Client->open($ngx->port, '/echo');
    $client->send(text($part, fin => 0), (map { cont($part, fin => 0) } 1 .. 254), cont($part));
    my $got = $client->message(60);
    is($got->{opcode}, TEXT);
    is(length $got->{payload}, 16 * 1024 * 1024);
    is(md5_hex($got->{payload}), md5_hex($part x 256));
    is($client->close(1000), 'close 1000');
};

case 'one octet over 16 MiB' => sub {
    my $client = Ws::Client->open($ngx->port, '/echo');
    $client->send(frame(BINARY, '', length => 16 * 1024 * 1024 + 1));
    like($client->server_close, qr/^close 1009/);
};

case 'the worker holds no large message' => sub {
    my ($worker) = $ngx->workers;
    my $client = Ws::Client->open($ngx->port, '/sizes');
    my $before = status_field($worker, 'VmRSS');
    for (1 .. 3) {
        $client->send(binary('x' x (16 * 1024 * 1024)));
        is($client->text, 'B 16777216');
    }
    grew_less($worker, $before, 8 * 1024, '48 MiB went through');
    is($client->close(1000), 'close 1000');
};

case '65,537 fragments' => sub {
    my $client = Ws::Client->open($ngx->port, '/echo');
    $client->send(binary('a', fin => 0), cont('b', fin => 0) x 65_535, cont('c'));
    my $got = $client->message(60);
    is($got->{payload}, 'a' . 'b' x 65_535 . 'c');
    is($client->close(1000), 'close 1000');
};

case '65,537 fragments, all but one empty' => sub {
    my $client = Ws::Client->open($ngx->port, '/echo');
    $client->send(binary('', fin => 0), cont('', fin => 0) x 65_535, cont('c'));
    is($client->message(60)->{payload}, 'c');
    is($client->close(1000), 'close 1000');
};

case 'a flood of fragments is 1008' => sub {
    my $client = Ws::Client->open($ngx->port, '/echo');
    my $many = cont('', fin => 0) x 100_000;
    $client->send(binary('', fin => 0));
    for (1 .. 500) {
        $client->send($many);
        $client->wait_until(sub { !length $client->{out} || length $client->{in} || $client->{end} }, 'progress');
        last if length $client->{in} || $client->{end};
    }
    $client->{out} = '';
    like($client->server_close, qr/^close 1008/);
};

case '1000 messages of all small sizes' => sub {
    my $client = Ws::Client->open($ngx->port, '/echo');
    my @messages = map { [$_ % 2 ? TEXT : BINARY, 'm' x $_] } 0 .. 999;
    $client->send(map { frame(@$_) } @messages);
    my $wrong = 0;
    for my $sent (@messages) {
        my $got = $client->message;
        $wrong++ if $got->{opcode} != $sent->[0] || $got->{payload} ne $sent->[1];
    }
    is($wrong, 0);
    is($client->close(1000), 'close 1000');
};

$ngx->stop;
done_testing();
