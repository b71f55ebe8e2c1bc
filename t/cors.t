# Pages of other origins (Fetch, section 3.2): what a browser needs to subscribe, publish and resume, and what a page gets that
# is not allowed: nothing.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use JSON::PP;
use Ws::Nginx;
use Ws::Chromium;
use Ws::Client;
use Ws::Http;
use Ws::Stream;

my $other = Ws::Nginx::free_port();
my $ngx = Ws::Nginx->start(workers => 2, http => <<HTTP, server => <<'SERVER');
    websocket_channel_zone 8m;
    server {
        listen 127.0.0.1:$other;
        root   %%PREFIX%%/html;
    }
HTTP
    websocket_origin same https://app.example.com *.example.org $arg_origin;
    location = /sub       { websocket_channel $arg_id; }
    location = /oldest    { websocket_channel $arg_id; websocket_channel_start oldest; }
    location = /poll      { websocket_channel $arg_id; websocket_channel_transports poll; websocket_channel_start oldest; }
    location = /raw       { websocket_channel $arg_id; websocket_channel_transports raw; }
    location = /parts     { websocket_channel $arg_id; websocket_channel_transports chunked multipart; }
    location = /pub       { websocket_channel $arg_id mode=pub; }
    location = /pubsub    { websocket_channel $arg_id mode=pubsub; websocket_channel_start oldest; }
    location = /keep1     { websocket_channel $arg_id mode=pub; websocket_channel_history length=1; }
    location = /any       { websocket_channel $arg_id mode=pubsub; websocket_channel_start oldest; websocket_origin any; }
    location = /known     { websocket_channel $arg_id; websocket_channel_create off; }
SERVER

my $port = $ngx->port;
my $app = 'https://app.example.com';

# cors(response): its Access-Control headers without their common beginning.
sub cors {
    my ($response) = @_;

    my %headers = %{$response->{headers}};
    return { map { /^access-control-(.*)/ ? ($1 => join '|', @{$headers{$_}}) : () } keys %headers };
}

my $EXPOSED = 'ETag, Last-Modified, Retry-After, X-Channel-Gap';
my %named = ('allow-origin' => $app, 'allow-credentials' => 'true', 'expose-headers' => $EXPOSED);

publish($port, '/pub?id=there', 'message');

# What each kind of request is answered: [method, path, status, headers].
my @REQUESTS = (
    ['GET', '/oldest?id=there', 200],
    ['HEAD', '/oldest?id=there', 200],
    ['GET', '/poll?id=there', 200],
    ['GET', '/poll?id=nothing', 304],
    ['GET', '/pub?id=there', 200],
    ['GET', '/pub?id=nowhere', 404],
    ['POST', '/pub?id=posted', 202, body => 'x'],
    ['PUT', '/pubsub?id=posted', 202, body => 'x'],
    ['DELETE', '/pub?id=posted', 200],
    ['DELETE', '/pub?id=nowhere', 404],
    ['GET', '/known?id=unknown', 403],
    ['GET', '/parts?id=x', 406],
    ['PATCH', '/pub?id=x', 405],
    ['POST', '/sub?id=x', 405, body => 'x'],
    ['OPTIONS', '/sub?id=x', 204],
);

case 'a page that is named may read every answer' => sub {
    for my $row (@REQUESTS) {
        my ($method, $path, $status, @rest) = @$row;
        my $response = request($port, $method, $path, Origin => $app, @rest);
        is($response->{status}, $status, "$method $path");
        my %got = %{cors($response)};
        is_deeply({ map { $_ => $got{$_} } keys %named }, \%named);
        like($response->{headers}{vary}[0], qr/\bOrigin\b/);
        is(scalar @{$response->{headers}{vary}}, 1);
    }
    for my $stream (events($port, '/sub?id=x', Origin => $app), stream($port, 'raw', '/raw?id=x', Origin => $app),
        map { stream($port, $_, '/parts?id=x', Origin => $app) } qw(chunked multipart))
    {
        is($stream->{status}, 200);
        is_deeply(cors($stream), \%named);
        like($stream->{headers}{vary}[0], qr/\bOrigin\b/);
    }
};

case 'one that is not gets 403, and nothing of its own' => sub {
    for my $origin ('https://evil.example.com', 'https://app.example.com.evil.com', 'null', 'http://app.example.com', '', 'x' x 500) {
        for my $row (@REQUESTS) {
            my ($method, $path, undef, @rest) = @$row;
            my $client = Ws::Client->connect(port => $port);
            $client->send(request_text($method, $path, Connection => 'close', Origin => $origin, @rest));
            $client->wait_until(sub { $client->{end} }, 'the end');
            like($client->{in}, qr{^HTTP/1.1 403 }, "$method $path $origin");
            unlike($client->{in}, qr/Access-Control/i);
            like($client->{in}, qr/^Vary: .*\bOrigin\b/m, 'caches know why');
            is(index($client->{in}, $origin), -1, 'not echoed') if length $origin;
        }
    }
    is(request($port, 'GET', '/pub?id=there')->{status}, 200, 'nothing was done');
    is(request($port, 'GET', '/pub?id=evil')->{status}, 404);
};

case 'several, of which the first is allowed' => sub {
    for my $row (@REQUESTS) {
        my ($method, $path, undef, @rest) = @$row;
        my $response = request($port, $method, $path, Origin => 'https://app.example.com', @rest, Origin => 'https://evil.example.com');
        is($response->{status}, 400, "$method $path");
    }
};

