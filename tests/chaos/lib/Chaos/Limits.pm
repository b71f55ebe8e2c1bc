package Chaos::Limits;

# How many processes the user of a process may have as far as that one is concerned, by prlimit(2): at the limit it can start none, and those that are there
# stay.

use strict;
use warnings;

use POSIX ();

use constant RLIMIT_NPROC => 6;

my $PRLIMIT = { x86_64 => 302, aarch64 => 261 }->{(POSIX::uname())[4]};

# is_there(): whether this machine's system call has a number that is known here.
sub is_there { return defined $PRLIMIT }

# processes(pid, number): without a number the limit is that of this process. One that has ended has none.
sub processes {
    my ($pid, $number) = @_;

    my $limit = "\0" x 16;
    syscall($PRLIMIT, 0, RLIMIT_NPROC, 0, $limit) == 0 or die "prlimit: $!\n";
    my ($soft, $hard) = unpack 'QQ', $limit;
    # The hard one stays as it is: only root could raise it again.
    $limit = pack 'QQ', $number // $soft, $hard;
    syscall $PRLIMIT, 0 + $pid, RLIMIT_NPROC, $limit, 0;
    return;
}

1;
