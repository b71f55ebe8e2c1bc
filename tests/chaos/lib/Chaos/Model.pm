package Chaos::Model;

# What was promised of messages and sessions, held against what publishers were told and clients got.

use strict;
use warnings;

# Seconds after something was killed in which others notice.
use constant AFTER => 6;

# new(engine, nodes): whether there is an engine, and the nodes.
sub new {
    my ($class, $engine, @nodes) = @_;

    my %node = map { $_->port => $_ } @nodes;
    return bless {
        engine => $engine, nodes => \%node, unanswered => {}, ids => {}, problems => [], ends => {}, refusals => {},
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
    local $_;
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
    local $_;
    while (<$in>) {
        chomp;
        my ($what, @words) = split /\t/;
        if ($what eq 'message') {
            my ($channel, $id, $payload) = @words;
            $self->is_named($channel, $id, $payload, $name);
            # What clients of a shared program send has no publisher.
            next if $payload =~ /^\w+\.end\./ || $payload =~ /^s\d/;
            my $unanswered = $self->{unanswered}{$payload};
            $self->problem('refused', "$payload came to $name, and its publisher was told that it was not published") if ($unanswered // '') eq 'refused';
            $self->problem('foreign', "$payload came to $name, and nobody has published it") if !$unanswered;
        } elsif ($what eq 'count') {
            $self->{counts}{$words[0]} += $words[1];
        } elsif ($what eq 'brought') {
            $self->brought(@words);
        } elsif ($what eq 'end') {
            $self->ended(@words);
        } else {
            $self->problem($words[0], "$name: $words[1]");
        }
    }
    return;
}

# served(file): what the service got. To be read before the clients' files.
sub served {
    my ($self, $file) = @_;

    open my $in, '<', $file or return $self->problem('loss', 'the service has written nothing');
    local $_;
    while (<$in>) {
        my ($what, $name, $lines) = split;
        $self->{brought}{$name} = $lines;
    }
    return;
}

# brought(port, worker, connection, lines): a client closed in order, and had sent so many lines.
sub brought {
    my ($self, $port, $worker, $name, $lines) = @_;

    my $got = $self->{brought}{$name};
    $self->{counts}{'deliveries to the service'} += $got // 0;
    return if defined $got && $got == $lines;
    my $node = $self->{nodes}{$port};
    return if $node->{killed}{$worker} || $node->{cuts} || @{$node->{down}} || $node->{starves};
    return $self->problem('loss', sprintf 'the service got %s of %d lines of %s at %s', $got // 'nothing', $lines, $name, $port);
}

# ended(kind, port, worker, since, until, how, stalled, reused): a session that nobody wanted to end has to have a reason.
sub ended {
    my ($self, $kind, $port, $worker, $since, $until, $how, $stalled, $reused) = @_;

    $self->{ends}{$how =~ s/ .*//r}++;
    $self->{refusals}{"$kind $1"}++ if $how =~ /^refused (\d+)/;
    my $node = $self->{nodes}{$port};
    # Whoever finds no connection free waits until one is.
    return if $node->{starves} && $how !~ /^(?:timeout(?! of the answer)|close 1002)/;
    return if $self->is_explained($node, $kind, $worker, $since, $until, $how, $stalled, $reused);
    return $self->problem('end', sprintf '%s of %s at %s, worker %s, %.1f s after its begin at %.3f', $how, $kind, $port, $worker, $until - $since, $since);
}

sub is_explained {
    my ($self, $node, $kind, $worker, $since, $until, $how, $stalled, $reused) = @_;

    my $is_channel = $kind =~ /websocket|eventsource|chunked|multipart|raw|poll/;
    my $streams = $kind =~ /eventsource|chunked|multipart|raw|poll/;
    my $is_cgi = $kind =~ /^cgi/;
    # Faults of the node in the time of this session, or just before it.
    my $hurt = grep { $_ > $since - AFTER && $_ < $until + 1 } @{$node->{hurt}};
    my $down = grep { $_->[0] < $until + 1 && $_->[1] > $since - 1 } @{$node->{down}};
    if ($how =~ /^(?:cut|no answer)$/) {
        return 1 if $down || $stalled || $node->{killed}{$worker};
        return 1 if $how eq 'no answer' && $worker eq '-' && $hurt;
        # nginx closes a connection that waits for another request when it likes to.
        return 1 if $reused;
        # What cannot tell of a gap is cut, so that it does not look whole.
        return 1 if $self->{engine} && $kind =~ /^(?:chunked|raw)/;
        # A response whose program was killed before its end must not look whole.
        return 1 if $is_cgi && $hurt;
        # worker_shutdown_timeout does not wait for an engine, nor for a hook.
        return 1 if $how eq 'no answer' && $is_channel && $node->{cuts};
        return ($streams || $is_cgi) && $node->{cuts};
    }
    return $down if $how eq 'unreachable';
    return $node->{drains} || $node->{cuts} if $how =~ /^close 1012/;
    return $node->{cuts} if $how =~ /^close 1001/;
    return $hurt if $how =~ /^close 1011/;
    return $streams if $how eq 'whole';
    return 1 if $how =~ /^refused 50[234]$/ && $kind =~ /^asked/;
    return 1 if $how eq 'refused 503' && $is_channel && $self->{engine};
    return $hurt || $down if $how =~ /^refused 50[03]$/ || $is_cgi && $how eq 'refused 502';
    return 0;
}

1;
