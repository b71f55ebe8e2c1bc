package Chaos::Tracer;

# Kills a process at one of its instructions, by ptrace(2), on demand while it holds the lock of a zone. Whoever calls it is stopped for as long as that takes, and is
# to be a process that waits for no other one.
#
# A zone begins with the slab pool of nginx, and that with its lock: a word, which is the process id of whoever holds it. On x86-64 the processor
# itself stops the worker at the instruction that writes one of these words; elsewhere it is stepped until one of them is its own.

use strict;
use warnings;

use POSIX qw(WNOHANG);
use Time::HiRes qw(time sleep);

use constant {
    POKE_USER => 6, CONTINUE => 7, STEP => 9, SEIZE => 0x4206, INTERRUPT => 0x4207,
    # In the upper half of a status: the process was stopped, and by no signal that is on its way to it.
    EVENT_STOP => 128,
    # The offset of u_debugreg in struct user of sys/user.h, and how many registers have an address.
    DEBUG_REGISTERS => 848, ADDRESSES => 4,
    # Seconds until a process is killed wherever it is, because it takes no lock, or waits in a system call.
    PATIENCE => 2,
    # Instructions until a lock is held, where it cannot be watched.
    FAR => 20_000,
};

my $MACHINE = (POSIX::uname())[4];
my ($PTRACE, $WAIT4) = @{{ x86_64 => [101, 61], aarch64 => [117, 260] }->{$MACHINE} // []};

# is_there(): whether this machine's system calls have numbers that are known here.
sub is_there { return defined $PTRACE }

# What has become of the process: somebody else was first, it was killed, or killed while it held a lock.
use constant { GONE => 0, KILLED => 1, KILLED_IN_LOCK => 2 };

# kill_at_instruction(pid, pause => seconds, steps => number, in_lock => boolean, held => code, until => code): where the process is after so long, or where it has
# taken a lock, and so many instructions later, or as soon as until->(the words of that lock) holds. Before these held->() is called.
sub kill_at_instruction {
    my ($class, $pid, %where) = @_;

    my $self = bless { pid => 0 + $pid, signal => 0, locks => [] }, $class;
    $self->ptrace(SEIZE) or return GONE;
    my $is_left = eval {
        sleep $where{pause};
        $self->halt;
        @{$self->{locks}} = locks($pid);
        $self->run_to_lock if $where{in_lock} && !$self->holds_lock;
        my $lock = $self->holds_lock;
        $where{held}->() if $where{held};
        for (1 .. $where{steps}) {
            last if $where{until} && $where{until}->($self->words($lock));
            $self->go(STEP);
            last if $self->stopped(PATIENCE) !~ /^(?:trap|signal)$/;
        }
        1;
    };
    die $@ if !$is_left && $@ ne "gone\n";
    return GONE if !$is_left;
    my $holds_lock = $self->holds_lock;
    kill 'KILL', $pid;
    # It may have stopped once more just before.
    1 while defined $self->look(0);
    return $holds_lock ? KILLED_IN_LOCK : KILLED;
}

# ptrace(request, address, data): whether that was done.
sub ptrace {
    my ($self, $request, $address, $data) = @_;

    return syscall($PTRACE, $request, $self->{pid}, $address // 0, $data // 0) == 0;
}

# halt(): it does nothing from now on, unless it cannot be stopped in time: then it is killed where it is.
sub halt {
    my ($self) = @_;

    $self->ptrace(INTERRUPT);
    my $deadline = time + PATIENCE;
    while ((my $how = $self->stopped(PATIENCE)) ne 'event') {
        # What was on its way has come first.
        $self->go(CONTINUE) if length $how;
        last if time > $deadline;
    }
    return;
}

# go(request): it runs on, and is given the signal that has stopped it.
sub go {
    my ($self, $request) = @_;

    $self->ptrace($request, 0, $self->{signal}) or $!{ESRCH} or die "ptrace: $!\n";
    $self->{signal} = 0;
    return;
}

# stopped(seconds): what has stopped it: "trap" where it was stepped or watched, a "signal", an "event" where it was interrupted or stopped by somebody else; nothing
# if it still runs. Dies with "gone" where it has ended.
sub stopped {
    my ($self, $seconds) = @_;

    my $deadline = time + $seconds;
    for (my $looks = 0;; $looks++) {
        my $status = $self->look(WNOHANG) // die "gone\n";
        if ($status) {
            return 'event' if $status >> 16 == EVENT_STOP;
            my $signal = $status >> 8 & 0xff;
            return 'trap' if $signal == POSIX::SIGTRAP();
            $self->{signal} = $signal;
            return 'signal';
        }
        return '' if time > $deadline;
        sleep 0.0005 if $looks > 100;
    }
}

# look(flags): the status of the process, by wait4(2), since waitpid of Perl's does not tell how one has stopped; 0 while it runs, and nothing when it has ended.
sub look {
    my ($self, $flags) = @_;

    my $status = "\0" x 4;
    my $pid = syscall $WAIT4, $self->{pid}, $status, $flags, 0;
    return 0 if !$pid;
    $status = unpack 'i', $status;
    return $pid > 0 && ($status & 0xff) == 0x7f ? $status : undef;
}

# run_to_lock(): until it holds a lock, or for as long as patience goes.
sub run_to_lock {
    my ($self) = @_;

    return $self->step_to_lock if !$self->watch;
    my $deadline = time + PATIENCE;
    $self->go(CONTINUE);
    while (time < $deadline) {
        my $how = $self->stopped($deadline - time);
        return if $self->holds_lock && length $how;
        # Somebody else has stopped it, and it is not to run on before it is told to.
        return if $how eq 'event';
        $self->go(CONTINUE) if length $how;
    }
    return $self->halt;
}

sub step_to_lock {
    my ($self) = @_;

    my $deadline = time + PATIENCE;
    for (1 .. FAR) {
        last if $self->holds_lock || time > $deadline;
        $self->go(STEP);
        last if $self->stopped(PATIENCE) !~ /^(?:trap|signal)$/;
    }
    return;
}

# watch(): has the processor stop at whatever writes a lock; false where it cannot.
sub watch {
    my ($self) = @_;

    return 0 if $MACHINE ne 'x86_64';
    my $control = 0;
    my @locks = @{$self->{locks}};
    for my $nth (0 .. (@locks < ADDRESSES ? @locks : ADDRESSES) - 1) {
        $self->ptrace(POKE_USER, DEBUG_REGISTERS + 8 * $nth, $locks[$nth]) or return 0;
        # Enabled for this process, for writes, of eight octets.
        $control |= 1 << 2 * $nth | 0b1001 << 16 + 4 * $nth;
    }
    return $control && $self->ptrace(POKE_USER, DEBUG_REGISTERS + 8 * 7, $control);
}

# locks(pid): the addresses of the locks of its zones: shared memory of no file.
sub locks {
    my ($pid) = @_;

    open my $in, '<', "/proc/$pid/maps" or return;
    no warnings 'portable';
    return map { m{^([0-9a-f]+)-\S+ rw-s \S+ \S+ \S+\s+/dev/zero } ? hex $1 : () } <$in>;
}

# holds_lock(): the address of a lock that it holds; 0 if it holds none.
sub holds_lock {
    my ($self) = @_;

    for my $address (@{$self->{locks}}) {
        my ($holder) = $self->words($address);
        return $address if ($holder // 0) == $self->{pid};
    }
    return 0;
}

# words(address): who holds the lock there, and how many wait for it in nginx's own way.
sub words {
    my ($self, $address) = @_;

    open my $memory, '<:raw', "/proc/$self->{pid}/mem" or return;
    sysseek $memory, $address, 0 or return;
    sysread $memory, my $words, 16 or return;
    return unpack 'QQ', $words;
}

1;
