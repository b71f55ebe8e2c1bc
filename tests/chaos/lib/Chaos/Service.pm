package Chaos::Service;

# What stands behind the nodes, in a process of its own: a TCP service that echoes, and a server that the hooks of channels ask.
#
# The echo writes down how many whole lines each of its connections has brought when its client has ended it in order, so that nothing that a client
# had sent before it left is lost unseen. A line that begins with "bye" has it end its half: what comes back then is all, and it reads on.
#
# Hooks are allowed what they ask for, most at once and some a little later; while the service is away they get no answer.

use strict;
use warnings;

use IO::Handle ();
use IO::Select;
use IO::Socket::INET;
use POSIX ();
use Time::HiRes qw(time);

# start(file): a process. The file has a line "brought CONNECTION LINES" for each connection that ended in order.
sub start {
    my ($class, $file) = @_;

    my @listeners = map { IO::Socket::INET->new(Listen => 1024, LocalAddr => '127.0.0.1', LocalPort => Ws::Nginx::free_port(), ReuseAddr => 1) or die "listen: $!\n" } 1, 2;
    pipe my $read, my $write or die "pipe: $!\n";
    my $pid = fork // die "fork: $!\n";
    if (!$pid) {
        close $write;
        $SIG{PIPE} = $SIG{INT} = 'IGNORE';
        eval { serve(@listeners, $read, $file); 1 } or print STDERR "the service: $@";
        POSIX::_exit(1);
    }
    close $read;
    $write->autoflush(1);
    return bless { pid => $pid, control => $write, port => $listeners[0]->sockport, hooks => $listeners[1]->sockport }, $class;
}

sub pid   { return $_[0]{pid} }
sub port  { return $_[0]{port} }
sub hooks { return $_[0]{hooks} }

# away(seconds): hooks get no answer.
sub away { my ($self, $seconds) = @_; print { $self->{control} } "away $seconds\n"; return }

# end(): what it has written down is whole at any time.
sub end { kill 'TERM', $_[0]{pid}; return }

sub serve {
    my ($echo, $hooks, $control, $file) = @_;

    open my $out, '>', $file or die "$file: $!\n";
    $out->autoflush(1);
    my $select = IO::Select->new($echo, $hooks, $control);
    my (%connection, @later);
    my $away = 0;
    my $forget = sub {
        my ($socket) = @_;
        $select->remove($socket);
        delete $connection{$socket};
        close $socket;
    };
    while (1) {
        my @waiting = grep { length $_->{out} } values %connection;
        my $writers = @waiting ? IO::Select->new(map { $_->{socket} } @waiting) : undef;
        my ($readable, $writable) = IO::Select::select($select, $writers, undef, @later ? 0.01 : 0.2);
        my $now = time;
        while (@later && $later[0][0] <= $now) {
            # One that has gone meanwhile must not be taken for another one that has its address in memory.
            my $one = (shift @later)->[1];
            next if !$connection{$one->{socket}};
            answer($one);
            flush($one) or $forget->($one->{socket});
        }
        for my $socket (@{$writable // []}) {
            my $one = $connection{$socket} or next;
            flush($one) or $forget->($socket);
        }
        for my $socket (@{$readable // []}) {
            if ($socket == $control) {
                sysread $control, my $text, 4096 or POSIX::_exit(0);
                $away = $now + $1 if $text =~ /away ([\d.]+)/;
                next;
            }
            if ($socket == $echo || $socket == $hooks) {
                my $new = $socket->accept or next;
                $new->blocking(0);
                $select->add($new);
                $connection{$new} = { socket => $new, in => '', out => '', lines => 0, echoes => $socket == $echo };
                next;
            }
            my $one = $connection{$socket} or next;
            # What the other side does not take is not read either.
            next if length $one->{out} > 1 << 20;
            my $got = sysread $socket, $one->{in}, 131_072, length $one->{in};
            next if !defined $got && $!{EAGAIN};
            if (!$got) {
                print $out "brought\t$one->{name}\t$one->{lines}\n" if $one->{echoes} && defined $one->{name};
                $forget->($socket);
                next;
            }
            if ($one->{echoes}) {
                echo($one);
            } elsif ($now < $away) {
                $forget->($socket);
                next;
            } elsif ($one->{in} =~ /^(.*?)\r\n\r\n/s) {
                my ($head, $begin) = ($1, $+[0]);
                my ($length) = $head =~ /^Content-Length: (\d+)/mi;
                next if length $one->{in} < $begin + ($length // 0);
                @$one{qw(in publishes)} = ('', $head =~ /^POST/);
                if (rand() < 0.01) {
                    push @later, [$now + rand 0.5, $one];
                    @later = sort { $a->[0] <=> $b->[0] } @later;
                    next;
                }
                answer($one);
            }
            flush($one) or $forget->($socket);
        }
    }
}

# echo(connection): the first line is the name of the connection.
sub echo {
    my ($one) = @_;

    my $end = rindex $one->{in}, "\n";
    return if $end < 0 || $one->{said_bye} && ($one->{in} = '', 1)[1];
    my $lines = substr $one->{in}, 0, $end + 1, '';
    ($one->{name}) = $lines =~ /^0\.(\S+?)\.?\n/ if !defined $one->{name};
    $one->{lines} += $lines =~ tr/\n//;
    if ($lines =~ s/^bye.*//ms) {
        $one->{said_bye} = 1;
    }
    $one->{out} .= $lines;
    return;
}

sub answer {
    my ($one) = @_;

    # A message as it is, or a subscriber that may come; one that has gone gets the same.
    $one->{out} .= ($one->{publishes} ? 'HTTP/1.1 304 Not Modified' : 'HTTP/1.1 204 No Content') . "\r\nConnection: close\r\n\r\n";
    $one->{closes} = 1;
    return;
}

sub flush {
    my ($one) = @_;

    if (length $one->{out}) {
        my $put = syswrite $one->{socket}, $one->{out};
        return $!{EAGAIN} if !defined $put;
        substr $one->{out}, 0, $put, '';
    }
    return 0 if $one->{closes} && !length $one->{out};
    if ($one->{said_bye} && !length $one->{out}) {
        shutdown $one->{socket}, 1;
    }
    return 1;
}

1;
