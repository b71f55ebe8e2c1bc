package Chaos::Starved;

# A node that lacks everything: descriptors, connections, room in its zone and for programs, and from time to time processes, and room on the disk to which its
# access log and its recordings go. Its clients are refused for whatever reason; what it has begun, and what is left in the end, is held to the same promises.

use strict;
use warnings;

use Chaos::Endpoints;
use Chaos::Limits;
use Chaos::Node;
use Ws::Process qw(descendants);

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
        name => 'starves', starves => 1, user => user(), clock => $clock, connections => 64, nofile => 240,
        # What nginx itself says when it lacks something.
        noise => [qr/worker_connections are not enough/, qr/\(24: Too many open files\)/, qr/\(28: No space left on device\)/,
            qr{write\(\) to "\S+/disk/access\.log" was incomplete}],
        server => Chaos::Endpoints::server(Chaos::Endpoints::SHARED, $service));
    my $disk = "$node->{prefix}/disk";
    mkdir $disk or die "$disk: $!\n";
    chmod 0777, $disk;
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

# user(): the limit on the processes of a user does not hold for root.
sub user {
    my ($name, $group) = (getpwnam 'nobody')[0, 3];
    return "$name " . getgrgid $group;
}

# faults(schedule): without a file system of its own, the disk is not filled.
sub faults {
    my ($self, $schedule) = @_;

    my @faults;
    push @faults, ['disks filled', 3, sub { $self->fill; $schedule->later(rand 3, sub { $self->free }) }] if $ENV{CHAOS_MOUNTS};
    push @faults, ['processes used up', 3, sub {
        $self->allow_processes(1);
        # A process that is being forked has the limit of its parent, as it was then, and may be seen only some time after that on a busy machine.
        my $seconds = rand 3;
        $schedule->later($seconds + $_, sub { $self->allow_processes }) for 0, 1, 4;
    }]
        if Chaos::Limits::is_there();
    return @faults;
}

# allow_processes(number): that the user of the node may have; as many as this process without it.
sub allow_processes {
    my ($self, $number) = @_;

    my @masters = $self->{node}->masters;
    # A master that is not root's could not make workers again, and nginx does not try twice.
    Chaos::Limits::processes($number, @masters) if !($> && defined $number);
    # Whoever comes now has the limit already.
    my %is_master = map { ($_ => 1) } @masters;
    Chaos::Limits::processes($number, grep { !$is_master{$_} && $self->{node}->started($_) } descendants($$));
    return;
}

# feed(): it has connections and descriptors for its last publishers beside all the subscribers that wait for them.
sub feed {
    my ($self) = @_;

    my $node = $self->{node};
    @$node{qw(connections nofile)} = (1024, 4096);
    $node->write_config;
    $node->reload;
    return;
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
