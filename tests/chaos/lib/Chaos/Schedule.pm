package Chaos::Schedule;

# What is to be done later while faults go on, and the processes that have ended meanwhile.

use strict;
use warnings;

use POSIX ();
use Time::HiRes qw(time sleep);
use Ws::Process qw(descendants);

sub new {
    my ($class) = @_;

    return bless { queue => [], ended => {} }, $class;
}

# later(seconds, code): done when it is time.
sub later {
    my ($self, $seconds, $code) = @_;

    @{$self->{queue}} = sort { $a->[0] <=> $b->[0] } @{$self->{queue}}, [time + $seconds, $code];
    return;
}

# until(what, seconds, condition, code): code->() as soon as condition->() holds, or "timeout"->(what) after so many seconds.
sub until {
    my ($self, $seconds, $condition, $code, $timeout) = @_;

    my $deadline = time + $seconds;
    my $look;
    $look = sub {
        return $code->() if $condition->();
        return $timeout->() if time > $deadline;
        return $self->later(0.05, $look);
    };
    return $look->();
}

sub is_empty { return !@{$_[0]{queue}} }

# turn(): does what is due.
sub turn {
    my ($self) = @_;

    while ((my $pid = waitpid -1, POSIX::WNOHANG()) > 0) {
        $self->{ended}{$pid} = $?;
    }
    while (@{$self->{queue}} && $self->{queue}[0][0] <= time) {
        (shift @{$self->{queue}})->[1]->();
    }
    return;
}

# status(pid): how it ended; undef while it runs.
sub status { return $_[0]{ended}{$_[1]} }

# run(seconds): goes on for so long.
sub run {
    my ($self, $seconds) = @_;

    my $end = time + $seconds;
    while (1) {
        $self->turn;
        return if time >= $end;
        sleep 0.02;
    }
    return;
}

# stop(seconds, pids): they do nothing for so long.
sub stop {
    my ($self, $seconds, @pids) = @_;

    kill 'STOP', @pids;
    $self->later($seconds, sub { kill 'CONT', @pids });
    return;
}

# process(code, done): code->() in a process of its own, and done->(what it has returned, a small number) when that has ended.
sub process {
    my ($self, $code, $done) = @_;

    my $pid = fork // die "fork: $!\n";
    if (!$pid) {
        # What the parent does at its end is not for its children to do.
        $SIG{INT} = $SIG{TERM} = 'DEFAULT';
        my $result = eval { $code->() };
        print STDERR $@ if !defined $result;
        POSIX::_exit($result // 255);
    }
    # Another process may have had this id.
    delete $self->{ended}{$pid};
    my $look;
    $look = sub {
        my $status = $self->status($pid);
        return $self->later(0.05, $look) if !defined $status;
        return $done->($status >> 8);
    };
    return $self->later(0.05, $look);
}

# await(pid): waits for its end; what was stopped goes on meanwhile, or some would wait for ever.
sub await {
    my ($self, $pid) = @_;

    my $deadline = time + 20;
    while (!defined $self->{ended}{$pid} && kill 0, $pid) {
        $self->turn;
        if (time > $deadline) {
            warn "process $pid had to be killed\n";
            kill 'KILL', descendants($pid), $pid;
        }
        sleep 0.02;
    }
    return;
}

1;
