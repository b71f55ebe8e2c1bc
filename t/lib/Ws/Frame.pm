package Ws::Frame;

# WebSocket frames as octets (RFC 6455, section 5.2), written and read by hand so that a test can also say what is wrong.
# Everything here takes and gives octet strings; text must be encoded by the caller.

use strict;
use warnings;

use parent 'Exporter';

our @EXPORT = qw(
    frame text binary cont ping pong close_frame
    sframe stext sbinary scont sping spong sclose
    parse_frame describe
    KEY ACCEPT upgrade
    CONT TEXT BINARY CLOSE PING PONG
);

use constant {
    CONT   => 0x0,
    TEXT   => 0x1,
    BINARY => 0x2,
    CLOSE  => 0x8,
    PING   => 0x9,
    PONG   => 0xA,

    # The example of RFC 6455, section 1.3.
    KEY    => 'dGhlIHNhbXBsZSBub25jZQ==',
    ACCEPT => 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=',
};

my %NAME = (
    0x0 => 'continuation', 0x1 => 'text', 0x2 => 'binary', 0x8 => 'close', 0x9 => 'ping', 0xA => 'pong',
);

# frame(opcode, payload, name => value ...): one frame as a client sends it.
#   fin, rsv1, rsv2, rsv3   bits; fin is set unless said otherwise
#   mask                    four octets; undef sends the frame unmasked
#   form                    7, 16 or 64: the width of the length field, whether minimal or not
#   length                  the length to declare, when it shall differ from the payload's
sub frame {
    my ($opcode, $payload, %opt) = @_;

    my $mask = exists $opt{mask} ? $opt{mask} : "\x37\xfa\x21\x3d";
    my $length = $opt{length} // length $payload;
    my $form = $opt{form} // ($length < 126 ? 7 : $length < 65536 ? 16 : 64);

    my $first = $opcode;
    $first |= 0x80 if $opt{fin} // 1;
    $first |= 0x40 if $opt{rsv1};
    $first |= 0x20 if $opt{rsv2};
    $first |= 0x10 if $opt{rsv3};

    my $second = defined $mask ? 0x80 : 0;

    my $head = $form == 7 ? pack('CC', $first, $second | $length)
        : $form == 16 ? pack('CCn', $first, $second | 126, $length)
        : pack('CCQ>', $first, $second | 127, $length);

    return $head . $payload if !defined $mask;
    return $head . $mask . masked($payload, $mask);
}

sub masked {
    my ($payload, $mask) = @_;

    # As strings, also where a test says 1: numbers have another XOR.
    return substr("$payload" ^ ($mask x (int(length($payload) / 4) + 1)), 0, length $payload);
}

