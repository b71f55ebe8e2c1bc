# websocket_exec_format bytes: a read is a binary message, payloads go to stdin as they are.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Digest::MD5 qw(md5_hex);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;

my $ngx = Ws::Nginx->start(server => <<'EOT');
    websocket_close_timeout 500ms;
    websocket_exec_format bytes;
    location = /echo { websocket_exec /bin/cat; }
    location = /said { websocket_exec /usr/bin/printf "$arg_format"; }
    location = /md5  { websocket_exec %%PREFIX%%/bin/md5 $arg_n; }
    location = /zero { websocket_exec /usr/bin/head -c 3000000 /dev/zero; }
EOT

$ngx->program('md5', <<'EOT');
#!/usr/bin/perl
use Digest::MD5;
my ($want, $got) = (shift, '');
while (length $got < $want) { sysread STDIN, $got, 65536, length $got or last; }
print Digest::MD5::md5_hex($got);
EOT

sub collect {
    my ($client, $octets) = @_;

    my $got = '';
    while (length $got < $octets) {
        my $message = $client->message;
        is($message->{opcode}, BINARY) if $message->{opcode} != BINARY;
        isnt($message->{payload}, '') if !length $message->{payload};
        $got .= $message->{payload};
    }
    return $got;
}

case 'octets come as binary, whatever they are' => sub {
    my $client = Ws::Client->open($ngx->port, '/said?format=a\n\r\n\377\0b');
    is(collect($client, 7), "a\n\r\n\xff\0b");
    is($client->server_close, 'close 1000');
};

case 'text and binary go in alike, and nothing is added' => sub {
    my $client = Ws::Client->open($ngx->port, '/echo');
    $client->send(text('abc'));
    is(collect($client, 3), 'abc');
    $client->send(binary("\0\xff\n"));
    is(collect($client, 3), "\0\xff\n");
    is($client->close(1000), 'close 1000');
};

case 'an empty message is no octets' => sub {
    my $client = Ws::Client->open($ngx->port, '/echo');
    $client->send(binary(''), text(''), binary('a'));
    is(collect($client, 1), 'a');
    is($client->close(1000), 'close 1000');
};

case 'payloads go in as they arrive, before the message is whole' => sub {
    my $client = Ws::Client->open($ngx->port, '/echo');
    $client->send(binary('first', fin => 0));
    is(collect($client, 5), 'first');
    $client->send(cont('second', fin => 0));
    is(collect($client, 6), 'second');
    $client->send(substr cont('0123456789'), 0, 11);
    is(collect($client, 5), '01234', 'half a frame');
    $client->send(substr cont('0123456789'), 11);
    is(collect($client, 5), '56789', 'and the other half');
    is($client->close(1000), 'close 1000');
};

case 'text is checked all the same' => sub {
    my $client = Ws::Client->open($ngx->port, '/echo');
    $client->send(text("\xff"));
    like($client->server_close, qr/^close 1007/);
};

case '1 MiB in, by its digest' => sub {
    my $octets = join '', map { pack 'N', $_ * 2654435761 % 4294967296 } 1 .. 262_144;
    my $client = Ws::Client->open($ngx->port, '/md5?n=1048576');
    $client->send(binary($octets));
    is(collect($client, 32), md5_hex($octets));
    is($client->server_close, 'close 1000');
};

case '3 MB out' => sub {
    my $client = Ws::Client->open($ngx->port, '/zero');
    is(collect($client, 3_000_000), "\0" x 3_000_000);
    is($client->server_close, 'close 1000');
};

$ngx->stop;
done_testing();
