package Chaos::Relay;

# Stands between a node and the engine, and does to their connections what networks do: it delays, stalls, cuts and truncates. It is a process
# of its own, so that it can be killed and stopped too.

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use POSIX ();
use Time::HiRes qw(time);

# Octets that wait for a peer that does not read.
use constant MOST => 8 << 20;

# new(port, target): from a port of loopback to another one.
sub new {
    my ($class, $port, $target) = @_;

    my $self = bless { port => $port, target => $target }, $class;
    $self->launch;
    return $self;
}

sub pid { return $_[0]{pid} }

sub launch {
    my ($self) = @_;

    pipe my $read, my $write or die "pipe: $!\n";
    my $pid = fork // die "fork: $!\n";
    if (!$pid) {
        close $write;
        $SIG{PIPE} = 'IGNORE';
        eval { serve($self->{port}, $self->{target}, $read); 1 } or print STDERR "relay: $@";
        POSIX::_exit(1);
    }
    close $read;
    $write->autoflush(1);
    @$self{qw(pid control)} = ($pid, $write);
    return;
}

# fault(name, seconds, more): see serve(). It ends by itself.
sub fault {
    my ($self, $name, $seconds, $more) = @_;

    print { $self->{control} } join(' ', $name, $seconds // 0, $more // 0), "\n";
    return;
}

sub kill {
    my ($self) = @_;

    CORE::kill('KILL', $self->{pid});
    waitpid $self->{pid}, 0;
    close $self->{control};
    return;
}

# Faults: delay (octets arrive so many seconds later), stall (nothing passes), oneway (nothing passes to the node), cut (all connections end),
# truncate (the next piece of each connection is cut in the middle, and the connection ends), refuse (new connections end at once).
sub serve {
    my ($port, $target, $control) = @_;

    my $listener = IO::Socket::INET->new(Listen => 64, LocalAddr => '127.0.0.1', LocalPort => $port, ReuseAddr => 1)
        or die "port $port: $!\n";
    my (%peer, %to_node, %queue, %queued, %truncate);
    my %until = map { $_ => 0 } qw(delay stall oneway refuse);
    my $delay = 0;
    my $end = sub {
        my ($socket) = @_;
        my $other = delete $peer{$socket} or return;
        delete $peer{$other};
        for ($socket, $other) {
            delete @$_{"$_"} for \%to_node, \%queue, \%queued, \%truncate;
            close $_;
        }
    };
    my %by_name;
    while (1) {
        my $now = time;
        my @live = grep { defined fileno $_ } values %by_name;
        %by_name = map { ("$_" => $_) } @live;
        my $stalled = $now < $until{stall};
        my @readable = $stalled ? () : grep { ($queued{$_} // 0) < MOST } @live;
        my $select = IO::Select->new($listener, $control, @readable);
        my ($ready) = IO::Select::select($select, undef, undef, 0.005);
        for my $socket (@{$ready // []}) {
            if ($socket == $control) {
                sysread $control, my $text, 4096 or POSIX::_exit(0);
                for (split /\n/, $text) {
                    my ($name, $seconds, $more) = split / /;
                    $until{$name} = time + $seconds if exists $until{$name};
                    $delay = $more if $name eq 'delay';
                    if ($name eq 'cut') { $end->($_) for grep { $peer{$_} } @live }
                    if ($name eq 'truncate') { $truncate{$_} = 1 for @live }
                }
            } elsif ($socket == $listener) {
                my $node = $listener->accept or next;
                my $engine = $now < $until{refuse} ? undef : IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $target);
                if (!$engine) {
                    close $node;
                    next;
                }
                for ($node, $engine) {
                    $_->blocking(0);
                    setsockopt $_, Socket::IPPROTO_TCP(), Socket::TCP_NODELAY(), 1;
                    $queue{$_} = [];
                    $by_name{$_} = $_;
                }
                @peer{$node, $engine} = ($engine, $node);
                $to_node{$node} = 1;
            } else {
                my $other = $peer{$socket} or next;
                my $count = sysread $socket, my $octets, 65536;
                next if !defined $count && $!{EAGAIN};
                if (!$count) {
                    $end->($socket);
                    next;
                }
                if (delete $truncate{$socket}) {
                    syswrite $other, substr $octets, 0, int($count / 2) if defined fileno $other;
                    $end->($socket);
                    next;
                }
                push @{$queue{$other}}, [$now + ($now < $until{delay} ? $delay : 0), $octets];
                $queued{$other} += $count;
            }
        }
        $now = time;
        next if $now < $until{stall};
        for my $socket (grep { $peer{$_} } values %by_name) {
            next if $to_node{$socket} && $now < $until{oneway};
            my $queue = $queue{$socket};
            while ($queue && @$queue && $queue->[0][0] <= $now && $peer{$socket}) {
                my $count = syswrite $socket, $queue->[0][1];
                if (!defined $count) {
                    $end->($socket) if !$!{EAGAIN};
                    last;
                }
                $queued{$socket} -= $count;
                if ($count < length $queue->[0][1]) {
                    substr $queue->[0][1], 0, $count, '';
                    last;
                }
                shift @$queue;
            }
        }
    }
}

1;
