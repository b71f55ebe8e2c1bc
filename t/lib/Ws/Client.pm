package Ws::Client;

# A WebSocket client that a test drives octet by octet, plain or over TLS. It answers nothing by itself, and every
# wait ends at a deadline, by an exception. It checks what the server sends by RFC 6455: see Ws::Frame::parse_frame; after
# the server's Close nothing may come.

use strict;
use warnings;

use Errno qw(EAGAIN EWOULDBLOCK EINTR ECONNRESET EPIPE);
use IO::Handle;
use IO::Select;
use IO::Socket::INET;
use Socket qw(IPPROTO_TCP TCP_NODELAY SOL_SOCKET SO_LINGER SO_RCVBUF SO_SNDBUF SHUT_WR);
use Time::HiRes qw(time sleep);

use Ws::Frame qw(parse_frame describe close_frame upgrade ACCEPT CONT TEXT CLOSE PING pong);
use Ws::Nginx ();

# Seconds. Long enough for a machine that does other work at the same time; a test that passes never waits for it.
our $TIMEOUT = $ENV{ASAN_OPTIONS} || ($ENV{TEST_NGINX_BINARY} // '') =~ /valgrind/ ? 60 : 15;

# A server that is gone is an answer to look at, also where TLS writes by itself.
$SIG{PIPE} = 'IGNORE';

# connect(port => n, name => value ...): a connection without a handshake.
#   tls        speak TLS; alpn: a list of protocols for it; certificate, key: files of the client's own
#   rcvbuf     SO_RCVBUF, set before connecting, so that a client that does not read is felt early
#   sndbuf     SO_SNDBUF
#   source     the address to connect from
sub connect {
    my ($class, %opt) = @_;

    my $socket = IO::Socket::INET->new(Proto => 'tcp', Type => Socket::SOCK_STREAM) or die "socket: $!\n";
    setsockopt($socket, SOL_SOCKET, SO_RCVBUF, $opt{rcvbuf}) or die "SO_RCVBUF: $!\n" if $opt{rcvbuf};
    setsockopt($socket, SOL_SOCKET, SO_SNDBUF, $opt{sndbuf}) or die "SO_SNDBUF: $!\n" if $opt{sndbuf};
    if ($opt{source}) {
        bind($socket, Socket::pack_sockaddr_in(0, Socket::inet_aton($opt{source}))) or die "bind: $!\n";
    }
    CORE::connect($socket, Socket::pack_sockaddr_in($opt{port}, Socket::inet_aton('127.0.0.1')))
        or die "connect to port $opt{port}: $!\n";
    setsockopt($socket, IPPROTO_TCP, TCP_NODELAY, 1);

    if ($opt{tls}) {
        require IO::Socket::SSL;
        $socket = IO::Socket::SSL->start_SSL(
            $socket,
            SSL_verify_mode => 0,
            Timeout         => $TIMEOUT,
            $opt{alpn} ? (SSL_alpn_protocols => $opt{alpn}) : (),
            $opt{certificate} ? (SSL_cert_file => $opt{certificate}, SSL_key_file => $opt{key}, SSL_use_cert => 1) : (),
        ) or die "TLS: $IO::Socket::SSL::SSL_ERROR\n";
    }
    $socket->blocking(0);

    return bless {
        socket  => $socket,
        tls     => $opt{tls},
        in      => '',
        out     => '',
        end     => undef,
        closed  => 0,
        timeout => $opt{timeout} // $TIMEOUT,
    }, $class;
}

# open(port, path, name => value ...): a finished opening handshake; dies unless the server says 101.
# "headers" is for Ws::Frame::upgrade, "after" are octets to send in one go with the head, the rest is for connect.
sub open {
    my ($class, $port, $path, %opt) = @_;

    my $self = $class->connect(%opt, port => $port);
    my $response = $self->handshake($path, %opt);
    die "handshake for $path: $response->{status}\n" if $response->{status} != 101;
    die "wrong Sec-WebSocket-Accept\n" if ($response->{headers}{'sec-websocket-accept'}[0] // '') ne ACCEPT;

    return $self;
}

# handshake(path, headers => [...], after => octets): sends the request and returns the response's head.
sub handshake {
    my ($self, $path, %opt) = @_;

    $self->send(upgrade($path, @{$opt{headers} // []}) . ($opt{after} // ''));
    return $self->response;
}

# response(): { status, headers => { name in lower case => [values] }, body }. A 101, 204 or 304 has no body; other responses are
# read to their Content-Length, or to the end of the connection where there is none.
sub response {
    my ($self) = @_;

    $self->wait_until(sub { index($self->{in}, "\r\n\r\n") >= 0 }, 'response head');
    my $at = index $self->{in}, "\r\n\r\n";
    my $head = substr $self->{in}, 0, $at + 4, '';

    my ($line, @lines) = split /\r\n/, $head;
    my ($status) = $line =~ m{^HTTP/1\.1 (\d{3}) } or die "not a status line: $line\n";
    my %headers;
    for (@lines) {
        my ($name, $value) = /^([^:\s]+):\s*(.*?)\s*$/ or die "not a header: $_\n";
        push @{$headers{lc $name}}, $value;
    }
    $self->{head} = { status => $status, headers => \%headers, raw => $head };

    if ($status != 101) {
        my $length = $status == 204 || $status == 304 ? 0 : $headers{'content-length'}[0];
        if (defined $length) {
            $self->wait_until(sub { length $self->{in} >= $length }, 'response body');
            $self->{head}{body} = substr $self->{in}, 0, $length, '';
        } elsif ($headers{'transfer-encoding'}) {
            $self->wait_until(sub { $self->{in} =~ /(?:^|\r\n)0\r\n\r\n$/ }, 'last chunk');
            ($self->{head}{body}, $self->{in}) = ($self->{in}, '');
        } else {
            $self->wait_until(sub { $self->{end} }, 'end of the response');
            ($self->{head}{body}, $self->{in}) = ($self->{in}, '');
        }
    }

    return $self->{head};
}

# header(name): a header of the last response, all its values joined.
sub header {
    my ($self, $name) = @_;

    my $values = $self->{head}{headers}{lc $name};
    return $values ? join ', ', @$values : undef;
}

# send(octets ...): queues them and writes what the socket takes now. The rest leaves during the next wait.
sub send {
    my ($self, @octets) = @_;

    $self->{out} .= join '', @octets;
    $self->write_some;
    return $self;
}

# send_slowly(octets): one octet a segment.
sub send_slowly {
    my ($self, $octets) = @_;

    for my $octet (split //, $octets) {
        $self->send($octet);
        $self->flush;
        sleep 0.0005;
    }
    return $self;
}

# flush(): waits until everything queued has gone to the kernel; reads on meanwhile, unless "reading" is switched off.
sub flush {
    my ($self, $timeout) = @_;

    $self->wait_until(sub { !length $self->{out} }, 'the server to take all octets', $timeout);
    return $self;
}

# send_until_stalled(octets, quiet): sends until the server has taken nothing for so many seconds. Returns the octets sent.
sub send_until_stalled {
    my ($self, $octets, $quiet) = @_;

    my $sent = 0;
    while (1) {
        $self->{out} = $octets if !length $self->{out};
        my $before = length $self->{out};
        if ($self->write_some) {
            $sent += $before - length $self->{out};
            next;
        }
        last if !IO::Select->new($self->{socket})->can_write($quiet);
    }
    # What is left of the message that was begun is sent when the test goes on.
    return $sent;
}

# frame(timeout): the next frame.
sub frame {
    my ($self, $timeout) = @_;

    my $frame;
    $self->wait_until(sub { $frame = $self->parse }, 'a frame', $timeout);
    return $frame;
}

# maybe_frame(seconds): the next frame, or undef if none comes in that time.
sub maybe_frame {
    my ($self, $seconds) = @_;

    my $frame = eval { $self->frame($seconds) };
    die $@ if $@ && $@ !~ /^deadline/;
    return $frame;
}

sub parse {
    my ($self) = @_;

    die "octets after the server's Close\n" if $self->{closed} && length $self->{in};

    my $frame = parse_frame(\$self->{in}) or return;
    $self->{closed} = 1 if $frame->{opcode} == CLOSE;
    return $frame;
}

# message(timeout): the next text or binary message, its fragments joined: { opcode, payload, fragments, rsv1 }.
# Dies of a control frame.
sub message {
    my ($self, $timeout) = @_;

    my ($message, @parts);
    while (1) {
        my $frame = $self->frame($timeout);
        # What a watched worker does may take longer than a client is left alone.
        if ($frame->{opcode} == PING && Ws::Nginx::instrumented()) {
            $self->send(pong($frame->{payload}));
            next;
        }
        die 'expected a message, got ' . describe($frame) . "\n" if $frame->{opcode} & 8;
        die "continuation of nothing\n" if !$message && $frame->{opcode} == CONT;
        die "message inside a message\n" if $message && $frame->{opcode} != CONT;
        $message //= { opcode => $frame->{opcode}, rsv1 => $frame->{rsv1} };
        push @parts, $frame->{payload};
        last if $frame->{fin};
    }

    $message->{fragments} = @parts;
    $message->{payload} = join '', @parts;
    if ($message->{opcode} == TEXT && !$message->{rsv1}) {
        die "text message that is not UTF-8\n" if !utf8::decode(my $copy = $message->{payload});
    }
    return $message;
}

# text(timeout): the next message, which must be text.
sub text {
    my ($self, $timeout) = @_;

    my $message = $self->message($timeout);
    die "expected text, got binary\n" if $message->{opcode} != TEXT;
    return $message->{payload};
}

# frames(): every frame up to and with the server's Close, or up to the end of the connection.
sub frames {
    my ($self, $timeout) = @_;

    my @frames;
    while (1) {
        my $frame;
        $self->wait_until(sub { ($frame = $self->parse) || $self->{end} }, 'a frame or the end', $timeout);
        push @frames, $frame if $frame;
        last if !$frame || $frame->{opcode} == CLOSE;
    }
    return @frames;
}

# close(code, reason): closes from this side. Returns the server's answer, after which it must have closed the connection.
sub close {
    my ($self, @close) = @_;

    $self->send(close_frame(@close ? @close : 1000));
    my ($close) = grep { $_->{opcode} == CLOSE } $self->frames;
    my $end = $self->end;
    return describe($close) . ($end eq 'eof' ? '' : ", then $end");
}

# server_close(): waits for a Close that the server starts, answers it and waits for the end.
# Any frames before it are skipped; they are in {skipped}.
sub server_close {
    my ($self, $timeout) = @_;

    my @frames = $self->frames($timeout);
    my $close = @frames && $frames[-1]{opcode} == CLOSE ? pop @frames : undef;
    $self->{skipped} = \@frames;
    if (!$close) {
        return "$self->{end} without Close";
    }
    eval { $self->send(Ws::Frame::frame(CLOSE, $close->{payload})) };
    my $end = $self->end;
    return describe($close) . ($end eq 'eof' ? '' : ", then $end");
}

# end(timeout): waits for the end of the connection: "eof" or "reset". Dies of octets before it.
sub end {
    my ($self, $timeout) = @_;

    $self->wait_until(sub { $self->{end} }, 'the end of the connection', $timeout);
    die length($self->{in}) . " octets before the end\n" if length $self->{in};
    my $end = $self->{end};
    # The server has ended its half and now waits for this one.
    $self->abandon;
    return $end;
}

# fin(): no more octets from this side, which TLS says as well.
sub fin {
    my ($self) = @_;

    $self->flush;
    Net::SSLeay::shutdown($self->{socket}->_get_ssl_object) if $self->{tls};
    shutdown($self->{socket}, SHUT_WR);
    return $self;
}

# reset(): breaks the connection with RST.
sub reset {
    my ($self) = @_;

    setsockopt($self->{socket}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0));
    $self->abandon;
    return $self;
}

# abandon(): closes the socket and says nothing, not even in TLS.
sub abandon {
    my ($self) = @_;

    if ($self->{tls}) {
        $self->{socket}->close(SSL_no_shutdown => 1);
    } else {
        CORE::close($self->{socket});
    }
    $self->{end} = 'closed here';
    return $self;
}

# reading(0 or 1): whether to take octets from the socket while waiting.
sub reading {
    my ($self, $on) = @_;

    $self->{deaf} = !$on;
    return $self;
}

sub local_port {
    my ($self) = @_;

    return $self->{socket}->sockport;
}

# wait_until(condition, what, timeout): moves octets both ways until the condition holds.
sub wait_until {
    my ($self, $condition, $what, $timeout) = @_;

    my $deadline = time + ($timeout // $self->{timeout});
    while (1) {
        return 1 if $condition->();
        die "the connection ended ($self->{end}) while waiting for $what\n" if $self->{end};

        my $moved = ($self->{deaf} ? 0 : $self->read_some) + $self->write_some;
        next if $moved || $self->{end};

        my $left = $deadline - time;
        die "deadline: $what did not come\n" if $left <= 0;
        my $read = $self->{deaf} ? undef : IO::Select->new($self->{socket});
        my $write = length $self->{out} || $self->{want_write} ? IO::Select->new($self->{socket}) : undef;
        IO::Select->select($read, $write, undef, $left);
    }
}

# Both return whether octets were moved.
sub read_some {
    my ($self) = @_;

    return 0 if $self->{end};
    my $got = $self->{socket}->sysread($self->{in}, 262_144, length $self->{in});
    return 1 if $got;
    if (defined $got) {
        $self->{end} = 'eof';
        return 1;
    }
    return 0 if $self->would_block;
    $self->{end} = $!{ECONNRESET} || $!{EPIPE} ? 'reset' : "error $!";
    return 1;
}

sub write_some {
    my ($self) = @_;

    return 0 if !length $self->{out} || $self->{end};
    my $put = $self->{socket}->syswrite($self->{out}, length($self->{out}) > 65_536 ? 65_536 : length $self->{out});
    if ($put) {
        substr($self->{out}, 0, $put) = '';
        return 1;
    }
    return 0 if $self->would_block;
    # The server is gone; what it said before may still be there to be read.
    $self->{out} = '';
    $self->{broken} = 1;
    return 0;
}

sub would_block {
    my ($self) = @_;

    if ($self->{tls}) {
        my $error = $IO::Socket::SSL::SSL_ERROR;
        return 1 if $error == IO::Socket::SSL::SSL_WANT_READ() || $error == IO::Socket::SSL::SSL_WANT_WRITE();
    }
    return $!{EAGAIN} || $!{EWOULDBLOCK} || $!{EINTR};
}

1;
