package Ws::Dns;

# A name server that a test plays itself: it answers one question (RFC 1035) when told to.

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use Socket qw(inet_aton);

our $TIMEOUT = $ENV{ASAN_OPTIONS} || ($ENV{TEST_NGINX_BINARY} // '') =~ /valgrind/ ? 60 : 15;

sub new {
    my ($class) = @_;

    my $socket = IO::Socket::INET->new(Proto => 'udp', LocalAddr => '127.0.0.1', LocalPort => 0) or die "udp: $!\n";
    return bless { socket => $socket }, $class;
}

sub address { return '127.0.0.1:' . $_[0]{socket}->sockport }

# answer(address ...): the next question gets these IPv4 addresses; without any the name does not exist. Returns the name.
sub answer {
    my ($self, @addresses) = @_;

    return $self->reply(map { pack('nnnNn', 0xc00c, 1, 1, 60, 4) . inet_aton($_) } @addresses);
}

# answer_name(name): the next question, for the name of an address, gets this one; without one there is none. Returns the name that
# was asked for.
sub answer_name {
    my ($self, $name) = @_;

    return $self->reply() if !defined $name;
    my $octets = join('', map { chr(length) . $_ } split /\./, $name) . "\0";
    return $self->reply(pack('nnnNn', 0xc00c, 12, 1, 60, length $octets) . $octets);
}

# reply(record ...): the next question gets these records.
sub reply {
    my ($self, @records) = @_;

    IO::Select->new($self->{socket})->can_read($TIMEOUT) or die "deadline: no question\n";
    my $from = $self->{socket}->recv(my $query, 512);
    my ($id) = unpack 'n', $query;
    my $question = substr $query, 12;
    my @labels;
    my $at = 0;
    while (my $length = ord substr $question, $at, 1) {
        push @labels, substr $question, $at + 1, $length;
        $at += 1 + $length;
    }
    my $asked = substr $question, 0, $at + 5;
    my $flags = @records ? 0x8180 : 0x8183;
    my $answer = pack('nnnnnn', $id, $flags, 1, scalar @records, 0, 0) . $asked;
    $self->{socket}->send(join('', $answer, @records), 0, $from) or die "send: $!\n";
    return join '.', @labels;
}

# drop(): forgets what was asked.
sub drop {
    my ($self) = @_;

    while (IO::Select->new($self->{socket})->can_read(0)) {
        $self->{socket}->recv(my $query, 512);
    }
}

1;
