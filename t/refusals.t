# Refusals that a page can see: websocket_refuse_with_close and websocket_tcp_accept.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Service;

my $service = Ws::Service->listen;
my $address = $service->address;
my $nobody = '127.0.0.1:' . Ws::Service->refusing;

# The kernel drops what does not fit into the backlog: nobody answers.
my $full = Ws::Service->listen(backlog => 0);
my @fill = map {
    my $socket = IO::Socket::INET->new(Proto => 'tcp', Blocking => 0);
    $socket->connect(Socket::pack_sockaddr_in($full->port, Socket::inet_aton('127.0.0.1')));
    $socket;
} 1 .. 4;

my $ngx = Ws::Nginx->new;
$ngx->{http} = <<'EOT';
    log_format ws '$uri $status $websocket_close_code $websocket_closed_by';
    access_log %%PREFIX%%/access.log ws;
    map $http_user_agent $nothing { default ""; }
EOT
$ngx->{server} = <<"EOT";
    websocket_close_timeout 500ms;
    websocket_tcp_connect_timeout 500ms;

    location /told {
        websocket_refuse_with_close 403=4403 404=4404 500=1011 502=4502 503=1013 504=4504 400=4400;

        location = /told/origin  { websocket_exec /bin/cat; }
        location = /told/missing { websocket_exec /no/such/program; }
        location = /told/max     { websocket_exec /bin/cat; websocket_exec_max 1; }
        location = /told/dir     { websocket_exec_dir /no/such/directory; }
        location = /told/none    { websocket_tcp \$nothing; }
        location = /told/nobody  { websocket_tcp $nobody; }
        location = /told/slow    { websocket_tcp 127.0.0.1:@{[$full->port]}; }
        location = /told/channel { websocket_channel \$arg_id; }
        location = /told/join    { websocket_channel a; websocket_channel_join_request /deny; }
        location = /told/off     { websocket_exec /no/such/program; websocket_refuse_with_close off; }
        location = /told/program { websocket_exec /bin/cat; }
    }
    location = /honest { websocket_exec /no/such/program; }
    location = /deny   { return 403; }

    location = /auth {
        auth_request /denied;
        websocket_exec /bin/cat;
        error_page 401 403 \@refused;
    }
    location = /closed {
        deny all;
        websocket_exec /bin/cat;
        error_page 403 \@refused;
    }
    location = /denied { internal; return 401; }
    location \@refused {
        auth_request off;
        allow all;
        websocket_refuse_with_close 401=4401 403=4403;
    }

    location /always {
        websocket_tcp_accept always;

        location = /always/good   { websocket_tcp $address; }
        location = /always/nobody { websocket_tcp $nobody; }
        location = /always/slow   { websocket_tcp 127.0.0.1:@{[$full->port]}; }
        location = /always/token  { websocket_tcp \$nothing; }
        location = /always/codes  { websocket_tcp $nobody; websocket_refuse_with_close 502=4502; }
    }
EOT
$ngx->start;

# told(uri, close, name => value ...): a handshake that succeeds, and the Close that follows.
sub told {
    my ($uri, $close, %opt) = @_;

    my $client = Ws::Client->open($ngx->port, $uri, %opt);
    is($client->server_close, $close, $uri);
    return $client;
}

sub status {
    my ($uri, %opt) = @_;

    return Ws::Client->connect(port => $ngx->port)->handshake($uri, %opt)->{status};
}

case 'refusals of the module' => sub {
    told('/told/origin', 'close 4403 forbidden', headers => [Origin => 'http://evil.example']);
    told('/told/missing', 'close 1011 internal error');
    told('/told/none', 'close 4404 no such token');
    told('/told/nobody', 'close 4502 connection refused');
    told('/told/slow', 'close 4504 connection timed out');
    told('/told/channel', 'close 4404 not found');
    told('/told/join', 'close 4403 forbidden');
    my $first = Ws::Client->open($ngx->port, '/told/max');
    told('/told/max', 'close 1013 service unavailable');
    is($first->close(1000), 'close 1000');
};

case 'a subprotocol is selected, or browsers would not tell' => sub {
    my $client = told('/told/missing', 'close 1011 internal error', headers => ['Sec-WebSocket-Protocol' => 'x, y']);
    is($client->header('Sec-WebSocket-Protocol'), 'x');
};

case 'what the client says before it hears of it is dropped' => sub {
    told('/told/nobody', 'close 4502 connection refused', after => text('early') . binary('x' x 1000));
};

case 'others are as ever' => sub {
    is(status('/honest'), 500);
    is(status('/told/off'), 500);
    my $client = Ws::Client->open($ngx->port, '/told/program');
    $client->send(text("hello\n"));
    is($client->text, 'hello');
    is($client->close(1000), 'close 1000');
    my $plain = Ws::Client->connect(port => $ngx->port);
    $plain->send("GET /told/none HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    is($plain->response->{status}, 426, 'no handshake');
};

case 'refusals of the access phase' => sub {
    told('/auth', 'close 4401 unauthorized');
    told('/closed', 'close 4403 forbidden');
    my $plain = Ws::Client->connect(port => $ngx->port);
    $plain->send("GET /auth HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    is($plain->response->{status}, 401, 'no handshake');
    $ngx->await_access_log('/auth 101 4401 server');
};

case 'accepted before the service is there' => sub {
    my $client = Ws::Client->open($ngx->port, '/always/good', after => binary('early'));
    my $peer = $service->accept;
    is($peer->read(5), 'early');
    $peer->send('late');
    is($client->message->{payload}, 'late');
    is($client->close(1000), 'close 1000');

    told('/always/nobody', 'close 1011 connection refused');
    told('/always/slow', 'close 1011 connection timed out', after => binary('early'));
    told('/always/token', 'close 1011 no such token');
    told('/always/codes', 'close 4502 connection refused');
    is(status('/always/good', headers => [Origin => 'http://evil.example']), 403, 'an origin is no matter of the service');
};

case 'a client that goes while its service is being connected' => sub {
    my $client = Ws::Client->open($ngx->port, '/always/slow');
    is($client->close(1000), 'close 1000');
    Ws::Client->open($ngx->port, '/always/slow')->reset;
    Ws::Client->open($ngx->port, '/told/nobody')->reset;
    is(status('/honest'), 500, 'the worker lives');
};

$ngx->stop;

for (
    ['websocket_refuse_with_close 401', qr/invalid value "401" in "websocket_refuse_with_close" directive, expected status=code/],
    ['websocket_refuse_with_close 401=1005', qr/invalid value "401=1005"/],
    ['websocket_refuse_with_close 200=4401', qr/invalid value "200=4401"/],
    ['websocket_refuse_with_close 401=4401 401=4402', qr/expected each status once/],
    ['websocket_refuse_with_close off 401=4402', qr/"off" stands alone/],
    ['websocket_tcp_accept on', qr/invalid value "on" in "websocket_tcp_accept" directive, expected "connected" or "always"/],
) {
    my ($line, $says) = @$_;
    my $config = Ws::Nginx->new;
    $config->{server} = "location / { websocket_exec /bin/cat; $line; }";
    my ($status, $said) = $config->check_config;
    isnt($status, 0, "refused: $line");
    like($said, $says);
}

done_testing();
