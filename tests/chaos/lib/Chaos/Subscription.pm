package Chaos::Subscription;

# What one subscriber has of its channels, whatever transport brings it: whether each message is the one after the last one of its channel, or a gap
# was told. It keeps the position with which the subscriber goes on.
#
# A payload begins with "channel.publisher.number.", and that of the last message of a channel with "channel.end.".

use strict;
use warnings;

# Payloads of a subscriber that are remembered: none of them may come again, whatever its id is.
use constant REMEMBERED => 1000;

# new(record, who, scope, channels, returns): "returns" where a channel may be what it was some time ago, because an nginx that was exchanged has taken
# over again: to it a position of the other one is of an unknown time, and it tells a gap and begins with the oldest message that it has.
sub new {
    my ($class, %given) = @_;

    my %nth;
    @nth{@{$given{channels}}} = 0 .. $#{$given{channels}};
    return bless { %given, nth => \%nth, seen => {}, recent => [], left => {%nth}, text => undef }, $class;
}

# position(): to go on with; undef at the beginning.
sub position { return $_[0]{text} }

# is_over(): whether the last message of each channel has come.
sub is_over { return !%{$_[0]{left}} }

sub fault {
    my ($self, $kind, $text) = @_;

    return $self->{record}->fault($kind, "$text (after " . ($self->{text} // 'nothing') . ", by $self->{who})");
}

# told(id): the position before the first message, where a transport tells it. It is not taken over from one that the subscriber has.
sub told {
    my ($self, $id) = @_;

    return if defined $self->{text};
    $self->{at} = $self->parts($id) or return;
    $self->{text} = $id;
    return;
}

# goes_on_at(id): where messages have no ids, each of them is counted from here. It is not what the subscriber had only behind a gap.
sub goes_on_at {
    my ($self, $id) = @_;

    my $parts = $self->parts($id) or return;
    if (defined $self->{text} && $id ne $self->{text}) {
        if (!defined delete $self->{gap}) {
            $self->fault('loss', "it goes on at $id, and no gap was told");
        } elsif ($self->{returns}) {
            $self->forget;
        }
    }
    @$self{qw(at text)} = ($parts, $id);
    return;
}

# parts(id): { epoch => offset }, and which epoch each channel has. As long as something of what was lost has not been told, a position has 0:0 in place
# of the channels in question, and does not say which those are.
sub parts {
    my ($self, $id) = @_;

    my @parts = map { /^(\d+):(\d+)$/ ? [$1, $2] : ('') } split /,/, $id // '', -1;
    my $unknown = grep { ref && $_->[0] eq '0' } @parts;
    if (!@parts || grep({ !ref } @parts) || @parts > @{$self->{channels}} || @parts < @{$self->{channels}} && !$unknown) {
        $self->fault('form', 'a position is ' . ($id // 'nothing'));
        return;
    }
    my %of = map { @$_ } grep { $_->[0] ne '0' } @parts;
    return { of => \%of, epochs => $unknown ? undef : [map { $_->[0] } @parts] };
}

# gap(lost, id): messages were told to be lost, 0 if nobody knows how many. The id is the position after them; a transport that does not tell it tells
# the gap with the next message.
sub gap {
    my ($self, $lost, $id) = @_;

    $self->{record}->count('gaps');
    if (!defined $id) {
        # Of several channels each may tell of one, before the next message comes.
        $self->{gap} = !defined $self->{gap} ? $lost : $lost && $self->{gap} ? $self->{gap} + $lost : 0;
        return;
    }
    my $parts = $self->parts($id) or return;
    my $old = $self->{at};
    if ($old && $old->{epochs} && $parts->{epochs}) {
        my ($advance, $again, $other) = $self->advance($old, $parts);
        if ($self->{returns} && ($again || $other)) {
            $self->forget;
        } elsif ($again) {
            $self->fault('repeat', "a gap leads back to $id");
        } elsif ($lost && !$other && $lost != $advance) {
            $self->fault('loss', "a gap of $lost leads to $id");
        }
    } elsif ($self->{returns}) {
        $self->forget;
    }
    @$self{qw(at text)} = ($parts, $id);
    return;
}

# message(id, payload): without an id it is the next one of its channel.
sub message {
    my ($self, $id, $payload) = @_;

    my ($name) = $payload =~ /^(\w+)\./ or return $self->fault('form', 'a message is ' . substr $payload, 0, 40);
    my $own = $self->{nth}{$name} // return $self->fault('foreign', "a message of $name");
    my ($parts, $at) = (undef, $self->{at});
    if (defined $id) {
        $parts = $self->parts($id) or return;
    } else {
        $at && $at->{epochs} or return;
        $parts = { of => { %{$at->{of}} }, epochs => $at->{epochs} };
        $parts->{of}{$at->{epochs}[$own]}++;
        $id = join ',', map { "$_:$parts->{of}{$_}" } @{$parts->{epochs}};
    }
    $payload =~ s/x+$//;
    if ($parts->{epochs}) {
        my $epoch = $parts->{epochs}[$own];
        $self->{record}->message($self->{scope} . $name, "$epoch:$parts->{of}{$epoch}", $payload, $self->{who});
    }
    $self->{record}->count('deliveries ' . $self->{who});
    $self->follows($at, $parts, $id) if $at;
    if ($self->{returns} && (!$at || join(' ', sort keys %{$at->{of}}) ne join ' ', sort keys %{$parts->{of}})) {
        $self->forget if defined $self->{gap};
    }
    delete $self->{gap};
    $self->fault('repeat', "$payload comes again as $id") if $self->{seen}{$payload}++;
    my $recent = $self->{recent};
    push @$recent, $payload;
    delete $self->{seen}{shift @$recent} if @$recent > REMEMBERED;
    @$self{qw(at text)} = ($parts, $id);
    delete $self->{left}{$name} if $payload =~ /^\w+\.end\./;
    return;
}

sub forget {
    my ($self) = @_;

    @$self{qw(seen recent)} = ({}, []);
    return;
}

# follows(old, new, id): whether the message is the next one, or what is missing was told. A gap of one channel has the right number.
sub follows {
    my ($self, $old, $new, $id) = @_;

    my ($advance, $again, $other) = $self->advance($old, $new);
    my $gap = $self->{gap};
    # The message itself, unless it is the first one of another epoch.
    my $missing = $other || !$old->{epochs} ? 0 : $advance - 1;
    return $self->fault('repeat', "$id comes again") if $again || $missing < 0;
    if (!defined $gap) {
        $self->fault('loss', ($other ? 'another epoch' : "$missing messages are missing") . " before $id, and no gap was told") if $missing || $other;
    } elsif ($gap && !$other && @{$self->{channels}} == 1 && $gap != $missing) {
        $self->fault('loss', "$missing messages are missing before $id, and the gap says $gap");
    }
    return;
}

# advance(old, new): how many messages are between two positions, whether one of them leads back, and whether a channel has another epoch.
sub advance {
    my ($self, $old, $new) = @_;

    my ($advance, $again, $other) = (0, 0, 0);
    for my $epoch (keys %{$new->{of}}) {
        my $before = $old->{of}{$epoch};
        if (!defined $before) {
            $other = 1 if $old->{epochs};
            next;
        }
        my $more = $new->{of}{$epoch} - $before;
        $again = 1 if $more < 0;
        $advance += $more;
    }
    $other = 1 if $new->{epochs} && grep { !defined $new->{of}{$_} } keys %{$old->{of}};
    return ($advance, $again, $other);
}

1;
