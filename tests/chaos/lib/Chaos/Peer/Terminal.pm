package Chaos::Peer::Terminal;

# An echo on a terminal that changes no octet, from the word "ready" of the program on. The size of the terminal is changed now and then, which nobody
# may see.

use strict;
use warnings;

use parent -norequire, 'Chaos::Peer::Echo';

use Chaos::Peer::Echo;

sub opened {
    my ($self) = @_;

    @$self{qw(is_ready begin)} = (0, '');
    return $self->SUPER::opened;
}

sub more {
    my ($self) = @_;

    return if !$self->{is_ready};
    return $self->SUPER::more;
}

sub message {
    my ($self, $opcode, $payload) = @_;

    if (!$self->{is_ready}) {
        $self->{begin} .= $payload;
        # While the terminal is set up it ends lines in its own way.
        if ($self->{begin} !~ s/^ready\r?\n//) {
            return $self->wrong('a terminal begins with ' . substr $self->{begin}, 0, 20) if length $self->{begin} > 6;
            return;
        }
        $self->{is_ready} = 1;
        $payload = $self->{begin};
    }
    return $self->SUPER::message($opcode, $payload);
}

sub tick {
    my ($self, $now) = @_;

    if ($self->{state} eq 'open' && !length $self->{out} && rand() < 0.02) {
        $self->send(Chaos::Peer::WebSocket::frame(1, sprintf "\e[8;%d;%dt", 1 + int rand 200, 1 + int rand 300));
    }
    return $self->SUPER::tick($now);
}

# waits(): for the program too, before it is ready.
sub waits { my ($self) = @_; return !$self->{is_ready} || $self->SUPER::waits }

1;
