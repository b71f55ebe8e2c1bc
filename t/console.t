# websocket_console: a page to try the endpoint by hand.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Chromium;
use Ws::Client;
use Ws::Frame;
use Ws::Http;

my $ngx = Ws::Nginx->start(server => <<'EOT');
    websocket_close_timeout 500ms;
    location /on     { websocket_exec /bin/cat; websocket_console on; }
    location = /msg  { websocket_exec /bin/cat; websocket_exec_format messages; websocket_console on; }
    location = /off  { websocket_exec /bin/cat; websocket_console off; }
    location = /none { websocket_exec /bin/cat; }
    location = /sub    { websocket_channel $arg_id; websocket_console on; }
    location = /pub    { websocket_channel $arg_id mode=pub; websocket_console on; }
    location = /pubsub { websocket_channel $arg_id mode=pubsub; websocket_console on; }
    location = /info   { websocket_channel $arg_id mode=info; websocket_console on; }
    location = /shared { websocket_exec /bin/cat; websocket_channel $arg_id; websocket_console on; }
    location = /poll   { websocket_channel $arg_id; websocket_channel_transports poll websocket; websocket_console on; }
    location = /only   { websocket_channel $arg_id; websocket_channel_transports poll; websocket_console on; }
    location = /plain  { websocket_channel $arg_id mode=pub; }
    location = /deny { deny all; websocket_exec /bin/cat; websocket_console on; }
EOT

sub get {
    my ($path, @headers) = @_;

    my $client = Ws::Client->connect(port => $ngx->port);
    my $response = $client->handshake($path, headers => [Upgrade => undef, Connection => 'close',
        'Sec-WebSocket-Key' => undef, 'Sec-WebSocket-Version' => undef, @headers]);
    $response->{said} = sub { $client->header($_[0]) };
    return $response;
}

