# The variables, as log_format and other modules see them.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;

my $ngx = Ws::Nginx->start(http => <<'EOT', server => <<'EOT2');
    log_format ws "$uri status=$status endpoint=[$websocket_endpoint] protocol=[$websocket_protocol] "
        "messages=[$websocket_messages_in/$websocket_messages_out] bytes=[$websocket_bytes_in/$websocket_bytes_out] "
        "close=[$websocket_close_code/$websocket_closed_by] pid=[$websocket_exec_pid] exit=[$websocket_exec_status] "
        "channel=[$websocket_channel_id] id=[$websocket_message_id] sent=$bytes_sent time=$request_time session=$websocket_session_time";
    access_log %%PREFIX%%/access.log ws;
    map $request_uri $denied  { default none; "~denied=(?<denied_one>\w*)" $denied_one; }
    limit_req_zone $websocket_channel_id zone=each:1m rate=1r/m;
    server {
        listen unix:%%PREFIX%%/backend.sock;
        location / { add_header X-Told $http_x_channel; return 204; }
    }
    map $request_uri $refused { default none; "~refused=(?<refused_one>\w*)" $refused_one; }
EOT
    websocket_close_timeout 500ms;
    location /cat   { websocket_exec /bin/cat; websocket_exec_format messages; websocket_protocols chat; }
    location /exit  { websocket_exec %%PREFIX%%/bin/exit $arg_status; }
    location /none  { websocket_exec %%PREFIX%%/bin/none; }
    location /plain { return 200 "[$websocket_endpoint][$websocket_protocol][$websocket_messages_in][$websocket_close_code]"; }
    location = /channel {
        websocket_channel v mode=pubsub;
        websocket_channel_transports websocket eventsource chunked multipart longpoll;
        websocket_channel_start oldest;
        add_header X-Transport "[$websocket_channel_transport]" always;
        auth_request /access;
        websocket_channel_join_request /join;
        websocket_channel_publish_request /publish;
    }
    location = /channel/raw  { websocket_channel v; websocket_channel_transports raw; add_header X-Transport "[$websocket_channel_transport]"; }
    location = /channel/poll { websocket_channel v; websocket_channel_transports poll; add_header X-Transport "[$websocket_channel_transport]"; }
    location = /channel/pub  { websocket_channel v mode=pub; websocket_channel_publish_request /publish; }
    location ~ ^/room/(\w+)$ {
        websocket_channel $1 also-$arg_b publish=to-$1;
        auth_request /names;
        auth_request_set $told $upstream_http_x_told;
        add_header X-Told $told always;
    }
    location = /names  { internal; proxy_pass http://unix:%%PREFIX%%/backend.sock; proxy_set_header X-Channel $websocket_channel_id; }
    location = /split  { websocket_channel $arg_ids; websocket_channel_split ,; add_header X-Told $websocket_channel_id always; deny all; }
    location = /rare   { websocket_channel $arg_id mode=pub; limit_req zone=each; }
    location = /access  { internal; if ($websocket_channel_transport = $denied) { return 403; } return 204; }
    location = /join    { internal; if ($websocket_channel_transport = $refused) { return 422; } return 204; }
    location = /publish { internal; if ($websocket_channel_transport = $refused) { return 423; } return 304; }
EOT2
$ngx->program('exit', "#!/bin/sh\necho hello\nexit \$1\n");

sub logged {
    my ($uri) = @_;

    my $line = $ngx->await_access_log(qr/^\Q$uri\E status.*\n/m);
    return { $line =~ /(\w+)=\[?([^\]\s]*(?:signal \d+)?)\]?/g, line => $line };
}

case 'a session' => sub {
    my $client = Ws::Client->open($ngx->port, '/cat/one', headers => ['Sec-WebSocket-Protocol' => 'chat']);
    my ($pid) = $ngx->await_programs(1);
    $client->send(text('12345'), ping('not counted'), binary('123', fin => 0), cont('4567'));
    my @got = grep { $_->{opcode} != PONG } map { $client->frame } 1 .. 3;
    is($client->close(4321), 'close 4321');
    my $log = logged('/cat/one');
    is($log->{status}, 101);
    is($log->{endpoint}, 'exec');
    is($log->{protocol}, 'chat');
    is($log->{messages}, '2/2');
    is($log->{bytes}, '12/12');
    is($log->{close}, '4321/client');
    is($log->{pid}, $pid);
    is($log->{channel}, '-');
    is($log->{id}, '-');
    cmp_ok($log->{sent}, '>', 12, 'bytes_sent counts frames too');
    like($log->{session}, qr/^\d+\.\d{3}$/);
};

case 'a session in which nothing is said' => sub {
    my $client = Ws::Client->open($ngx->port, '/cat/silent');
    is($client->close(undef), 'close');
    my $log = logged('/cat/silent');
    is($log->{messages}, '0/0');
    is($log->{bytes}, '0/0');
    is($log->{protocol}, '-');
    like($log->{close}, qr{^(?:1005|-)/client$}, 'a Close without a code');
};

for my $row ([0, '1000', '0'], [3, '1011', '3']) {
    my ($status, $code, $exit) = @$row;
    case "a program that ends with $status" => sub {
        my $client = Ws::Client->open($ngx->port, "/exit/$status?status=$status");
        like($client->server_close, qr/^close $code/);
        my $log = logged("/exit/$status");
        is($log->{messages}, '0/1');
        is($log->{bytes}, '0/5');
        is($log->{close}, "$code/server");
        is($log->{exit}, $exit);
        like($log->{pid}, qr/^\d+$/);
    };
}

