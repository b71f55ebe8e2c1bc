# websocket_tcp_allow: an address that is made of what the client says is refused with the configuration, unless that says where
# it may lead; and then it leads nowhere else, whatever names resolve to.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Dns;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Service;

my $config = Ws::Nginx->new(http => 'map $arg_token $target { default ""; } geo $where { default 127.0.0.1; }');

sub said {
    my ($server) = @_;

    $config->{server} = $server;
    return $config->check_config;
}

case 'addresses that a client makes up are refused' => sub {
    for my $value ('$arg_host:5900', '127.0.0.1:$arg_port', '${arg_to}', '$http_x_target', 'unix:/run/$cookie_vm.sock', '$uri', '$host:22',
        '$target$args', '$remote_user:1', '"$target.$arg_x"') {
        my ($status, $text) = said("\n\nlocation / { websocket_tcp $value; }");
        my $name = $value =~ s/"//gr;
        isnt($status, 0, $name);
        like($text, qr/\[emerg\].*"\Q$name\E" in "websocket_tcp" directive lets clients choose .*"websocket_tcp_allow".* in \S+nginx\.conf:\d+$/m);
    }
    my ($status, $text) = said('location ~ /(.*) { websocket_tcp $1:22; }');
    isnt($status, 0, 'a capture');
    like($text, qr/by "\$1"/, 'the variable is named');
    ($status, $text) = said("location / { \nlimit_except GET { deny all; } if (\$arg_x) { set \$y 1; }\n websocket_tcp \$arg_to; }");
    isnt($status, 0, 'in a location with blocks');
};

case 'others are not' => sub {
    for my $value ('$target', '$where:5900', '127.0.0.1:5900', '$websocket_tcp_target', 'unix:/run/$hostname.sock') {
        my ($status, $text) = said("location / { websocket_tcp $value; }");
        is($status, 0, $value) or diag($text);
    }
    for my $server ('location / { websocket_tcp $arg_to; websocket_tcp_allow any; }',
        'websocket_tcp_allow upstream 10.0.0.0/8:5900-5999; location / { websocket_tcp $arg_to; }',
        'location / { websocket_tcp_allow [::1]:* *.example.com:22 unix:/run/vms/; websocket_tcp $arg_to; if ($arg_x) { set $y 1; } }') {
        my ($status, $text) = said($server);
        is($status, 0, $server) or diag($text);
    }
};

case 'wrong values' => sub {
    for my $value ('off', '""', '127.0.0.1', '127.0.0.1:0', '10.0.0.0/33:1', '10.0.0.1:9-8', '::1:22', 'unix:relative', 'unix:/run/../etc/', '*:22') {
        my ($status, $text) = said("location / { websocket_tcp \$arg_to; websocket_tcp_allow $value; }");
        isnt($status, 0, $value);
        like($text, qr/"@{[quotemeta $value =~ s{"}{}gr]}" in "websocket_tcp_allow" directive.*"any", "upstream", or an address/);
    }
    my ($status, $text) = said('location / { websocket_tcp $arg_to; websocket_tcp_allow any upstream; }');
    like($text, qr/"any" stands alone/);
};

my ($one, $two) = map { Ws::Service->listen } 1 .. 2;
my ($port, $other) = map { $_->port } $one, $two;
my $dns = Ws::Dns->new;
my $ngx = Ws::Nginx->new;
my $prefix = $ngx->prefix;
mkdir "$prefix/vms" or die "mkdir: $!\n";
my $unix = Ws::Service->listen(unix => "$prefix/vms/one.sock");
my $outside = Ws::Service->listen(unix => "$prefix/outside.sock");
my $written = Ws::Service->listen;
$ngx->file('tokens', "inside: 127.0.0.1:$port\noutside: 127.0.0.1:$other\n");
$ngx->{http} = "upstream block { server 127.0.0.1:$other; }";
$ngx->{server} = <<"EOC";
    resolver @{[$dns->address]} ipv6=off valid=1s;
    location = /address  { websocket_tcp \$arg_to; websocket_tcp_allow 127.0.0.1:$port; }
    location = /network  { websocket_tcp \$arg_to; websocket_tcp_allow 127.0.0.0/30:$port; }
    location = /upstream { websocket_tcp \$arg_to; websocket_tcp_allow upstream; }
    location = /name     { websocket_tcp \$arg_to; websocket_tcp_allow *.vms.test:$port; }
    location = /unix     { websocket_tcp \$arg_to; websocket_tcp_allow unix:$prefix/vms/; }
    location = /any      { websocket_tcp \$arg_to; websocket_tcp_allow any; }
    location = /tokens   { websocket_tcp_tokens $prefix/tokens; websocket_tcp \$websocket_tcp_target; websocket_tcp_allow 127.0.0.1:$port; }
    location = /told     { websocket_tcp \$arg_to; websocket_tcp_allow upstream; websocket_refuse_with_close 403=4403; }
    location = /written  { websocket_tcp 127.0.0.1:@{[$written->port]}; websocket_tcp_allow upstream; }
