package Chaos::Peer::Stream;

# A subscriber whose response goes on: eventsource, chunked, multipart, raw.

use strict;
use warnings;

use parent -norequire, 'Chaos::Peer';

use Chaos::Peer;
use Chaos::Peer::Subscriber;
use Ws::Http qw(request_text);

my %ASKS = (eventsource => [Accept => 'text/event-stream'], chunked => [TE => 'chunked'], multipart => [Accept => 'multipart/mixed'], raw => []);

*new = \&Chaos::Peer::Subscriber::new;
*hurry = \&Chaos::Peer::Subscriber::hurry;
*expects_last = \&Chaos::Peer::Subscriber::expects_last;
*is_enough = \&Chaos::Peer::Subscriber::is_enough;

sub success { return 200 }

sub request {
    my ($self) = @_;

    return request_text('GET', Chaos::Peer::Subscriber::subscribing($self->{path}, $self->{subscription}), @{$ASKS{$self->{transport}}});
}

sub opened {
    my ($self, $head) = @_;

    $self->{text} = '';
    my $subscription = $self->{subscription};
    $subscription->gap($1) if $head =~ /^X-Channel-Gap: (\d+)/mi;
    if (my ($id) = $head =~ /^ETag: (?:W\/)?"([^"]+)"/mi) {
        # These tell no id with a message: they are counted from here, and after a gap this is another place.
        if ($self->{transport} eq 'chunked' || $self->{transport} eq 'raw') {
            $subscription->goes_on_at($id);
        } else {
            $subscription->told($id);
        }
    }
    $self->{boundary} = $1 if $head =~ /boundary=(\S+?)\r/;
    $self->pause(rand 1.5) if rand() < 0.05;
    return;
}

sub octets {
    my ($self) = @_;

    while ($self->{in} =~ /^([0-9a-f]+)\r\n/) {
        my ($begin, $length) = ($+[0], hex $1);
        last if length $self->{in} < $begin + $length + 2;
        my $chunk = substr $self->{in}, $begin, $length;
        return $self->wrong('a chunk without an end') if substr($self->{in}, $begin + $length, 2) ne "\r\n";
        substr $self->{in}, 0, $begin + $length + 2, '';
        return $self->whole if !$length;
        if ($self->{transport} eq 'chunked') {
            $self->{subscription}->message(undef, $chunk);
        } else {
            $self->{text} .= $chunk;
        }
    }
    my $read = $self->can($self->{transport});
    $read->($self) if $self->{transport} ne 'chunked';
    return $self->is_enough;
}

# whole(): the response has come to its end.
sub whole {
    my ($self) = @_;

    return $self->ended('whole');
}

sub leave {
    my ($self) = @_;

    return $self->drop;
}

sub eventsource {
    my ($self) = @_;

    my $subscription = $self->{subscription};
    while ((my $end = index $self->{text}, "\n\n") >= 0) {
        my %field;
        for (split /\n/, substr $self->{text}, 0, $end + 2, '') {
            my ($name, $value) = /^(\w+): ?(.*)$/ or next;
            $field{$name} = $value;
        }
        if (($field{event} // '') eq 'gap') {
            $subscription->gap($field{data}, $field{id});
        } elsif (defined $field{data}) {
            $subscription->message($field{id}, $field{data});
        } elsif (defined $field{id}) {
            $subscription->told($field{id});
        }
    }
    return;
}

sub multipart {
    my ($self) = @_;

    my $boundary = "--$self->{boundary}";
    if (!$self->{begun}{$boundary}) {
        $self->{text} =~ s/^\Q$boundary\E// or return;
        $self->{begun} = { $boundary => 1 };
    }
    while ((my $end = index $self->{text}, "\r\n$boundary") >= 0) {
        my $part = substr $self->{text}, 0, $end + 2 + length $boundary, '';
        my ($head, $payload) = $part =~ /^\r\n(.*?)\r\n\r\n(.*)\r\n\Q$boundary\E$/s or return $self->wrong('a part is ' . substr $part, 0, 60);
        $self->{subscription}->gap($1) if $head =~ /^X-Channel-Gap: (\d+)/mi;
        $self->{subscription}->message($head =~ /^ETag: "([^"]+)"/mi, $payload);
    }
    return;
}

sub raw {
    my ($self) = @_;

    while ((my $end = index $self->{text}, "\n") >= 0) {
        $self->{subscription}->message(undef, substr $self->{text}, 0, $end);
        substr $self->{text}, 0, $end + 1, '';
    }
    return;
}

1;
