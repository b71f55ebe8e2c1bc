# nginx's own access control decides before anything is started. Every program here leaves a mark when it starts, so that
# "before" can be seen.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;

my $ngx = Ws::Nginx->new(workers => 2, tls => 1, http => <<'EOT', server => <<'EOT2');
    limit_conn_zone $server_name zone=conn:1m;
    limit_req_zone  $server_name zone=req:1m rate=1r/m;
EOT
    websocket_close_timeout 500ms;
    ssl_client_certificate %%PREFIX%%/cert.pem;
    ssl_verify_client on;
    location = /open      { websocket_exec %%PREFIX%%/bin/mark; }
    location = /deny      { deny all; websocket_exec %%PREFIX%%/bin/mark; }
    location = /allow     { allow 127.0.0.1; deny all; websocket_exec %%PREFIX%%/bin/mark; }
    location = /basic     {
        auth_basic "test";
        auth_basic_user_file %%PREFIX%%/htpasswd;
        websocket_exec %%PREFIX%%/bin/mark;
    }
    location = /request   { auth_request /auth; websocket_exec %%PREFIX%%/bin/mark; }
    location = /auth      { internal; if ($request_uri ~ token=good) { return 204; } return 403; }
    location = /conn      { limit_conn conn 1; websocket_exec %%PREFIX%%/bin/mark; }
    location = /req       { limit_req zone=req; limit_req_status 429; websocket_exec %%PREFIX%%/bin/mark; }
    location = /any       {
        satisfy any;
        deny all;
        auth_basic "test";
        auth_basic_user_file %%PREFIX%%/htpasswd;
        websocket_exec %%PREFIX%%/bin/mark;
    }
    location = /all       {
        satisfy all;
        allow all;
        auth_basic "test";
        auth_basic_user_file %%PREFIX%%/htpasswd;
        websocket_exec %%PREFIX%%/bin/mark;
    }
    location = /internal  { internal; websocket_exec %%PREFIX%%/bin/mark; }
    location = /inside    { rewrite ^ /internal last; }
    location = /origin    { websocket_exec %%PREFIX%%/bin/mark; }
    location = /except    { limit_except GET { deny all; } websocket_exec %%PREFIX%%/bin/mark; }
EOT2
$ngx->file('htpasswd', "alice:{PLAIN}wonder\n");
$ngx->file('marks', '');
$ngx->program('mark', "#!/bin/sh\necho \$\$ >>" . $ngx->prefix . "/marks\necho started\nexec cat\n");
$ngx->start;

my @alice = (Authorization => 'Basic YWxpY2U6d29uZGVy');

sub marks { return scalar(() = $ngx->read_file('marks') =~ /\n/g) }

sub served {
    my ($path, @headers) = @_;

    my $before = marks();
    my $client = Ws::Client->open($ngx->port, $path, headers => \@headers);
    is($client->text, 'started', "$path is served");
    is(marks(), $before + 1, 'by one program');
    return $client;
}

sub refused {
    my ($path, $status, @headers) = @_;

    my $before = marks();
    my $client = Ws::Client->connect(port => $ngx->port);
    my $response = $client->handshake($path, headers => \@headers);
    is($response->{status}, $status, "$path is refused");
    # A program that was started behind our back would have marked by the time the next one has.
    is(served('/open')->close(1000), 'close 1000');
    is(marks(), $before + 1, 'nothing was started');
    return $response;
}

case 'deny' => sub { refused('/deny', 403) };
case 'allow' => sub { is(served('/allow')->close(1000), 'close 1000') };

case 'auth_basic, no password' => sub {
    like(refused('/basic', 401)->{headers}{'www-authenticate'}[0], qr/Basic/);
};
case 'auth_basic, a wrong password' => sub { refused('/basic', 401, Authorization => 'Basic YWxpY2U6eA==') };
case 'auth_basic, the right password' => sub { is(served('/basic', @alice)->close(1000), 'close 1000') };

case 'auth_request, refused' => sub { refused('/request', 403) };
case 'auth_request, granted' => sub { is(served('/request?token=good')->close(1000), 'close 1000') };

case 'limit_conn counts open sessions' => sub {
    my $client = served('/conn');
    refused('/conn', 503);
    $client->send(text('still here'));
    is($client->text, 'still here');
    is($client->close(1000), 'close 1000');
    my $next = await('the place to be free', sub { eval { Ws::Client->open($ngx->port, '/conn') } });
    is($next->text, 'started');
    refused('/conn', 503);
    $next->reset;
    $next = await('the place to be free after a reset', sub { eval { Ws::Client->open($ngx->port, '/conn') } });
    is($next->text, 'started');
    is($next->close(1000), 'close 1000');
};

case 'limit_req' => sub {
    is(served('/req')->close(1000), 'close 1000');
    refused('/req', 429);
};

case 'satisfy any, neither' => sub { refused('/any', 401) };
case 'satisfy any, one of the two' => sub { is(served('/any', @alice)->close(1000), 'close 1000') };
case 'satisfy all, one of the two' => sub { refused('/all', 401) };
case 'satisfy all, both' => sub { is(served('/all', @alice)->close(1000), 'close 1000') };

case 'internal from outside' => sub { refused('/internal', 404) };
case 'internal from inside' => sub { is(served('/inside')->close(1000), 'close 1000') };

case 'TLS without the certificate that is asked for' => sub {
    my $before = marks();
    my $client = Ws::Client->connect(port => $ngx->tls_port, tls => 1);
    is($client->handshake('/open')->{status}, 400);
    is(served('/open')->close(1000), 'close 1000');
    is(marks(), $before + 1, 'nothing was started');
};

case 'limit_except' => sub { refused('/except', 403, method => 'POST', 'Content-Length' => 0) };

case 'Origin' => sub { refused('/origin', 403, Origin => 'https://evil.example') };

for my $row (
    ['a plain GET',       426, Upgrade => undef],
    ['a wrong version',   426, 'Sec-WebSocket-Version' => 8],
    ['no key',            400, 'Sec-WebSocket-Key' => undef],
    ['a malformed list of subprotocols', 400, 'Sec-WebSocket-Protocol' => 'a b'],
    ['a body',            400, 'Content-Length' => 5],
    ['POST',              405, method => 'POST', 'Content-Length' => 0],
) {
    my ($name, $status, @headers) = @$row;
    case "$name starts nothing" => sub { refused('/open', $status, @headers) };
}

$ngx->await_programs(0);
$ngx->stop;
done_testing();
