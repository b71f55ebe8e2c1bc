package Chaos::Checks;

# What is left when everything is healed and all clients have gone: processes, descriptors, what the zones count, and what the logs say.

use strict;
use warnings;

use JSON::PP qw(decode_json);
use Time::HiRes qw(time sleep);
use Ws::Client;
use Ws::Http;
use Ws::Nginx ();
use Ws::Process qw(children command descendants descriptors exe state);

# status(node)
sub status {
    my ($node) = @_;

    return decode_json(request($node->port, 'GET', '/status')->{body});
}

# in_use(node): what of sessions a node counts, as a list of "what: number" that should be empty.
sub in_use {
    my ($node) = @_;

    my $status = status($node);
    my @found;
    for my $location (@{$status->{locations}}) {
        my %number = (sessions => $location->{connections}{current}, subscribers => $location->{subscribers}, programs => $location->{programs}{running});
        push @found, map { "$location->{location}: $number{$_} $_" } grep { $number{$_} } sort keys %number;
    }
    return @found;
}

# awaited(seconds, condition): what condition->() returns in the end: nothing, if that comes.
sub awaited {
    my ($seconds, $condition) = @_;

    my $deadline = time + $seconds;
    while (1) {
        my @left = eval { $condition->() };
        @left = "no answer: $@" =~ s/\n//r if $@;
        return @left if !@left || time > $deadline;
        sleep 0.1;
    }
}

# sessions(node): those that the node still counts although nobody is there.
sub sessions { my ($node) = @_; return map { "node $node->{name}: $_" } awaited(20, sub { in_use($node) }) }

