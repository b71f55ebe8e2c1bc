package Chaos::Peer::WebSocket;

# A client that speaks WebSocket (RFC 6455). What kind of session it is says message(opcode, payload) of those that inherit from it.

use strict;
use warnings;

use parent 'Chaos::Peer';

use Time::HiRes qw(time);
use Ws::Frame qw(upgrade ACCEPT);

# frame(opcode, payload): with a mask of zeros, which costs nothing.
sub frame {
    my ($opcode, $payload) = @_;

    my $length = length $payload;
    return pack('CCN', 0x80 | $opcode, 0x80 | $length, 0) . $payload if $length < 126;
    return pack('CCnN', 0x80 | $opcode, 0x80 | 126, $length, 0) . $payload if $length < 65_536;
    return pack('CCQ>N', 0x80 | $opcode, 0x80 | 127, $length, 0) . $payload;
}

sub success { return 101 }
sub protocol { return () }
sub opened { return }

sub request {
    my ($self) = @_;

    @$self{qw(parts opcode close sent_close)} = ('', undef, undef, 0);
    return upgrade($self->path, $self->protocol);
}

sub octets {
    my ($self) = @_;

    my ($at, $have) = (0, length $self->{in});
    while ($have - $at >= 2) {
        my ($first, $length) = unpack 'CC', substr $self->{in}, $at, 2;
        my $head = 2;
        if ($length > 125) {
            return $self->wrong("a length of $length") if $length > 127;
            $head = $length == 126 ? 4 : 10;
            last if $have - $at < $head;
            $length = $length == 126 ? unpack 'n', substr $self->{in}, $at + 2, 2 : unpack 'Q>', substr $self->{in}, $at + 2, 8;
        }
        last if $have - $at < $head + $length;
        my $payload = substr $self->{in}, $at + $head, $length;
        $at += $head + $length;
        return $self->wrong('octets behind a Close') if defined $self->{close};
        if ($first == 0x81 || $first == 0x82) {
            return $self->wrong('a message in a message') if defined $self->{opcode};
            $self->message($first & 15, $payload) if $self->{state} eq 'open';
        } elsif ($first == 0x89) {
            $self->send(frame(10, $payload)) if !$self->{sent_close};
        } elsif ($first == 0x88) {
            $self->{close} = length $payload ? join ' ', grep { length } unpack 'n a*', $payload : '1005';
            $self->closed;
        } elsif ($first == 0x01 || $first == 0x02 || $first == 0x00 || $first == 0x80) {
            return $self->wrong('a piece of no message') if ($first & 15 ? 1 : 0) == (defined $self->{opcode} ? 1 : 0);
            $self->{opcode} = $first & 15 if $first & 15;
            $self->{parts} .= $payload;
            if ($first == 0x80) {
                my ($opcode, $whole) = @$self{qw(opcode parts)};
                @$self{qw(opcode parts)} = (undef, '');
                $self->message($opcode, $whole) if $self->{state} eq 'open';
            }
        } elsif ($first != 0x8a) {
            return $self->wrong(sprintf 'a frame that begins with %02x', $first);
        }
        return if !$self->{socket};
    }
    substr $self->{in}, 0, $at, '';
    return;
}

# closed(): the server's Close has come, first or as the answer.
sub closed {
    my ($self) = @_;

    # Before it is sent: nothing may follow a Close.
    @$self{qw(state closing)} = ('closing', time);
    if (!$self->{sent_close}) {
        $self->send(frame(8, $self->{close} eq '1005' ? '' : pack 'n', $self->{close} =~ /^(\d+)/));
        $self->{sent_close} = 1;
        $self->{server_closed} = 1;
    }
    return;
}

sub leave {
    my ($self) = @_;

    my $way = rand;
    return $self->drop if $way < 0.2 && !$self->{over};
    $self->resume if $self->{deaf};
    @$self{qw(state closing sent_close server_closed)} = ('closing', time, 1, 0);
    $self->send(frame(8, pack('n', 1000)));
    return;
}

sub finished {
    my ($self, $how) = @_;

    return $self->SUPER::finished($how) if $self->{state} eq 'head' || !defined $self->{close};
    # Both have said Close.
    if ($self->{server_closed}) {
        return $self->closed_by_server;
    }
    $self->left;
    return $self->over_with;
}

# left(): it was the client that closed, and the server has answered.
sub left { return }

# closed_by_server(): what the server's Close means.
sub closed_by_server {
    my ($self) = @_;

    return $self->ended("close $self->{close}");
}

1;
