# Beside the filters and limits of nginx itself: each of them does to an answer of this module what it does to the same answer that
# is proxied.

use strict;
use warnings;

use lib 't/lib';
use Compress::Zlib qw(memGunzip);
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;

# A name, the directives, and the headers of the request.
my @FILTERS = (
    ['none', ''],
    ['gzip by type', 'gzip on; gzip_min_length 0; gzip_proxied any; gzip_types text/plain;', 'Accept-Encoding' => 'gzip'],
    ['gzip by any type', 'gzip on; gzip_min_length 0; gzip_proxied any; gzip_types *;', 'Accept-Encoding' => 'gzip'],
    ['gzip of another type', 'gzip on; gzip_min_length 0; gzip_proxied any; gzip_types text/csv;', 'Accept-Encoding' => 'gzip'],
    ['gzip that nobody asked for', 'gzip on; gzip_vary on; gzip_min_length 0; gzip_proxied any; gzip_types text/plain;'],
    ['sub_filter by type', 'sub_filter hello bye; sub_filter_types text/plain;'],
    ['sub_filter by any type', 'sub_filter hello bye; sub_filter_types *; sub_filter_last_modified on;'],
    ['ssi by type', 'ssi on; ssi_types text/plain; ssi_last_modified on;'],
    ['ssi by any type', 'ssi on; ssi_types *;'],
    ['addition by type', 'add_before_body /before; addition_types text/plain;'],
    ['addition by any type', 'add_after_body /before; addition_types *;'],
    ['charset', 'charset koi8-r;'],
    ['charset by type', 'charset koi8-r; charset_types text/plain; override_charset on;'],
    ['charset by any type', 'charset koi8-r; charset_types *; override_charset on;'],
    ['the same charset', 'charset utf-8; charset_types *; override_charset on;'],
    ['expires', 'expires 1h;'],
    ['expires at once', 'expires -1;'],
    ['expires never', 'expires max;'],
    ['expires by the type', 'expires $expires;'],
    ['add_header', 'add_header X-Added "$sent_http_content_type|$sent_http_cache_control|$sent_http_etag" always;'],
    ['limit_rate', 'limit_rate 1m;'],
);

my %TYPES = (
    typed   => 'text/plain; charset=utf-8',
    quoted  => 'text/plain; charset="utf-8"',
    bare    => 'text/plain',
    params  => 'text/plain; format=flowed',
    many    => 'text/plain; format=flowed; charset=utf-8',
    upper   => 'TEXT/Plain; Charset=UTF-8',
    markup  => 'text/html; charset=utf-8',
);

my $DATA = 'hello <!--# echo var="arg_name" default="nobody" --> ' . "\xd0\xb0\xd0\xb1" . ' hello';

my $locations = '';
for my $nth (0 .. $#FILTERS) {
    my ($name, $text) = @{$FILTERS[$nth]};
    $locations .= <<"EOT";
    location /own/$nth/ {
        websocket_channel \$arg_id;
        websocket_channel_start oldest;
        websocket_channel_transports websocket eventsource chunked multipart longpoll;
        $text
    }
    location /proxied/$nth/ {
        proxy_pass http://127.0.0.1:%%PORT%%/own/0/;
        proxy_http_version 1.1;
        proxy_set_header Accept-Encoding "";
        $text
    }
EOT
}

