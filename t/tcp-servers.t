# websocket_tcp: which server is connected, what becomes of one that cannot be, and what the log says of it.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Time::HiRes qw(time);
use Ws::Dns;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Service;

my $one = Ws::Service->listen;
my $two = Ws::Service->listen;
my ($a, $b) = ($one->address, $two->address);
my $nobody = '127.0.0.1:' . Ws::Service->refusing;
my $dns = Ws::Dns->new;

# The kernel drops what does not fit into the backlog: nobody answers.
my $full = Ws::Service->listen(backlog => 0);
my @fill = map {
    my $socket = IO::Socket::INET->new(Proto => 'tcp', Blocking => 0);
    $socket->connect(Socket::pack_sockaddr_in($full->port, Socket::inet_aton('127.0.0.1')));
    $socket;
} 1 .. 4;

my $ngx = Ws::Nginx->new;
my $path = $ngx->prefix . '/service.sock';
my $unix = Ws::Service->listen(unix => $path);
$ngx->{http} = <<"EOT";
    log_format ws '\$uri \$status [\$upstream_addr] [\$upstream_status] connect=\$upstream_connect_time '
        'in=\$upstream_bytes_received out=\$upstream_bytes_sent '
        '\$websocket_endpoint \$websocket_protocol \$websocket_close_code \$websocket_closed_by '
        '\$websocket_messages_in/\$websocket_messages_out \$websocket_bytes_in/\$websocket_bytes_out';
    access_log %%PREFIX%%/access.log ws;

    upstream first   { server $nobody max_fails=0; server $a backup; }
    upstream failing { server $nobody max_fails=1 fail_timeout=60s; server $a; }
    upstream down    { server $nobody down; server $b; }
    upstream both    { server $a; server $b; }
    upstream limited { zone limited 64k; server $a max_conns=1; server $b max_conns=1; }
    upstream none    { server $nobody; server 127.0.0.2:1; }
    upstream hangs   { server 127.0.0.1:@{[$full->port]}; server $a backup; }
    upstream stays   { server 127.0.0.1:@{[$full->port]} max_fails=0; server $a backup; }
    upstream kept    { server $a; keepalive 4; }

    map \$arg_token \$target {
        default  "";
        s3cr3t   $a;
        unix     unix:$path;
        block    both;
        blocked  none;
        name     service.test:@{[$one->port]};
        again    SERVICE.test:@{[$one->port]};
        unknown  unknown.test:80;
        noport   127.0.0.1;
        nameonly service.test;
        garbage  "127.0.0.1:99999999";
        six      "[::1]:1";
    }
