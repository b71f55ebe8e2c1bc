# At the level "debug" nginx writes a line about each event that is set, removed or has come, and reads for it what an event of a
# connection has. Every event of the module has that too.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;

plan skip_all => 'this nginx was built without --with-debug' if !nginx_has('--with-debug');

my $ngx = Ws::Nginx->new(
    level   => 'debug',
    main    => 'error_log memory:1m debug;',
    events  => 'debug_connection 127.0.0.1;',
    workers => 2,
    server  => <<'EOT');
    websocket_close_timeout 500ms;
    websocket_exec_stop 100ms 500ms;
    location = /cat    { websocket_exec /bin/cat; }
    location = /tcp    { websocket_tcp 127.0.0.1:%%PORT%%; }
    location = /sub    {
        websocket_channel room;
        websocket_channel_join_request /hook;
        websocket_channel_leave_request /hook;
        websocket_ping_interval 300ms;
    }
    location = /pub    { websocket_channel room mode=pub; }
    location = /shared { websocket_exec /bin/cat; websocket_channel shared; websocket_exec_linger 300ms; }
    location = /hook   { return 200; }
EOT
$ngx->start;
my @workers = sort $ngx->workers;

sub exercise {
    case 'a program' => sub {
        my $client = Ws::Client->open($ngx->port, '/cat');
        $client->send(text('hello'));
        is($client->text, 'hello');
        is($client->close(1000), 'close 1000');
    };

    case 'a service' => sub {
        my $client = Ws::Client->open($ngx->port, '/tcp');
        $client->send(binary("GET /hook HTTP/1.0\r\n\r\n"));
        like($client->message->{payload}, qr/^HTTP.1.1 200/);
        like($client->server_close, qr/^close 1000/);
    };

    case 'a channel, and who is told of its subscribers' => sub {
        my @clients = map { Ws::Client->open($ngx->port, '/sub') } 1 .. 4;
        is(request($ngx->port, 'POST', '/pub', body => 'hello')->{status}, 201);
        is($_->text, 'hello') for @clients;
        is($clients[0]->frame->{opcode}, PING, 'its timer comes');
        is($_->close(1000), 'close 1000') for @clients;
    };

    case 'a program that is shared' => sub {
        my @clients = map { Ws::Client->open($ngx->port, '/shared') } 1 .. 4;
        $clients[0]->send(text('hello'));
        is($_->text, 'hello') for @clients;
        is($_->close(1000), 'close 1000') for @clients;
        $ngx->await_programs(0);
    };
}

exercise();
# The zone is tended every second.
$ngx->await_log(qr/event timer del: -1: \d+(?=[^\0]*event timer del: -1: \d+)/);
is_deeply([sort $ngx->workers], \@workers, 'no worker was lost');
$ngx->reload;
@workers = sort $ngx->workers;
exercise();
is_deeply([sort $ngx->workers], \@workers, 'no worker was lost after a reload');
unlike($ngx->log, qr/exited on signal/, 'none at all');
$ngx->stop;
done_testing();
