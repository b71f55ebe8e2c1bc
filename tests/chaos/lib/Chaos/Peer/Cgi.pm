package Chaos::Peer::Cgi;

# Requests that a CGI program answers with the numbers from 1 to "most": it counts by itself, or gives back the body of the request, which is sent at once or
# in pieces. A response is all of it, or a beginning of that behind which the connection ends; never a whole one that lacks something.

use strict;
use warnings;

use parent -norequire, 'Chaos::Peer';

use Chaos::Peer;
use Time::HiRes qw(time);
use Ws::Http qw(request_text);

sub success { return 200 }

sub request {
    my ($self) = @_;

    my $chance = rand;
    $self->{most} = 1 + int rand($chance < 0.5 ? 100 : $chance < 0.97 ? 20_000 : 120_000);
    @$self{qw(got text rest)} = (0, '', '');
    return request_text('GET', "$self->{path}?n=$self->{most}") if !$self->{has_body};
    my $body = join '', map { "$_\n" } 1 .. $self->{most};
    my $head = request_text('POST', $self->{path}, 'Content-Length' => length $body);
    return $head . $body if rand() < 0.7;
    $self->{rest} = $body;
    $self->{piece} = 1 + int length($body) / (1 + rand 20);
    return $head;
}

sub opened {
    my ($self, $head) = @_;

    # nginx may close a connection that waits for a request, and this one has come.
    $self->{reused} = 0;
    ($self->{length}) = $head =~ /^Content-Length: (\d+)/mi;
    $self->{is_last} = $head =~ /^Connection: close/mi;
    $self->{pause_at} = rand() < 0.1 ? int rand $self->{most} : -1;
    return $self->wrong('a response without a length and without chunks') if !defined $self->{length} && $head !~ /^Transfer-Encoding: chunked/mi;
    return;
}

sub octets {
    my ($self) = @_;

    my $is_whole = 0;
    if (defined $self->{length}) {
        return $self->wrong('octets behind a response') if length $self->{in} > $self->{length};
        $self->{length} -= length $self->{in};
        $self->{text} .= $self->{in};
        $self->{in} = '';
        $is_whole = !$self->{length};
    }
    while (!defined $self->{length} && $self->{in} =~ /^([0-9a-f]+)\r\n/) {
        my ($begin, $length) = ($+[0], hex $1);
        last if length $self->{in} < $begin + $length + 2;
        $self->{text} .= substr $self->{in}, $begin, $length;
        return $self->wrong('a chunk without an end') if substr($self->{in}, $begin + $length, 2) ne "\r\n";
        substr $self->{in}, 0, $begin + $length + 2, '';
        if (!$length) {
            return $self->wrong('octets behind a response') if length $self->{in};
            $is_whole = 1;
            last;
        }
    }
    $self->numbers or return;
    return $self->whole if $is_whole;
    if ($self->{pause_at} >= 0 && $self->{got} >= $self->{pause_at}) {
        $self->{pause_at} = -1;
        $self->pause(rand 1.5);
    }
    return;
}

# numbers(): false where one of them is not the next one.
sub numbers {
    my ($self) = @_;

    my $end = rindex $self->{text}, "\n";
    return 1 if $end < 0;
    my $before = $self->{got};
    for my $number (split /\n/, substr $self->{text}, 0, $end + 1, '') {
        if ($number ne $self->{got} + 1 || $number > $self->{most}) {
            my $kind = $number !~ /^\d+$/ || $number > $self->{most} ? 'form' : $number > $self->{got} ? 'loss' : 'repeat';
            $self->{record}->fault($kind, "$self->{kind} at $self->{port}: $number after $self->{got} of $self->{most}");
            $self->drop;
            return 0;
        }
        $self->{got}++;
    }
    $self->{record}->count("deliveries $self->{kind}", $self->{got} - $before);
    return 1;
}

# whole(): the response has come to its end.
sub whole {
    my ($self) = @_;

    if ($self->{got} != $self->{most} || length $self->{text}) {
        $self->{record}->fault('loss', "$self->{kind} at $self->{port}: a whole response after $self->{got} of $self->{most}");
        return $self->drop;
    }
    $self->{record}->count("complete $self->{kind}");
    my $now = time;
    if ($self->{over} || $self->{is_last} || rand() < 0.3) {
        $self->over_with;
        $self->{next} += rand 1;
        return;
    }
    @$self{qw(state again_at)} = ('between', $now + rand 1);
    return;
}

sub tick {
    my ($self, $now) = @_;

    if ($self->{state} eq 'between') {
        return $self->over_with if $self->{over};
        $self->again($now) if $now >= $self->{again_at};
        return;
    }
    if ($self->{socket} && length $self->{rest} && !length $self->{out}) {
        return $self->drop if rand() < 0.01;
        $self->send(substr $self->{rest}, 0, $self->{piece}, '');
        $self->{asked} = $now;
    }
    return $self->SUPER::tick($now);
}

# again(now): another request on the same connection.
sub again {
    my ($self, $now) = @_;

    @$self{qw(state since asked heard worker reused)} = ('head', $now, $now, $now, '-', 1);
    $self->{leave_at} = $now + rand $self->{longest};
    return $self->send($self->request);
}

sub readable {
    my ($self) = @_;

    # Nothing is asked for, so that only the end can come.
    if ($self->{state} eq 'between') {
        my $got = sysread $self->{socket}, my $octets, 16;
        return $self->wrong('octets between responses') if $got;
        return $self->over_with;
    }
    return $self->SUPER::readable;
}

# waits(): for all of the response, once the program has all that it gives back.
sub waits { my ($self) = @_; return !$self->{deaf} && !length $self->{rest} }

sub leave { return $_[0]->drop }

1;
