package Chaos::Subscriber;

# Gets the messages of a channel by one of the transports, at any node, and goes on at another one after the last message that it has when the
# connection ends, or when it likes to. It looks at each message: whether it is the one after the last one, or a gap was told.

use strict;
use warnings;

use POSIX ();
use Time::HiRes qw(time sleep);
use Ws::Client;
use Ws::Frame qw(close_frame);
use Ws::Http;

# start(number, seed, ports, channel, transport, file): a process that goes on until it has the message that begins with "end-", or gets TERM. The
# file has a line for each message, gap and fault.
sub start {
    my ($class, %opt) = @_;

    my $pid = fork // die "fork: $!\n";
    return $pid if $pid;
    srand $opt{seed};
    my $self = bless { %opt, over => 0, seen => {} }, $class;
    $SIG{TERM} = sub { $self->{over} = 1 };
    open $self->{out}, '>', $opt{file} or POSIX::_exit(1);
    my %way = (websocket => \&websocket, eventsource => \&eventsource, longpoll => \&longpoll);
    while (!$self->{over}) {
        $self->{port} = $opt{ports}[rand @{$opt{ports}}];
        $self->{leave} = time + (rand() < 0.3 ? rand 2 : rand 15);
        eval { $way{$opt{transport}}->($self); 1 } or sleep rand 0.2;
    }
    close $self->{out};
    POSIX::_exit(0);
}

sub note {
    my ($self, @words) = @_;

    print { $self->{out} } join("\t", @words), "\n";
    return;
}

sub fault {
    my ($self, $kind, $text) = @_;

    my $last = $self->{last} // 'nothing';
    return $self->note('fault', $kind, "$text (after $last, by $self->{transport} at $self->{port})");
}

# Lost messages were told of, before the next one; 0: nobody knows how many.
sub gap {
    my ($self, $lost) = @_;

    $self->note('gap', $lost);
    $self->{gap} = $lost;
    return;
}

sub message {
    my ($self, $id, $payload) = @_;

    $payload =~ s/x+$//;
    $self->note('message', $id, $payload);
    my ($epoch, $offset) = $id =~ /^(\d+):(\d+)$/ or return $self->fault('form', "an id is $id");
    my $gap = delete $self->{gap};
    if (defined $self->{last}) {
        my ($last_epoch, $last_offset) = split /:/, $self->{last};
        my $missing = $offset - $last_offset - 1;
        if ($epoch ne $last_epoch) {
            $self->fault('loss', "another epoch with $id, and no gap was told") if !defined $gap;
        } elsif ($missing < 0) {
            $self->fault('repeat', "$id comes again");
        } elsif ($missing > 0 && !defined $gap) {
            $self->fault('loss', "$missing messages are missing before $id");
        } elsif ($gap && $gap != $missing) {
            $self->fault('loss', "$missing messages are missing before $id, and the gap says $gap");
        }
    }
    $self->fault('repeat', "$payload comes again as $id") if $self->{seen}{$payload}++;
    $self->{last} = $self->{position} = $id;
    $self->{over} = 1 if $payload =~ /^end-/;
    return;
}

sub path {
    my ($self) = @_;

    my $path = "/sub?id=$self->{channel}";
    $path .= "&last_event_id=$self->{position}" if defined $self->{position};
    return $path;
}

sub websocket {
    my ($self) = @_;

    my $client = Ws::Client->open($self->{port}, $self->path, timeout => 4, headers => ['Sec-WebSocket-Protocol' => 'ws+meta.nchan']);
    while (!$self->{over} && time < $self->{leave}) {
        my $frame = $client->maybe_frame(0.5) or next;
        if ($frame->{opcode} == 9) {
            $client->send(Ws::Frame::frame(10, $frame->{payload}));
            next;
        }
        return if $frame->{opcode} == 8;
        my ($head, $payload) = split /\n\n/, $frame->{payload}, 2;
        my ($id) = $head =~ /^id: (\S+)$/m;
        if ($head =~ /^gap: (\d+)$/m) {
            $self->gap($1);
            $self->{position} = $id;
            next;
        }
        $self->message($id, $payload);
    }
    return;
}

sub eventsource {
    my ($self) = @_;

    my $client = Ws::Client->connect(port => $self->{port}, timeout => 4);
    $client->send(request_text('GET', $self->path, Accept => 'text/event-stream'));
    $client->wait_until(sub { $client->{in} =~ s{^HTTP/1\.1 200.*?\r\n\r\n}{}s || ($client->{in} =~ /^HTTP\S+ [345]/ && die "refused\n") }, 'head');
    my $stream = '';
    while (!$self->{over} && time < $self->{leave}) {
        # The chunks of the response, as far as they are there.
        while ($client->{in} =~ /^([0-9a-f]+)\r\n/ && length $client->{in} >= $+[0] + hex($1) + 2) {
            my ($begin, $length) = ($+[0], hex $1);
            return if !$length;
            $stream .= substr $client->{in}, $begin, $length;
            substr $client->{in}, 0, $begin + $length + 2, '';
        }
        if ($stream =~ s/^(.*?)\n\n//s) {
            my %field;
            for (split /\n/, $1) {
                my ($name, $value) = /^(\w+): ?(.*)$/ or next;
                $field{$name} = $value;
            }
            if (($field{event} // '') eq 'gap') {
                $self->gap($field{data});
                $self->{position} = $field{id};
            } elsif (defined $field{data}) {
                $self->message($field{id}, $field{data});
            } elsif (defined $field{id} && !defined $self->{last}) {
                $self->{position} = $self->{last} = $field{id};
            }
            next;
        }
        last if $client->{end};
        my $before = length $client->{in};
        eval { $client->wait_until(sub { length $client->{in} > $before || $client->{end} }, 'more', 0.5) };
    }
    return;
}

sub longpoll {
    my ($self) = @_;

    my $client = Ws::Client->connect(port => $self->{port}, timeout => 10);
    while (!$self->{over} && time < $self->{leave}) {
        $client->send(request_text('GET', $self->path));
        my $response = $client->response;
        return sleep 0.1 if $response->{status} !~ /^(?:200|304)$/;
        my ($gap) = @{$response->{headers}{'x-channel-gap'} // []};
        $self->gap($gap) if defined $gap;
        my ($id) = ($response->{headers}{etag}[0] // '') =~ /^"?([^"]+)"?$/;
        if ($response->{status} == 200) {
            $self->message($id, $response->{body});
        } elsif (defined $id) {
            $self->{position} = $id;
            $self->{last} //= $id;
        }
    }
    return;
}

1;
