package Chaos::Peer::Counting;

# Looks at a program that says the numbers from 1 to "most" and ends: all of them, in order, and then a Close with 1000. Whatever else ends the
# session, it is a beginning of them, and never a Close that looks as if it was all.

use strict;
use warnings;

use parent -norequire, 'Chaos::Peer::WebSocket';

use Chaos::Peer::WebSocket;

sub path {
    my ($self) = @_;

    $self->{most} = $self->{fixed} // 1 + int rand(rand() < 0.5 ? 20_000 : 100);
    return "$self->{path}?n=$self->{most}";
}

sub opened {
    my ($self) = @_;

    @$self{qw(got octets)} = (0, '');
    $self->{leave_at} += 5;
    $self->{pause_at} = rand() < 0.2 ? int rand $self->{most} : -1;
    return;
}

sub message {
    my ($self, $opcode, $payload) = @_;

    my @numbers = $payload;
    if ($self->{form} eq 'octets') {
        $self->{octets} .= $payload;
        my $end = rindex $self->{octets}, "\n";
        @numbers = $end < 0 ? () : split /\n/, substr $self->{octets}, 0, $end + 1, '';
    }
    for my $number (@numbers) {
        if ($number ne $self->{got} + 1) {
            my $kind = $number !~ /^\d+$/ ? 'form' : $number > $self->{got} ? 'loss' : 'repeat';
            $self->{record}->fault($kind, "$self->{kind} at $self->{port}: $number after $self->{got} of $self->{most}");
            return $self->drop;
        }
        $self->{got}++;
    }
    $self->{record}->count("deliveries $self->{kind}", scalar @numbers);
    if ($self->{pause_at} >= 0 && $self->{got} >= $self->{pause_at}) {
        $self->{pause_at} = -1;
        $self->pause(rand 1.5);
    }
    return;
}

sub waits { return !$_[0]{deaf} }

sub closed_by_server {
    my ($self) = @_;

    return $self->ended("close $self->{close}") if $self->{close} ne '1000';
    if ($self->{got} != $self->{most}) {
        $self->{record}->fault('loss', "$self->{kind} at $self->{port}: closed with 1000 after $self->{got} of $self->{most}");
    }
    $self->{record}->count("complete $self->{kind}");
    $self->over_with;
    # Programs that only write would leave little to the others.
    $self->{next} += rand 3;
    return;
}

1;
