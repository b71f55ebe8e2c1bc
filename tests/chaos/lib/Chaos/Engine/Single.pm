package Chaos::Engine::Single;

# One Redis. Each node has a way of its own to it, which can be cut off.

use strict;
use warnings;

use parent 'Chaos::Engine';

use Chaos::Relay;
use Ws::Nginx ();
use Ws::Redis;

sub start {
    my ($class, %given) = @_;

    my $redis = Ws::Redis->start(maxclients => 1000);
    my @ports = map { Ws::Nginx::free_port() } 0 .. 2;
    my @relays = map { Chaos::Relay->new($_, $redis->port) } @ports;
    return bless { %given, redis => $redis, ports => \@ports, relays => \@relays }, $class;
}

sub url {
    my ($self, $nth) = @_;

    return "redis://127.0.0.1:$self->{ports}[$nth]";
}

sub faults {
    my ($self) = @_;

    my $redis = $self->{redis};
    my $relay = sub { return Chaos::Engine::any(@{$self->{relays}}) };
    return (
        $self->of_any(sub { return $redis->pid ? $redis : undef }),
        ['server killed, all lost', 2, sub {
            return 0 if !$redis->pid;
            unlink glob "$redis->{directory}/dump.rdb";
            return $self->lost($redis, rand 2);
        }],
        ['server killed, comes back with less', 3, sub { return $self->lost($redis, rand 2) }],
        ['server saved', 4, sub { Chaos::Engine::ask($redis, 'SAVE') }],
        ['network cut', 5, sub { $relay->()->fault('cut') }],
        ['network stalls', 4, sub { $relay->()->fault('stall', rand 3) }],
        ['network one way', 3, sub { $relay->()->fault('oneway', rand 3) }],
        ['network slow', 4, sub { $relay->()->fault('delay', rand 4, sprintf '%.3f', rand 0.3) }],
        ['network truncates', 5, sub { $relay->()->fault('truncate') }],
        ['network refuses', 3, sub { my $one = $relay->(); $one->fault('refuse', rand 2); $one->fault('cut') }],
        ['relay killed', 2, sub { my $one = $relay->(); $one->kill; $one->launch }],
        ['relay stopped', 2, sub { $self->{stop}->(rand 2, $relay->()->pid) }],
    );
}

sub settle { return }

sub kill {
    my ($self) = @_;

    $_->kill for @{$self->{relays}};
    $self->{redis}->kill;
    return;
}

1;
