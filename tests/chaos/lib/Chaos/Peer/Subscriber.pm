package Chaos::Peer::Subscriber;

# A WebSocket that subscribes to channels, and goes on after the last message that it has, at any node, whenever its session ends.

use strict;
use warnings;

use parent -norequire, 'Chaos::Peer::WebSocket';

use Chaos::Peer::WebSocket;

sub new {
    my ($class, %given) = @_;

    return $class->SUPER::new(%given, subscription => Chaos::Subscription->new(
        record => $given{record}, who => $given{kind}, scope => $given{scope}, returns => length $given{scope}, channels => $given{channels}));
}

# subscribing(path, subscription): with the position, if there is one.
sub subscribing {
    my ($path, $subscription) = @_;

    my $position = $subscription->position;
    $path .= '?id=' . join '-', @{$subscription->{channels}};
    return defined $position ? "$path&last_event_id=$position" : $path;
}

sub path { return subscribing($_[0]{path}, $_[0]{subscription}) }

sub protocol { return ('Sec-WebSocket-Protocol' => 'ws+meta.nchan') }

sub opened {
    my ($self) = @_;

    $self->pause(rand 1.5) if rand() < 0.05;
    return;
}

sub message {
    my ($self, $opcode, $text) = @_;

    my $end = index $text, "\n\n";
    return $self->wrong('a message without a head') if $end < 0;
    my $head = substr $text, 0, $end;
    my ($id) = $head =~ /^id: (\S+)$/m;
    return $self->{subscription}->gap($1, $id) if $head =~ /^gap: (\d+)$/m;
    $self->arrived($id, substr $text, $end + 2);
    return $self->is_enough;
}

sub arrived {
    my ($self, $id, $payload) = @_;

    return $self->{subscription}->message($id, $payload);
}

# hurry(): where the last messages have been sent and some of them have not come, nobody would ever get them.
sub hurry {
    my ($self) = @_;

    my @missing = sort keys %{$self->{subscription}{left}};
    $self->{record}->fault('loss', "the last message of @missing never came to $self->{kind} at $self->{ports}[0], which is $self->{state}") if @missing && $self->expects_last;
    return $self->Chaos::Peer::hurry;
}

sub expects_last { return $_[0]{path} ne '/shared' && !$_[0]{warms} }

# is_enough(): a subscriber that has the last message of each of its channels is over.
sub is_enough {
    my ($self) = @_;

    @$self{qw(over leave_at)} = (1, 0) if $self->{subscription}->is_over;
    return;
}

1;
