# Channels behind internal redirects: what the client sent is what is done, with its body.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;

my $ngx = Ws::Nginx->start(workers => 2, http => <<'HTTP', server => <<'SERVER');
    server {
        listen unix:%%PREFIX%%/backend.sock;
        location / {
            add_header X-Accel-Redirect $http_x_go always;
            add_header Content-Type text/x-backend;
            return 200 "by the backend";
        }
    }
HTTP
    client_body_buffer_size 1k;
    location /accelerated { proxy_pass http://unix:%%PREFIX%%/backend.sock:/; }
    location /masked      { proxy_pass http://unix:%%PREFIX%%/backend.sock:/; proxy_method GET; proxy_pass_request_body off; }
    location /streamed    {
        proxy_pass http://unix:%%PREFIX%%/backend.sock:/;
        proxy_request_buffering off;
        proxy_http_version 1.1;
    }
    location /ignored     {
        proxy_pass http://unix:%%PREFIX%%/backend.sock:/;
        proxy_ignore_headers X-Accel-Redirect;
    }
    location = /pub       { internal; websocket_channel $arg_id mode=pub; }
    location = "/a pub"   { internal; websocket_channel $arg_id mode=pub; }
    location = /pubsub    { internal; websocket_channel $arg_id mode=pubsub; }
    location = /open      { websocket_channel $arg_id mode=pub; }
    location = /info      { websocket_channel $arg_id mode=info; }
    location = /sub       { websocket_channel $arg_id; websocket_channel_start oldest; websocket_channel_transports poll websocket; }
    location = /group     { internal; websocket_channel_group g; websocket_channel_group_info; }
    location = /status    { internal; websocket_status; }
    location @pub         { websocket_channel $arg_id mode=pub; }
    location /rewritten   { internal; rewrite ^ /pub last; }

    location = /named     { error_page 418 = @pub; return 418; }
    location = /page      { error_page 418 = /pub?id=$arg_id; return 418; }
    location = /tried     { try_files /nothing @pub; }
    location = /small     { client_max_body_size 10; error_page 413 = @pub; return 200; }
    location = /denied    { internal; deny all; error_page 403 = /pub?id=$arg_id; }
    location = /fallback  { error_page 418 = @fallback; return 418; }
    location @fallback    { proxy_pass http://unix:%%PREFIX%%/backend.sock; }
SERVER
my $port = $ngx->port;

sub go { my ($method, $path, $to, @rest) = @_; return request($port, $method, $path, 'X-Go' => $to, @rest) }

sub messages { return request($port, 'GET', "/info?id=$_[0]")->{body} =~ /^queued messages: (\d+)\r/ ? $1 : undef }

sub newest { return request($port, 'GET', "/sub?id=$_[0]&last_event_id=x")->{body} }

case 'X-Accel-Redirect to a publisher' => sub {
    for my $path (qw(/accelerated /masked)) {
        for my $method (qw(POST PUT)) {
            my $id = "$method$path";
            my $response = go($method, $path, "/pub?id=$id", body => "by $method", 'Content-Type' => 'text/x-mine');
            is($response->{status}, 202, "$method $path");
            like($response->{body}, qr/^queued messages: 1\r/);
            is($response->{headers}{'content-type'}[0], 'text/plain');
            my $got = request($port, 'GET', "/sub?id=$id");
            is($got->{body}, "by $method");
            is($got->{headers}{'content-type'}[0], 'text/x-mine', 'the type is the one of the client');
        }
    }
    my $large = join '', map { chr(33 + $_ % 90) } 1 .. 200_000;
    is(go('POST', '/accelerated', '/pub?id=large', body => $large)->{status}, 202, 'a body in a file');
    ok(newest('large') eq $large);
    is(go('POST', '/accelerated', '/pub?id=empty', body => '')->{status}, 202);
    is(messages('empty'), 1);
    is(go('POST', '/accelerated', '/a%20pub?id=escaped', body => 'x')->{status}, 202, 'escaped');
    is(messages('escaped'), 1);
    is(go('POST', '/accelerated', '/rewritten?id=rewritten', body => 'x')->{status}, 202, 'rewritten on its way');
    is(messages('rewritten'), 1);
    is(go('POST', '/accelerated?id=by-name', '@pub', body => 'x')->{status}, 202, 'a named location');
    is(messages('by-name'), 1);
    my $here = Ws::Client->open($port, '/sub?id=live');
    is(go('POST', '/accelerated', '/pub?id=live', body => 'live')->{status}, 201);
    is($here->text, 'live');
};

case 'chunked, and several on one connection' => sub {
    my $client = Ws::Client->connect(port => $port);
    for my $n (1 .. 3) {
        $client->send("POST /accelerated HTTP/1.1\r\nHost: localhost\r\nX-Go: /pub?id=kept\r\nTransfer-Encoding: chunked\r\n\r\n"
            . "3\r\nabc\r\n1\r\n$n\r\n0\r\n\r\n");
        is($client->response->{status}, 202);
        is(messages('kept'), $n);
    }
};

case 'other methods' => sub {
    is(go('GET', '/accelerated', '/pub?id=live')->{status}, 200, 'GET');
    is(go('HEAD', '/accelerated', '/pub?id=live')->{status}, 200, 'HEAD');
    is(messages('live'), 1);
    is(go('PATCH', '/accelerated', '/pub?id=live', body => 'x')->{status}, 405, 'PATCH');
    is(go('OPTIONS', '/accelerated', '/pub?id=live')->{status}, 204, 'OPTIONS');
    is(go('DELETE', '/accelerated', '/pubsub?id=live')->{status}, 405, 'DELETE where it is not allowed');
    is(messages('live'), 1);
    is(go('DELETE', '/accelerated', '/pub?id=live')->{status}, 200, 'DELETE');
    is(messages('live'), undef);
    is(go('POST', '/accelerated', '/info?id=live', body => 'x')->{status}, 405, 'mode=info');
    is(go('POST', '/accelerated', '/sub?id=live', body => 'x')->{status}, 405, 'mode=sub');
    like(go('POST', '/accelerated', '/group?channels=7', body => '')->{body}, qr/7/, 'limits of a group');
    is(go('POST', '/accelerated', '/status', body => 'x')->{status}, 200, 'other locations of the module get a GET');
};

case 'a body that is gone' => sub {
    my $client = Ws::Client->connect(port => $port);
    $client->send("POST /streamed HTTP/1.1\r\nHost: localhost\r\nX-Go: /pub?id=streamed\r\nConnection: close\r\nContent-Length: 200000\r\n\r\n");
    $client->send('x' x 200_000);
    is($client->response->{status}, 500);
    $ngx->await_log(qr/nothing is published: the body of the request was passed on, dropped or never read/);
    is(messages('streamed'), undef);
    is(request($port, 'POST', '/small?id=small', body => 'x' x 1000)->{status}, 500, 'dropped, as it was too large');
    is(messages('small'), undef);
};

case 'error_page' => sub {
    is(request($port, 'POST', '/named?id=named', body => 'x' x 5000)->{status}, 202, 'a named location');
    is(messages('named'), 1);
    is(request($port, 'POST', '/page?id=named', body => 'x')->{status}, 200, 'for a URI nginx makes a GET of it');
    is(request($port, 'DELETE', '/page?id=named')->{status}, 200);
    is(messages('named'), 1);
    is(go('POST', '/accelerated', '/denied?id=named', body => 'x')->{status}, 200, 'what was refused is not done elsewhere');
    is(go('DELETE', '/accelerated', '/denied?id=named')->{status}, 200);
    is(messages('named'), 1);
    is(go('POST', '/fallback', '/pub?id=named', body => 'x')->{status}, 202, 'X-Accel-Redirect after an error page');
    is(go('POST', '/fallback', '/a%20pub?id=named', body => 'x')->{status}, 202);
    is(messages('named'), 3);
};

case 'try_files, and a header that is ignored' => sub {
    is(request($port, 'POST', '/tried?id=tried', body => 'x')->{status}, 202);
    is(messages('tried'), 1);
    is(go('POST', '/ignored', '/pub?id=tried', body => 'x')->{body}, 'by the backend');
    is(messages('tried'), 1);
};

case 'a handshake' => sub {
    my $client = Ws::Client->connect(port => $port);
    is($client->handshake('/accelerated', headers => ['X-Go' => '/pubsub?id=ws'])->{status}, 101);
    $client->send(text('hello'));
    is($client->text, 'hello');
    is($client->close(1000), 'close 1000');
};

like($ngx->access_log, qr{POST /accelerated}, 'the log has the method');
$ngx->stop;
done_testing();