sub text   { my ($payload, %opt) = @_; return frame(TEXT, $payload, %opt) }
sub binary { my ($payload, %opt) = @_; return frame(BINARY, $payload, %opt) }
sub cont   { my ($payload, %opt) = @_; return frame(CONT, $payload, %opt) }
sub ping   { my ($payload, %opt) = @_; return frame(PING, $payload // '', %opt) }
sub pong   { my ($payload, %opt) = @_; return frame(PONG, $payload // '', %opt) }

# close_frame(): without payload; close_frame(code, reason): with both.
sub close_frame {
    my ($code, $reason, %opt) = @_;

    return frame(CLOSE, close_payload($code, $reason), %opt);
}

sub close_payload {
    my ($code, $reason) = @_;

    return defined $code ? pack('n', $code) . ($reason // '') : '';
}

# The same as the server must send them: unmasked, in the shortest form.
sub sframe   { my ($opcode, $payload, %opt) = @_; return frame($opcode, $payload, %opt, mask => undef) }
sub stext    { my ($payload, %opt) = @_; return sframe(TEXT, $payload, %opt) }
sub sbinary  { my ($payload, %opt) = @_; return sframe(BINARY, $payload, %opt) }
sub scont    { my ($payload, %opt) = @_; return sframe(CONT, $payload, %opt) }
sub sping    { my ($payload) = @_; return sframe(PING, $payload // '') }
sub spong    { my ($payload) = @_; return sframe(PONG, $payload // '') }
sub sclose   { my ($code, $reason) = @_; return sframe(CLOSE, close_payload($code, $reason)) }

# parse_frame(\$octets): takes one frame off the front, or returns undef and leaves the octets as they are.
# Dies of what no server may send (RFC 6455, section 5): a mask, a reserved bit other than RSV1, an unknown opcode,
# a control frame that is long or fragmented, a length that is not minimal.
sub parse_frame {
    my ($octets) = @_;

    my $have = length $$octets;
    return if $have < 2;

    my ($first, $second) = unpack 'CC', $$octets;
    my ($opcode, $fin) = ($first & 0x0f, $first >> 7);
    my $length = $second & 0x7f;

    die "server frame with RSV2 or RSV3\n" if $first & 0x30;
    die sprintf("server frame with opcode %x\n", $opcode) if !exists $NAME{$opcode};
    die "masked server frame\n" if $second & 0x80;
    die "server control frame without FIN or over 125 octets\n" if $opcode & 8 && (!$fin || $length > 125);

    my $head = 2;
    if ($length == 126) {
        return if $have < 4;
        ($length, $head) = (unpack('x2 n', $$octets), 4);
        die "server frame with a length that is not minimal\n" if $length < 126;

    } elsif ($length == 127) {
        return if $have < 10;
        ($length, $head) = (unpack('x2 Q>', $$octets), 10);
        die "server frame with a length that is not minimal\n" if $length < 65536;
    }

    return if $have < $head + $length;

    my $frame = {
        opcode  => $opcode,
        fin     => $fin,
        rsv1    => $first >> 6 & 1,
        payload => substr($$octets, $head, $length),
    };
    substr($$octets, 0, $head + $length) = '';

    if ($opcode == CLOSE && $length) {
        die "server Close with one octet\n" if $length == 1;
        @$frame{qw(code reason)} = unpack 'n a*', $frame->{payload};
        die "server Close with code $frame->{code}\n" if $frame->{code} =~ /^(?:1004|1005|1006|1015)$/;
        die "server Close with a reason that is not UTF-8\n" if !utf8::decode(my $copy = $frame->{reason});
    }

    return $frame;
}

# describe(frame): one line for a test's diagnostics and for comparing by eye.
sub describe {
    my ($frame) = @_;

    return 'nothing' if !defined $frame;

    my $is = $NAME{$frame->{opcode}};
    $is .= ' (first)' if !$frame->{fin} && $frame->{opcode};
    $is .= ' (more)' if !$frame->{fin} && !$frame->{opcode};
    $is .= ' (compressed)' if $frame->{rsv1};

    if ($frame->{opcode} == CLOSE) {
        return $is if !length $frame->{payload};
        return length $frame->{reason} ? "$is $frame->{code} $frame->{reason}" : "$is $frame->{code}";
    }

    my $shown = length $frame->{payload} > 60
        ? substr($frame->{payload}, 0, 50) . '... of ' . length $frame->{payload} : $frame->{payload};
    $shown =~ s/([^\x20-\x7e])/sprintf '\x%02x', ord $1/ge;

    return "$is \"$shown\"";
}

# upgrade(path, name => value ...): the head of an opening handshake. A value of undef leaves a header out, an array
# reference repeats it. Host, Upgrade, Connection, Sec-WebSocket-Key and Sec-WebSocket-Version are there by default;
# "method" and "protocol" are the other two parts of the request line.
sub upgrade {
    my ($path, @headers) = @_;

    my @order = qw(Host Upgrade Connection Sec-WebSocket-Key Sec-WebSocket-Version);
    my %value = (
        'host'                  => 'localhost',
        'upgrade'               => 'websocket',
        'connection'            => 'Upgrade',
        'sec-websocket-key'     => KEY,
        'sec-websocket-version' => 13,
    );
    my ($method, $protocol) = ('GET', 'HTTP/1.1');

    while (my ($name, $value) = splice @headers, 0, 2) {
        if ($name eq 'method') {
            $method = $value;
            next;
        }
        if ($name eq 'protocol') {
            $protocol = $value;
            next;
        }
        push @order, $name if !exists $value{lc $name};
        $value{lc $name} = $value;
    }

    my $head = "$method $path $protocol\r\n";
    for my $name (@order) {
        my $value = $value{lc $name};
        $head .= "$name: $_\r\n" for ref $value ? @$value : defined $value ? $value : ();
    }

    return "$head\r\n";
}

1;