case 'without an origin: no browser, and caches keep it apart' => sub {
    for my $row (@REQUESTS) {
        my ($method, $path, $status, @rest) = @$row;
        my $response = request($port, $method, $path, @rest);
        is($response->{status}, $status, "$method $path");
        my %got = %{cors($response)};
        delete @got{qw(allow-methods allow-headers max-age)};
        is_deeply(\%got, {});
        like($response->{headers}{vary}[0], qr/\bOrigin\b/);
    }
};

case 'where every page is allowed, each comes as nobody' => sub {
    for my $origin ('https://anybody.example', 'null') {
        my $got = cors(request($port, 'POST', '/any?id=any', Origin => $origin, body => 'x'));
        is_deeply($got, { 'allow-origin' => $origin, 'expose-headers' => $EXPOSED });
    }
};

case 'ways to be named' => sub {
    for my $row (['/sub', 'https://a.example.org'], ['/sub', 'http://localhost'], ['/sub?origin=http://b.test', 'http://b.test']) {
        my ($path, $origin) = @$row;
        my $got = cors(request($port, 'OPTIONS', $path, Origin => $origin));
        is_deeply([@$got{qw(allow-origin allow-credentials)}], [$origin, 'true'], $origin);
    }
    my $got = cors(request($port, 'OPTIONS', '/sub?origin=any', Origin => 'https://x.test'));
    is_deeply([@$got{qw(allow-origin allow-credentials)}], ['https://x.test', undef], 'a variable that says "any"');
};

case 'a preflight' => sub {
    my %preflight = (Origin => $app, 'Access-Control-Request-Method' => 'POST',
        'Access-Control-Request-Headers' => 'content-type,x-eventsource-event');
    for my $row (['/pub', 'GET, HEAD, POST, PUT, DELETE, OPTIONS'], ['/pubsub', 'GET, HEAD, POST, PUT, OPTIONS'],
        ['/sub', 'GET, HEAD, OPTIONS'])
    {
        my ($path, $methods) = @$row;
        my $response = request($port, 'OPTIONS', "$path?id=preflight", %preflight);
        is($response->{status}, 204);
        my $got = cors($response);
        is($got->{'allow-methods'}, $methods);
        is($got->{'max-age'}, 86400);
        my %allowed = map { lc $_ => 1 } split /, /, $got->{'allow-headers'};
        ok($allowed{$_}, $_) for qw(content-type last-event-id if-none-match x-eventsource-event authorization cache-control);
    }
    is(request($port, 'GET', '/pub?id=preflight')->{status}, 404, 'and nothing else happened');
};

case 'a browser' => sub {
    plan skip_all => 'Chromium is not installed' if !Ws::Chromium::installed();
    $ngx->file('html/index.html', <<'HTML');
<!DOCTYPE html><title>other origin</title>
<script>
    const got = {};
    async function run(base) {
        const url = path => base + path;
        const subscribe = () => new Promise((resolve, reject) => {
            const source = new EventSource(url('/oldest?id=browser&origin=' + location.origin), { withCredentials: true });
            source.onmessage = event => { source.close(); resolve(event.data + ' ' + event.lastEventId.replace(/^\d+/, '')); };
            source.onerror = () => reject(new Error('EventSource'));
        });
        const allowed = '&origin=' + location.origin;
        const published = await fetch(url('/keep1?id=browser' + allowed), {
            method: 'PUT', body: 'hello', credentials: 'include',
            headers: { 'Content-Type': 'text/x-test', 'X-EventSource-Event': 'message' } });
        got.published = published.status + ' ' + /queued messages: 1/.test(await published.text());
        got.events = await subscribe();
        const poll = await fetch(url('/oldest?id=browser' + allowed), { headers: { 'If-None-Match': '"1:1"' } });
        got.poll = [poll.status, await poll.text(), /^"\d+:1"$/.test(poll.headers.get('ETag')), poll.headers.get('X-Channel-Gap'),
            poll.headers.get('Last-Modified') !== null].join(' ');
        const anybody = await fetch(url('/any?id=browser'), { headers: { 'Last-Event-ID': '1:1' } });
        got.anybody = anybody.status + ' ' + await anybody.text();
        for (const [name, path, init] of [
            ['as somebody where everybody may', '/any?id=browser', { credentials: 'include' }],
            ['not named', '/oldest?id=browser', {}],
            ['not named, with a preflight', '/pub?id=browser', { method: 'PUT', body: 'evil' }],
        ]) {
            // From its cache the browser would ask for what comes next, and wait.
            got[name] = await fetch(url(path), { ...init, cache: 'no-store' }).then(response => response.status, error => error.name);
        }
        got.refused = await new Promise(resolve => {
            const source = new EventSource(url('/oldest?id=browser'));
            source.onopen = () => resolve('open');
            source.onerror = () => resolve('closed ' + source.readyState);
        });
        got.done = true;
    }
</script>
HTML
    my $browser = Ws::Chromium->open("http://127.0.0.1:$other/index.html");
    $browser->await_value('typeof run === "function"');
    $browser->evaluate("run('http://127.0.0.1:$port').catch(error => { got.error = String(error); got.done = true; }), 0");
    $browser->await_value('got.done');
    is_deeply(decode_json($browser->evaluate('JSON.stringify(got)')), {
        done => JSON::PP::true,
        published => '202 true',
        events => 'hello :1',
        poll => '200 hello true 0 true',
        anybody => '200 hello',
        'as somebody where everybody may' => 'TypeError',
        'not named' => 'TypeError',
        'not named, with a preflight' => 'TypeError',
        refused => 'closed 2',
    });
    is(request($port, 'GET', '/oldest?id=browser')->{body}, 'hello', 'and who was not allowed has published nothing');
    $browser->close;
};

$ngx->stop;
done_testing();
