# "if" and "limit_except" inside of a location: what answers the requests of the location answers them there, too, as
# proxy_pass does.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use JSON::PP;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Service;

my $service = Ws::Service->listen;
my $address = $service->address;

my $IF = 'if ($arg_x) { set $seen 1; }';
my $LIMIT = 'limit_except HEAD { allow all; }';

# Each kind of location, with each kind of block.
my %endpoint = (
    exec     => 'websocket_exec /bin/cat;',
    dir      => 'websocket_exec_dir %%PREFIX%%/bin;',
    channel  => 'websocket_channel $arg_id mode=pubsub;',
    shared   => 'websocket_exec /bin/cat; websocket_channel $arg_id;',
    tcp      => "websocket_tcp $address;",
    status   => 'websocket_status;',
    group    => 'websocket_channel_group_info;',
);
my %block = (
    if     => $IF,
    limit  => $LIMIT,
);

my $server = "websocket_close_timeout 500ms;\n";
for my $endpoint (sort keys %endpoint) {
    for my $block (sort keys %block) {
        $server .= "location /$endpoint/$block/ { $endpoint{$endpoint} $block{$block} }\n";
    }
}

$server .= <<'EOT';
    location = /max {
        websocket_exec /bin/cat;
        websocket_exec_max 1;
        if ($arg_x) { set $seen 1; }
    }
    location = /count {
        websocket_exec /bin/cat;
        if ($arg_x) { set $seen 1; }
    }
    location = /own {
        websocket_exec /bin/cat;
        if ($arg_x) { websocket_exec /bin/echo own; }
        if ($arg_status) { websocket_status; }
    }
    location = /proxied {
        websocket_exec /bin/cat;
        if ($arg_x) { rewrite ^ /plain break; proxy_pass http://127.0.0.1:%%PORT%%; }
    }
    location = /returned {
        websocket_exec /bin/cat;
        if ($arg_x) { return 418; }
    }
    location = /settings {
        websocket_exec /bin/cat;
        if ($arg_x) { websocket_exec_format messages; websocket_max_message_size 5; }
    }
    location = /plain { return 200 "plain"; }
    location /outer/ {
        websocket_exec /bin/cat;
        location /outer/inner/ { }
        if ($arg_x) { set $seen 1; }
    }
    location /guarded/ {
        websocket_channel $arg_id mode=pubsub;
        limit_except GET { deny all; }
    }
    location /mixed/ {
        websocket_channel $arg_id mode=pubsub;
        if ($arg_x) { set $seen 1; }
        limit_except GET { allow all; }
    }
    location /there/ { try_files /none @there; }
    location @there  { websocket_exec /bin/cat; if ($arg_x) { set $seen 1; } }
    location ~ ^/regex/ { websocket_exec /bin/cat; if ($arg_x) { set $seen 1; } }
EOT

my $ngx = Ws::Nginx->new(workers => 2, server => $server, http => "websocket_channel_zone 1m;\nwebsocket_channel_history length=5;");
$ngx->program('prog', "#!/bin/sh\nexec cat\n");
$ngx->start;
my $port = $ngx->port;

sub answer {
    my ($path) = @_;

    my $client = Ws::Client->connect(port => $port);
    my $response = $client->handshake($path);
    $client->abandon;
    return $response->{status};
}

sub echoes {
    my ($path) = @_;

    my $client = Ws::Client->open($port, $path);
    $client->send(text('hello'));
    is($client->text, 'hello', "$path echoes");
    is($client->close(1000), 'close 1000');
}

for my $block (sort keys %block) {
    for my $x ('', 'x=1') {
        for my $path ("/exec/$block/", "/dir/$block/prog", "/shared/$block/", "/channel/$block/") {
            next if under_valgrind() && $path =~ /^.dir/;    # It does not know openat2(2).
            case "$path?$x" => sub { echoes("$path?id=$block&$x") };
        }

        case "/tcp/$block/?$x" => sub {
            my $client = Ws::Client->open($port, "/tcp/$block/?$x");
            my $peer = $service->accept;
            $client->send(text('hello'));
            is($peer->read(5), 'hello');
            is($client->close(1000), 'close 1000');
            $peer->close;
        };

        case "/status/$block/?$x" => sub {
            my $response = request($port, 'GET', "/status/$block/?$x");
            is($response->{status}, 200);
            ok(decode_json($response->{body})->{workers}, 'the status');
        };

        case "/group/$block/?$x" => sub {
            my $response = request($port, 'GET', "/group/$block/?$x", Accept => 'text/json');
            is($response->{status}, 200);
            is(decode_json($response->{body})->{messages_disk}, 0, 'the group');
        };

        case "publishing to /channel/$block/?$x" => sub {
            my $status = request($port, 'POST', "/channel/$block/?id=p$block&$x", body => 'hello')->{status};
            is($status, 202);
        };
    }
}

case 'one limit for location and block' => sub {
    my $client = Ws::Client->open($port, '/max?x=1');
    is(answer('/max'), 503, 'the place is taken');
    is(answer('/max?x=1'), 503, 'in both');
    is($client->close(1000), 'close 1000');
    $ngx->await_programs(0);
};

case 'one row of figures' => sub {
    my @clients = map { Ws::Client->open($port, $_) } '/count', '/count?x=1';
    my $rows = sub {
        my $status = decode_json(request($port, 'GET', '/status/if/')->{body});
        return grep { $_->{location} eq '/count' } @{$status->{locations}};
    };
    my @rows;
    # The answer of a handshake may be here before the worker has counted its session.
    await('both sessions', sub { @rows = $rows->(); return @rows > 1 || $rows[0]{connections}{current} == 2 });
    is(scalar @rows, 1);
    is($_->close(1000), 'close 1000') for @clients;
};

case 'an endpoint of its own inside "if"' => sub {
    my $client = Ws::Client->open($port, '/own?x=1');
    is($client->text, 'own');
    is($client->server_close, 'close 1000');
    is(request($port, 'GET', '/own?status=1')->{status}, 200, 'or the status');
    echoes('/own');
};

case 'what else takes the requests in "if" has them' => sub {
    is(request($port, 'GET', '/proxied?x=1')->{body}, 'plain', 'proxy_pass');
    is(request($port, 'GET', '/returned?x=1')->{status}, 418, 'return');
    echoes('/proxied');
    echoes('/returned');
};

case 'settings in "if" hold there' => sub {
    echoes('/settings');
    my $client = Ws::Client->open($port, '/settings?x=1');
    $client->send(text('sixsix'));
    is($client->server_close, 'close 1009 message too big');
};

case 'a location inside of the location has none' => sub {
    is(answer('/outer/inner/'), 404);
    echoes('/outer/');
    echoes('/outer/?x=1');
};

case 'limit_except keeps some away' => sub {
    is(request($port, 'POST', '/guarded/?id=g', body => 'hello')->{status}, 403);
    my $client = Ws::Client->open($port, '/guarded/?id=g');
    is($client->close(1000), 'close 1000');
};

case 'limit_except beside "if"' => sub {
    is(request($port, 'POST', '/mixed/?id=m&x=1', body => 'hello')->{status}, 202);
    my $client = Ws::Client->open($port, '/mixed/?id=m&x=1');
    is($client->close(1000), 'close 1000');
};

echoes($_) for '/there/?x=1', '/there/', '/regex/?x=1', '/regex/';

$ngx->stop;
done_testing();
