package Ws::Redis;

# A Redis of the test's own, from Debian's package; or the program that TEST_WS_REDIS names, such as a Valkey.

use strict;
use warnings;

use File::Temp qw(tempdir);
use IO::Socket::INET;
use JSON::PP qw(decode_json);
use POSIX ();
use Socket qw(SOL_SOCKET SO_RCVTIMEO);
use Time::HiRes qw(sleep);
use Ws::Http ();
use Ws::Nginx ();

# One program is all of Redis: the name by which it is called tells which part it is.
our ($PROGRAM) = grep { -x } $ENV{TEST_WS_REDIS} // (), qw(/usr/bin/redis-server /usr/bin/redis-check-rdb);

# Seconds that a server has to answer: one that is stopped takes connections all the same.
our $PATIENCE = 20;

# start(option => value ...): a server on a port of loopback and on a unix socket, which keeps nothing on disk. With "tls-cert-file" it
# is also on another port, by TLS.
sub start {
    my ($class, %options) = @_;

    die "Debian's redis-tools is not installed: scripts/install-test-needs.sh\n" if !$PROGRAM;
    my $directory = tempdir('ws-redis-XXXXXXXX', TMPDIR => 1, CLEANUP => 1);
    my $self = bless {
        directory => $directory,
        port      => Ws::Nginx::free_port(),
        $options{'tls-cert-file'} ? (tls_port => Ws::Nginx::free_port()) : (),
        options   => \%options,
        owner     => $$,
    }, $class;
    $self->launch;
    return $self;
}

sub port   { return $_[0]{port} }
sub pid    { return $_[0]{pid} }
sub socket { return "$_[0]{directory}/socket" }
sub url    { return "redis://127.0.0.1:$_[0]{port}" }
sub tls_port { return $_[0]{tls_port} }
sub address  { return "127.0.0.1:$_[0]{port}" }
sub log_file { return "$_[0]{directory}/log" }

# launch(): the server runs and answers.
sub launch {
    my ($self) = @_;

    unlink $self->socket;
    my @options = map { ("--$_", split / /, $self->{options}{$_}) } sort keys %{$self->{options}};
    push @options, '--tls-port', $self->{tls_port} if $self->{tls_port};
    my $pid = fork // die "fork: $!\n";
    if (!$pid) {
        open STDOUT, '>>', "$self->{directory}/log" or POSIX::_exit(127);
        open STDERR, '>&', \*STDOUT or POSIX::_exit(127);
        chdir $self->{directory} or POSIX::_exit(127);
        no warnings 'exec';
        exec { $PROGRAM } 'redis-server', '--port', $self->{port}, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no',
            '--daemonize', 'no', '--unixsocket', $self->socket, '--unixsocketperm', '777', '--enable-debug-command', 'yes', @options;
        POSIX::_exit(127);
    }
    $self->{pid} = $pid;
    Ws::Nginx::await('Redis', sub {
        my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{port}) or return 0;
        print $socket "PING\r\n";
        return (<$socket> // '') =~ /^[+-]/;
    });
    return;
}

# kill(): as a crash would.
sub kill {
    my ($self) = @_;

    my $pid = delete $self->{pid} or return;
    CORE::kill('KILL', $pid);
    waitpid $pid, 0;
    return;
}

# restart(): without anything that it had.
sub restart {
    my ($self) = @_;

    $self->kill;
    return $self->launch;
}

# signal(name): to the server.
sub signal {
    my ($self, $name) = @_;

    return CORE::kill($name, $self->{pid});
}

# command(word ...): what the server answers, an array as a list of its texts. Dies for an error.
sub command {
    my ($self, @words) = @_;

    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{port}) or die "no Redis: $!\n";
    binmode $socket;
    $socket->setsockopt(SOL_SOCKET, SO_RCVTIMEO, pack 'l!l!', $PATIENCE, 0) or die "a time limit: $!\n";
    if (my $password = $self->{options}{requirepass}) {
        print $socket "*2\r\n\$4\r\nAUTH\r\n\$", length $password, "\r\n$password\r\n";
        _reply($socket);
    }
    print $socket '*', scalar @words, "\r\n", map { '$' . length($_) . "\r\n$_\r\n" } @words;
    return _reply($socket);
}

# connected(node ...): when each worker of these nodes has its connections to each engine, and each node listens to all. Until then a request
# may be answered by the one worker that still tries. The nodes have the location "/status", with the status as JSON.
sub connected { return connected_to(qr//, @_) }

# connected_to(regex, node ...): the same of the engines whose URL is like it.
sub connected_to {
    my ($url, @nodes) = @_;

    for my $node (@nodes) {
        Ws::Nginx::await('all connections to the engine', sub {
            my $engines = decode_json(Ws::Http::request($node->port, 'GET', '/status')->{body})->{engines};
            return !grep { $_->{engine} =~ $url && ($_->{workers}{connected} != $node->{workers} || !$_->{listening}{connected}) } @$engines;
        }, 60);
    }
    return;
}

sub _reply {
    my ($socket) = @_;

    my $line = <$socket> // die "no answer\n";
    $line =~ s/\r\n\z//;
    my ($kind, $rest) = $line =~ /^(.)(.*)$/;
    die "$rest\n" if $kind eq '-';
    return $rest if $kind eq '+' || $kind eq ':';
    if ($kind eq '*') {
        return [map { _reply($socket) } 1 .. $rest];
    }
    return undef if $rest < 0;
    (read $socket, my $text, $rest + 2) // die "no answer\n";
    return substr $text, 0, $rest;
}

sub DESTROY {
    my ($self) = @_;

    local ($?, $!);
    $self->kill if $self->{owner} == $$;
    return;
}

1;
