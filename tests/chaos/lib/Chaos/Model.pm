package Chaos::Model;

# What was promised of messages and sessions, held against what publishers were told and clients got.

use strict;
use warnings;

# Seconds after something was killed in which others notice.
use constant AFTER => 6;

# new(nodes)
sub new {
    my ($class, @nodes) = @_;

    my %node = map { $_->port => $_ } @nodes;
    return bless {
        nodes => \%node, unanswered => {}, ids => {}, problems => [], ends => {}, refusals => {},
        counts => { map { $_ => 0 } qw(taken refused unknown gaps longest) },
    }, $class;
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

# received(file, name): what a process of clients saw. What its subscribers were not told of is missing they have found out by themselves.
sub received {
    my ($self, $file, $name) = @_;

    open my $in, '<', $file or return $self->problem('loss', "$name has written nothing");
    while (<$in>) {
        chomp;
        my ($what, @words) = split /\t/;
        if ($what eq 'message') {
            my ($channel, $id, $payload) = @words;
            $self->is_named($channel, $id, $payload, $name);
            next if $payload =~ /^\w+\.end\./;
            my $unanswered = $self->{unanswered}{$payload};
            $self->problem('refused', "$payload came to $name, and its publisher was told that it was not published") if ($unanswered // '') eq 'refused';
            $self->problem('foreign', "$payload came to $name, and nobody has published it") if !$unanswered;
        } elsif ($what eq 'count') {
            $self->{counts}{$words[0]} += $words[1];
        } elsif ($what eq 'end') {
            $self->ended(@words);
        } else {
            $self->problem($words[0], "$name: $words[1]");
        }
    }
    return;
}

# ended(kind, port, worker, since, until, how, stalled, reused): a session that nobody wanted to end has to have a reason.
sub ended {
    my ($self, $kind, $port, $worker, $since, $until, $how, $stalled, $reused) = @_;

    $self->{ends}{$how =~ s/ .*//r}++;
    $self->{refusals}{"$kind $1"}++ if $how =~ /^refused (\d+)/;
    my $node = $self->{nodes}{$port};
    return if $node->{starves} && $how !~ /^(?:timeout|close 1002)/;
    return if $self->is_explained($node, $kind, $worker, $since, $until, $how, $stalled, $reused);
    return $self->problem('end', sprintf '%s of %s at %s, worker %s, %.1f s after its begin at %.3f', $how, $kind, $port, $worker, $until - $since, $since);
}

sub is_explained {
    my ($self, $node, $kind, $worker, $since, $until, $how, $stalled, $reused) = @_;

    my $streams = $kind =~ /eventsource|chunked|multipart|raw|poll/;
    # Faults of the node in the time of this session, or just before it.
    my $hurt = grep { $_ > $since - AFTER && $_ < $until + 1 } @{$node->{hurt}};
    my $down = grep { $_->[0] < $until + 1 && $_->[1] > $since - 1 } @{$node->{down}};
    if ($how =~ /^(?:cut|no answer)$/) {
        return 1 if $down || $stalled || $node->{killed}{$worker};
        return 1 if $how eq 'no answer' && $worker eq '-' && $hurt;
        # nginx closes a connection that waits for another request when it likes to.
        return 1 if $reused;
        return $streams && $node->{cuts};
    }
    return $down if $how eq 'unreachable';
    return $node->{drains} || $node->{cuts} if $how =~ /^close 1012/;
    return $node->{cuts} if $how =~ /^close 1001/;
    return $hurt if $how =~ /^close 1011/;
    return $streams if $how eq 'whole';
    return $hurt || $down if $how =~ /^refused 50[03]$/;
    return 0;
}

1;
