# permessage-deflate (RFC 7692): what is agreed on, and what then goes over the wire.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Compress::Raw::Zlib ();
use Digest::MD5 qw(md5_hex);
use Ws::Nginx;
use Ws::Client;
use Ws::Deflate;
use Ws::Frame;
use Ws::Process qw(status_field cpu_ticks);

my $ngx = Ws::Nginx->start(tls => 1, server => <<'EOT');
    websocket_close_timeout 500ms;
    websocket_exec_format messages;
    websocket_deflate on;
    websocket_deflate_min_size 0;
    location = /echo      { websocket_exec /bin/cat; }
    location = /off       { websocket_exec /bin/cat; websocket_deflate off; }
    location = /default   { websocket_exec /bin/cat; websocket_deflate_min_size 256; }
    location = /window    { websocket_exec /bin/cat; websocket_deflate_window 10; }
    location = /contextless { websocket_exec /bin/cat; websocket_deflate_context off; }
    location = /dedicated { websocket_exec /bin/cat; websocket_deflate_context dedicated; }
    location = /fast      { websocket_exec /bin/cat; websocket_deflate_level 1; }
    location = /best      { websocket_exec /bin/cat; websocket_deflate_level 9; }
    location = /fragments { websocket_exec /bin/cat; websocket_fragment_size 16; }
    location = /large     { websocket_exec /bin/cat; websocket_max_message_size 16m; }
    location = /sink      { websocket_exec /bin/sh -c "exec cat >/dev/null"; }
    location = /frame     { websocket_exec /bin/cat; websocket_max_frame_size 100; }
EOT

my $EXTENSION = 'Sec-WebSocket-Extensions';

