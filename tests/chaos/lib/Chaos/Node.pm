package Chaos::Node;

# An nginx whose binary can be exchanged while it runs, which it does as a daemon only, and what can be done to it. It knows which of its workers
# were killed and when it was down, which explains what its clients have seen.

use strict;
use warnings;

use parent 'Ws::Nginx';

use Chaos::Clock;
use POSIX ();
use Time::HiRes qw(time sleep);
use Ws::Nginx ();
use Ws::Process qw(command descendants);

# new(name => value ...): as Ws::Nginx has them, and: drains, cuts, starves (see Chaos::Model), clock (the library of Chaos::Clock).
sub new {
    my ($class, %opt) = @_;

    my $self = $class->SUPER::new(level => 'notice', workers => 2, %opt, killed => {}, down => [], hurt => []);
    if ($opt{clock}) {
        $self->{clock} = Chaos::Clock->new($opt{clock}, "$self->{prefix}/clock");
        $self->{main} = $self->{clock}->main . ($self->{main} // '');
    }
    return $self;
}

sub config {
    my ($self) = @_;

    return $self->SUPER::config =~ s/^daemon off;/daemon on;/r;
}

sub pid_file { return $_[0]->read_file('nginx.pid') =~ /^(\d+)/ ? $1 : 0 }

# launch(): false where it does not start.
sub launch {
    my ($self) = @_;

    unlink "$self->{prefix}/nginx.pid";
    defined(my $pid = fork) or die "fork: $!\n";
    if (!$pid) {
        open STDIN, '<', '/dev/null';
        open STDOUT, '>>', "$self->{prefix}/stdout.log";
        open STDERR, '>>', "$self->{prefix}/stdout.log";
        $SIG{PIPE} = 'DEFAULT';
        delete @ENV{qw(NGINX NGINX_BUILD_DIR NGINX_SOURCE_DIR)};
        %ENV = (%ENV, $self->{clock}->environment) if $self->{clock};
        exec 'prlimit', '--msgqueue=' . $self->mark, $self->command_line or POSIX::_exit(127);
    }
    waitpid $pid, 0;
    return 0 if $?;
    $self->{master} = Ws::Nginx::await('the master', sub { $self->pid_file });
    Ws::Nginx::await('nginx to start its workers', sub { $self->workers == $self->{workers} && $self->accepts });
    $self->{down}[-1][1] = time if @{$self->{down}};
    return 1;
}

# children(pid): by a list of the kernel's, which is much cheaper than to look at all processes, and may lack one while another one ends.
sub children {
    my ($pid) = @_;

    open my $in, '<', "/proc/$pid/task/$pid/children" or return;
    return split ' ', <$in> // '';
}

# workers_of(master): those that are not leaving.
sub workers_of {
    my ($master) = @_;

    return grep { command($_) =~ /^nginx: worker process(?! is)/ } children($master);
}

sub workers { my ($self) = @_; return $self->{master} ? workers_of($self->{master}) : () }

# all_workers(): also those that leave, and those of a master that was replaced.
sub all_workers {
    my ($self) = @_;

    return grep { command($_) =~ /^nginx: worker process/ } map { children($_) } $self->masters;
}

sub masters { my ($self) = @_; return grep { $_ } @$self{qw(master other_master)} }

# kill_worker(pid)
sub kill_worker {
    my ($self, $pid) = @_;

    $self->was_killed($pid);
    kill 'KILL', $pid;
    return;
}

# was_killed(pid): a worker, by whomever.
sub was_killed {
    my ($self, $pid) = @_;

    $self->{killed}{$pid} = time;
    push @{$self->{hurt}}, time;
    return;
}

# helpers(): spawners, guards and recorders of this node, which are no children of its workers for long.
sub helpers {
    my ($self) = @_;

    return grep { command($_) =~ /^nginx: websocket (?:spawner|guard|recorder)/ && $self->started($_) } descendants($$);
}

# started(pid): whether it came of this node, whoever is its parent now: a limit that has no effect here tells it, which every process inherits.
sub started {
    my ($self, $pid) = @_;

    open my $in, '<', "/proc/$pid/limits" or return 0;
    local $/;
    return (<$in> // '') =~ /^Max msgqueue size\s+(\d+)/m && $1 == $self->mark;
}

sub mark { return 400_000 + $_[0]{port} }

# upgrade(schedule, rolls_back, problem): another master with the same sockets takes over, or is sent away again.
sub upgrade {
    my ($self, $schedule, $rolls_back, $problem) = @_;

    my $old = $self->{master};
    my $new;
    $self->{busy} = 1;
    my $failed = sub { my ($what) = @_; $problem->("upgrade: $what"); $self->{busy} = 0 };
    my $gone = sub {
        my ($master, $name) = @_;
        delete $self->{other_master} if $self->{other_master} == $master;
        $self->{busy} = 0;
    };
    my $leaves = sub {
        my ($master, $stays) = @_;
        @$self{qw(master other_master)} = ($stays, $master);
        kill 'QUIT', $master;
        $schedule->until(60, sub { !kill 0, $master }, sub { $gone->($master) }, sub { $failed->("the master $master does not leave") });
    };
    my $full = sub { my ($master) = @_; return sub { workers_of($master) == $self->{workers} } };
    kill 'USR2', $old;
    $schedule->until(20, sub { $new = $self->pid_file; $new && $new != $old && $full->($new)->() }, sub {
        $self->{other_master} = $new;
        kill 'WINCH', $old;
        $schedule->later(rand 1.5, sub {
            if (!$rolls_back) {
                $leaves->($old, $new);
                return;
            }
            kill 'HUP', $old;
            $schedule->until(20, $full->($old), sub { $leaves->($new, $old) }, sub { $failed->('the old master has no workers again') });
        });
    }, sub { $failed->('no new master') });
    return;
}

# kill_all(): master and workers at once.
sub kill_all {
    my ($self, $schedule) = @_;

    push @{$self->{down}}, [time, 9**9];
    # A master that is stopped forks nobody any more: a worker that nobody knows of would keep the port.
    kill 'STOP', $self->masters;
    my @processes = map { ($_, descendants($_)) } $self->masters;
    push @processes, grep { command($_) =~ /^nginx: (?:worker|master)/ && $self->started($_) } descendants($$);
    kill 'STOP', @processes;
    kill 'KILL', @processes;
    kill 'CONT', @processes;
    $schedule->await(delete $self->{master});
    delete $self->{other_master};
    return;
}

sub DESTROY { return }

1;
