# Publishing by HTTP: methods, statuses, the forms of channel info, limits, origins.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;

my $ngx = Ws::Nginx->start(workers => 2, http => 'websocket_channel_zone 1m;', server => <<'SERVER');
    client_body_buffer_size 1k;
    client_max_body_size 4m;
    location = /pub    { websocket_channel $arg_id mode=pub; }
    location = /pubsub { websocket_channel $arg_id mode=pubsub; }
    location = /sub    { websocket_channel $arg_id; websocket_channel_start oldest; }
    location = /small  { websocket_channel $arg_id mode=pub; client_max_body_size 10; }
    location = /both   { websocket_channel $arg_a $arg_b mode=pub; }
    location = /brief  { websocket_channel $arg_id mode=pub; websocket_channel_history length=$arg_length time=$arg_time; }
    location = /denied { websocket_channel x mode=pub; deny all; }
    location = /any    { websocket_channel $arg_id mode=pubsub; websocket_origin any; }
    location = /here   { websocket_channel $arg_id mode=pubsub; websocket_origin same https://app.example.com; }
SERVER

my $port = $ngx->port;

sub body_of {
    my ($id) = @_;

    my $client = Ws::Client->open($port, "/sub?id=$id");
    return $client->message->{payload};
}

case 'POST and PUT' => sub {
    for my $method (qw(POST PUT)) {
        my $response = request($port, $method, "/pub?id=$method", body => "by $method");
        is($response->{status}, 202, 'nobody is there');
        is(body_of($method), "by $method");
    }
    is(request($port, 'POST', '/pub?id=empty', body => '')->{status}, 202);
    is(body_of('empty'), '', 'an empty message');
    is(request($port, 'POST', '/pub?id=bodyless')->{status}, 202);
    is(body_of('bodyless'), '');
};

case 'a body in a file, and a chunked one' => sub {
    my $body = join '', map { chr(33 + $_ % 90) } 1 .. 200_000;
    publish($port, '/pub?id=file', $body);
    ok(body_of('file') eq $body);
    my $client = Ws::Client->connect(port => $port);
    $client->send("POST /pub?id=chunked HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
    $client->send("3\r\nabc\r\n");
    $client->send("5\r\ndefgh\r\n0\r\n\r\n");
    is($client->response->{status}, 202);
    is(body_of('chunked'), 'abcdefgh');
};

case 'channel info, byte for byte' => sub {
    is(request($port, 'GET', '/pub?id=info')->{status}, 404, 'no channel');
    publish($port, '/pub?id=info', 'a');
    my $response = publish($port, '/pub?id=info', 'b');
    my ($id) = $response->{body} =~ /last message id: (\d+:2)$/;
    ok($id);
    my %form = (
        ''                 => ['text/plain', "queued messages: 2\r\nlast requested: -1 sec. ago\r\n"
            . "active subscribers: 0\r\nlast message id: $id"],
        'application/json' => ['text/json', qq({"messages": 2, "requested": -1, "subscribers": 0, "last_message_id": "$id" })],
        'text/xml'         => ['text/xml', join "\r\n", '<?xml version="1.0" encoding="UTF-8" ?>', '<channel>',
            '  <messages>2</messages>', '  <requested>-1</requested>', '  <subscribers>0</subscribers>',
            "  <last_message_id>$id</last_message_id>", '</channel>'],
        'text/yaml'        => ['text/yaml', join '', map { "$_\r\n" } '---', 'messages: 2', 'requested: -1',
            'subscribers: 0', qq(last_message_id: "$id"), ''],
    );
    for my $accept (sort keys %form) {
        my $got = request($port, 'GET', '/pub?id=info', $accept ? (Accept => $accept) : ());
        is($got->{status}, 200);
        is($got->{headers}{'content-type'}[0], $form{$accept}[0]);
        is($got->{body}, $form{$accept}[1]);
    }
    my $head = request($port, 'HEAD', '/pub?id=info', Accept => 'text/json');
    is($head->{status}, 200);
    is($head->{headers}{'content-length'}[0], length $form{'application/json'}[1]);
    is($head->{body}, '');
};

case 'DELETE' => sub {
    publish($port, '/pub?id=gone', 'x');
    my $response = request($port, 'DELETE', '/pub?id=gone');
    is($response->{status}, 200);
    like($response->{body}, qr/^queued messages: 1\r\n/);
    is(request($port, 'DELETE', '/pub?id=gone')->{status}, 404);
    my ($first) = publish($port, '/pub?id=gone', 'x')->{body} =~ /id: (\d+:\d+)/;
    like($first, qr/:1$/, 'another channel begins anew');
};

case 'other methods: 405 with Allow, and the body is no request' => sub {
    for my $row (['PATCH', '/pub?id=x'], ['PROPFIND', '/pubsub?id=x'], ['POST', '/sub?id=x'], ['DELETE', '/sub?id=x']) {
        my ($method, $path) = @$row;
        my $client = Ws::Client->connect(port => $port);
        my $inner = "GET /pub?id=smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
        $client->send(request_text($method, $path, body => $inner));
        is($client->response->{status}, 405, "$method $path");
        like($client->header('allow'), qr/^GET, HEAD,.*OPTIONS$/);
        is($client->{in}, '');
        $client->send(request_text('GET', '/pub?id=nobody'));
        is(eval { $client->response->{status} } // 'closed', 404, 'the connection goes on with the next request');
    }
};

case 'OPTIONS' => sub {
    my $plain = request($port, 'OPTIONS', '/sub?id=x');
    is($plain->{status}, 204);
    is($plain->{headers}{allow}[0], 'GET, HEAD, OPTIONS');
    my $preflight = request($port, 'OPTIONS', '/any?id=x', Origin => 'https://app.example.com',
        'Access-Control-Request-Method' => 'POST');
    is($preflight->{status}, 204);
    is($preflight->{headers}{'access-control-allow-origin'}[0], 'https://app.example.com');
    like($preflight->{headers}{'access-control-allow-methods'}[0], qr/\bPOST\b/);
    like($preflight->{headers}{'access-control-allow-headers'}[0], qr/\bLast-Event-ID\b/);
};

case 'origins' => sub {
    is(request($port, 'POST', '/pub?id=o', Origin => 'https://evil.example', body => 'x')->{status}, 403);
    is(request($port, 'GET', '/sub?id=o', Origin => 'https://evil.example')->{status}, 403);
    is(request($port, 'GET', '/pub?id=o')->{status}, 404, 'nothing was published');
    my $allowed = request($port, 'POST', '/here?id=o', Origin => 'https://app.example.com', body => 'x');
    is($allowed->{status}, 202);
    is($allowed->{headers}{'access-control-allow-origin'}[0], 'https://app.example.com');
};

case 'limits' => sub {
    is(request($port, 'POST', '/small?id=x', body => 'x' x 11)->{status}, 413);
    is(request($port, 'POST', '/small?id=x', body => 'x' x 10)->{status}, 202);
    is(request($port, 'POST', '/pub?id=x', body => 'x' x 3_000_000)->{status}, 507);
    is(request($port, 'POST', '/pub?id=x', body => 'still works')->{status}, 202);
    is(request($port, 'POST', '/denied', body => 'x')->{status}, 403);
    my $client = Ws::Client->connect(port => $port);
    $client->send("POST /small?id=x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n");
    is($client->response->{status}, 413, 'before the body comes');
};

case 'several ids: to each of them' => sub {
    publish($port, '/both?a=b1&b=b2', 'to both');
    is(body_of($_), 'to both') for qw(b1 b2);
};

case 'history with variables' => sub {
    publish($port, '/brief?id=h&length=2&time=1h', $_) for 1 .. 5;
    is(body_of('h'), 4);
    is(request($port, 'POST', '/brief?id=h&length=x&time=1h', body => 'x')->{status}, 500);
    $ngx->await_log(qr/"websocket_channel_history" cannot be "x"/);
    publish($port, '/brief?id=t&length=0&time=300ms', 'soon gone');
    await('the message to expire', sub {
        request($port, 'GET', '/pub?id=t')->{body} !~ /queued messages: 1/;
    });
};

case 'text that is not UTF-8 is binary' => sub {
    publish($port, '/pub?id=latin', "caf\xe9");
    my $client = Ws::Client->open($port, '/sub?id=latin');
    is($client->message->{opcode}, BINARY);
};

case 'the message keeps its content type' => sub {
    publish($port, '/pub?id=type', '{}', 'Content-Type' => 'application/json; x=y');
    is(request($port, 'GET', '/sub?id=type')->{headers}{'content-type'}[0], 'application/json; x=y');
};

case 'an unfinished body publishes nothing' => sub {
    my $client = Ws::Client->connect(port => $port);
    $client->send("POST /pub?id=half HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf");
    $client->flush;
    $client->abandon;
    await('nginx to notice', sub { $ngx->access_log =~ m{POST /pub\?id=half} });
    is(request($port, 'GET', '/pub?id=half')->{status}, 404);
};

$ngx->stop;
done_testing();