# agreed(path, offer): { parameters } of the answer, or nothing.
sub agreed {
    my ($client) = @_;

    my $said = $client->header($EXTENSION) // return;
    my ($name, @parameters) = split /\s*;\s*/, $said;
    die "agreed on $said\n" if $name ne 'permessage-deflate';
    return { map { my ($key, $value) = split /=/, $_, 2; ($key => $value // '') } @parameters };
}

sub open_with {
    my ($path, $offer, %opt) = @_;

    my $client = Ws::Client->open($opt{tls} ? $ngx->tls_port : $ngx->port, $path, %opt, headers => [$EXTENSION => $offer]);
    my $agreed = agreed($client) // {};
    # What the server decided holds for both.
    $opt{own_takeover} = 0 if exists $agreed->{client_no_context_takeover};
    $opt{own_window} = $agreed->{client_max_window_bits} if ($agreed->{client_max_window_bits} // 0) > 8;
    $client->{deflate} = Ws::Deflate->new(%opt);
    return $client;
}

sub compressed { my ($client, $octets, %opt) = @_; return frame($opt{opcode} // TEXT, $client->{deflate}->deflate($octets), rsv1 => 1, %opt) }

# next_message(client): the message, inflated if it is marked, and whether it was.
sub next_message {
    my ($client, $timeout) = @_;

    my $message = $client->message($timeout);
    return $message if !$message->{rsv1};
    $message->{wire} = length $message->{payload};
    $message->{payload} = $client->{deflate}->inflate($message->{payload});
    return $message;
}

# ---- negotiation (sections 5 and 7.1)

for my $row (
    ['permessage-deflate', {}],
    ['PerMessage-Deflate', undef, 'or agreed'],
    ['permessage-deflate; server_no_context_takeover', { server_no_context_takeover => '' }],
    ['permessage-deflate;server_no_context_takeover ;  client_max_window_bits', { server_no_context_takeover => '' }],
    ['permessage-deflate; server_max_window_bits=15', {}, undef, 15],
    ['permessage-deflate; server_max_window_bits=10', {}, undef, 10],
    ['permessage-deflate; server_max_window_bits="10"', {}, undef, 10],
    ['permessage-deflate; server_max_window_bits=9', {}, undef, 9],
    ['permessage-deflate; client_max_window_bits', {}],
    ['permessage-deflate; client_max_window_bits=8', {}],
    ['permessage-deflate; client_max_window_bits="12"', {}],
    ['permessage-deflate; client_no_context_takeover', {}],
    ['foo, permessage-deflate', {}],
    ['foo; a="permessage-deflate, x", permessage-deflate', {}],
    ['permessage-deflate; foo, permessage-deflate; server_max_window_bits=11', {}, undef, 11],
    ['permessage-deflate; server_max_window_bits=8, permessage-deflate', {}],
    [['permessage-deflate; foo', 'permessage-deflate'], {}],
    ['permessage-deflate; server_max_window_bits=8', undef],
    ['permessage-deflate; foo', undef],
    ['permessage-deflate; foo=1', undef],
    ['permessage-deflate; server_no_context_takeover=1', undef],
    ['permessage-deflate; server_no_context_takeover=""', undef],
    ['permessage-deflate; client_no_context_takeover=true', undef],
    ['permessage-deflate; server_no_context_takeover; server_no_context_takeover', undef],
    ['permessage-deflate; client_max_window_bits; client_max_window_bits=10', undef],
    ['permessage-deflate; server_max_window_bits', undef],
    ['permessage-deflate; server_max_window_bits=', undef],
    ['permessage-deflate; server_max_window_bits=7', undef],
    ['permessage-deflate; server_max_window_bits=16', undef],
    ['permessage-deflate; server_max_window_bits=010', undef],
    ['permessage-deflate; server_max_window_bits=1e1', undef],
    ['permessage-deflate; server_max_window_bits=+10', undef],
    ['permessage-deflate; server_max_window_bits=110', undef],
    ['permessage-deflate; client_max_window_bits=7', undef],
    ['permessage-deflate; client_max_window_bits=16', undef],
    ['permessage-deflate; client_max_window_bits=08', undef],
    ['permessage-deflate; client_max_window_bits="', undef],
    ['permessage-deflate;', undef],
    ['permessage-deflate; ;', undef],
    ['x-permessage-deflate', undef],
    ['permessage-deflate2', undef],
) {
    my ($offer, $expected, $either, $bits) = @$row;
    my $name = ref $offer ? join ' | ', @$offer : $offer;
    case "offer $name" => sub {
        my $client = open_with('/echo', $offer);
        my $agreed = agreed($client);
        if (!$expected) {
            # The names of extensions are tokens without a word on their case; either reading is right.
            is($client->header($EXTENSION), undef, 'declined') if !$either;
        } else {
            ok($agreed, 'agreed') or return;
            is($agreed->{$_}, $expected->{$_}, $_) for keys %$expected;
            ok(!exists $agreed->{server_no_context_takeover}, 'server_no_context_takeover was not asked for')
                if !exists $expected->{server_no_context_takeover};
            my $asked = ref $offer ? $offer->[-1] : (split /,\s*(?=permessage)/, $offer)[-1];
            ok(!exists $agreed->{client_max_window_bits}, 'client_max_window_bits was not offered')
                if $asked !~ /client_max_window_bits/;
            if ($bits) {
                cmp_ok($agreed->{server_max_window_bits} // 15, '<=', $bits, 'the window');
            } elsif ($asked !~ /server_max/) {
                is($agreed->{server_max_window_bits} // 15, 15, 'the window');
            }
            if (defined $agreed->{client_max_window_bits} && $asked =~ /client_max_window_bits="?(\d+)/) {
                cmp_ok($agreed->{client_max_window_bits}, '<=', $1, 'the client\'s window');
            }
        }
        is($client->close(1000), 'close 1000');
    };
}

case 'off' => sub {
    my $client = open_with('/off', 'permessage-deflate');
    is($client->header($EXTENSION), undef);
    $client->send(compressed($client, 'x'));
    like($client->server_close, qr/^close 1002/);
};

case 'websocket_deflate_window bounds the window' => sub {
    my $client = open_with('/window', 'permessage-deflate; client_max_window_bits');
    cmp_ok(agreed($client)->{server_max_window_bits}, '<=', 10);
    is($client->close(1000), 'close 1000');
};

case 'websocket_deflate_context off' => sub {
    my $client = open_with('/contextless', 'permessage-deflate');
    ok(exists agreed($client)->{server_no_context_takeover});
    is($client->close(1000), 'close 1000');
};

# ---- messages (sections 6 and 7.2)

# Little to gain within it, everything when it comes again.
my $TEXT = join ' ', map { sprintf '%08x', $_ * 2654435761 % 4294967296 } 1 .. 300;

for my $tls (0, 1) {
    my $how = $tls ? 'TLS' : 'plain';

    case "$how: an echo, both ways compressed" => sub {
        my $client = open_with('/echo', 'permessage-deflate', tls => $tls);
        for my $message ($TEXT, 'short', '', $TEXT, "\xe2\x82\xac" x 1000) {
            $client->send(compressed($client, $message));
            my $got = next_message($client);
            is($got->{payload}, $message);
            is($got->{opcode}, TEXT);
        }
        $client->send(compressed($client, "\xff\0" x 5000, opcode => BINARY));
        my $got = next_message($client);
        is($got->{payload}, "\xff\0" x 5000);
        is($got->{opcode}, BINARY);
        is($got->{rsv1}, 1);
        is($client->close(1000), 'close 1000');
    };

    case "$how: one octet at a time" => sub {
        my $client = open_with('/echo', 'permessage-deflate', tls => $tls);
        $client->send_slowly(compressed($client, 'hello hello hello hello') . ping('p'));
        my (@got, @pongs);
        while (!@got) {
            my $frame = $client->frame;
            push @{$frame->{opcode} & 8 ? \@pongs : \@got}, $frame;
        }
        is($client->{deflate}->inflate($got[0]{payload}), 'hello hello hello hello');
        push @pongs, $client->frame if !@pongs;
        is(describe($pongs[0]), 'pong "p"');
        is($client->close(1000), 'close 1000');
    };
}

for my $path (qw(/echo /dedicated)) {
    case "the context is kept: the second message is much smaller, $path" => sub {
        my $client = open_with($path, 'permessage-deflate');
        my @wire;
        for (1 .. 2) {
            $client->send(compressed($client, $TEXT));
            my $got = next_message($client);
            is($got->{payload}, $TEXT);
            push @wire, $got->{wire};
        }
        cmp_ok($wire[1], '<', $wire[0] / 4, "@wire octets");
        is($client->close(1000), 'close 1000');
    };
}

case 'a client is asked for a window of 4 KiB, where that much is kept' => sub {
    for my $row (['/echo', '', 12], ['/echo', '=10', 10], ['/window', '', 10], ['/dedicated', '', undef], ['/contextless', '', undef]) {
        my ($path, $bits, $expected) = @$row;
        my $client = open_with($path, "permessage-deflate; client_max_window_bits$bits");
        is(agreed($client)->{client_max_window_bits}, $expected, "$path $bits");
        is($client->close(1000), 'close 1000');
    }
};

case 'a client that cannot be asked may refer to 32 KiB' => sub {
    my $client = open_with('/echo', 'permessage-deflate');
    my $far = join ' ', map { sprintf '%08x', $_ * 2654435761 % 4294967296 } 1 .. 2000;
    my @wire;
    for my $message ($far, 'x' x 10_000, $far) {
        my $frame = compressed($client, $message);
        push @wire, length $frame;
        $client->send($frame);
        is(next_message($client)->{payload}, $message);
    }
    cmp_ok($wire[2], '<', $wire[0] / 4, "it does: @wire octets");
    is($client->close(1000), 'close 1000');
};

for my $row (['/echo', 'permessage-deflate; server_no_context_takeover'], ['/contextless', 'permessage-deflate']) {
    my ($path, $offer) = @$row;
    case "the context is not kept: $path, $offer" => sub {
        my $client = open_with($path, $offer, takeover => 0);
        my @wire;
        for (1 .. 3) {
            $client->send(compressed($client, $TEXT));
            my $got = next_message($client);
            is($got->{payload}, $TEXT, 'inflated without a context');
            push @wire, $got->{wire};
        }
        is($wire[1], $wire[0]);
        is($client->close(1000), 'close 1000');
    };
}

case 'a client that starts afresh with each message, agreed or not' => sub {
    for my $offer ('permessage-deflate; client_no_context_takeover', 'permessage-deflate') {
        my $client = open_with('/echo', $offer, own_takeover => 0);
        for (1 .. 3) {
            $client->send(compressed($client, $TEXT));
            is(next_message($client)->{payload}, $TEXT);
        }
        is($client->close(1000), 'close 1000');
    }
};

for my $bits (9 .. 15) {
    case "server_max_window_bits=$bits is kept to" => sub {
        # Repeats at every distance: a larger window would be used if it were there, and the inflater would notice.
        my $block = join '', map { chr(32 + ($_ * 7919 % 90)) } 1 .. 400;
        my $message = join '', map { my $n = $_; map({ chr(65 + ($_ * $n) % 26) } 1 .. 300 + $n), $block } 1 .. 120;
        my $client = open_with('/echo', "permessage-deflate; server_max_window_bits=$bits", window => $bits);
        is(agreed($client)->{server_max_window_bits} // 15, $bits);
        for (1 .. 2) {
            $client->send(compressed($client, $message));
            is(md5_hex(next_message($client)->{payload}), md5_hex($message));
        }
        is($client->close(1000), 'close 1000');
    };
}

for my $bits (9 .. 15) {
    case "a client with a window of $bits bits" => sub {
        my $client = open_with('/echo', "permessage-deflate; client_max_window_bits=$bits", own_window => $bits);
        for (1 .. 2) {
            $client->send(compressed($client, $TEXT x 10));
            is(next_message($client)->{payload}, $TEXT x 10);
        }
        is($client->close(1000), 'close 1000');
    };
}

case 'websocket_deflate_min_size' => sub {
    my $client = open_with('/default', 'permessage-deflate');
    for my $row ([255, 0], [256, 1], [257, 1], [0, 0]) {
        my ($length, $marked) = @$row;
        $client->send(compressed($client, 'm' x $length));
        my $got = next_message($client);
        is($got->{payload}, 'm' x $length);
        is($got->{rsv1}, $marked, "$length octets");
    }
    is($client->close(1000), 'close 1000');
};

case 'websocket_deflate_level' => sub {
    my %wire;
    my $message = join ' ', map { $_ * 7919 % 1000 } 1 .. 3000;
    for my $path (qw(/fast /best)) {
        my $client = open_with($path, 'permessage-deflate');
        $client->send(compressed($client, $message));
        my $got = next_message($client);
        is($got->{payload}, $message);
        $wire{$path} = $got->{wire};
        is($client->close(1000), 'close 1000');
    }
    cmp_ok($wire{'/best'}, '<', $wire{'/fast'}, join ' ', %wire);
};

case 'plain messages among compressed ones' => sub {
    my $client = open_with('/echo', 'permessage-deflate');
    $client->send(compressed($client, 'one'), text('two'), compressed($client, 'three'), binary('four'));
    is(next_message($client)->{payload}, $_) for qw(one two three four);
    is($client->close(1000), 'close 1000');
};

case 'fragments: RSV1 on the first only' => sub {
    my $client = open_with('/echo', 'permessage-deflate');
    my $payload = $client->{deflate}->deflate($TEXT);
    my @parts = $payload =~ /(.{1,50})/gs;
    my $last = pop @parts;
    $client->send(
        text(shift @parts, fin => 0, rsv1 => 1), ping('between'), (map { cont($_, fin => 0) } '', @parts), cont($last));
    is(describe($client->frame), 'pong "between"');
    is(next_message($client)->{payload}, $TEXT);
    is($client->close(1000), 'close 1000');
};

case 'fragments to the client' => sub {
    my $client = open_with('/fragments', 'permessage-deflate');
    $client->send(compressed($client, $TEXT));
    my @frames = ($client->frame);
    push @frames, $client->frame while !$frames[-1]{fin};
    is($frames[0]{rsv1}, 1, 'RSV1 on the first');
    is((grep { $_->{rsv1} } @frames), 1, 'and on no other');
    is((grep { length $_->{payload} > 16 } @frames), 0, 'none too long');
    is($client->{deflate}->inflate(join '', map { $_->{payload} } @frames), $TEXT);
    is($client->close(1000), 'close 1000');
};

for my $row (
    ['the example of RFC 7692, section 7.2.3.1',   "\xf2\x48\xcd\xc9\xc9\x07\x00", 'Hello'],
    ['without compression (section 7.2.3.3)',      "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", 'Hello'],
    ['BFINAL set (section 7.2.3.4)',               "\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 'Hello'],
    ['two blocks (section 7.2.3.5)',               "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", 'Hello'],
    ['an empty message (section 7.2.3.6)',         "\x00", ''],
    ['no octets at all',                           '', ''],
) {
    my ($name, $payload, $expected) = @$row;
    case $name => sub {
        my $client = open_with('/echo', 'permessage-deflate');
        for (1 .. 2) {
            $client->send(text($payload, rsv1 => 1));
            my $got = eval { next_message($client) } or return fail($@);
            is($got->{payload}, $expected);
        }
        $client->send(text('plain'));
        is(next_message($client)->{payload}, 'plain');
        is($client->close(1000), 'close 1000');
    };
}

for my $row (
    ['RSV1 on a continuation',            1002, text('a', fin => 0) . cont('b', rsv1 => 1)],
    ['RSV1 on a continuation of a compressed message', 1002, text("\xf2\x48", fin => 0, rsv1 => 1) . cont("\xcd\xc9\xc9\x07\x00", rsv1 => 1)],
    ['RSV1 on a Ping',                    1002, ping('a', rsv1 => 1)],
    ['RSV1 on a Close',                   1002, close_frame(1000, '', rsv1 => 1)],
    ['RSV2 beside RSV1',                  1002, text('a', rsv1 => 1, rsv2 => 1)],
    ['a reserved block type',             1007, text("\xff\xff\xff", rsv1 => 1)],
    ['a stored block with a wrong length', 1007, text("\x00\x05\x00\x00\x00hello", rsv1 => 1)],
    ['a distance before the beginning',   1007, text("\x4b\x04\x22\x00", rsv1 => 1)],
    ['not UTF-8 when inflated',           1007, undef],
) {
    my ($name, $code, $octets) = @$row;
    case "$name: $code" => sub {
        my $client = open_with('/sink', 'permessage-deflate');
        $client->send($octets // compressed($client, "a\xffb"));
        like($client->server_close, qr/^close $code/);
    };
}

case 'a code point split over fragments of a compressed message' => sub {
    my $client = open_with('/echo', 'permessage-deflate', level => 0);
    my $payload = $client->{deflate}->deflate("\xf0\x9f\x98\x80" x 20);
    my @parts = $payload =~ /(.{1,7})/gs;
    my $last = pop @parts;
    $client->send(text(shift @parts, fin => 0, rsv1 => 1), (map { cont($_, fin => 0) } @parts), cont($last));
    is(next_message($client)->{payload}, "\xf0\x9f\x98\x80" x 20);
    is($client->close(1000), 'close 1000');
};

# ---- limits

case 'websocket_max_message_size counts inflated octets' => sub {
    my $client = open_with('/echo', 'permessage-deflate');
    $client->send(compressed($client, 'x' x (1 << 20)));
    is(length next_message($client)->{payload}, 1 << 20, 'at the limit');
    $client->send(compressed($client, 'x' x ((1 << 20) + 1)));
    like($client->server_close, qr/^close 1009/, 'one octet over');
};

case 'websocket_max_frame_size counts octets on the wire' => sub {
    my $client = open_with('/frame', 'permessage-deflate');
    $client->send(compressed($client, 'x' x 5000));
    is(length next_message($client)->{payload}, 5000);
    is($client->close(1000), 'close 1000');
};

case 'a bomb stops at the limit' => sub {
    # One megabyte of zeros, deflated once and sent a thousand times: a gigabyte.
    my $deflater = Compress::Raw::Zlib::Deflate->new(-WindowBits => -15, -Level => 1, -AppendOutput => 1);
    my $part = '';
    $deflater->deflate("\0" x (1 << 20), $part);
    $deflater->flush($part, Compress::Raw::Zlib::Z_FULL_FLUSH());
    my $bomb = binary($part x 1024, rsv1 => 1);

    my ($worker) = $ngx->workers;
    my ($memory, $ticks) = (status_field($worker, 'VmRSS'), cpu_ticks($worker));
    for (1 .. 3) {
        my $client = open_with('/sink', 'permessage-deflate');
        $client->send($bomb);
        my @frames = eval { $client->frames };
        # The server need not read what comes after it has seen enough.
        like(@frames ? describe($frames[-1]) : $@, qr/^close 1009/);
        $client->abandon;
    }
    $ngx->await_programs(0);
    cmp_ok(cpu_ticks($worker) - $ticks, '<', 100, 'ticks of processor time: ' . (cpu_ticks($worker) - $ticks)) if !instrumented();
    grew_less($worker, $memory, 4096, 'memory');
};

case '16 MiB, both ways compressed' => sub {
    my $message = join '', map { my $n = $_; pack 'N*', map({ $_ * 2654435761 % 65521 + $n } 1 .. 4096) x 16 } 1 .. 64;
    my $client = open_with('/large', 'permessage-deflate', level => 1);
    $client->send(compressed($client, $message, opcode => BINARY));
    is(md5_hex(next_message($client, 60)->{payload}), md5_hex($message));
    is($client->close(1000), 'close 1000');
};

case 'a session that compresses nothing needs no memory for it' => sub {
    my ($worker) = $ngx->workers;
    my $open = sub { map { my $client = open_with('/echo', $_[0]); $client->send(ping('x')); $client->frame; $client } 1 .. 100 };
    my @plain = $open->('x-none');
    my $before = status_field($worker, 'VmRSS');
    my @deflate = $open->('permessage-deflate');
    grew_less($worker, $before, 100 * 24, '100 sessions');
    $_->reset for @plain, @deflate;
    $ngx->await_programs(0);
};

$ngx->stop;
done_testing();