case 'a violation' => sub {
    my $client = Ws::Client->open($ngx->port, '/cat/violation');
    $client->send(text('x', rsv2 => 1));
    like($client->server_close, qr/^close 1002/);
    is(logged('/cat/violation')->{close}, '1002/server');
};

case 'a reset' => sub {
    my $client = Ws::Client->open($ngx->port, '/cat/reset');
    $ngx->await_programs(1);
    $client->reset;
    my $log = logged('/cat/reset');
    is($log->{status}, 101);
    like($log->{close}, qr{^(?:-|1006)/}, 'no code was sent or received');
};

case 'a handshake that failed' => sub {
    my $client = Ws::Client->connect(port => $ngx->port);
    is($client->handshake('/cat/refused', headers => ['Sec-WebSocket-Version' => 8])->{status}, 426);
    my $log = logged('/cat/refused');
    is($log->{status}, 426);
    is($log->{close}, '-/-');
    is($log->{pid}, '-');
    is($log->{exit}, '-');
    is($log->{session}, '-', 'it was never open');
};

case 'how long it was open' => sub {
    my $client = Ws::Client->connect(port => $ngx->port);
    # The request takes its time, which is no time of the session.
    $client->send("GET /cat/slow HTTP/1.1\r\nHost: localhost\r\n");
    select undef, undef, undef, 1.2;
    $client->send("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        . "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    is($client->response->{status}, 101);
    select undef, undef, undef, 0.3;
    is($client->close(1000), 'close 1000');
    my $log = logged('/cat/slow');
    cmp_ok($log->{session}, '>=', 0.25);
    cmp_ok($log->{time} - $log->{session}, '>=', 1, 'from the 101 on');
};

case 'a program that did not start' => sub {
    my $client = Ws::Client->connect(port => $ngx->port);
    is($client->handshake('/none')->{status}, 500);
    my $log = logged('/none');
    is($log->{status}, 500);
    is($log->{pid}, '-');
};

case 'elsewhere they are empty' => sub {
    my $client = Ws::Client->connect(port => $ngx->port);
    $client->send("GET /plain HTTP/1.1\r\nHost: localhost\r\n\r\n");
    is($client->response->{body}, '[][][][]');
};

my %ASKED = (
    eventsource => [Accept => 'text/event-stream'],
    chunked     => [TE => 'chunked'],
    multipart   => [Accept => 'multipart/mixed'],
    longpoll    => [],
    websocket   => [Upgrade => 'websocket', Connection => 'Upgrade', 'Sec-WebSocket-Version' => 13,
        'Sec-WebSocket-Key' => 'dGhlIHNhbXBsZSBub25jZQ=='],
);

sub answered {
    my ($path, @headers) = @_;

    my $client = Ws::Client->connect(port => $ngx->port);
    $client->send(request_text('GET', $path, @headers));
    $client->wait_until(sub { $client->{in} =~ /\r\n\r\n/ }, "the head of $path");
    my ($status, $transport) = $client->{in} =~ m{^HTTP/1\.1 (\d+) .*^X-Transport: \[(\w*)\]}ms;
    return "$status $transport";
}

case 'the transport of a client of channels' => sub {
    is(request($ngx->port, 'POST', '/channel?refused=', body => 'x')->{status}, 423, 'empty for a publisher by HTTP, to a hook');
    is(request($ngx->port, 'POST', '/channel?denied=', body => 'x')->{status}, 403, 'and to an access module');
    is(request($ngx->port, 'POST', '/channel', body => 'x')->{status}, 202);
    for my $name (sort keys %ASKED) {
        my @headers = @{$ASKED{$name}};
        my $status = $name eq 'websocket' ? 101 : 200;
        is(answered('/channel', @headers), "$status $name");
        is(answered('/channel?denied=other&refused=other', @headers), "$status $name");
        is(answered("/channel?denied=$name", @headers), "403 $name", 'an access module knows it');
        is(answered("/channel?refused=$name", @headers), "422 $name", 'and a hook does');
    }
    is(answered('/channel/raw'), '200 raw');
    is(answered('/channel/poll'), '304 poll');
    my $publisher = Ws::Client->open($ngx->port, '/channel/pub?refused=websocket');
    $publisher->send(text('x'));
    is($publisher->text, 'message refused: 423', 'a WebSocket that only publishes');
};

case 'numbers beyond small ones' => sub {
    my $client = Ws::Client->open($ngx->port, '/cat/large');
    $client->send(binary('x' x 100_000)) for 1 .. 50;
    $client->message for 1 .. 50;
    is($client->close(1000), 'close 1000');
    my $log = logged('/cat/large');
    is($log->{messages}, '50/50');
    is($log->{bytes}, '5000000/5000000');
};

case 'access modules know the channels' => sub {
    my $told = sub { return $_[0]{headers}{'x-told'}[0] };
    my $client = Ws::Client->connect(port => $ngx->port);
    is($told->($client->handshake('/room/a?b=1')), 'a,also-1', 'those that a WebSocket is to subscribe to');
    is($told->(request($ngx->port, 'POST', '/room/a?b=1', body => 'x')), 'to-a', 'the one that is published to');
    is($told->(request($ngx->port, 'GET', '/split?ids=x,y,x')), 'x,y', 'each once, also where the request is refused');
    is($told->(request($ngx->port, 'GET', '/split?ids=x,,y')), undef, 'none that cannot be');
    is(request($ngx->port, 'POST', '/rare?id=1', body => 'x')->{status}, 202, 'a rate of each channel');
    is(request($ngx->port, 'POST', '/rare?id=1', body => 'x')->{status}, 503);
    is(request($ngx->port, 'POST', '/rare?id=2', body => 'x')->{status}, 202);
};

$ngx->stop;
done_testing();
