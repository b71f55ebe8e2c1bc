package Chaos::Peer::Shared;

# One of the clients of a program that echoes: it sends numbered messages, and gets those of all of them as messages of a channel. Those of one client
# stay in their order, whoever runs the program.

use strict;
use warnings;

use parent -norequire, 'Chaos::Peer::Subscriber';

use Chaos::Peer::Subscriber;
use Time::HiRes qw(time);

my $sessions = 0;

sub opened {
    my ($self) = @_;

    $self->{name} = sprintf '%d-%d-%d', $$, ++$sessions, int rand 1e6;
    @$self{qw(sent own)} = (0, 0);
    return;
}

sub tick {
    my ($self, $now) = @_;

    if ($self->{state} eq 'open' && !length $self->{out} && $self->{sent} - $self->{own} < 20) {
        my $channel = $self->{subscription}{channels}[0];
        $self->send(join '', map { Chaos::Peer::WebSocket::frame(1, "$channel.$self->{name}.$_.") } $self->{sent} + 1 .. $self->{sent} + 2);
        $self->{sent} += 2;
    }
    return $self->SUPER::tick($now);
}

sub arrived {
    my ($self, $id, $payload) = @_;

    my ($name, $number) = $payload =~ /^\w+\.([\d-]+)\.(\d+)\.$/ or return $self->wrong("a message is $payload");
    if ($name eq $self->{name}) {
        if ($number <= $self->{own}) {
            $self->{record}->fault($number == $self->{own} ? 'repeat' : 'order', "$self->{kind} at $self->{port}: $payload after $self->{own}");
        }
        $self->{own} = $number;
    }
    return $self->SUPER::arrived($id, $payload);
}

sub is_enough { return }

sub waits { return !$_[0]{deaf} }

1;
