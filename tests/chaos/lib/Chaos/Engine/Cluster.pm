package Chaos::Engine::Cluster;

# Three masters and three replicas. What happens to one of the masters happens to one that has a channel.

use strict;
use warnings;

use parent 'Chaos::Engine';

use Ws::Redis::Cluster;

sub start {
    my ($class, %given) = @_;

    return bless { %given, servers => Ws::Redis::Cluster->start(maxclients => 1000) }, $class;
}

sub url { return $_[0]{servers}->url }

sub faults {
    my ($self) = @_;

    # Nobody who waits for a server that is stopped lets it go on.
    $Ws::Redis::PATIENCE = 1;
    my $all = $self->{servers};
    my $slot = sub { return $all->slot(Chaos::Engine::any(@{$self->{channels}})) };
    my $owner = sub { my $one = eval { $all->owner($slot->()) }; return $one && $one->pid ? $one : undef };
    return (
        $self->of_any($owner),
        ['master killed', 3, sub {
            return 0 if grep { !$_->pid } $all->nodes;
            my $one = $owner->() or return 0;
            return $self->lost($one, 4 + rand 4);
        }],
        ['master killed, back before it is missed', 2, sub {
            my $one = $owner->() or return 0;
            return $self->lost($one, rand 0.5);
        }],
        ['failover asked for', 3, sub {
            my $one = $owner->() or return 0;
            my $replica = eval { $all->replica_of($one) } or return 0;
            Chaos::Engine::ask($replica, 'CLUSTER', 'FAILOVER', Chaos::Engine::any([], ['FORCE'], ['TAKEOVER'])->@*) or return 0;
        }],
        ['slot moved', 3, sub {
            return 0 if $self->{moving} || grep { !$_->pid } $all->nodes;
            my $number = $slot->();
            my $from = eval { $all->owner($number) } or return 0;
            my ($to) = grep { $_ != $from && (Chaos::Engine::ask($_, 'INFO', 'replication') // '') =~ /role:master/ } $all->nodes;
            return 0 if !$to || !eval { $all->begin_moving($number, $from, $to); 1 };
            $self->{moving} = 1;
            $self->{later}->(rand 1, sub {
                # Whatever has happened to them meanwhile, the slot is somewhere in the end.
                eval { $all->move_keys($number, $from, $to); $all->end_moving($number, $from, $to); 1 }
                    or Chaos::Engine::ask($_, 'CLUSTER', 'SETSLOT', $number, 'STABLE') for grep { $_->pid } $from, $to;
                $self->{moving} = 0;
            });
            return;
        }],
    );
}

sub settle { return $_[0]{servers}->settled }
sub kill   { return $_[0]{servers}->kill }

1;
