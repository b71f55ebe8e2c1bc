package Chaos::Faults;

# What is done to nodes: name, how often, and how; how->() is 0 where there was nothing to be done. What explains the end of a session is written
# down at the node.

use strict;
use warnings;

use Chaos::Tracer;
use Time::HiRes qw(time);
use Ws::Process qw(command descendants);

sub any { return $_[rand @_] }

# new(nodes => list, schedule => ..., problem => code)
sub new {
    my ($class, %given) = @_;

    return bless { %given, counts => {} }, $class;
}

sub running { return grep { $_->{master} } @{$_[0]{nodes}} }

# count(name, number): of what a fault consists of.
sub count { $_[0]{counts}{$_[1]} += $_[2] // 1; return }

sub counts { return $_[0]{counts} }

sub of_workers {
    my ($self) = @_;

    my $schedule = $self->{schedule};
    my $worker = sub {
        my ($node) = any($self->running) or return;
        my $pid = any($node->all_workers) or return;
        return ($node, $pid);
    };
    return (
        ['workers killed', 30, sub {
            my ($node, $pid) = $worker->() or return 0;
            $node->kill_worker($pid);
        }],
        ['workers killed at an instruction', Chaos::Tracer::is_there() ? 15 : 0, sub {
            my ($node, $pid) = $worker->() or return 0;
            return $self->trace($pid, 'workers killed at an instruction', sub { $node->was_killed($pid) });
        }],
        ['workers stopped', 3, sub {
            my ($node, $pid) = $worker->() or return 0;
            $schedule->stop(rand 2, $pid);
        }],
        ['workers killed in a burst', 1, sub {
            my $node = any($self->running) or return 0;
            for my $nth (0 .. 5) {
                $schedule->later($nth * 0.15, sub {
                    my $pid = any($node->all_workers) or return;
                    $node->kill_worker($pid);
                    $self->count('workers killed');
                });
            }
        }],
    );
}

# trace(pid, name, killed): kills a process at one of its instructions, which most often is one of those that hold a lock, and then killed->(). It is counted only when
# it is known where that was.
sub trace {
    my ($self, $pid, $name, $killed) = @_;

    # A change of the zone begins some hundred instructions behind the lock, and takes some thousand.
    my %where = (pause => rand 0.05, in_lock => rand() < 0.7, steps => int(rand() < 0.2 ? rand 20 : exp 4 + rand 5));
    $self->{schedule}->process(sub { Chaos::Tracer->kill_at_instruction($pid, %where) }, sub {
        my ($how) = @_;
        return if $how == Chaos::Tracer::GONE;
        return $self->{problem}->("trace: process $pid, status $how") if $how > Chaos::Tracer::KILLED_IN_LOCK;
        $killed->();
        $self->count($name);
        $self->count('workers killed holding a lock') if $how == Chaos::Tracer::KILLED_IN_LOCK;
    });
    return 0;
}

sub of_helpers {
    my ($self) = @_;

    my $helper = sub {
        my ($kind) = @_;
        my $node = any($self->running) or return;
        my $pid = any(grep { command($_) =~ /^nginx: websocket $kind/ } $node->helpers) or return;
        push @{$node->{hurt}}, time;
        return ($node, $pid);
    };
    my $kill = sub { my ($kind) = @_; return sub { my ($node, $pid) = $helper->($kind) or return 0; kill 'KILL', $pid } };
    return (
        ['spawners killed', 4, $kill->('spawner')],
        ['guards killed', 2, $kill->('guard')],
        ['spawners killed at an instruction', Chaos::Tracer::is_there() ? 2 : 0, sub {
            my ($node, $pid) = $helper->('spawner') or return 0;
            return $self->trace($pid, 'spawners killed at an instruction', sub { push @{$node->{hurt}}, time });
        }],
        ['spawners stopped', 2, sub { my ($node, $pid) = $helper->('spawner') or return 0; $self->{schedule}->stop(rand 2, $pid) }],
    );
}

# of_clocks(): the time of day of a node, which explains nothing that its clients see, but for gaps.
sub of_clocks {
    my ($self) = @_;

    return if grep { !$_->{clock} } @{$self->{nodes}};
    return (['clock jumps', 4, sub { any(@{$self->{nodes}})->{clock}->jump }]);
}

sub of_service {
    my ($self, $service) = @_;

    return (
        ['service stopped', 2, sub { $self->{schedule}->stop(rand 1.5, $service->pid) }],
        ['hooks unanswered', 2, sub { $service->away(rand 1.5) }],
    );
}

sub of_masters {
    my ($self) = @_;

    my $schedule = $self->{schedule};
    # A node whose binary is being exchanged has two masters, of which each has its own part to play.
    my $node = sub { return any(grep { !$_->{busy} } $self->running) };
    return (
        ['reloads', 14, sub { my $node = $node->() or return 0; kill 'HUP', $node->{master} }],
        ['storms of reloads', 1, sub {
            my $node = $node->() or return 0;
            for my $nth (0 .. 5) {
                $schedule->later($nth * 0.2, sub {
                    return if $node->{busy} || !$node->{master};
                    kill 'HUP', $node->{master};
                    $self->count('reloads');
                });
            }
        }],
        ['upgrades', 5, sub { my $node = $node->() or return 0; $node->upgrade($schedule, 0, $self->{problem}) }],
        ['upgrades rolled back', 3, sub { my $node = $node->() or return 0; $node->upgrade($schedule, 1, $self->{problem}) }],
        ['nodes killed', 1, sub {
            my $node = $node->() or return 0;
            return 0 if grep { !$_->{master} } @{$self->{nodes}};
            $node->kill_all($schedule);
            $schedule->later(rand 1.5, sub { $self->start($node) });
        }],
        ['nodes stopped', 1, sub {
            my $node = $node->() or return 0;
            $schedule->stop(rand 2, $node->{master}, descendants($node->{master}));
        }],
    );
}

# start(node): a worker that was killed may not have given the port back yet.
sub start {
    my ($self, $node) = @_;

    for (1 .. 100) {
        return if $node->{master} || $node->launch;
        $self->{schedule}->run(0.1);
    }
    die "a node does not start\n";
}

# run(until, pause): faults at random times, about one in so many seconds.
sub run {
    my ($self, $until, $pause, @faults) = @_;

    my @weighted = map { my $fault = $_; ($fault) x $fault->[1] } @faults;
    my $shown = time;
    while (time < $until) {
        $self->{schedule}->run(rand(rand() < 0.1 ? $pause * 8 : $pause * 1.3));
        my $fault = any(@weighted);
        my $done = eval { $fault->[2]->() };
        warn "$fault->[0]: $@" if $@;
        $self->count($fault->[0]) if !$@ && !(defined $done && $done eq '0');
        if (time - $shown > 30) {
            $shown = time;
            my $sum = 0;
            $sum += $_ for values %{$self->{counts}};
            printf "%4d s left, %d faults\n", $until - $shown, $sum;
        }
    }
    return;
}

1;
