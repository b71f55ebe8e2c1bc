# Clients that subscribe to some channels and publish to others: websocket_channel ... publish=.

use strict;
use warnings;

use lib 't/lib';
use JSON::PP qw(decode_json encode_json);
use Test::More;
use Ws::Client;
use Ws::Frame;
use Ws::Hook;
use Ws::Http;
use Ws::Nginx;
use Ws::Service;

my $app = Ws::Service->listen;
my $ngx = Ws::Nginx->start(workers => 2, http => <<"HTTP", server => <<'SERVER');
    websocket_channel_zone 4m;
    upstream app { server @{[$app->address]}; }
    log_format ids '\$uri \$request_method [\$websocket_channel_id]';
    access_log %%PREFIX%%/access.log ids;
HTTP
    location = /device { websocket_channel commands-$arg_id fleet publish=telemetry publish=copy-$arg_id; }
    location = /asked  { websocket_channel commands-$arg_id publish=telemetry; websocket_channel_publish_request /app; }
    location = /sub    { websocket_channel $arg_id; }
    location = /pub    { websocket_channel $arg_id mode=pub; }
    location /app      { internal; proxy_pass http://app; proxy_set_header X-Channel $websocket_channel_id; }
SERVER
my $port = $ngx->port;

case 'WebSocket' => sub {
    my $telemetry = Ws::Client->open($port, '/sub?id=telemetry');
    my $copy = Ws::Client->open($port, '/sub?id=copy-1');
    my $device = Ws::Client->open($port, '/device?id=1');
    $device->send(text('21.5'), binary("\x01"));
    for ($telemetry, $copy) {
        is($_->text, '21.5');
        is($_->message->{payload}, "\x01");
    }
    publish($port, '/pub?id=commands-1', 'reboot');
    publish($port, '/pub?id=fleet', 'all');
    is($device->text, $_, 'its own messages do not come back') for 'reboot', 'all';
    is($device->close(1000), 'close 1000');
    $ngx->await_access_log(qr{^/device GET \[commands-1,fleet\]$}m);
};

case 'HTTP' => sub {
    my $telemetry = Ws::Client->open($port, '/sub?id=telemetry');
    is(request($port, 'POST', '/device?id=2', body => 'by POST')->{status}, 201);
    is($telemetry->text, 'by POST');
    $ngx->await_access_log(qr{^/device POST \[telemetry,copy-2\]$}m);
    is(request($port, 'GET', '/pub?id=commands-2')->{status}, 404, 'nothing else has it');
    my $poll = Ws::Client->connect(port => $port);
    $poll->send(request_text('GET', '/device?id=2'));
    await('it waits', sub { request($port, 'GET', '/pub?id=commands-2', Accept => 'text/json')->{body} =~ /"subscribers": 1,/ });
    publish($port, '/pub?id=commands-2', 'for it');
    is($poll->response->{body}, 'for it');
};

case 'channels.v1' => sub {
    my $telemetry = Ws::Client->open($port, '/sub?id=telemetry');
    my $device = Ws::Client->open($port, '/device?id=3', headers => ['Sec-WebSocket-Protocol' => 'channels.v1']);
    $device->send(text('{"op":"subscribe"}'), text('{"op":"publish","ref":1,"data":"by v1"}'));
    like($device->text, qr/"subscribed"/);
    is(decode_json($device->text)->{ref}, 1, 'published');
    is($telemetry->text, 'by v1');
    publish($port, '/pub?id=commands-3', 'reboot');
    is(decode_json($device->text)->{data}, 'reboot');
};

case 'the hook is told which channel it is' => sub {
    for my $headers ([], ['Sec-WebSocket-Protocol' => 'channels.v1']) {
        my $device = Ws::Client->open($port, '/asked?id=4', headers => $headers);
        $device->send(text(@$headers ? '{"op":"publish","data":"x"}' : 'x'));
        my $asked = asked($app);
        is_deeply([$asked->{body}, $asked->{headers}{'x-channel'}[0]], ['x', 'telemetry']);
        answer($asked, 304);
        $device->close(1000);
    }
    $ngx->await_access_log(qr{^/asked GET \[commands-4\]$}m);
};

done_testing();
