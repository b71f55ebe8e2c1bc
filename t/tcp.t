# websocket_tcp: octets between a WebSocket and a service.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Digest::MD5 qw(md5_hex);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Service;

my $service = Ws::Service->listen;
my $address = $service->address;

my $ngx = Ws::Nginx->new;
my $path = $ngx->prefix . '/service.sock';
my $unix = Ws::Service->listen(unix => $path);
$ngx->{server} = <<"EOT";
    websocket_close_timeout 500ms;
    location = /tcp   { websocket_tcp $address; }
    location = /unix  { websocket_tcp unix:$path; }
    location = /slow  { websocket_tcp unix:%%PREFIX%%/slow.sock; }
    location = /small { websocket_tcp $address; websocket_tcp_buffer_size 10; }
    location = /text  { websocket_tcp $address; websocket_tcp_format text; }
    location = /bytes { websocket_tcp $address; websocket_tcp_format text; websocket_tcp_buffer_size 1; }
    location = /big   { websocket_tcp $address; }
    location = /limit { websocket_tcp $address; websocket_max_message_size 1m; }
    location = /mqtt  { websocket_tcp $address; websocket_protocols mqtt; }
EOT
$ngx->start;

sub collect {
    my ($client, $octets, $opcode) = @_;

    my $got = '';
    while (length $got < $octets) {
        my $message = $client->message;
        is($message->{opcode}, $opcode // BINARY) if $message->{opcode} != ($opcode // BINARY);
        isnt($message->{payload}, '') if !length $message->{payload};
        $got .= $message->{payload};
    }
    return $got;
}

sub pair {
    my ($location, %opt) = @_;

    my $client = Ws::Client->open($ngx->port, $location, %opt);
    return ($client, ($location eq '/unix' ? $unix : $service)->accept);
}

for my $location ('/tcp', '/unix') {
    case "$location: octets both ways" => sub {
        my ($client, $peer) = pair($location);
        $client->send(binary("\0\xffhello"));
        is($peer->read(7), "\0\xffhello");
        $peer->send("world\xfe");
        is(collect($client, 6), "world\xfe");
        $client->send(text('text'));
        is($peer->read(4), 'text', 'text is passed on as well');
        is($client->close(1000), 'close 1000');
        is($peer->rest, '');
        is($peer->how, 'eof');
    };
}

case 'a service may speak first' => sub {
    my ($client, $peer) = pair('/tcp');
    $peer->send("220 hello\r\n");
    is(collect($client, 11), "220 hello\r\n");
    is($client->close(1000), 'close 1000');
};

case 'frames in one segment with the head arrive' => sub {
    my ($client, $peer) = pair('/tcp', after => binary('early'));
    is($peer->read(5), 'early');
    is($client->close(1000), 'close 1000');
};

case 'octets go on before their frame is whole' => sub {
    my ($client, $peer) = pair('/tcp');
    $client->send(binary('first', fin => 0));
    is($peer->read(5), 'first');
    $client->send(substr cont('0123456789'), 0, 11);
    is($peer->read(5), '01234', 'half a frame');
    $client->send(substr cont('0123456789'), 11);
    is($peer->read(5), '56789', 'and the other half');
    is($client->close(1000), 'close 1000');
};

case 'a read is a message' => sub {
    my ($client, $peer) = pair('/small');
    $peer->send('x' x 25);
    is(length $client->message->{payload}, $_) for 10, 10, 5;
    is($client->close(1000), 'close 1000');
};

case '2 MB from the service' => sub {
    my ($client, $peer) = pair('/tcp');
    my $octets = join '', map { pack 'N', $_ * 2654435761 % 4294967296 } 1 .. 524_288;
    my $at = 0;
    my $got = '';
    while (length $got < length $octets) {
        $at += $peer->send_some(substr $octets, $at) if $at < length $octets;
        my $message = $client->message;
        cmp_ok(length $message->{payload}, '<=', 16_384) if length $message->{payload} > 16_384;
        $got .= $message->{payload};
    }
    is(md5_hex($got), md5_hex($octets));
    is($client->close(1000), 'close 1000');
};

case 'a message of 16 MB is no more than any other where no limit is set, and needs no 16 MB' => sub {
    my ($client, $peer) = pair('/big');
    $client->send(binary('warm'));
    is($peer->read(4), 'warm');
    my ($worker) = $ngx->workers;
    my $before = Ws::Process::status_field($worker, 'VmRSS');
    my $octets = join '', map { pack 'N', $_ * 2654435761 % 4294967296 } 1 .. 262_144;
    my $md5 = Digest::MD5->new;
    my $frame = binary($octets x 16);
    my $got = 0;
    my $most = 0;
    while ($got < 16 << 20) {
        $client->send(substr $frame, 0, 262_144, '') if length $client->{out} < 262_144;
        $client->write_some;
        $peer->more if !$peer->silent(0.001);
        $got += length $peer->{in};
        $md5->add($peer->{in});
        $peer->{in} = '';
        my $now = Ws::Process::status_field($worker, 'VmRSS');
        $most = $now if $now > $most;
    }
    is($md5->hexdigest, md5_hex($octets x 16));
    cmp_ok($most - $before, '<', 2048, 'kB more') if !instrumented();
    is($client->close(1000), 'close 1000');
};

case 'text is cut between code points' => sub {
    my ($client, $peer) = pair('/text');
    $peer->send("a\xe2");
    is($client->text, 'a');
    $peer->send("\x82");
    is($client->maybe_frame(0.1), undef);
    $peer->send("\xacb");
    is($client->text, "\xe2\x82\xacb");
    $peer->send("\xf0\x9f\x98\x80");
    is($client->text, "\xf0\x9f\x98\x80");
    is($client->close(1000), 'close 1000');

    my ($bytewise, $speaker) = pair('/bytes');
    my $text = "\x{20ac}uro \x{1f600}";
    utf8::encode($text);
    $speaker->send($text);
    is(collect($bytewise, length $text, TEXT), $text, 'one octet a read');
    is($bytewise->close(1000), 'close 1000');
};

case 'text that is none' => sub {
    my ($client, $peer) = pair('/text');
    $peer->send("good");
    is($client->text, 'good');
    $peer->send("a\xff");
    like($client->server_close, qr/^close 1007/);

    my ($cut, $ender) = pair('/text');
    $ender->send("a\xe2");
    is($cut->text, 'a');
    $ender->fin;
    like($cut->server_close, qr/^close 1007/, 'the end inside a code point');
};

case 'subprotocols' => sub {
    for (
        ['/tcp',  'binary',               'binary'],
        ['/tcp',  'base64, binary',       'binary'],
        ['/tcp',  'base64',               undef],
        ['/tcp',  undef,                  undef],
        ['/mqtt', 'mqtt',                 'mqtt'],
        ['/mqtt', 'binary, mqtt',         'binary'],
    ) {
        my ($location, $offered, $selected) = @$_;
        my ($client) = pair($location, $offered ? (headers => ['Sec-WebSocket-Protocol' => $offered]) : ());
        is($client->header('Sec-WebSocket-Protocol'), $selected, $offered // 'none');
        is($client->close(1000), 'close 1000');
    }
};

case 'the service closes: what it sent, then 1000' => sub {
    for my $location ('/tcp', '/unix') {
        my ($client, $peer) = pair($location);
        $peer->send('z' x 100_000);
        $peer->close;
        my $got = '';
        is($client->server_close, 'close 1000');
        $got .= $_->{payload} for @{$client->{skipped}};
        is($got, 'z' x 100_000);
    }
};

case 'a service that ends its side still gets what the client is about to send' => sub {
    my ($client, $peer) = pair('/big', rcvbuf => 65_536);
    my $octets = join '', map { pack 'N', $_ * 2654435761 % 4294967296 } 1 .. 1_048_576;
    my $frame = binary($octets);
    # In the middle of a message.
    $client->send(substr $frame, 0, 100_000, '');
    $peer->read(10_000);
    $peer->send('that is all')->fin;
    is(collect($client, 11), 'that is all');
    $client->send($frame);
    my $got = 0;
    my $md5 = Digest::MD5->new;
    $md5->add(substr $octets, 0, 10_000);
    my $rest = length($octets) - 10_000;
    while ($got < $rest) {
        $client->write_some;
        next if $peer->silent(0.001);
        $peer->more or last;
        $got += length $peer->{in};
        $md5->add($peer->{in});
        $peer->{in} = '';
    }
    is($md5->hexdigest, md5_hex($octets), 'the whole message');
    is(describe($client->frame), 'close 1000', 'then the Close');
    $client->send(text('a last word'), close_frame(1000));
    is($peer->rest, 'a last word', 'and what comes before the answer to it');
    is($peer->how, 'eof');
    is($client->end, 'eof');
};

case 'what the client sent before its Close reaches a slow service' => sub {
    my $slow = Ws::Service->listen(unix => $ngx->prefix . '/slow.sock');
    my $client = Ws::Client->open($ngx->port, '/slow');
    my $peer = $slow->accept;
    # More than the socket holds, less than what stops the client from being read.
    my $count = 4;
    $client->send(binary('x' x 60_000)) for 1 .. $count;
    $client->send(close_frame(1000));
    is(describe($client->frame), 'close 1000');
    is($client->end, 'eof');
    is(length $peer->rest, 60_000 * $count);
    is($peer->how, 'eof');
    $slow->close;
};

case 'the service is lost: 1014' => sub {
    my ($client, $peer) = pair('/tcp');
    $peer->send('a');
    is(collect($client, 1), 'a');
    $peer->reset;
    like($client->server_close, qr/^close 1014 .*lost/);
};

case 'the client is gone: so is the connection' => sub {
    my ($client, $peer) = pair('/tcp');
    $client->send(binary('last words'), close_frame(1000));
    is($peer->rest, 'last words');
    is($peer->how, 'eof');

    my ($broken, $other) = pair('/tcp');
    $broken->reset;
    is($other->rest, '');
    is($other->how, 'eof');

    my ($silent, $third) = pair('/tcp');
    $silent->fin;
    is($third->rest, '');
    is($third->how, 'eof');
};

case 'a stalled service pauses its client and nobody else' => sub {
    my ($client, $peer) = pair('/big');
    my ($worker) = $ngx->workers;
    my $before = Ws::Process::status_field($worker, 'VmRSS');
    my $sent = $client->send_until_stalled(binary('s' x 65_536), 0.3);
    cmp_ok($sent, '<', 20_000_000, "stalled after $sent octets");
    grew_less($worker, $before, 1024, 'the worker');
    my ($other, $lively) = pair('/tcp');
    $other->send(binary('hi'));
    is($lively->read(2), 'hi');
    is($other->close(1000), 'close 1000');
    # The Ping is answered when the service takes octets again.
    $client->send(ping('p'));
    my $got = 0;
    while ($got < $sent) {
        $got += length $peer->read(1) if !length $peer->{in};
        $got += length $peer->{in};
        $peer->{in} = '';
        $client->write_some;
    }
    $client->flush;
    $client->reset;
    $peer->rest;
};

case 'a stalled client pauses its service and nobody else' => sub {
    my ($client, $peer) = pair('/tcp', rcvbuf => 4096);
    my ($worker) = $ngx->workers;
    my $before = Ws::Process::status_field($worker, 'VmRSS');
    $client->reading(0);
    my $sent = 0;
    my $quiet = 0;
    while ($quiet < 30) {
        my $count = $peer->send_some('s' x 65_536);
        $sent += $count;
        $quiet = $count ? 0 : $quiet + 1;
        select undef, undef, undef, 0.01 if !$count;
    }
    cmp_ok($sent, '<', 20_000_000, "stalled after $sent octets");
    grew_less($worker, $before, 1024, 'the worker');
    my ($other, $lively) = pair('/tcp');
    $lively->send('hi');
    is(collect($other, 2), 'hi');
    is($other->close(1000), 'close 1000');
    $client->reading(1);
    is(length collect($client, $sent), $sent, 'all of it arrives');
    is($client->close(1000), 'close 1000');
};

case 'too big' => sub {
    my ($client, $peer) = pair('/limit');
    $client->send(substr binary('x' x 1_048_577), 0, 20);
    like($client->server_close, qr/^close 1009/);
};

$_->close for $service, $unix;
$ngx->stop;
done_testing();
