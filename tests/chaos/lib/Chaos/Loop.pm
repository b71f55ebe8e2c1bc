package Chaos::Loop;

# The event loop of a process of clients: some hundred connections, by select(2). Each of them is a Chaos::Peer, which is told when its socket
# can be read or written, and of the time.

use strict;
use warnings;

use Time::HiRes qw(time);

# A process that has been away for longer was stopped, and what the server does to its connections meanwhile is its right.
use constant STOPPED => 2;

sub new {
    my ($class) = @_;

    return bless { peers => [], by_number => {}, reading => '', writing => '' }, $class;
}

sub add {
    my ($self, $peer) = @_;

    push @{$self->{peers}}, $peer;
    return;
}

sub peers { return @{$_[0]{peers}} }

# watch(peer): from now on until forget() its socket is looked at.
sub watch {
    my ($self, $peer) = @_;

    my $number = fileno $peer->{socket};
    $self->{by_number}{$number} = $peer;
    vec($self->{reading}, $number, 1) = 1;
    vec($self->{writing}, $number, 1) = 0;
    return;
}

sub forget {
    my ($self, $peer) = @_;

    my $number = fileno $peer->{socket};
    delete $self->{by_number}{$number};
    vec($self->{reading}, $number, 1) = 0;
    vec($self->{writing}, $number, 1) = 0;
    return;
}

# wants(peer, "reading" or "writing", 0 or 1)
sub wants {
    my ($self, $peer, $what, $on) = @_;

    vec($self->{$what}, fileno $peer->{socket}, 1) = $on;
    return;
}

# run(over): until over->() is true, which is asked about twenty times in a second.
sub run {
    my ($self, $over) = @_;

    my $looked = my $before = time;
    while (1) {
        my ($read, $write) = @$self{qw(reading writing)};
        my $count = select $read, $write, undef, 0.05;
        if ($count > 0) {
            for my $number (keys %{$self->{by_number}}) {
                # A peer may have ended another one's connection, and a new one has its number.
                my $peer = $self->{by_number}{$number} or next;
                $peer->writable if vec $write, $number, 1;
                $peer->readable if vec($read, $number, 1) && $peer->{socket};
            }
        }
        my $now = time;
        # On a busy machine a turn may take long; nobody is to blame for what was not read meanwhile.
        if ($now - $before > 0.5) {
            for my $peer (@{$self->{peers}}) {
                $_ += $now - $before for grep { defined } @$peer{qw(asked heard closing)};
            }
        }
        if ($now - $before > STOPPED) {
            $_->{stalled} = 1 for grep { $_->{socket} } @{$self->{peers}};
        }
        $before = $now;
        next if $now - $looked < 0.05;
        $looked = $now;
        $_->tick($now) for @{$self->{peers}};
        return if $over->();
    }
}

1;
