package Ws::Deflate;

# The two ends of permessage-deflate (RFC 7692, section 7.2) as a client has them.

use strict;
use warnings;

use Compress::Raw::Zlib;

# new(name => value ...):
#   window          of what the server sends, in bits; 15 by default
#   own_window      of what this client sends
#   takeover        0: the server starts afresh with each message
#   own_takeover    0: this client does
#   level           of compression
sub new {
    my ($class, %opt) = @_;

    return bless { window => 15, own_window => 15, takeover => 1, own_takeover => 1, level => 6, %opt }, $class;
}

# deflate(octets): the payload of a compressed message (section 7.2.1).
sub deflate {
    my ($self, $octets) = @_;

    # zlib has nothing to flush when nothing came in (section 7.2.3.6).
    return "\0" if !length $octets;

    $self->{deflater} //= Compress::Raw::Zlib::Deflate->new(
        -WindowBits => -$self->{own_window}, -Level => $self->{level}, -AppendOutput => 1);
    my $out = '';
    $self->{deflater}->deflate($octets, $out) == Z_OK or die "deflate\n";
    $self->{deflater}->flush($out, Z_SYNC_FLUSH) == Z_OK or die "flush\n";
    delete $self->{deflater} if !$self->{own_takeover};

    die "no empty block at the end\n" if substr($out, -4) ne "\0\0\xff\xff";
    return substr $out, 0, -4;
}

# inflate(payload): the message (section 7.2.2). Dies of anything wrong.
sub inflate {
    my ($self, $payload) = @_;

    $self->{inflater} //= Compress::Raw::Zlib::Inflate->new(
        -WindowBits => -$self->{window}, -AppendOutput => 1, -ConsumeInput => 1);
    my $in = "$payload\0\0\xff\xff";
    my $out = '';
    my $status = $self->{inflater}->inflate($in, $out);
    die "inflate: $status\n" if $status != Z_OK && $status != Z_BUF_ERROR;
    die length($in) . " octets left over\n" if length $in;
    delete $self->{inflater} if !$self->{takeover};

    return $out;
}

1;