my $ngx = Ws::Nginx->start(
    workers => 2,
    http    => <<'EOT',
    charset_map koi8-r utf-8 { C1 D0B0; C2 D0B1; }
    map $sent_http_content_type $expires { default off; ~text/plain 2h; }
    limit_conn_zone $arg_zone zone=conn:1m;
    limit_req_zone $arg_zone zone=req:1m rate=1r/m;
EOT
    server  => $locations . <<'EOT');
    location = /before { internal; return 200 "before "; }
    location = /pub { websocket_channel $arg_id mode=pub; }
    location = /limited { websocket_channel $arg_zone; limit_conn conn 1; }
    location = /rated { websocket_channel $arg_zone; websocket_channel_transports poll; limit_req zone=req; }
    location = /sse {
        websocket_channel $arg_id;
        websocket_channel_start oldest;
        websocket_channel_transports eventsource;
        sub_filter hello bye; sub_filter_types text/event-stream; sub_filter_once off;
        expires 1h;
    }
    location = /zipped {
        websocket_channel $arg_id;
        websocket_channel_start oldest;
        websocket_channel_transports eventsource;
        gzip on; gzip_min_length 0; gzip_types text/event-stream;
    }
    location = /status { websocket_status; gzip on; gzip_min_length 0; gzip_types text/plain application/json; expires 1h; }
    location = /refused { websocket_channel $arg_id; websocket_channel_create off; error_page 403 /instead; }
    location = /named { websocket_channel $arg_id; websocket_channel_create off; error_page 403 = @instead; }
    location = /other { websocket_channel $arg_id; websocket_channel_create off; error_page 403 =404 /pub; }
    location = /instead { return 200 "instead"; }
    location @instead { rewrite ^ /instead break; proxy_pass http://127.0.0.1:%%PORT%%; }
EOT

is(request($ngx->port, 'POST', "/pub?id=$_", 'Content-Type' => $TYPES{$_}, body => $DATA)->{status}, 202) for sort keys %TYPES;

# What an answer says, without what differs between any two of them, and between an answer with a length and one without.
sub said {
    my ($where, $nth, $id) = @_;

    my (undef, undef, @headers) = @{$FILTERS[$nth]};
    my $response = request($ngx->port, 'GET', "/$where/$nth/x?id=$id&name=anna", @headers);
    my %headers = %{$response->{headers}};
    delete @headers{qw(date expires server connection transfer-encoding content-length)};
    my $body = $response->{body};
    $body = memGunzip($body) // 'not compressed' if ($headers{'content-encoding'}[0] // '') eq 'gzip';
    return { status => $response->{status}, headers => \%headers, body => $body };
}

for my $nth (0 .. $#FILTERS) {
    case $FILTERS[$nth][0] => sub {
        for my $id (sort keys %TYPES) {
            my ($own, $proxied) = map { said($_, $nth, $id) } qw(own proxied);
            is_deeply($own, $proxied, $TYPES{$id}) or diag(explain($own, $proxied));
        }
    };
}

my %STREAMS = (
    eventsource => [Accept => 'text/event-stream'],
    chunked     => [TE => 'chunked'],
    multipart   => [Accept => 'multipart/mixed'],
);

# A filter may keep a flush that has no octets to itself.
case 'no filter keeps back the head of what has no body yet' => sub {
    for my $nth (0 .. $#FILTERS) {
        my ($name, undef, @headers) = @{$FILTERS[$nth]};
        for my $transport (sort keys %STREAMS) {
            my $client = Ws::Client->connect(port => $ngx->port);
            $client->send(request_text('GET', "/own/$nth/x?id=silent", @{$STREAMS{$transport}}, @headers));
            $client->wait_until(sub { $client->{in} =~ /\r\n\r\n/ }, "$name: the head of $transport");
            like($client->{in}, qr{^HTTP/1\.1 200 }, "$name, $transport");
        }
        my $client = Ws::Client->open($ngx->port, "/own/$nth/x?id=silent$nth");
        request($ngx->port, 'POST', "/pub?id=silent$nth", body => $DATA);
        is($client->message->{payload}, $DATA, "$name, WebSocket");
    }
};

case 'what they are to do' => sub {
    my %nth = map { $FILTERS[$_][0] => $_ } 0 .. $#FILTERS;
    my $own = sub { said('own', $nth{$_[0]}, $_[1] // 'typed') };
    is($own->('gzip by type')->{headers}{'content-encoding'}[0], 'gzip');
    like($own->('gzip by type')->{headers}{etag}[0], qr{^W/"\d+:1"$}, 'the position stays, as a weak entity tag');
    like($own->('gzip of another type')->{headers}{etag}[0], qr{^"\d+:1"$});
    like($own->('sub_filter by type')->{body}, qr/^bye/);
    like($own->('ssi by type')->{body}, qr/hello anna/);
    like($own->('addition by type')->{body}, qr/^before hello/);
    is($own->('charset by type')->{headers}{'content-type'}[0], 'text/plain; charset=koi8-r');
    like($own->('charset by type')->{body}, qr/ \xc1\xc2 /);
    is_deeply($own->('the same charset')->{headers}{'content-type'}, ['text/plain; charset=utf-8'], 'once');
    is_deeply($own->('expires')->{headers}{'cache-control'}, ['max-age=3600'], 'one Cache-Control');
};

case 'an EventSource goes on, through filters' => sub {
    my $client = Ws::Client->connect(port => $ngx->port);
    $client->send(request_text('GET', '/sse?id=stream', Accept => 'text/event-stream'));
    for my $nth (1 .. 3) {
        request($ngx->port, 'POST', '/pub?id=stream', body => "hello $nth ");
        $client->wait_until(sub { $client->{in} =~ /data: bye $nth/ }, "message $nth");
    }
    my @cached = $client->{in} =~ /^(Cache-Control: .*?)\r$/mg;
    is_deeply(\@cached, ['Cache-Control: max-age=3600']);
    ok(!$client->{end}, 'it is still there');
};

case 'an EventSource goes on, compressed' => sub {
    my $client = Ws::Client->connect(port => $ngx->port);
    $client->send(request_text('GET', '/zipped?id=zipped', Accept => 'text/event-stream', 'Accept-Encoding' => 'gzip'));
    $client->wait_until(sub { $client->{in} =~ /\r\n\r\n/ }, 'the head');
    like($client->{in}, qr/^Content-Encoding: gzip\r$/m);
    my $before = 0;
    for my $nth (1 .. 3) {
        request($ngx->port, 'POST', '/pub?id=zipped', body => "hello $nth");
        $client->wait_until(sub { length $client->{in} > $before + 10 }, "message $nth");
        $before = length $client->{in};
    }
    ok(!$client->{end}, 'it is still there');
};

case 'the status' => sub {
    my $response = request($ngx->port, 'GET', '/status', 'Accept-Encoding' => 'gzip');
    is($response->{headers}{'content-encoding'}[0], 'gzip');
    is(scalar @{$response->{headers}{'cache-control'}}, 1);
};

case 'error_page in its forms' => sub {
    is(request($ngx->port, 'GET', '/refused?id=none')->{body}, 'instead');
    is(request($ngx->port, 'GET', '/named?id=none')->{body}, 'instead');
    is(request($ngx->port, 'GET', '/other?id=none')->{status}, 404);
    my $client = Ws::Client->connect(port => $ngx->port);
    is($client->handshake('/named?id=none')->{status}, 200, 'of a handshake');
};

case 'limit_conn' => sub {
    my $first = Ws::Client->open($ngx->port, '/limited?zone=a');
    is(Ws::Client->connect(port => $ngx->port)->handshake('/limited?zone=a')->{status}, 503);
    is(request($ngx->port, 'GET', '/limited?zone=a')->{status}, 503);
    is($first->close(1000), 'close 1000');
    my $next;
    await('the place', sub {
        $next = Ws::Client->connect(port => $ngx->port);
        return $next->handshake('/limited?zone=a')->{status} == 101;
    });
    is($next->close(1000), 'close 1000');
};

case 'limit_req' => sub {
    is(request($ngx->port, 'GET', '/rated?zone=b')->{status}, 304);
    is(request($ngx->port, 'GET', '/rated?zone=b')->{status}, 503);
};

$ngx->stop;
done_testing();
