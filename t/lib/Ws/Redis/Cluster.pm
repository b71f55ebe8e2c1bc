package Ws::Redis::Cluster;

# A cluster of three masters and three replicas: real servers of the test's own.

use strict;
use warnings;

use MIME::Base64 qw(encode_base64url);
use Time::HiRes qw(sleep time);
use Ws::Nginx ();
use Ws::Redis;

# start(option => value ...): the cluster, with these options for each of its nodes.
sub start {
    my ($class, %options) = @_;

    my %all = (
        'cluster-enabled'          => 'yes', 'cluster-node-timeout' => 2000, 'cluster-config-file' => 'nodes.conf',
        'repl-diskless-sync-delay' => 0,     'cluster-require-full-coverage' => 'no', 'cluster-replica-validity-factor' => 0,
        %options
    );
    my @nodes = map { Ws::Redis->start(%all, 'cluster-port' => Ws::Nginx::free_port()) } 1 .. 6;
    my $self = bless { nodes => \@nodes }, $class;
    my @masters = @nodes[0 .. 2];
    for my $n (0 .. 2) {
        my ($from, $to) = (int(16384 * $n / 3), int(16384 * ($n + 1) / 3) - 1);
        $masters[$n]->command('CLUSTER', 'ADDSLOTSRANGE', $from, $to);
        $masters[$n]->command('CLUSTER', 'SET-CONFIG-EPOCH', $n + 1);
    }
    for my $node (@nodes[1 .. 5]) {
        $node->command('CLUSTER', 'MEET', '127.0.0.1', $nodes[0]->port, $nodes[0]{options}{'cluster-port'});
    }
    Ws::Nginx::await('the nodes to know each other', sub {
        for my $node (@nodes) {
            my @lines = split /\n/, $node->command('CLUSTER', 'NODES');
            return 0 if @lines != 6 || grep { !/connected/ || /handshake/ } @lines;
        }
        return 1;
    }, 60);
    for my $n (0 .. 2) {
        my $id = $masters[$n]->command('CLUSTER', 'MYID');
        Ws::Nginx::await('a replica', sub { eval { $nodes[3 + $n]->command('CLUSTER', 'REPLICATE', $id); 1 } }, 30);
    }
    $self->settled;
    return $self;
}

# settled(): every node serves, and every master has a replica that is up to date.
sub settled {
    my ($self) = @_;

    Ws::Nginx::await('the cluster', sub {
        my %replicas;
        for my $node (grep { $_->{pid} } $self->nodes) {
            return 0 if $node->command('CLUSTER', 'INFO') !~ /cluster_state:ok/ || $node->command('CLUSTER', 'INFO') !~ /cluster_slots_ok:16384/;
            my $state = $node->command('INFO', 'replication');
            return 0 if $state =~ /role:slave/ && $state !~ /master_link_status:up/;
            return 0 if $state =~ /role:master/ && $node->command('CLUSTER', 'NODES') =~ /myself,master.*connected \d/ && $state !~ /state=online/;
        }
        return 1;
    }, 90);
    return;
}

sub nodes { return @{$_[0]{nodes}} }

sub url {
    my ($self) = @_;

    return 'redis+cluster://' . join ',', map { $_->address } ($self->nodes)[0, 1];
}

# slot(id): that of the channel with this id, in no group.
sub slot {
    my ($self, $id) = @_;

    my $crc = 0;
    for my $octet (unpack 'C*', '.' . encode_base64url($id)) {
        $crc ^= $octet << 8;
        $crc = $crc & 0x8000 ? (($crc << 1) ^ 0x1021) & 0xffff : ($crc << 1) & 0xffff for 1 .. 8;
    }
    return $crc % 16384;
}

# owner(slot): the node that has it, as most of the others know. Dies where there is none.
sub owner {
    my ($self, $slot) = @_;

    my %votes;
    for my $node (grep { $_->{pid} } $self->nodes) {
        my $ranges = eval { $node->command('CLUSTER', 'SLOTS') } or next;
        for my $range (@$ranges) {
            $votes{$range->[2][1]}++ if $range->[0] <= $slot && $slot <= $range->[1];
        }
    }
    my ($port) = sort { $votes{$b} <=> $votes{$a} } keys %votes or die "nobody has slot $slot\n";
    my ($node) = grep { $_->port == $port } $self->nodes;
    return $node;
}

# replica_of(node): one that lives.
sub replica_of {
    my ($self, $master) = @_;

    my $id = $master->command('CLUSTER', 'MYID');
    my ($replica) = grep { $_->{pid} && $_ != $master && $_->command('CLUSTER', 'NODES') =~ /myself,slave\S* $id/ } $self->nodes;
    return $replica // die "no replica\n";
}

# another_owner(slot, before): waits until another node that serves has the slot; when that was.
sub another_owner {
    my ($self, $slot, $before) = @_;

    Ws::Nginx::await('another owner', sub {
        my $owner = eval { $self->owner($slot) } or return 0;
        return $owner != $before && eval { $owner->command('CLUSTER', 'INFO') =~ /cluster_state:ok/ };
    }, 90);
    return time;
}

# begin_moving(slot, from, to), move_keys(slot, from, to), end_moving(slot, from, to): the steps by which a slot is moved.
sub begin_moving {
    my ($self, $slot, $from, $to) = @_;

    $to->command('CLUSTER', 'SETSLOT', $slot, 'IMPORTING', $from->command('CLUSTER', 'MYID'));
    $from->command('CLUSTER', 'SETSLOT', $slot, 'MIGRATING', $to->command('CLUSTER', 'MYID'));
    return;
}

sub move_keys {
    my ($self, $slot, $from, $to, $most) = @_;

    my $moved = 0;
    while (!$most || $moved < $most) {
        my $keys = $from->command('CLUSTER', 'GETKEYSINSLOT', $slot, 1);
        last if !@$keys;
        $from->command('MIGRATE', '127.0.0.1', $to->port, '', 0, 5000, 'KEYS', @$keys);
        $moved++;
    }
    return $moved;
}

sub end_moving {
    my ($self, $slot, $from, $to) = @_;

    my $id = $to->command('CLUSTER', 'MYID');
    $_->command('CLUSTER', 'SETSLOT', $slot, 'NODE', $id) for $to, $from;
    for my $node (grep { $_->{pid} && $_ != $from && $_ != $to } $self->nodes) {
        eval { $node->command('CLUSTER', 'SETSLOT', $slot, 'NODE', $id) };
    }
    return;
}

sub kill {
    my ($self) = @_;

    $_->kill for $self->nodes;
    return;
}

1;
