package Ws::Redis::Sentinels;

# A master with replicas, and Sentinels that watch over them: real servers of the test's own.

use strict;
use warnings;

use IO::Socket::INET;
use POSIX ();
use Time::HiRes qw(sleep time);
use Ws::Nginx ();
use Ws::Redis;

our $NAME = 'news';

# start(option => value ...): a master and two replicas with these options, and three Sentinels.
#   sentinel_password   what the Sentinels want of clients
#   down_after          as below; 1000
sub start {
    my ($class, %options) = @_;

    my $password = delete $options{sentinel_password};
    my $down_after = delete $options{down_after} // 1000;
    # A replica is of use at once, and not after a wait for others to copy with it.
    my %all = ('repl-diskless-sync-delay' => 0, 'repl-ping-replica-period' => 1, %options);
    $all{masterauth} = $all{requirepass} if $all{requirepass};
    my $master = Ws::Redis->start(%all);
    my @replicas = map { Ws::Redis->start(%all, replicaof => '127.0.0.1 ' . $master->port) } 1 .. 2;
    my $self = bless { servers => [$master, @replicas], password => $password, owner => $$ }, $class;
    Ws::Nginx::await('the replicas', sub {
        my $found = () = $master->command('INFO', 'replication') =~ /state=online/g;
        return $found == 2;
    }, 60);
    for (1 .. 3) {
        push @{$self->{sentinels}}, Ws::Redis::Sentinels::One->start(
            $master, 2,
            "sentinel down-after-milliseconds $NAME $down_after",
            "sentinel failover-timeout $NAME 6000",
            $all{requirepass} ? "sentinel auth-pass $NAME $all{requirepass}" : (),
            $password ? ("requirepass $password", "sentinel sentinel-pass $password") : (),
        );
        $self->{sentinels}[-1]{options} = { requirepass => $password };
    }
    $self->settled;
    return $self;
}

# settled(): all Sentinels know all servers and each other.
sub settled {
    my ($self) = @_;

    Ws::Nginx::await('the Sentinels', sub {
        for my $sentinel (grep { $_->{pid} } @{$self->{sentinels}}) {
            my %state = @{$sentinel->command('SENTINEL', 'MASTER', $NAME)};
            return 0 if $state{flags} ne 'master' || $state{'num-other-sentinels'} != 2 || $state{'num-slaves'} != 2;
            my $replicas = $sentinel->command('SENTINEL', 'REPLICAS', $NAME);
            return 0 if grep { my %replica = @$_; $replica{flags} ne 'slave' || $replica{'master-link-status'} ne 'ok' } @$replicas;
        }
        return 1;
    }, 90);
    return;
}

# down_after(milliseconds): when a server that does not answer is taken for dead from now on.
sub down_after {
    my ($self, $milliseconds) = @_;

    $_->command('SENTINEL', 'SET', $NAME, 'down-after-milliseconds', $milliseconds) for grep { $_->{pid} } $self->sentinels;
    return;
}

sub sentinels { return @{$_[0]{sentinels}} }
sub servers   { return @{$_[0]{servers}} }

sub url {
    my ($self, $credentials) = @_;

    return 'redis+sentinel://' . ($credentials // '') . join(',', map { "127.0.0.1:$_->{port}" } $self->sentinels) . "/$NAME";
}

# master(): the server that the Sentinels name.
sub master {
    my ($self) = @_;

    for my $sentinel (grep { $_->{pid} } $self->sentinels) {
        my $address = eval { $sentinel->command('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', $NAME) } or next;
        my ($found) = grep { $_->port == $address->[1] } $self->servers;
        return $found if $found;
    }
    die "no Sentinel names a master\n";
}

sub replicas {
    my ($self) = @_;

    my $master = $self->master;
    return grep { $_ != $master } $self->servers;
}

# another_master(server): waits until the Sentinels name another one, which is the master; when that was.
sub another_master {
    my ($self, $before) = @_;

    Ws::Nginx::await('another master', sub {
        my $master = $self->master;
        return $master != $before && eval { $master->command('INFO', 'replication') =~ /role:master/ };
    }, 90);
    return time;
}

sub kill {
    my ($self) = @_;

    $_->kill for @{$self->{sentinels}}, @{$self->{servers}};
    return;
}

package Ws::Redis::Sentinels::One;

our @ISA = ('Ws::Redis');

# start(master, quorum, line ...): a Sentinel that watches over this server, with these lines in its configuration.
sub start {
    my ($class, $master, $quorum, @lines) = @_;

    my $self = bless { directory => $master->{directory}, port => Ws::Nginx::free_port(), options => {} }, $class;
    $self->{file} = "$self->{directory}/sentinel-$self->{port}.conf";
    open my $out, '>', $self->{file} or die "$self->{file}: $!\n";
    print $out map { "$_\n" } "port $self->{port}", 'bind 127.0.0.1', 'sentinel resolve-hostnames no',
        "sentinel monitor $Ws::Redis::Sentinels::NAME 127.0.0.1 " . $master->port . " $quorum", @lines;
    close $out or die "$self->{file}: $!\n";
    $self->launch;
    return $self;
}

sub launch {
    my ($self) = @_;

    my $pid = fork // die "fork: $!\n";
    if (!$pid) {
        open STDOUT, '>>', "$self->{file}.log" or POSIX::_exit(127);
        open STDERR, '>&', \*STDOUT or POSIX::_exit(127);
        no warnings 'exec';
        exec { $Ws::Redis::PROGRAM } 'redis-sentinel', $self->{file}, '--daemonize', 'no';
        POSIX::_exit(127);
    }
    $self->{pid} = $pid;
    $self->{owner} = $$;
    Ws::Nginx::await('a Sentinel', sub {
        my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{port}) or return 0;
        print $socket "PING\r\n";
        return (<$socket> // '') =~ /^[+-]/;
    });
    return;
}

1;
