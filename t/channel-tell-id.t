# Which of several channels a message is from: websocket_channel_tell_id, on every transport that can tell.

use strict;
use warnings;

use lib 't/lib';
use JSON::PP qw(decode_json);
use Test::More;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Nginx;

my $ngx = Ws::Nginx->start(workers => 2, http => 'websocket_channel_zone 4m;', server => <<'SERVER');
    websocket_channel_start oldest;
    location = /pub   { websocket_channel $arg_id mode=pub; websocket_channel_history length=$arg_keep; }
    location = /on    { websocket_channel $arg_a $arg_b; websocket_channel_tell_id on; }
    location = /event { websocket_channel $arg_a $arg_b; websocket_channel_tell_id event; }
    location = /off   { websocket_channel $arg_a $arg_b; }
    location = /poll  { websocket_channel $arg_a $arg_b; websocket_channel_tell_id on; websocket_channel_transports poll multipart; }
    location = /any   { websocket_channel $arg_a $arg_b; websocket_channel_tell_id on; websocket_origin any; }
    location = /untold { websocket_channel $arg_a $arg_b; websocket_origin any; }
    location = /name  { websocket_channel "rö $arg_x"; websocket_channel_tell_id on; }
    location = /odd   { websocket_channel "rö $arg_x" mode=pub; }
    location ~ "^/octets/sub/(?<octets>.*)" { websocket_channel $octets; websocket_channel_tell_id on; }
    location ~ "^/octets/pub/(?<octets>.*)" { websocket_channel $octets mode=pub; }
SERVER
my $port = $ngx->port;

# stored(name): two channels with a message each.
sub stored {
    my ($name) = @_;

    publish($port, "/pub?id=$name-a&keep=10", 'from a');
    publish($port, "/pub?id=$name-b&keep=10", 'from b', 'X-EventSource-Event' => 'named');
    return "a=$name-a&b=$name-b";
}

case 'WebSocket' => sub {
    my $arguments = stored('ws');
    my $meta = ['Sec-WebSocket-Protocol' => 'ws+meta.nchan'];
    my $client = Ws::Client->open($port, "/on?$arguments", headers => $meta);
    like($client->text, qr/^id: \d+:\d+,\d+:\d+\nchannel: ws-a\n\nfrom a$/);
    like($client->text, qr/^id: \d+:\d+,\d+:\d+\nchannel: ws-b\n\nfrom b$/);
    publish($port, '/pub?id=ws-a&keep=10', '{}', 'Content-Type' => 'application/json');
    like($client->text, qr/^id: \S+\ncontent-type: application\/json\nchannel: ws-a\n\n\{\}$/);
    my $off = Ws::Client->open($port, "/off?$arguments", headers => $meta);
    like($off->text, qr/^id: \S+\n\nfrom a$/, 'off: not where nobody asks for it');
    my $plain = Ws::Client->open($port, "/on?$arguments");
    is($plain->text, 'from a', 'without a subprotocol there is no place for it');
    my $v1 = Ws::Client->open($port, "/on?$arguments", headers => ['Sec-WebSocket-Protocol' => 'channels.v1']);
    $v1->send(text('{"op":"subscribe"}'));
    $v1->text;
    is_deeply([map { my $message = decode_json($v1->text); "$message->{channel} $message->{data}" } 1 .. 2], ['ws-a from a', 'ws-b from b']);
};

