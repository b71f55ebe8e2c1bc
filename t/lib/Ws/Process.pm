package Ws::Process;

# What /proc says about processes (Linux).

use strict;
use warnings;

use Exporter 'import';

our @EXPORT_OK = qw(
    become_subreaper descendants children parent exe state command group session status_field descriptors cpu_ticks written
);

# become_subreaper(): orphans among the descendants become children of this process (prctl(2), PR_SET_CHILD_SUBREAPER).
sub become_subreaper {
    my $number = eval { require 'syscall.ph'; main::SYS_prctl() }
        // { x86_64 => 157, aarch64 => 167 }->{(POSIX::uname())[4]} // die "no number for prctl\n";
    syscall($number, 36, 1, 0, 0, 0) == 0 or die "prctl: $!\n";
}

# stat(pid): the fields of /proc/pid/stat after the name, from the state on; nothing if the process is gone.
sub stat {
    my ($pid) = @_;

    open(my $in, '<', "/proc/$pid/stat") or return;
    my $line = <$in> // return;
    return split ' ', substr $line, rindex($line, ')') + 2;
}

sub state   { my @stat = Ws::Process::stat($_[0]); return $stat[0] // '' }
sub parent  { my @stat = Ws::Process::stat($_[0]); return $stat[1] // 0 }
sub group   { my @stat = Ws::Process::stat($_[0]); return $stat[2] // 0 }
sub session { my @stat = Ws::Process::stat($_[0]); return $stat[3] // 0 }

# cpu_ticks(pid): user and system time, in clock ticks.
sub cpu_ticks { my @stat = Ws::Process::stat($_[0]); return ($stat[11] // 0) + ($stat[12] // 0) }

sub exe     { return readlink("/proc/$_[0]/exe") // '' }

sub command {
    my ($pid) = @_;

    open(my $in, '<', "/proc/$pid/cmdline") or return '';
    my $line = do { local $/; <$in> } // '';
    $line =~ s/\0+$//;
    $line =~ tr/\0/ /;
    # Under valgrind nginx cannot change its arguments; that build of it says in its name what it is, cut to 15 octets. A guard chooses
    # its name itself.
    if ($line =~ /^\S*valgrind\S* / && open(my $name, '<', "/proc/$pid/comm")) {
        my %title = (
            'worker process'  => 'worker process',
            'worker process ' => 'worker process is shutting down',
            'websocket spawn' => 'websocket spawner',
            'ws-exec-guard'   => 'websocket guard',
            'websocket keepe' => 'websocket keeper',
            'websocket recor' => 'websocket recorder',
        );
        chomp(my $said = <$name> // '');
        return "nginx: $title{$said}" if $title{$said};
    }
    return $line;
}

# status_field(pid, name): a line of /proc/pid/status, such as VmRSS, without its unit.
sub status_field {
    my ($pid, $name) = @_;

    open(my $in, '<', "/proc/$pid/status") or return;
    while (my $line = <$in>) {
        return $1 if $line =~ /^\Q$name\E:\s*(\S+)/;
    }
    return;
}

# written(pid): octets that it has written so far, to anything.
sub written {
    my ($pid) = @_;

    open(my $in, '<', "/proc/$pid/io") or return 0;
    while (my $line = <$in>) {
        return $1 if $line =~ /^wchar: (\d+)/;
    }
    return 0;
}

# descriptors(pid): { number => what it points to }.
sub descriptors {
    my ($pid) = @_;

    opendir(my $dir, "/proc/$pid/fd") or return {};
    return { map { $_ => readlink("/proc/$pid/fd/$_") // '' } grep { /^\d+$/ } readdir $dir };
}

sub children {
    my ($pid) = @_;

    return grep { parent($_) == $pid } all();
}

# descendants(pid): children and their children, of all processes that can be seen now.
sub descendants {
    my ($pid) = @_;

    my %children;
    push @{$children{parent($_)}}, $_ for all();

    my @found;
    my @next = ($pid);
    while (@next) {
        @next = map { @{$children{$_} // []} } @next;
        push @found, @next;
    }
    return @found;
}

sub all {
    opendir(my $dir, '/proc') or die "/proc: $!\n";
    return grep { /^\d+$/ } readdir $dir;
}

1;
