package Chaos::Peer::Echo;

# Sends numbered messages to an endpoint that echoes them, and looks at what comes back: each of them, once, in order. "form" is how the endpoint
# keeps messages apart: lines, messages (with their types), octets (not at all).

use strict;
use warnings;

use parent -norequire, 'Chaos::Peer::WebSocket';

use Chaos::Peer::WebSocket;

# Messages that are on their way.
use constant WINDOW => 100;

sub path { return $_[0]{path} }

sub opened {
    my ($self) = @_;

    @$self{qw(sent got queue octets allowed partial)} = (0, 0, [], '', WINDOW, 0);
    # Some have something to read while they read nothing.
    $self->{pause_at} = rand() < 0.1 ? int rand 3000 : -1;
    return $self->more;
}

sub more {
    my ($self) = @_;

    my $frames = '';
    while ($self->{sent} - $self->{got} < WINDOW && $self->{sent} < $self->{allowed}) {
        my $number = $self->{sent}++;
        my $payload = $self->payload($number);
        my $opcode = $self->{form} eq 'octets' ? 2 : $self->{form} eq 'messages' && $number % 2 ? 2 : 1;
        push @{$self->{queue}}, [$opcode, $payload];
        $frames .= Chaos::Peer::WebSocket::frame($opcode, $payload);
    }
    $self->send($frames) if length $frames;
    return;
}

# tick(now): so many messages more, or the echo would take all of the machine.
sub tick {
    my ($self, $now) = @_;

    if ($self->{state} eq 'open' && $self->{allowed} - $self->{sent} < WINDOW) {
        $self->{allowed} += 40;
        $self->more if !length $self->{out};
    }
    return $self->SUPER::tick($now);
}

sub payload {
    my ($self, $number) = @_;

    my $chance = rand;
    my $payload = "$number." . 'x' x ($chance < 0.9 ? rand 60 : $chance < 0.999 ? rand 2000 : rand 150_000);
    return $self->{form} eq 'octets' ? "$payload\n" : $payload;
}

sub message {
    my ($self, $opcode, $payload) = @_;

    if ($self->{form} eq 'octets') {
        $self->{octets} .= $payload;
        while ((my $end = index $self->{octets}, "\n") >= 0) {
            $self->one(2, substr $self->{octets}, 0, $end + 1, '');
            # One that is strange ends the session.
            return if !$self->{socket};
        }
    } else {
        $self->one($opcode, $payload);
        return if !$self->{socket};
    }
    if ($self->{got} >= $self->{pause_at} && $self->{pause_at} >= 0) {
        $self->{pause_at} = -1;
        $self->pause(rand 1.5);
    }
    $self->more if $self->{sent} - $self->{got} < WINDOW / 2 && $self->{state} eq 'open' && !length $self->{out};
    return;
}

sub taken {
    my ($self) = @_;

    return if !defined $self->{sent};
    $self->more if $self->{sent} - $self->{got} < WINDOW / 2;
    return;
}

sub one {
    my ($self, $opcode, $payload) = @_;

    my $expected = shift @{$self->{queue}} or return $self->strange($payload, 'nothing');
    # A program that is killed may have written the beginning of a line, which is its last message. Nothing may come behind it but a Close that is not 1000.
    if ($self->{form} eq 'lines' && !$self->{partial} && length $payload < length $expected->[1] && index($expected->[1], $payload) == 0) {
        $self->{partial} = 1;
        return;
    }
    return $self->strange($payload, $expected->[1]) if $self->{partial} || $payload ne $expected->[1] || $opcode != $expected->[0];
    $self->{got}++;
    $self->{record}->count("deliveries $self->{kind}");
    return;
}

sub strange {
    my ($self, $payload, $expected) = @_;

    my ($number, $other) = map { /^(\d+)\./ ? $1 : -1 } $payload, $expected;
    my $kind = $number < 0 || $number == $other ? 'form' : $number < $self->{got} ? 'repeat' : 'loss';
    $self->{record}->fault($kind, sprintf '%s at %s: "%s" of %d octets in place of "%s" of %d', $self->{kind}, $self->{port},
        substr($payload, 0, 20), length $payload, substr($expected, 0, 20), length $expected);
    return $self->drop;
}

sub waits { return $_[0]{sent} > $_[0]{got} && !$_[0]{deaf} }

1;
