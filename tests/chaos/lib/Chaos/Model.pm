package Chaos::Model;

# What was promised of messages, held against what publishers were told and subscribers got.

use strict;
use warnings;

sub new {
    my ($class) = @_;

    return bless { unanswered => {}, ids => {}, problems => [], counts => { map { $_ => 0 } qw(taken refused unknown deliveries gaps longest) } }, $class;
}

sub counts   { return $_[0]{counts} }
sub problems { return @{$_[0]{problems}} }

sub problem {
    my ($self, $kind, $text) = @_;

    push @{$self->{problems}}, "$kind: $text";
    return;
}

# An id names one message for ever, and a message has one id in each epoch.
sub is_named {
    my ($self, $channel, $id, $payload, $who) = @_;

    my $known = $self->{ids}{$channel}{$id} //= $payload;
    $self->problem('order', "$id of $channel is $known, and $payload for $who") if $known ne $payload;
    my ($epoch) = split /:/, $id;
    my $other = $self->{messages}{$channel}{$payload}{$epoch} //= $id;
    $self->problem('order', "$payload of $channel is $other, and $id for $who") if $other ne $id;
    return;
}

# published(file): what a publisher was told.
sub published {
    my ($self, $file) = @_;

    open my $in, '<', $file or return;
    while (<$in>) {
        chomp;
        my ($payload, $channel, $unanswered, $took, $id) = split /\t/;
        if ($unanswered !~ /^(?:taken|refused|unknown)$/) {
            $self->problem('status', "$payload was answered with $unanswered");
            next;
        }
        $self->{counts}{$unanswered}++;
        $self->{counts}{longest} = $took if $took > $self->{counts}{longest} && $unanswered ne 'unknown';
        $self->{unanswered}{$payload} = $unanswered;
        $self->is_named($channel, $id, $payload, 'its publisher') if $unanswered eq 'taken';
    }
    return;
}

# received(file, name, channel): what a subscriber got. Whether it was told of what is missing it has found out by itself.
sub received {
    my ($self, $file, $name, $channel) = @_;

    open my $in, '<', $file or return $self->problem('loss', "$name has written nothing");
    while (<$in>) {
        chomp;
        my ($what, $first, $second) = split /\t/;
        if ($what eq 'message') {
            $self->{counts}{deliveries}++;
            $self->is_named($channel, $first, $second, $name);
            next if $second =~ /^end-/;
            my $unanswered = $self->{unanswered}{$second};
            $self->problem('refused', "$second came to $name, and its publisher was told that it was not published") if ($unanswered // '') eq 'refused';
            $self->problem('foreign', "$second came to $name, and nobody has published it") if !$unanswered && $self->{counts}{taken};
        } elsif ($what eq 'gap') {
            $self->{counts}{gaps}++;
        } else {
            $self->problem($first, "$name: $second");
        }
    }
    return;
}

1;