# without_programs(node): workers that start no program, although nothing is in their way any more.
sub without_programs {
    my ($node) = @_;

    my @workers = $node->workers;
    return map {
        my $worker = $_;
        my @others = grep { $_ != $worker } @workers;
        map { "worker $worker of $node->{name}: $_" } awaited(30, sub {
            # Nobody else can take the connection, nor be woken for it and then be stopped.
            kill 'STOP', @others;
            awaited(3, sub { grep { state($_) ne 'T' } @others });
            my $status = eval { Ws::Client->connect(port => $node->port, timeout => 3)->handshake('/lines')->{status} } // $@;
            kill 'CONT', @others;
            return if $status eq '101';
            my ($why) = reverse grep { /\[error\] $worker#/ } split /\n/, $node->log;
            return "no program is started: $status" . ($why ? ": $why" : '');
        });
    } @workers;
}

# of_zone(node, channels): what the zone has when all channels were deleted.
sub of_zone {
    my ($node, @channels) = @_;

    return map { "node $node->{name}: $_" } awaited(10, sub {
        my @found;
        for my $id (@channels) {
            my $present = request($node->port, 'GET', "/pub?id=$id&presence");
            push @found, "presence of $id: $present->{body}" if $present->{status} == 200 && $present->{body} !~ /^\{"subscribers": 0, "present": \[\]\}/;
            request($node->port, 'DELETE', "/pub?id=$id");
        }
        my $channels = status($node)->{channels};
        push @found, map { "$_: $channels->{$_}" } grep { $channels->{$_} } qw(channels messages);
        my $used = $channels->{zone}{used};
        push @found, "octets in use: $used, and $node->{unused} at first" if defined $node->{unused} && $used > $node->{unused};
        my $group = request($node->port, 'GET', '/group')->{body};
        push @found, map { "group: $_" } $group =~ /^((?:channels|subscribers|messages): [1-9]\d*)/mg;
        return @found;
    });
}

# programs(): processes of programs, by what is in the environment of each of them.
sub programs {
    return grep { state($_) !~ /^[ZX]?$/ && is_program($_) } descendants($$);
}

sub is_program {
    my ($pid) = @_;

    open my $in, '<', "/proc/$pid/environ" or return 0;
    local $/;
    return (<$in> // '') =~ /(?:^|\0)GATEWAY_INTERFACE=/ ? 1 : 0;
}

# pooled(node): programs that were started ahead and wait.
sub pooled {
    my ($node) = @_;

    my $idle = 0;
    $idle += $_->{pool}{idle} for @{status($node)->{locations}};
    return $idle;
}

# fill_pools(node, idle): asks for a program that is started ahead until as many wait. A worker starts the first ones when it is asked for one.
sub fill_pools {
    my ($node, $idle) = @_;

    return awaited(30, sub {
        return if pooled($node) >= $idle;
        Ws::Client->connect(port => $node->port, timeout => 3)->handshake('/pooled');
        return "fewer than $idle programs are started ahead";
    });
}

# orphans(nodes): programs that have outlived all sessions, but for those that wait in a pool, and processes of nginx that serve nobody.
sub orphans {
    my (@nodes) = @_;

    return awaited(15, sub {
        my @left;
        for my $node (@nodes) {
            my $idle = pooled($node);
            my @programs = grep { $node->started($_) } programs();
            push @left, sprintf 'node %s: %d programs, and %d in pools: %s', $node->{name}, scalar @programs, $idle, join ', ', map { command($_) } @programs
                if @programs > $idle;
            my @workers = $node->workers;
            for my $kind (qw(spawner guard)) {
                my @helpers = grep { command($_) =~ /^nginx: websocket $kind/ && state($_) ne 'Z' } $node->helpers;
                push @left, sprintf 'node %s: %d of "websocket %s" beside %d workers', $node->{name}, scalar @helpers, $kind, scalar @workers
                    if @helpers > @workers;
            }
            my @masters = grep { $node->started($_) && command($_) =~ /^nginx: master/ } descendants($$);
            push @left, "node $node->{name}: masters @masters" if @masters > 1;
            my @leaving = grep { $node->started($_) && command($_) =~ /^nginx: worker process is/ } descendants($$);
            push @left, "node $node->{name}: workers that do not leave: @leaving" if @leaving;
        }
        return @left;
    });
}

# Ports of the nodes and of what is behind them.
our %KNOWN;

# to_engine(): the sockets, as descriptors name them, of connections to anything else. How many of those a worker has depends on which servers it has
# had something to ask of.
sub to_engine {
    my %found;
    open my $in, '<', '/proc/net/tcp' or return \%found;
    while (my $line = <$in>) {
        my ($local, $remote, $inode) = $line =~ /^\s*\d+: \w+:(\w+) \w+:(\w+) \w+ \S+ \S+ \S+\s+\d+\s+\d+ (\d+)/ or next;
        $found{"socket:[$inode]"} = 1 if hex $remote && !$KNOWN{hex $remote} && !$KNOWN{hex $local};
    }
    return \%found;
}

# descriptor_kinds(pid): { kind => number } of its open descriptors.
sub descriptor_kinds {
    my ($pid) = @_;

    my %count;
    my $skipped = to_engine();
    $count{s/:?\[\d+\]//r =~ s/ \(deleted\)//r}++ for grep { !$skipped->{$_} } values %{descriptors($pid)};
    return \%count;
}

# most(pids): of each kind the largest number that one of them has.
sub most {
    my %most;
    for my $pid (@_) {
        my $kinds = descriptor_kinds($pid);
        for (keys %$kinds) {
            $most{$_} = $kinds->{$_} if $kinds->{$_} > ($most{$_} // 0);
        }
    }
    return \%most;
}

# more(what, before, after): what there was more of before.
sub more {
    my ($what, $old, $new) = @_;

    return map { sprintf '%s: %d %s, and %d in a fresh one', $what, $old->{$_}, $_, $new->{$_} // 0 } grep { $old->{$_} > ($new->{$_} // 0) } sort keys %$old;
}

# of_log(node): lines that no fault explains.
sub of_log {
    my ($node) = @_;

    my @expected = (qr/exited on signal 9/, qr/shared memory zone "ws_exec_\w+" was locked by/, qr/Address already in use|still could not bind/,
        @{$node->{noise}});
    return grep {
        my $line = $_;
        $line =~ /\[(?:alert|crit|emerg)\]|panicked/ && !grep { $line =~ $_ } @expected;
    } split /\n/, $node->log;
}

1;
