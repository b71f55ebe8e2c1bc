package Chaos::Engine;

# What the engines of the other files have in common.
#
# start(later => code, stop => code, ended => code, channels => list): the engine runs. later->(seconds, code) has something done when it is
# time, stop->(seconds, pid ...) stops processes for so long, ended->(pid) waits for one.
# url(nth): where the node of this number finds it. faults(): name, how often, and what is done; 0 where there is nothing to be done now.
# settle(): it is whole again. kill(): it ends.

use strict;
use warnings;

use POSIX ();

# ask(server, word ...): what a server answers; undef if it does not, because it is stopped or asleep.
sub ask {
    my ($server, @words) = @_;

    return eval {
        local $SIG{ALRM} = sub { die "no answer\n" };
        alarm 3;
        my $answer = eval { $server->command(@words) };
        alarm 0;
        $answer;
    };
}

sub any { return $_[rand @_] }

# lost(self, server, seconds): it is killed, and comes back with what it has on disk.
sub lost {
    my ($self, $server, $seconds) = @_;

    my $pid = $server->pid or return 0;
    kill 'CONT', $pid;
    $server->kill;
    $self->{later}->($seconds, sub { $server->launch });
    return;
}

# sleeps(self, server): it answers nobody for up to two seconds.
sub sleeps {
    my ($self, $server) = @_;

    # Who asks it to waits for the answer.
    my $pid = fork // return 0;
    if (!$pid) {
        eval { $server->command('DEBUG', 'SLEEP', sprintf '%.2f', rand 2) };
        POSIX::_exit(0);
    }
    $self->{later}->(3, sub { $self->{ended}->($pid) });
    return;
}

# has_no_memory(self, server): for up to two seconds.
sub has_no_memory {
    my ($self, $server) = @_;

    ask($server, 'CONFIG', 'SET', 'maxmemory', 1);
    $self->{later}->(rand 2, sub { ask($server, 'CONFIG', 'SET', 'maxmemory', 0) if $server->pid });
    return;
}

# forgets_a_key(server): one of those that a channel has.
sub forgets_a_key {
    my ($server) = @_;

    my $keys = ask($server, 'KEYS', 'ws:*:' . any(qw(h m n))) or return 0;
    return 0 if !@$keys;
    ask($server, 'DEL', any(@$keys));
    return;
}

# of_any(self, code): the faults that any server may have; code->() is one of them that runs, or undef.
sub of_any {
    my ($self, $pick) = @_;

    my $of = sub {
        my ($do) = @_;
        return sub { my $server = $pick->() or return 0; return $do->($server) };
    };
    return (
        ['server stopped',     4, $of->(sub { $self->{stop}->(rand 3, $_[0]->pid) })],
        ['server asleep',      2, $of->(sub { $self->sleeps($_[0]) })],
        ['connections killed', 5, $of->(sub { ask($_[0], 'CLIENT', 'KILL', 'TYPE', any(qw(normal pubsub))) })],
        ['scripts flushed',    3, $of->(sub { ask($_[0], 'SCRIPT', 'FLUSH') })],
        ['no memory',          2, $of->(sub { $self->has_no_memory($_[0]) })],
        ['a key is lost',      3, $of->(sub { forgets_a_key($_[0]) })],
    );
}

1;
