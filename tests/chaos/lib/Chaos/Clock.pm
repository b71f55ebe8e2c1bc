package Chaos::Clock;

# The time of day of a node, which can be set. Its other clocks go on.

use strict;
use warnings;

use FindBin ();

# The furthest that a clock is set, in seconds: more than the hour for which the nodes keep messages.
use constant FURTHEST => 6 * 3600;

# build(directory): the library that adds to what the kernel says; nothing where there is no compiler.
sub build {
    my ($directory) = @_;

    my $library = "$directory/clock.so";
    system 'cc', '-O2', '-shared', '-fPIC', '-o', $library, "$FindBin::Bin/clock.c";
    return $? ? undef : $library;
}

# new(library, file): a clock that is right.
sub new {
    my ($class, $library, $file) = @_;

    my $self = bless { library => $library, file => $file }, $class;
    open my $out, '>:raw', $file or die "$file: $!\n";
    print $out pack 'q', 0;
    close $out or die "$file: $!\n";
    return $self;
}

# environment(): of the processes that have this clock.
sub environment { my ($self) = @_; return (LD_PRELOAD => $self->{library}, CHAOS_CLOCK => $self->{file}) }

# main(): for the main context of the configuration, which keeps the environment in workers and in the next binary.
sub main { return 'env LD_PRELOAD; env CHAOS_CLOCK; ' }

# jump(): some seconds up to hours ahead or behind, or right again.
sub jump {
    my ($self) = @_;

    return $self->set(rand() < 0.25 ? 0 : (rand() < 0.5 ? -1 : 1) * int exp rand log FURTHEST);
}

sub set {
    my ($self, $seconds) = @_;

    # In place, since the processes have the file mapped.
    open my $out, '+<:raw', $self->{file} or die "$self->{file}: $!\n";
    syswrite $out, pack 'q', $seconds or die "$self->{file}: $!\n";
    return;
}

1;
