package Chaos::Peer::Poll;

# A subscriber that asks for one message after the other on one connection: a long-poll, which waits for it, or a poll, which does not.

use strict;
use warnings;

use parent -norequire, 'Chaos::Peer';

use Chaos::Peer;
use Chaos::Peer::Subscriber;
use Time::HiRes qw(time);
use Ws::Http qw(request_text);

*new = \&Chaos::Peer::Subscriber::new;
*hurry = \&Chaos::Peer::Subscriber::hurry;
*expects_last = \&Chaos::Peer::Subscriber::expects_last;

sub request {
    my ($self) = @_;

    return request_text('GET', Chaos::Peer::Subscriber::subscribing($self->{path}, $self->{subscription}));
}

sub head {
    my ($self, $status, $head) = @_;

    $self->{record}->count("sessions $self->{kind}") if !$self->{reused};
    if ($status !~ /^(?:200|304|408)$/) {
        $self->ended("refused $status");
        return 0;
    }
    @$self{qw(state status head)} = ('open', $status, $head);
    ($self->{length}) = $head =~ /^Content-Length: (\d+)/mi;
    $self->{length} = 0 if $status == 304;
    return 1 if defined $self->{length};
    $self->wrong('an answer without a length');
    return 0;
}

sub octets {
    my ($self) = @_;

    return if $self->{state} ne 'open' || length $self->{in} < $self->{length};
    my $body = substr $self->{in}, 0, $self->{length}, '';
    my ($id) = $self->{head} =~ /^ETag: (?:W\/)?"([^"]+)"/mi;
    my $subscription = $self->{subscription};
    if ($self->{status} == 200) {
        $subscription->gap($1) if $self->{head} =~ /^X-Channel-Gap: (\d+)/mi;
        $subscription->message($id, $body);
    } elsif (defined $id) {
        $subscription->told($id);
    }
    $self->{over} = 1 if $subscription->is_over;
    return $self->over_with if $self->{over} || time >= $self->{leave_at} || $self->{head} =~ /^Connection: close/mi;
    if ($self->{status} == 200) {
        $self->again;
    } else {
        @$self{qw(state again_at)} = ('between', time + 0.1 + rand 0.2);
    }
    return;
}

sub again {
    my ($self) = @_;

    my $now = time;
    @$self{qw(state since asked reused)} = ('head', $now, $now, 1);
    return $self->send($self->request);
}

sub tick {
    my ($self, $now) = @_;

    if ($self->{state} eq 'between') {
        return $self->over_with if $self->{over};
        $self->again if $now >= $self->{again_at};
        return;
    }
    # A long-poll waits for as long as nothing is published.
    return $self->drop if $self->{state} eq 'head' && $self->{transport} eq 'longpoll' && $now >= $self->{leave_at};
    return $self->SUPER::tick($now);
}

sub leave { return $_[0]->drop }

sub finished {
    my ($self, $how) = @_;

    return $self->over_with if $self->{state} eq 'between';
    return $self->SUPER::finished($how);
}

1;
