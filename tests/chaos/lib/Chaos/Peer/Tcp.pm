package Chaos::Peer::Tcp;

# An echo by a TCP service (Chaos::Service), which counts what a client has brought. Some clients say "bye": the service ends its half of the connection
# behind what it has echoed, and that is what the client gets before a Close with 1000.

use strict;
use warnings;

use parent -norequire, 'Chaos::Peer::Echo';

use Chaos::Peer::Echo;
use Time::HiRes qw(time);

my $sessions = 0;

sub opened {
    my ($self) = @_;

    $self->{name} = sprintf '%d-%d-%d', $$, ++$sessions, int rand 1e6;
    $self->{bye} = 0;
    $self->{bye_at} = rand() < 0.3 ? time + rand 3 : 9**9;
    return $self->SUPER::opened;
}

# payload(number): the first line names the connection.
sub payload {
    my ($self, $number) = @_;

    return $number ? $self->SUPER::payload($number) : "0.$self->{name}\n";
}

sub more {
    my ($self) = @_;

    return if $self->{bye};
    if ($self->{sent} && time > $self->{bye_at}) {
        $self->{bye} = 1;
        return $self->send(Chaos::Peer::WebSocket::frame(2, "bye\n"));
    }
    return $self->SUPER::more;
}

# left(): all that was sent before the Close is for the service to have, unless the worker dies with it.
sub left {
    my ($self) = @_;

    $self->{record}->note('brought', $self->{port}, $self->{worker}, $self->{name}, $self->{sent} + $self->{bye}) if !length $self->{out};
    return;
}

sub closed_by_server {
    my ($self) = @_;

    return $self->ended("close $self->{close}") if $self->{close} ne '1000' || !$self->{bye};
    if ($self->{got} != $self->{sent}) {
        $self->{record}->fault('loss', "$self->{kind} at $self->{port}: the service ended after $self->{got} of $self->{sent}");
    }
    return $self->over_with;
}

1;