EOC
$ngx->start;

# connects(path, service): whether the handshake succeeds and the service has the connection; else the status.
sub connects {
    my ($path, $service, @addresses) = @_;

    my $client = Ws::Client->connect(port => $ngx->port);
    $client->send(upgrade($path));
    $dns->answer(@addresses) if @addresses;
    my $status = $client->response->{status};
    return $status if $status != 101;
    my $peer = $service->accept;
    $peer->send('here');
    my $got = $client->message->{payload};
    $client->close(1000);
    $peer->close;
    return $got;
}

case 'addresses' => sub {
    is(connects("/address?to=127.0.0.1:$port", $one), 'here');
    is(connects("/address?to=127.0.0.1:$other"), 403, 'another port');
    is(connects("/address?to=127.0.0.2:$port"), 403, 'another address');
    is(connects("/address?to=block"), 403, 'an upstream block');
    is(connects("/address?to=unix:$prefix/vms/one.sock"), 403, 'a socket');
    is(connects("/address?to=[::ffff:127.0.0.1]:$other"), 403, 'IPv4 inside IPv6');
    is(connects("/address?to=127.0.0.1:@{[$written->port]}"), 403, 'an address that stands elsewhere in the configuration');
    is(connects("/network?to=127.0.0.1:$port", $one), 'here', 'in a network');
    is(connects("/network?to=127.0.0.4:$port"), 403, 'not in it');
    $ngx->await_log(qr/the address of the service is not allowed by "websocket_tcp_allow", client/);
    unlike($ngx->log, qr/not allowed by.*to=127/, 'no secret is written');
};

case 'names' => sub {
    is(connects("/address?to=inside.test:$port", $one, '127.0.0.1'), 'here', 'that lead to an allowed address');
    is(connects("/address?to=outside.test:$port", $one, '127.0.0.9'), 403, 'that lead to another one');
    is(connects("/address?to=both.test:$port", $one, '127.0.0.9', '127.0.0.1'), 'here', 'that lead to both: to the one that is allowed');
    is(connects("/name?to=a.vms.test:$port", $one, '127.0.0.1'), 'here', 'that are allowed');
    is(connects("/name?to=vms.test:$port", $one, '127.0.0.1'), 403, 'above the name');
    is(connects("/name?to=127.0.0.1:$port"), 403, 'an address is no name');
};

case 'upstream blocks, sockets, everything' => sub {
    is(connects('/upstream?to=block', $two), 'here');
    is(connects("/upstream?to=127.0.0.1:$other"), 403, 'the same address by itself');
    is(connects("/upstream?to=127.0.0.1:@{[$written->port]}"), 403, 'one of the configuration that is no block');
    is(connects("/unix?to=unix:$prefix/vms/one.sock", $unix), 'here');
    is(connects("/unix?to=unix:$prefix/outside.sock"), 403);
    is(connects("/unix?to=unix:$prefix/vms/../outside.sock"), 403);
    is(connects("/any?to=unix:$prefix/outside.sock", $outside), 'here');
    is(connects("/any?to=127.0.0.1:$other", $two), 'here');
    is(connects('/any?to='), 404, 'an empty one');
    is(connects('/tokens?token=inside', $one), 'here', 'tokens');
    is(connects('/tokens?token=outside'), 403, 'that lead elsewhere');
    is(connects('/written', $written), 'here', 'an address without variables is not looked at');
    is(Ws::Client->open($ngx->port, "/told?to=127.0.0.1:$port")->server_close, 'close 4403 address not allowed', 'told by a Close');
};

$ngx->stop;

done_testing();
