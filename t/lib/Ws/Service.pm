package Ws::Service;

# A TCP or unix service that a test plays itself: it accepts, reads and writes when told to, and every wait ends at a
# deadline, by an exception. The kernel completes connections without it, so a client can be opened first.

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use Socket qw(SOL_SOCKET SO_LINGER SO_RCVBUF SHUT_RD SHUT_WR IPPROTO_TCP TCP_NODELAY);
use Time::HiRes qw(time);

our $TIMEOUT = $ENV{ASAN_OPTIONS} || ($ENV{TEST_NGINX_BINARY} // '') =~ /valgrind/ ? 60 : 15;

# listen(name => value ...): a service on a port of its own.
#   unix      a path in place of a port
#   port      this port
#   address   in place of 127.0.0.1
#   backlog   connections that the kernel keeps for it
#   rcvbuf    SO_RCVBUF of its connections
sub listen {
    my ($class, %opt) = @_;

    my $backlog = $opt{backlog} // 128;
    my $socket = $opt{unix}
        ? IO::Socket::UNIX->new(Local => $opt{unix}, Listen => $backlog)
        : IO::Socket::INET->new(LocalAddr => $opt{address} // '127.0.0.1', LocalPort => $opt{port} // 0,
            Listen => $backlog, ReuseAddr => 1);
    $socket or die "listen: $!\n";
    # The class takes no backlog below 1.
    CORE::listen($socket, $backlog) or die "listen: $!\n";
    setsockopt($socket, SOL_SOCKET, SO_RCVBUF, $opt{rcvbuf}) or die "SO_RCVBUF: $!\n" if $opt{rcvbuf};
    return bless { socket => $socket, tls => $opt{tls} }, $class;
}

# refusing(): a port of 127.0.0.1 that nobody listens on.
sub refusing {
    my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 1) or die "listen: $!\n";
    return $socket->sockport;
}

sub port    { return $_[0]{socket}->sockport }
sub address { return '127.0.0.1:' . $_[0]->port }

# accept(): the next connection.
sub accept {
    my ($self, $timeout) = @_;

    IO::Select->new($self->{socket})->can_read($timeout // $TIMEOUT) or die "deadline: nobody connects to the service\n";
    my $socket = $self->{socket}->accept or die "accept: $!\n";
    setsockopt($socket, IPPROTO_TCP, TCP_NODELAY, 1) if $socket->isa('IO::Socket::INET');
    if ($self->{tls}) {
        require IO::Socket::SSL;
        $socket->blocking(1);
    }
    return bless { socket => $socket, in => '', eof => 0 }, 'Ws::Service::Connection';
}

# waiting(): whether somebody has connected.
sub waiting { return IO::Select->new($_[0]{socket})->can_read($_[1] // 0) ? 1 : 0 }

sub close { CORE::close($_[0]{socket}) }

package Ws::Service::Connection;

use Socket qw(SOL_SOCKET SO_LINGER SHUT_RD SHUT_WR);
use Time::HiRes qw(time);

# send(octets): all of them.
sub send {
    my ($self, $octets) = @_;

    local $SIG{PIPE} = 'IGNORE';
    my $at = 0;
    while ($at < length $octets) {
        my $put = syswrite $self->{socket}, $octets, length($octets) - $at, $at;
        defined $put or die "write: $!\n";
        $at += $put;
    }
    return $self;
}

# send_some(octets): as much as the kernel takes at once; the count.
sub send_some {
    my ($self, $octets) = @_;

    local $SIG{PIPE} = 'IGNORE';
    $self->{socket}->blocking(0);
    my $put = syswrite($self->{socket}, $octets) // 0;
    $self->{socket}->blocking(1);
    return $put;
}

# more(timeout): reads once into the buffer. False at the end.
sub more {
    my ($self, $timeout) = @_;

    return 0 if $self->{eof};
    my $pending = $self->{socket}->can('pending') && $self->{socket}->pending;
    $pending || IO::Select->new($self->{socket})->can_read($timeout // $Ws::Service::TIMEOUT)
        or die "deadline: nothing comes to the service\n";
    my $got = sysread $self->{socket}, $self->{in}, 262_144, length $self->{in};
    return 1 if $got;
    $self->{eof} = defined $got ? 'eof' : $!{ECONNRESET} ? 'reset' : "error $!";
    return 0;
}

# read(n): exactly so many octets.
sub read {
    my ($self, $count, $timeout) = @_;

    while (length $self->{in} < $count) {
        $self->more($timeout) or die "the service's connection ended ($self->{eof}) after " . length($self->{in}) . " octets\n";
    }
    return substr $self->{in}, 0, $count, '';
}

# line(): up to and with a newline.
sub line {
    my ($self) = @_;

    while (index($self->{in}, "\n") < 0) {
        $self->more or die "the service's connection ended ($self->{eof})\n";
    }
    return substr $self->{in}, 0, index($self->{in}, "\n") + 1, '';
}

# rest(): everything up to the end.
sub rest {
    my ($self, $timeout) = @_;

    1 while $self->more($timeout);
    my $rest = $self->{in};
    $self->{in} = '';
    return $rest;
}

# silent(seconds): whether nothing comes in that time, not even the end.
sub silent {
    my ($self, $seconds) = @_;

    return !length $self->{in} && !IO::Select->new($self->{socket})->can_read($seconds);
}

sub how   { return $_[0]{eof} }
sub peer  { return $_[0]{socket} }
sub fin   { shutdown($_[0]{socket}, SHUT_WR); return $_[0] }
sub deafen { shutdown($_[0]{socket}, SHUT_RD); return $_[0] }
sub close { CORE::close($_[0]{socket}); return }

# reset(): breaks the connection with RST.
sub reset {
    my ($self) = @_;

    setsockopt($self->{socket}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0));
    $self->close;
    return;
}

1;