case 'EventSource' => sub {
    my $arguments = stored('es');
    my $read = sub {
        my ($path) = @_;
        my $stream = Ws::Client->connect(port => $port);
        $stream->send(request_text('GET', "$path?$arguments", Accept => 'text/event-stream'));
        $stream->wait_until(sub { $stream->{in} =~ /from b\n\n/ }, 'two events');
        return [$stream->{in} =~ /^(id: \S+\n(?:event: .*\n)?(?:channel: .*\n)?data: .*\n)\n/mg];
    };
    my $strip = sub { [map { s/^id: \S+\n//r } @{$read->($_[0])}] };
    is_deeply($strip->('/on'), ["channel: es-a\ndata: from a\n", "event: named\nchannel: es-b\ndata: from b\n"]);
    is_deeply($strip->('/event'), ["event: es-a\ndata: from a\n", "event: named\ndata: from b\n"]);
    is_deeply($strip->('/off'), ["data: from a\n", "event: named\ndata: from b\n"]);
};

case 'long-poll, poll and multipart' => sub {
    my $arguments = stored('lp');
    my $first = request($port, 'GET', "/on?$arguments");
    is("@{$first->{headers}{'x-channel-id'}} $first->{body}", 'lp-a from a');
    my $next = request($port, 'GET', "/on?$arguments", 'If-None-Match' => $first->{headers}{etag}[0]);
    is("@{$next->{headers}{'x-channel-id'}} $next->{body}", 'lp-b from b');
    is(request($port, 'GET', "/off?$arguments")->{headers}{'x-channel-id'}, undef);
    is(request($port, 'GET', "/poll?$arguments")->{headers}{'x-channel-id'}[0], 'lp-a');
    my $parts = Ws::Client->connect(port => $port);
    $parts->send(request_text('GET', "/poll?$arguments", Accept => 'multipart/mixed'));
    $parts->wait_until(sub { $parts->{in} =~ /from b\r\n/ }, 'two parts');
    is_deeply([$parts->{in} =~ /^X-Channel-Id: (\S+)\r\n\r\n(?:from \w)\r\n/mg], ['lp-a', 'lp-b']);
};

case 'a page of another origin may read the header' => sub {
    my $arguments = stored('page');
    my %exposed = map {
        $_ => request($port, 'GET', "/$_?$arguments", Origin => 'https://page.example')->{headers}{'access-control-expose-headers'}[0] // ''
    } qw(any untold);
    like($exposed{any}, qr/(?:^|, )X-Channel-Id(?:,|$)/);
    unlike($exposed{untold}, qr/X-Channel-Id/);
};

case 'an id that a header cannot have' => sub {
    publish($port, '/odd?x=1%0d%0ax', 'x');
    is(request($port, 'GET', '/name?x=1%0d%0ax')->{headers}{'x-channel-id'}[0], 'r%C3%B6%201%250d%250ax');
};

case 'ids that would be something else on the wire' => sub {
    publish($port, '/pub?id=gap&keep=1', 'no gap');
    publish($port, '/octets/pub/a%ff', 'not UTF-8', 'Content-Type' => "text/plain; x=\xff");
    my $stream = Ws::Client->connect(port => $port);
    $stream->send(request_text('GET', '/event?a=gap&b=none', Accept => 'text/event-stream'));
    $stream->wait_until(sub { $stream->{in} =~ /data: no gap\n\n/ }, 'the event');
    like($stream->{in}, qr/^channel: gap\ndata: no gap\n/m);
    unlike($stream->{in}, qr/^event:/m, 'a channel called "gap" loses nothing');
    # text() dies of what is not UTF-8, as a browser closes the connection.
    my $client = Ws::Client->open($port, '/octets/sub/a%ff', headers => ['Sec-WebSocket-Protocol' => 'ws+meta.nchan']);
    like($client->text, qr/^content-type: text\/plain; x=\xef\xbf\xbd\nchannel: a\xef\xbf\xbd\n\nnot UTF-8/m);
};

case 'a gap' => sub {
    publish($port, '/pub?id=gap-a&keep=1', '1');
    my $first = request($port, 'GET', '/on?a=gap-a&b=gap-b');
    publish($port, '/pub?id=gap-a&keep=1', $_) for 2 .. 5;
    my ($position) = $first->{headers}{etag}[0] =~ /"(.*)"/;
    my $client = Ws::Client->open($port, "/on?a=gap-a&b=gap-b&last_event_id=$position", headers => ['Sec-WebSocket-Protocol' => 'ws+meta.nchan']);
    like($client->text, qr/^gap: 3\nchannel: gap-a\nid: /);
    like($client->text, qr/^id: \S+\nchannel: gap-a\n\n5$/);
};

done_testing();
