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
    location = /split  { websocket_channel $arg_id $arg_other mode=pub; websocket_channel_split ,; websocket_channel_group $arg_group; }
    location = /info   { websocket_channel $arg_id $arg_other mode=info; websocket_channel_group $arg_group; }
    location = /who    { websocket_channel $arg_id; websocket_channel_presence $arg_name; websocket_channel_delete on; }
    location = /keep   { websocket_channel $arg_id mode=pub; websocket_channel_delete off; }
    location = /clear  { websocket_channel $arg_id mode=pubsub; websocket_channel_delete on; }
    location = /brief  { websocket_channel $arg_id mode=pub; websocket_channel_history length=$arg_length time=$arg_time; }
    location = /denied { websocket_channel x mode=pub; deny all; }
    location = /any    { websocket_channel $arg_id mode=pubsub; websocket_origin any; }
    location = /group  { websocket_channel_group $arg_name; websocket_channel_group_info; }
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

# A condition cannot be about what has been done already, and the answer must not say that it has not been.
case 'conditions of requests that change something' => sub {
    for my $condition (['If-Match' => '"x"'], ['If-None-Match' => '*'], ['If-Unmodified-Since' => 'Wed, 27 Jan 2016 19:47:49 GMT']) {
        is(request($port, $_, '/pub?id=condition', @$condition, body => 'x')->{status}, 202, "$_ @$condition") for qw(POST PUT);
        is(request($port, 'DELETE', '/pub?id=condition', @$condition)->{status}, 200, "DELETE @$condition");
        is(request($port, 'GET', '/pub?id=condition')->{status}, 404);
        for my $method (qw(POST DELETE)) {
            my $group = request($port, $method, '/group?name=condition&channels=7', @$condition);
            is($group->{status}, 200, "$method of a group, @$condition");
            like($group->{body}, qr/max channels: 7/);
        }
    }
};

sub queued { return request($port, 'GET', $_[0])->{body} =~ /^queued messages: (\d+)\r/ ? $1 : undef }

case 'DELETE where it is allowed' => sub {
    my %allow = ('/pub' => 1, '/pubsub' => 0, '/sub' => 0, '/who' => 0, '/keep' => 0, '/clear' => 1, '/info' => 0);
    for my $path (sort keys %allow) {
        publish($port, '/pub?id=kept', 'x');
        my $response = request($port, 'DELETE', "$path?id=kept&other=kept");
        is($response->{status}, $allow{$path} ? 200 : 405, $path);
        my $options = request($port, 'OPTIONS', "$path?id=kept", Origin => "http://localhost");
        for my $list ($options->{headers}{allow}[0], $options->{headers}{'access-control-allow-methods'}[0],
            $allow{$path} ? () : $response->{headers}{allow}[0])
        {
            is($list =~ /\bDELETE\b/ ? 1 : 0, $allow{$path}, $list);
        }
        is(request($port, 'GET', '/pub?id=kept')->{status}, $allow{$path} ? 404 : 200);
        request($port, 'DELETE', '/pub?id=kept');
    }
};

case 'mode=info: what is known, and nothing else' => sub {
    is(request($port, 'GET', '/info?id=known&other=known')->{status}, 404);
    publish($port, '/pub?id=known', 'x');
    my $here = Ws::Client->open($port, '/who?id=known&name=anna');
    my $info = request($port, 'GET', '/info?id=known&other=known', Accept => 'text/json');
    like($info->{body}, qr/"messages": 1, "requested": 0, "subscribers": 1,/);
    like(request($port, 'GET', '/info?id=known&other=known&presence')->{body}, qr/"id": "anna", "connections": 1/);
    is(request($port, 'HEAD', '/info?id=known&other=known')->{status}, 200);
    for my $method (qw(POST PUT DELETE PATCH)) {
        my $response = request($port, $method, '/info?id=known&other=known', body => 'forged');
        is($response->{status}, 405, $method);
        is($response->{headers}{allow}[0], 'GET, HEAD, OPTIONS');
    }
    is(request($port, 'OPTIONS', '/info?id=known')->{headers}{allow}[0], 'GET, HEAD, OPTIONS');
    is(Ws::Client->connect(port => $port)->handshake('/info?id=known&other=known')->{status}, 406, 'no WebSocket');
    is(request($port, 'GET', '/info?id=known&other=known', Accept => 'text/event-stream')->{status}, 200, 'no subscriber');
    is(request($port, 'GET', '/info?id=known&other=known', Origin => 'https://evil.example')->{status}, 403);
    is(queued('/info?id=known&other=known'), 1);
    is($here->close(1000), 'close 1000');
};

case 'an id that is repeated is one channel' => sub {
    my $here = Ws::Client->open($port, '/sub?id=r');
    for my $path ('/split?id=r,r,r&other=r', '/both?a=r&b=r', '/split?id=r&other=r', '/split?id=r,r&other=r,r') {
        my $response = publish($port, $path, $path);
        is($here->text, $path, 'once');
        like($response->{body}, qr/active subscribers: 1\r/, 'and counted once');
    }
    is(queued('/pub?id=r'), 4);
    is(queued('/both?a=r&b=r'), 4, 'info does not add it up');
    publish($port, '/split?id=r,R&other=s', 'case');
    is(queued('/pub?id=R'), 1, 'another id by its case');
    is(queued('/pub?id=s'), 1);
    is($here->text, 'case');
    publish($port, '/split?id=r,r&other=r&group=g', 'group');
    is(queued('/pub?id=r'), 5, 'another channel by its group');
    is(queued('/info?id=r&other=r&group=g'), 1);
    my $client = Ws::Client->open($port, '/split?id=r,r&other=r');
    $client->send(text('by WebSocket'));
    like($client->text, qr/^queued messages: 6\r/);
    is($here->text, 'by WebSocket');
    is(request($port, 'DELETE', '/both?a=r&b=r')->{status}, 200);
    my @many = map { "r" } 1 .. 2000;
    is(request($port, 'POST', '/split?other=r&id=' . join(',', @many), body => 'x')->{status}, 202, 'however often');
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
