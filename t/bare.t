# An nginx without the rewrite module, and so without PCRE, and without TLS and zlib: what needs them is refused by "nginx -t",
# everything else works.

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

plan skip_all => 'this nginx has what this is about' if !nginx_has('--without-http_rewrite_module');

my $service = Ws::Service->listen;
my $address = $service->address;
my $ngx = Ws::Nginx->new(workers => 2, http => 'websocket_channel_zone 1m;', server => <<"EOT");
    websocket_close_timeout 500ms;
    location = /exec    { websocket_exec cat; }
    location /dir/      { websocket_exec_dir %%PREFIX%%/bin; }
    location = /channel { websocket_channel \$arg_id mode=pubsub; limit_except GET POST { deny all; } }
    location = /shared  { websocket_exec cat; websocket_channel \$arg_id; }
    location = /tcp     { websocket_tcp $address; }
    location = /origin  { websocket_exec cat; websocket_origin *.example.com null; }
    location = /deflate { websocket_exec cat; websocket_deflate on; }
    location = /status  { websocket_status; }
EOT
$ngx->program('echo', "#!/bin/sh\nexec cat\n");
$ngx->start;
my $port = $ngx->port;

for my $path ('/exec', '/dir/echo', '/channel?id=a', '/shared?id=b', '/deflate') {
    case "$path echoes" => sub {
        my $client = Ws::Client->open($port, $path);
        $client->send(text('hello'));
        is($client->text, 'hello');
        is($client->close(1000), 'close 1000');
    };
}

case 'a service' => sub {
    my $client = Ws::Client->open($port, '/tcp');
    my $peer = $service->accept;
    $client->send(text('hello'));
    is($peer->read(5), 'hello');
    is($client->close(1000), 'close 1000');
};

case 'origins' => sub {
    for (['https://a.example.com', 101], ['null', 101], ['https://example.com', 403]) {
        my ($origin, $status) = @$_;
        my $client = Ws::Client->connect(port => $port);
        is($client->handshake('/origin', headers => [Origin => $origin])->{status}, $status, $origin);
        $client->abandon;
    }
};

case 'publishing, and limit_except' => sub {
    is(request($port, 'POST', '/channel?id=p', body => 'hello')->{status}, 202);
    is(request($port, 'PUT', '/channel?id=p', body => 'hello')->{status}, 403);
};

case 'the status' => sub {
    ok(decode_json(request($port, 'GET', '/status')->{body})->{workers});
};

$ngx->await_programs(0);
$ngx->stop;

for my $row (
    ['websocket_origin "~^https://a";',                   'invalid value "^https://a" in "websocket_origin" directive: this nginx was built without regular expressions'],
    ['websocket_tcp 127.0.0.1:1; websocket_tcp_ssl on;',  '"websocket_tcp_ssl" directive: this nginx was built without TLS'],
) {
    my ($directives, $said) = @$row;
    case "$directives is refused" => sub {
        my $bad = Ws::Nginx->new(server => "location / { $directives }");
        my ($status, $text) = $bad->check_config;
        isnt($status, 0);
        like($text, qr/\[emerg\].*\Q$said\E.* in \S+nginx\.conf:\d+$/m);
    };
}

done_testing();