EOT
$ngx->{server} = <<"EOT";
    websocket_tcp_connect_timeout 5s;
    location = /a        { websocket_tcp $a; }
    location = /refused  { websocket_tcp $nobody; }
    location = /hangs    { websocket_tcp 127.0.0.1:@{[$full->port]}; websocket_tcp_connect_timeout 300ms; }
    location = /slow     { websocket_tcp 127.0.0.1:@{[$full->port]}; }
    location = /next     { websocket_tcp hangs; websocket_tcp_connect_timeout 300ms; }
    location = /in-time  { websocket_tcp stays; websocket_tcp_connect_timeout 300ms; websocket_tcp_next_upstream_timeout 5m; }
    location = /too-late { websocket_tcp stays; websocket_tcp_connect_timeout 300ms; websocket_tcp_next_upstream_timeout 100ms; }
    location = /from     { websocket_tcp $a; websocket_tcp_bind \$arg_from; }
    location = /unix     { websocket_tcp unix:$path; websocket_tcp_bind 127.0.0.5; }
    location = /first    { websocket_tcp first; }
    location = /once     { websocket_tcp first; websocket_tcp_next_upstream_tries 1; }
    location = /failing  { websocket_tcp failing; }
    location = /down     { websocket_tcp down; }
    location = /both     { websocket_tcp both; }
    location = /limited  { websocket_tcp limited; }
    location = /none     { websocket_tcp none; }
    location = /kept     { websocket_tcp kept; }
    location = /http     { proxy_pass http://kept; proxy_http_version 1.1; proxy_set_header Connection ""; }
    location = /page     { websocket_tcp $nobody; error_page 502 =503 /sorry; }
    location = /sorry    { return 200 "sorry\\n"; }
    location = /other    { websocket_tcp $nobody; error_page 502 = \@other; }
    location \@other      { websocket_tcp $b; }
    location = /forbid   { if (\$target = "") { return 403; } websocket_tcp \$target; }
    location = /map      { websocket_tcp \$target; }
    location = /resolve  { resolver @{[$dns->address]} ipv6=off; resolver_timeout 2s; websocket_tcp \$target; }
EOT
$ngx->{noise} = [qr/bind\(192\.0\.2\.1\) failed/];
$ngx->start;

# upgrade(path): the head of the answer.
sub upgrade_to {
    my ($path, %opt) = @_;

    my $client = Ws::Client->connect(port => $ngx->port);
    return ($client, $client->handshake($path, %opt));
}

sub status { my (undef, $head) = upgrade_to(@_); return $head->{status} }

# greets(path, service ...): whether the service at the other end is this one, or one of these.
sub greets {
    my ($path, @services) = @_;

    my $client = Ws::Client->open($ngx->port, $path);
    my ($service) = grep { $_->waiting } @services;
    my $peer = ($service // $services[0])->accept;
    $peer->send('hi');
    my $got = $client->message->{payload};
    $client->close(1000);
    $peer->rest;
    return $got eq 'hi';
}

case 'refused: 502, and error_page works' => sub {
    is(status('/refused'), 502);
    my (undef, $head) = upgrade_to('/page');
    is($head->{status}, 503);
    is($head->{body}, "sorry\n");
    my ($client, $other) = upgrade_to('/other');
    is($other->{status}, 101, 'error_page leads to another service');
    my $peer = $two->accept;
    $peer->send('hi');
    is($client->message->{payload}, 'hi');
    is($client->close(1000), 'close 1000');
    $ngx->await_access_log(qr{/other 101 \[\Q$nobody\E : \Q$b\E\]});
};

case 'no answer: 504' => sub {
    my $begin = time;
    is(status('/hangs'), 504);
    my $took = time - $begin;
    cmp_ok($took, '>', 0.25);
    cmp_ok($took, '<', 4);
    $ngx->await_log(qr/\[error\].*did not answer in time/);
};

case 'the next server' => sub {
    ok(greets('/first', $one), 'a backup');
    $ngx->await_access_log(qr{/first 101 \[\Q$nobody\E, \Q$a\E\] \[502, -\] connect=-, \d+\.\d{3}});
    is(status('/once'), 502, 'but not beyond websocket_tcp_next_upstream_tries');
    ok(greets('/down', $two), 'one that is not down');
    ok(greets('/next', $one), 'after one that does not answer');
    $ngx->await_access_log(qr{/next 101 \[127\.0\.0\.1:\d+, \Q$a\E\] \[504, -\]});
    is(status('/none'), 502, 'none left');
    $ngx->await_access_log(qr{/none 502 \[(?:\Q$nobody\E, 127\.0\.0\.2:1|127\.0\.0\.2:1, \Q$nobody\E)\] \[502, 502\]});
};

case 'no further server after websocket_tcp_next_upstream_timeout' => sub {
    ok(greets('/in-time', $one), 'while there is time');
    is(status('/too-late'), 504, 'and not later');
    $ngx->await_access_log(qr{/too-late 504 \[127\.0\.0\.1:\d+\] \[504\]});
};

case 'the address that connections come from' => sub {
    for my $from ('127.0.0.5', '') {
        my $client = Ws::Client->open($ngx->port, "/from?from=$from");
        my $peer = $one->accept;
        is($peer->{socket}->peerhost, $from || '127.0.0.1', "from \"$from\"");
        is($client->close(1000), 'close 1000');
    }
    ok(greets('/from?from=nowhere', $one), 'what is no address is left out');
    $ngx->await_log(qr/\[error\].*"websocket_tcp_bind" has no address for this request: "nowhere"/);
    is(status('/from?from=192.0.2.1'), 500, 'none of this machine');
    $ngx->await_log(qr/\[crit\] .*bind\(192\.0\.2\.1\) failed/);
    ok(greets('/unix', $unix), 'a unix socket has none');
};

case 'max_fails: a failed server is left alone' => sub {
    ok(greets('/failing', $one)) for 1 .. 4;
    my @lines = $ngx->access_log =~ m{^(/failing .*)$}mg;
    is(scalar(grep { /\Q$nobody\E/ } @lines), 1, 'asked once');
};

case 'balancing' => sub {
    ok(greets('/both', $one, $two)) for 1 .. 4;
    my %lines;
    await('four lines', sub { 4 == (() = $ngx->access_log =~ m{^/both }mg) });
    $lines{$_}++ for $ngx->access_log =~ m{^/both 101 \[(\S+)\]}mg;
    is_deeply(\%lines, { $a => 2, $b => 2 });
};

case 'max_conns: a session is a connection of its server' => sub {
    my $first = Ws::Client->open($ngx->port, '/limited');
    my $second = Ws::Client->open($ngx->port, '/limited');
    ok($one->waiting && $two->waiting, 'one each');
    is(status('/limited'), 502, 'no third');
    $ngx->await_log(qr/no server of the service can be used/);
    my @peers = ($one->accept, $two->accept);
    is($first->close(1000), 'close 1000');
    is($second->close(1000), 'close 1000');
    ok(greets('/limited', $one, $two), 'and room again');
};

case "a connection that is kept for HTTP is none for a service" => sub {
    my $http = Ws::Client->connect(port => $ngx->port);
    $http->send("GET /http HTTP/1.1\r\nHost: x\r\n\r\n");
    my $server = $one->accept;
    $server->line;
    $server->send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    is($http->response->{body}, 'ok');
    ok(greets('/kept', $one), 'a connection of its own');
};

case 'variables' => sub {
    ok(greets('/map?token=s3cr3t', $one), 'an address');
    ok(greets('/map?token=unix', $unix), 'a path');
    ok(greets('/map?token=block', $one, $two), 'the name of an upstream block') for 1 .. 2;
    is(status('/map?token=blocked'), 502, 'one without a server');
    is(status('/map?token=wrong'), 404, 'nothing');
    is(status('/forbid?token=wrong'), 403, 'what the configuration says of nothing');
    is(status('/map?token=noport'), 502, 'no port');
    is(status('/map?token=garbage'), 502, 'no address');
    is(status('/map?token=name'), 502, 'a name without a resolver');
    $ngx->await_log(qr/no "resolver" is defined to look up "service\.test"/);
};

case 'names are looked up' => sub {
    my $ask = sub {
        my ($token, @answer) = @_;
        my $client = Ws::Client->connect(port => $ngx->port);
        $client->send(upgrade("/resolve?token=$token"));
        is($dns->answer(@answer), $token eq 'unknown' ? 'unknown.test' : 'service.test');
        return $client;
    };
    my $client = $ask->('name', '127.0.0.1');
    is($client->response->{status}, 101);
    my $peer = $one->accept;
    $peer->send('hi');
    is($client->message->{payload}, 'hi');
    is($client->close(1000), 'close 1000');

    ok(greets('/resolve?token=again', $one), 'known by now: at once');
    is($ask->('unknown')->response->{status}, 502);
    $ngx->await_log(qr/"unknown\.test" could not be resolved: Host not found/);

    # Nothing else waits meanwhile.
    my $waiting = Ws::Client->connect(port => $ngx->port);
    $waiting->send(upgrade('/resolve?token=unknown'));
    ok(greets('/a', $one), 'others are served meanwhile');
    my $begin = time;
    $waiting->abandon;
    $dns->drop;
};

case 'a client that does not wait' => sub {
    my ($worker) = $ngx->workers;
    my $open = keys %{Ws::Process::descriptors($worker)};
    my $client = Ws::Client->connect(port => $ngx->port);
    $client->send(upgrade('/slow'));
    await('a connection to be begun', sub { keys %{Ws::Process::descriptors($worker)} >= $open + 2 });
    $client->reset;
    await('it to be given up', sub { keys %{Ws::Process::descriptors($worker)} <= $open }, 3);
    pass('the connection is given up with its client');
    $ngx->await_access_log(qr{^/slow 499}m);
};

case 'the variables' => sub {
    my $client = Ws::Client->open($ngx->port, '/a', headers => ['Sec-WebSocket-Protocol' => 'binary']);
    my $peer = $one->accept;
    $client->send(binary('abc'), text('de'));
    $peer->read(5);
    $peer->send('1234567');
    is($client->message->{payload}, '1234567');
    is($client->close(4001), 'close 4001');
    $ngx->await_access_log(
        qr{/a 101 \[\Q$a\E\] \[-\] connect=\d\.\d{3} in=7 out=5 tcp binary 4001 client 2/1 5/7});
};

case 'no argument is in the error log' => sub {
    is(status('/map?token=blocked', headers => [Referer => 'http://x/vnc.html?path=ws?token=s3cr3t']), 502);
    is(status('/map?token=noport'), 502);
    is(status('/map?token=s3cr3t', headers => [Origin => 'http://evil']), 403);
    my $client = Ws::Client->open($ngx->port, '/map?token=s3cr3t');
    my $peer = $one->accept;
    $peer->send('a');
    is($client->message->{payload}, 'a');
    $peer->reset;
    like($client->server_close, qr/^close 1014/);
    $ngx->await_log(qr/recv\(\) failed .*upstream: "tcp:\/\/\Q$a\E"/);
    # At the level debug nginx itself tells all of a request.
    my @lines = grep { !/\[debug\]/ && (/token/ || /s3cr3t/) } split /\n/, $ngx->log;
    is(scalar @lines, 0) or diag(join "\n", @lines);
    like($ngx->log, qr{request: "GET /map HTTP/1\.1".*referrer: "http://x/vnc\.html"});
};

case 'addresses that nginx refuses' => sub {
    for (
        ['127.0.0.1',              qr/no port in upstream "127\.0\.0\.1"/],
        ['tcp://127.0.0.1:1',      qr/an address has no scheme: "127\.0\.0\.1:1"/],
        ['127.0.0.1:0',            qr/invalid port in upstream/],
        ['does-not-exist.invalid:1', qr/host not found in upstream "does-not-exist\.invalid"/],
        ['$no_such_variable',      qr/unknown "no_such_variable" variable/],
    ) {
        my ($value, $error) = @$_;
        my ($status, $said) = Ws::Nginx->new(port => 1, server => "location / { websocket_tcp $value; }")->check_config;
        is($status, 1, $value);
        like($said, $error);
    }
};

close $_ for @fill;
$_->close for $one, $two, $unix, $full;
$ngx->stop;
done_testing();