case 'a plain GET shows the page' => sub {
    my $page = get('/on');
    is($page->{status}, 200);
    like($page->{said}('Content-Type'), qr{^text/html(?:;|$)});
    like($page->{body}, qr/^<!doctype html>/i);
    is($page->{said}('Content-Length'), length $page->{body});
    my $policy = $page->{said}('Content-Security-Policy');
    like($policy, qr/default-src 'none'/);
    unlike($policy, qr/unsafe-inline|unsafe-eval|\*/, 'nothing loose in the policy');
    like($policy, qr/frame-ancestors 'none'/);
    is($page->{said}('X-Content-Type-Options'), 'nosniff');
    unlike($page->{body}, qr{(?:src|href)\s*=\s*["']?(?:https?:)?//}, 'nothing from elsewhere');
    my $head = request($ngx->port, 'HEAD', '/on');
    is($head->{status}, 200, 'HEAD');
    is($head->{headers}{'content-length'}[0], length $page->{body});
    is(request($ngx->port, 'HEAD', '/none')->{status}, 405, 'HEAD without a page');
    is(request($ngx->port, 'HEAD', '/on', Upgrade => 'websocket', Connection => 'Upgrade')->{status}, 405, 'HEAD is no handshake');
};

case 'nothing of the request is reflected' => sub {
    my $page = get('/on');
    for my $path ('/on/<script>alert(1)</script>', '/on?"><img/src=x>', '/on/%3Cscript%3E') {
        my $other = get($path, Host => 'evil.example', 'User-Agent' => '<b>', Cookie => '<i>');
        is($other->{status}, 200);
        ok($other->{body} eq $page->{body}, 'the same octets');
    }
};

my $BROWSER = 'text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8';

case 'a browser gets the page in a location with channels' => sub {
    my $page = get('/on')->{body};
    for my $path (qw(/sub /pub /pubsub /shared /poll)) {
        my $got = get("$path?id=x", Accept => $BROWSER);
        is($got->{status}, 200, $path);
        ok($got->{body} eq $page, 'the page');
        like($got->{said}('Vary'), qr/\bAccept\b/);
        is(request($ngx->port, 'HEAD', "$path?id=x", Accept => $BROWSER)->{headers}{'content-length'}[0], length $page, 'HEAD');
    }
    is(scalar $ngx->programs, 0, 'no program is started for it');
    is(get('/pub?id=x', Accept => '*/*')->{status}, 404, 'others get channel info');
    is(get('/poll?id=x', Accept => '*/*')->{status}, 304, 'others poll');
    is(get('/pub?id=y&presence', Accept => $BROWSER)->{status}, 404, 'who asks for presence is told');
    is(get('/info?id=y', Accept => $BROWSER)->{status}, 404, 'no WebSocket: no page');
    is(get('/only?id=x', Accept => $BROWSER)->{status}, 304, 'no WebSocket: no page');
    is(get('/plain?id=y', Accept => $BROWSER)->{status}, 404, 'off');
    for my $path (qw(/sub /pubsub)) {
        my $client = Ws::Client->connect(port => $ngx->port);
        $client->send("GET $path?id=x HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n");
        my $head = $client->wait_until(sub { $client->{in} =~ /^(.*?\r\n)\r\n/s }, 'the head of an EventSource');
        like($client->{in}, qr{Content-Type: text/event-stream}i, "$path: an EventSource");
    }
    my $client = Ws::Client->open($ngx->port, '/pubsub?id=x', headers => [Accept => $BROWSER]);
    $client->send(text('hello'));
    is($client->text, 'hello', 'a handshake is one');
    is($client->close(1000), 'close 1000');
};

case 'no program is started for it' => sub {
    get('/on') for 1 .. 3;
    is(scalar $ngx->programs, 0);
};

case 'the handshake is as ever' => sub {
    my $client = Ws::Client->open($ngx->port, '/on');
    $client->send(text('hello'));
    is($client->text, 'hello');
    is($client->close(1000), 'close 1000');
};

case 'a handshake that is wrong gets its answer, not the page' => sub {
    my $client = Ws::Client->connect(port => $ngx->port);
    is($client->handshake('/on', headers => ['Sec-WebSocket-Version' => 8])->{status}, 426);
    $client = Ws::Client->connect(port => $ngx->port);
    is($client->handshake('/on', headers => ['Sec-WebSocket-Key' => 'x'])->{status}, 400);
};

is(get('/off')->{status}, 426, 'off');
is(get('/none')->{status}, 426, 'off by default');
is(get('/deny')->{status}, 403, 'access is decided before');
is(get('/on', method => 'POST', 'Content-Length' => 0)->{status}, 405, 'POST');

SKIP: {
    skip 'Chromium is not installed', 1 if !Ws::Chromium::installed();
    my $browser = Ws::Chromium->open('http://127.0.0.1:' . $ngx->port . '/msg');

    my $log = '[...document.querySelectorAll("#log div")].map(line => line.className + " " + line.textContent).join("\n")';
    my $state = 'document.getElementById("state").textContent';
    my $click = sub { $browser->evaluate("document.getElementById('$_[0]').click()") };
    my $fill = sub { $browser->evaluate("document.getElementById('$_[0]').value = " . JSON::PP->new->ascii->allow_nonref->encode($_[1])) };
    my $line = sub { my ($pattern) = @_; $browser->await_value("/$pattern/m.test($log)"); pass("a line like $pattern") };

    case 'in a browser: connect, talk, close' => sub {
        $click->('connect');
        $browser->await_value("$state === 'open'");
        $fill->('message', "caf\x{e9} <b>bold</b>");
        $click->('send');
        # The time, then what came back; markup in a message is text.
        $line->('^in \d\d:\d\d:\d\d\.\d{3} < caf\u00e9 <b>bold<\/b>$');
        is($browser->evaluate('document.querySelectorAll("#log b").length'), 0, 'no markup from a message');
        $fill->('code', '4321');
        $fill->('reason', 'enough');
        $click->('close');
        $browser->await_value("$state === 'closed'");
        $line->('closed 4321');
    };

    case 'in a browser: a file as binary' => sub {
        my $file = $ngx->file('octets', "\0\1\xff\xfe");
        my $root = $browser->call('DOM.getDocument')->{root}{nodeId};
        my $node = $browser->call('DOM.querySelector', { nodeId => $root, selector => '#file' })->{nodeId};
        $browser->call('DOM.setFileInputFiles', { nodeId => $node, files => [$file] });
        $click->('connect');
        $browser->await_value("$state === 'open'");
        $click->('send-file');
        $line->('^in .*binary, 4 octets: 00 01 ff fe');
        $click->('close');
        $browser->await_value("$state === 'closed'");
    };

    is(join("\n", $browser->complaints), '', 'the browser has no complaint, and no policy was broken');
    $browser->close;
}

$ngx->stop;
done_testing();
