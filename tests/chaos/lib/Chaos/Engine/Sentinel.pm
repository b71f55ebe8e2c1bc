package Chaos::Engine::Sentinel;

# A master, two replicas and three Sentinels.

use strict;
use warnings;

use parent 'Chaos::Engine';

use Ws::Redis::Sentinels;

sub start {
    my ($class, %given) = @_;

    return bless { %given, servers => Ws::Redis::Sentinels->start(maxclients => 1000) }, $class;
}

sub url { return $_[0]{servers}->url }

sub faults {
    my ($self) = @_;

    my $all = $self->{servers};
    my $master = sub { my $one = eval { $all->master }; return $one && $one->pid ? $one : undef };
    my $running = sub { return grep { $_->pid } @_ };
    return (
        $self->of_any($master),
        ['master killed', 3, sub {
            # One of them stays, or there is nobody to be promoted.
            return 0 if $running->($all->servers) < 3;
            my $one = $master->() or return 0;
            return $self->lost($one, 2 + rand 4);
        }],
        ['master killed, back before it is missed', 2, sub { my $one = $master->() or return 0; return $self->lost($one, rand 0.5) }],
        ['master stopped for long', 2, sub { my $one = $master->() or return 0; $self->{stop}->(2 + rand 4, $one->pid) }],
        ['replica killed', 2, sub {
            my $one = $master->() or return 0;
            my @others = $running->(grep { $_ != $one } $all->servers);
            return @others < 2 ? 0 : $self->lost(Chaos::Engine::any(@others), rand 3);
        }],
        ['replica stopped', 3, sub {
            my $one = $master->() or return 0;
            my $other = Chaos::Engine::any($running->(grep { $_ != $one } $all->servers)) or return 0;
            $self->{stop}->(rand 3, $other->pid);
        }],
        ['failover asked for', 3, sub {
            my $sentinel = Chaos::Engine::any($running->($all->sentinels)) or return 0;
            Chaos::Engine::ask($sentinel, 'SENTINEL', 'FAILOVER', $Ws::Redis::Sentinels::NAME) or return 0;
        }],
        ['Sentinel killed', 2, sub {
            my @sentinels = $running->($all->sentinels);
            return @sentinels < 3 ? 0 : $self->lost(Chaos::Engine::any(@sentinels), rand 3);
        }],
    );
}

sub settle { return $_[0]{servers}->settled }
sub kill   { return $_[0]{servers}->kill }

1;
