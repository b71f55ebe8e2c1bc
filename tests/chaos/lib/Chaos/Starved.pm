package Chaos::Starved;

# A node that lacks everything: descriptors, connections, room in its zone and for programs, and from time to time room on the disk to which its access log
# and its recordings go. Its clients are refused for whatever reason; what it has begun, and what is left in the end, is held to the same promises.

use strict;
use warnings;

use Chaos::Endpoints;
use Chaos::Node;

# mounts(arguments): runs the program once more, in a mount namespace of its own, where this user may. What is mounted there ends with it.
sub mounts {
    my (@arguments) = @_;

    return if $ENV{CHAOS_MOUNTS} || $> != 0;
    local $ENV{CHAOS_MOUNTS} = 1;
    system 'unshare', '--mount', 'true';
    return if $?;
    exec 'unshare', '--mount', $^X, $0, @arguments;
}

# new(service, clock)
sub new {
    my ($class, $service, $clock) = @_;

    my $node = Chaos::Node->new(
        name => 'starves', starves => 1, clock => $clock, connections => 64, nofile => 240,
        # What nginx itself says when it lacks something.
        noise => [qr/worker_connections are not enough/, qr/\(24: Too many open files\)/, qr/\(28: No space left on device\)/,
            qr{write\(\) to "\S+/disk/access\.log" was incomplete}],
        server => Chaos::Endpoints::server(Chaos::Endpoints::SHARED, $service));
    my $disk = "$node->{prefix}/disk";
    mkdir $disk or die "$disk: $!\n";
    if ($ENV{CHAOS_MOUNTS}) {
        system 'mount', '-t', 'tmpfs', '-o', 'size=1m,mode=777', 'tmpfs', $disk;
        die "no tmpfs at $disk\n" if $?;
    }
    $node->{http} = Chaos::Endpoints::http(
        "access_log $disk/access.log; websocket_record $disk/\$request_id.json; websocket_channel_zone 1m; websocket_exec_max 3;");
    Chaos::Endpoints::prepare($node);
    return bless { node => $node, disk => $disk }, $class;
}

sub node { return $_[0]{node} }

# faults(schedule): without a file system of its own, the disk is not filled.
sub faults {
    my ($self, $schedule) = @_;

    return if !$ENV{CHAOS_MOUNTS};
    return (['disks filled', 3, sub { $self->fill; $schedule->later(rand 3, sub { $self->free }) }]);
}

# unmount(): before the folder around it is removed.
sub unmount {
    my ($self) = @_;

    system 'umount', '--lazy', $self->{disk} if $ENV{CHAOS_MOUNTS};
    return;
}

sub fill {
    my ($self) = @_;

    open my $out, '>>', "$self->{disk}/filled" or return;
    1 while syswrite $out, 'x' x 4096;
    return;
}

sub free {
    my ($self) = @_;

    for my $file (glob "$self->{disk}/*") {
        # nginx has this one open.
        $file =~ /access\.log$/ ? truncate $file, 0 : unlink $file;
    }
    return;
}

1;
