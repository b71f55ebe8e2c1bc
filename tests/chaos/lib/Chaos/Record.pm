package Chaos::Record;

# What a process of clients has seen, as lines of a file for Chaos::Model:
#   message CHANNEL ID PAYLOAD      somebody got a message; once for each message, however many of the process get it
#   end KIND PORT WORKER SINCE UNTIL HOW STALLED    a session ended, and neither because it was over nor because the client wanted it
#   fault KIND TEXT                 what was promised was not kept
#   count KIND NUMBER               how many deliveries, gaps, sessions, ... there were

use strict;
use warnings;

# Messages of a channel that are remembered. Whoever gets an older one has it written down once more.
use constant REMEMBERED => 5000;

sub new {
    my ($class, $file) = @_;

    open my $out, '>', $file or die "$file: $!\n";
    return bless { out => $out, counts => {}, names => {}, order => {} }, $class;
}

sub note {
    my ($self, @words) = @_;

    print { $self->{out} } join("\t", @words), "\n";
    return;
}

sub fault {
    my ($self, $kind, $text) = @_;

    return $self->note('fault', $kind, $text);
}

# message(channel, id, payload): an id names one message for ever, whoever gets it.
sub message {
    my ($self, $channel, $id, $payload, $who) = @_;

    my $known = $self->{names}{$channel}{$id};
    if (defined $known) {
        $self->fault('order', "$id of $channel is $known, and $payload for $who") if $known ne $payload;
        return;
    }
    $self->{names}{$channel}{$id} = $payload;
    my $order = $self->{order}{$channel} //= [];
    push @$order, $id;
    delete $self->{names}{$channel}{shift @$order} if @$order > REMEMBERED;
    return $self->note('message', $channel, $id, $payload);
}

sub count {
    my ($self, $kind, $number) = @_;

    $self->{counts}{$kind} += $number // 1;
    return;
}

sub close {
    my ($self) = @_;

    $self->note('count', $_, $self->{counts}{$_}) for sort keys %{$self->{counts}};
    CORE::close $self->{out};
    return;
}

1;
