package Chaos::Limits;

# How many processes the user of a process may have as far as that one is concerned, by prlimit(2): at the limit it can start none, and those that are there
# stay.

use strict;
use warnings;

use Errno qw(ESRCH);
use POSIX ();

use constant RLIMIT_NPROC => 6;

my $PRLIMIT = { x86_64 => 302, aarch64 => 261 }->{(POSIX::uname())[4]};

# is_there(): whether this machine's system call has a number that is known here.
sub is_there { return defined $PRLIMIT }

# processes(number, pids): without a number the limit is that of this process. One that has ended has none.
sub processes {
    my ($number, @pids) = @_;

    my $limit = "\0" x 16;
    syscall($PRLIMIT, 0, RLIMIT_NPROC, 0, $limit) == 0 or die "prlimit: $!\n";
    my ($soft, $hard) = unpack 'QQ', $limit;
    # The hard one stays as it is: only root could raise it again.
    $limit = pack 'QQ', $number // $soft, $hard;
    my %of;
    push @{$of{$_->[1]}}, $_->[0] for grep { defined $_->[1] } map { [$_, ids($_)] } @pids;
    as($_, sub { set($limit, @{$of{$_}}) }) for sort keys %of;
    return;
}

# ids(pid): its user and its group; undef if it has ended.
sub ids {
    my ($pid) = @_;

    open my $in, '<', "/proc/$pid/status" or return;
    local $/;
    return join ' ', (<$in> // '') =~ /^[UG]id:\t(\d+)/mg;
}

# as(ids, code): as this user, if this one may change: root may set the limits of others only with CAP_SYS_RESOURCE, which a container may lack.
sub as {
    my ($ids, $code) = @_;

    my ($uid, $gid) = split / /, $ids;
    return $code->() if $> || !defined $gid || $uid == $>;
    my $pid = fork // die "fork: $!\n";
    if (!$pid) {
        my $done = eval {
            POSIX::setgid($gid) && POSIX::setuid($uid) or die "user $uid: $!\n";
            $code->();
            1;
        };
        print STDERR $@ if !$done;
        POSIX::_exit(!$done);
    }
    waitpid $pid, 0;
    die "limits of user $uid: not set\n" if $?;
    return;
}

sub set {
    my ($limit, @pids) = @_;

    for my $pid (@pids) {
        syscall($PRLIMIT, 0 + $pid, RLIMIT_NPROC, $limit, 0) == 0 or $! == ESRCH or die "prlimit of $pid: $!\n";
    }
    return;
}

1;
