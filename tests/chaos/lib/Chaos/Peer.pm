package Chaos::Peer;

# A client that has one session after the other, at any of its nodes: what all kinds of them have in common, up to the head of the answer. A kind
# says what it asks for (request), what to do with an answer (opened, refused) and with what comes behind it (octets), how it leaves (leave)
# and what it thinks of an end that it did not choose (ending).

use strict;
use warnings;

use Errno qw(EAGAIN EINPROGRESS);
use Socket qw(PF_INET SOCK_STREAM SOL_SOCKET SO_LINGER SO_RCVBUF IPPROTO_TCP TCP_NODELAY inet_aton pack_sockaddr_in);
use Time::HiRes qw(time);
use IO::Handle ();

# Seconds until a server that says nothing, where it has to say something, has forgotten its client: longer than anything is stopped.
our $PATIENCE = 40;

# Octets that are read in one turn. Who finds so many was slow, and a worker that has to go waits for nobody for longer than websocket_close_timeout.
use constant AT_ONCE => 65_536;

# new(loop, record, kind, ports, name => value ...): it begins by itself. "longest" is how many seconds a session may last before the client leaves.
sub new {
    my ($class, %given) = @_;

    my $self = bless { longest => 12, %given, state => 'idle', next => time + rand 1, over => 0 }, $class;
    $self->{loop}->add($self);
    return $self;
}

sub any { return $_[rand @_] }

sub begin {
    my ($self, $now) = @_;

    delete $self->{deaf};
    socket my $socket, PF_INET, SOCK_STREAM, 0 or die "socket: $!\n";
    $socket->blocking(0);
    setsockopt $socket, SOL_SOCKET, SO_RCVBUF, $self->{rcvbuf} if $self->{rcvbuf};
    setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1;
    @$self{qw(port worker in out since state stalled reused behind asked heard)} = (any(@{$self->{ports}}), '-', '', '', $now, 'head', 0, 0, 0, $now, $now);
    $self->{leave_at} = $now + (rand() < 0.3 ? rand 1 : rand $self->{longest});
    $self->{socket} = $socket;
    if (!connect($socket, pack_sockaddr_in($self->{port}, inet_aton('127.0.0.1'))) && !$!{EINPROGRESS}) {
        return $self->ended('unreachable');
    }
    $self->{loop}->watch($self);
    $self->send($self->request);
    return;
}

sub send {
    my ($self, $octets) = @_;

    $self->{out} .= $octets;
    return $self->writable;
}

sub writable {
    my ($self) = @_;

    return if !$self->{socket};
    if (length $self->{out}) {
        my $put = syswrite $self->{socket}, $self->{out};
        # Whoever is gone is heard of by reading.
        $self->{out} = '' if !defined $put && !$!{EAGAIN} && !$!{EINPROGRESS} && !$!{ENOTCONN};
        substr $self->{out}, 0, $put, '' if $put;
    }
    $self->{loop}->wants($self, 'writing', length $self->{out} ? 1 : 0) if defined fileno $self->{socket};
    $self->taken if !length $self->{out} && $self->{state} eq 'open';
    return;
}

# taken(): all that was sent is with the kernel.
sub taken { return }

sub readable {
    my ($self) = @_;

    my $got = sysread $self->{socket}, $self->{in}, AT_ONCE, length $self->{in};
    if (!$got) {
        return if !defined $got && $!{EAGAIN};
        return $self->ended('unreachable') if !defined $got && $!{ECONNREFUSED};
        return $self->finished(defined $got ? 'eof' : 'reset');
    }
    $self->{heard} = time;
    $self->{behind} = $self->{heard} if $got == AT_ONCE;
    if ($self->{state} eq 'head') {
        my $at = index $self->{in}, "\r\n\r\n";
        return if $at < 0;
        my $head = substr $self->{in}, 0, $at + 4, '';
        my ($status) = $head =~ m{^HTTP/1\.1 (\d+)} or return $self->wrong('no head: ' . substr $head, 0, 60);
        $self->{worker} = $1 if $head =~ /^X-Worker: (\d+)/mi;
        $self->head($status, $head) or return;
    }
    $self->octets if $self->{socket};
    return;
}

# head(status, text): false where no more is to be done with this connection.
sub head {
    my ($self, $status, $head) = @_;

    if ($status != $self->success) {
        $self->ended("refused $status");
        return 0;
    }
    $self->{state} = 'open';
    $self->{record}->count("sessions $self->{kind}");
    $self->opened($head);
    return 1;
}

# finished(how): the connection has ended, by the other side.
sub finished {
    my ($self, $how) = @_;

    return $self->ended($self->{state} eq 'head' ? 'no answer' : 'cut');
}

# wrong(text): something came that nobody may send.
sub wrong {
    my ($self, $text) = @_;

    $self->{record}->fault('form', "$self->{kind} at $self->{port}: $text");
    return $self->drop;
}

# drop(): the client is gone, and says nothing.
sub drop {
    my ($self) = @_;

    setsockopt $self->{socket}, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0 if rand() < 0.3;
    return $self->over_with;
}

# ended(how): the server has ended the session, or it never began.
sub ended {
    my ($self, $how) = @_;

    my $now = time;
    $self->{stalled} ||= $self->{deaf} || $now - $self->{behind} < 2 ? 1 : 0 if $how eq 'cut';
    $self->{record}->note('end', $self->{kind}, $self->{port}, $self->{worker}, sprintf('%.3f', $self->{since}), sprintf('%.3f', $now), $how,
        $self->{stalled}, $self->{reused});
    $self->over_with;
    $self->{next} = $now + 0.1 + rand 0.3;
    return;
}

sub over_with {
    my ($self) = @_;

    if ($self->{socket}) {
        $self->{loop}->forget($self);
        close delete $self->{socket};
    }
    $self->{state} = 'idle';
    $self->{next} = time + rand 0.2;
    return;
}

# hurry(): the run is over; what can end does.
sub hurry {
    my ($self) = @_;

    $self->{over} = 1;
    $self->{leave_at} = 0;
    return;
}

sub is_gone { return $_[0]{over} && $_[0]{state} eq 'idle' }

sub tick {
    my ($self, $now) = @_;

    my $state = $self->{state};
    $self->resume if $self->{deaf} && $self->{socket} && $now >= $self->{deaf};
    if ($state eq 'idle') {
        $self->begin($now) if !$self->{over} && $now >= $self->{next};
    } elsif ($state eq 'head') {
        $self->ended('timeout of the answer') if $now - $self->{asked} > $PATIENCE;
    } elsif ($state eq 'open') {
        return $self->leave if $now >= $self->{leave_at};
        $self->ended('timeout') if $self->waits && $now - $self->{heard} > $PATIENCE;
    } elsif ($now - $self->{closing} > $PATIENCE) {
        $self->ended('timeout of the closing');
    }
    return;
}

# waits(): whether the server has to say something now.
sub waits { return 0 }

# pause(seconds): the client reads nothing for so long.
sub pause {
    my ($self, $seconds) = @_;

    $self->{deaf} = time + $seconds;
    $self->{loop}->wants($self, 'reading', 0);
    $self->{stalled} = 1 if $seconds > 2;
    return;
}

sub resume {
    my ($self) = @_;

    delete $self->{deaf};
    $self->{heard} = time;
    $self->{loop}->wants($self, 'reading', 1);
    return;
}

1;
