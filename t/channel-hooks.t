# Hooks: publish_request, join_request and leave_request, asked of locations of the same server and of servers behind them.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Hook;
use Ws::Process;
use Ws::Service;

my $app = Ws::Service->listen;
my $silent = (my $deaf = Ws::Service->listen)->address;
my $nobody = Ws::Service->refusing;

my $SERVER = <<"SERVER";
    client_body_buffer_size 1k;
    client_max_body_size 4m;
    websocket_channel_history length=100;
    lingering_timeout 50ms;
    location = /sub  { websocket_channel \$arg_id; websocket_channel_start oldest; }
    location = /info { websocket_channel \$arg_id mode=pub; }

    # Answered by nginx itself.
    location = /said  { websocket_channel \$arg_id mode=pub; websocket_channel_publish_request /say/\$arg_say; }
    location = /both  { websocket_channel \$arg_id mode=pubsub; websocket_channel_publish_request /say/\$arg_say; }
    location = /enter { websocket_channel \$arg_id; websocket_channel_join_request /say/\$arg_say; }
    location = /say/replace { return 200 "another message"; }
    location = /say/empty   { return 200; }
    location = /say/binary  { default_type application/octet-stream; return 200 "octets"; }
    location = /say/file    { error_page 405 =200 /file; return 405; }
    location = /say/big     { error_page 405 =200 /big; return 405; }
    location = /say/moved   { return 302 http://example.com/; }
    location = /say/down    { proxy_pass http://127.0.0.1:$nobody; }
    location = /say/open    { proxy_pass http://127.0.0.1:$nobody; error_page 502 = \@open; }
    location \@open          { return 304; }
    location = /say/late    { proxy_pass http://$silent; proxy_read_timeout 300ms; }
    SAYS

    # Answered in other ways.
    gzip on; gzip_types *; gzip_min_length 1; reset_timedout_connection on; log_subrequest on; output_buffers 2 4k;
    location = /say/rewritten  { rewrite ^ /say/replace last; }
    location = /say/limited    { limit_rate 1k; sendfile_max_chunk 1k; proxy_pass http://127.0.0.1:%%PORT%%/file; proxy_method GET; }
    location = /say/unbuffered { proxy_pass http://127.0.0.1:%%PORT%%/file; proxy_method GET; proxy_buffering off; }
    location = /say/few        { proxy_pass http://127.0.0.1:%%PORT%%/file; proxy_method GET; proxy_buffers 2 1k; proxy_buffer_size 1k;
                                 proxy_busy_buffers_size 1k; }
    location = /say/cached     { proxy_pass http://127.0.0.1:%%PORT%%/file; proxy_method GET; proxy_cache hooks; proxy_cache_methods POST;
                                 proxy_cache_key file; proxy_cache_valid 1m; }
    location = /say/kept       { proxy_pass http://kept/file; proxy_method GET; proxy_http_version 1.1; proxy_set_header Connection ""; }
    location = /say/chunks     { proxy_pass http://127.0.0.1:%%PORT%%/ssi; proxy_method GET; proxy_http_version 1.1; }
    location = /say/threads    { aio threads; directio 512; error_page 405 =200 /file; return 405; }
    location = /say/sent       { error_page 405 =200 /sent; return 405; }
    location = /say/includes   { error_page 405 =200 /ssi; return 405; }
    location = /say/delayed    { limit_req zone=delayed burst=100; proxy_pass http://127.0.0.1:%%PORT%%/file; proxy_method GET; }
    location = /say/mirrored   { mirror /mirror; proxy_pass http://127.0.0.1:%%PORT%%/file; proxy_method GET; }
    location = /say/caught     { proxy_pass http://127.0.0.1:%%PORT%%/missing; proxy_intercept_errors on; error_page 404 =200 /file; }
    location = /say/tried      { try_files /missing \@tried; }
    location = /say/nowhere    { set \$nowhere 127.0.0.1:$nobody; proxy_pass http://\$nowhere; }
    location = /say/closed     { return 444; }
    location = /say/missing    { error_page 405 =200 /missing; return 405; }
    location \@tried           { proxy_pass http://127.0.0.1:%%PORT%%; proxy_method GET; rewrite ^ /file break; }
    location = /mirror         { proxy_pass http://127.0.0.1:%%PORT%%/say/204; }
    location = /sent           { sendfile on; aio threads; alias %%PREFIX%%/html/file; }
    location = /ssi            { ssi on; ssi_types *; }
    location ~ (?s)^/split/(.*)\$  { websocket_channel split mode=pub; websocket_channel_publish_request "/app?channel=\$1"; }
    location ~ (?s)^/parted/(.*)\$ { websocket_channel split; websocket_channel_leave_request "/bye?channel=\$1"; }
    location ~ (?s)^/path/(.*)\$   { websocket_channel split; websocket_channel_leave_request "/bye/\$1"; }
    location = /climb          { websocket_channel split; websocket_channel_leave_request "/bye/\$arg_who"; }
    location /bye/             { proxy_pass http://app; }

    # Answered by the test.
    location = /ask  { websocket_channel \$arg_id mode=pub; websocket_channel_publish_request /app; }
    location = /chat { websocket_channel \$arg_id mode=pubsub; websocket_channel_publish_request /app;
                       websocket_max_message_size 64k; websocket_ping_interval 0; }
    location = /small { websocket_channel \$arg_id mode=pub; websocket_channel_publish_request /app;
                       client_max_body_size 10; }
    location = /in   { websocket_channel_transports websocket eventsource longpoll chunked multipart;
                       websocket_channel \$arg_id; websocket_channel_join_request /app; websocket_channel_leave_request /bye; }
    location = /poll { websocket_channel_transports poll;
                       websocket_channel \$arg_id; websocket_channel_join_request /app; websocket_channel_leave_request /bye; }
    location = /out  { websocket_channel \$arg_id; websocket_channel_leave_request "/bye?who=\$arg_who"; }
    location /app { internal; proxy_pass http://app; proxy_set_header X-Channel \$websocket_channel_id;
                    proxy_set_header X-Endpoint \$websocket_endpoint; proxy_set_header X-Original \$request_uri;
                    proxy_set_header X-Address \$remote_addr:\$remote_port; proxy_set_header X-Scheme \$scheme;
                    proxy_set_header X-Set \$set; proxy_http_version 1.1; }
    location /bye { internal; proxy_pass http://app; proxy_set_header X-Channel \$websocket_channel_id;
                    proxy_set_header X-Message \$websocket_message_id; }

    # A hook that asks itself.
    location = /circle { websocket_channel \$arg_id mode=pub; websocket_channel_publish_request /round; }
    location = /round  { proxy_pass http://127.0.0.1:%%PORT%%/circle; }
    location = /self   { websocket_channel \$arg_id mode=pub; websocket_channel_publish_request /self; }

    set \$set "of \$arg_id";
SERVER
my $says = join "\n    ", map { "location = /say/$_ { return $_; }" } 201, 204, 304, 400, 401, 403, 404, 422, 429, 500, 503;
$SERVER =~ s/SAYS/$says/;

my %common = (http => "websocket_channel_zone 16m;
    proxy_cache_path %%PREFIX%%/cache keys_zone=hooks:1m;
    limit_req_zone \$uri zone=delayed:1m rate=20r/s;
    upstream kept { server 127.0.0.1:%%PORT%%; keepalive 4; }
    upstream app { server " . $app->address . '; }',
    server => $SERVER, noise => []);
my $ngx = Ws::Nginx->new(%common, workers => 2, tls => 1);
$ngx->file('html/file', 'f' x 100_000);
$ngx->file('html/big', 'b' x (4 << 20));
$ngx->file('html/ssi', '<!--# include virtual="/file" --><!--# include virtual="/say/replace" -->');
$ngx->start;
my $port = $ngx->port;

sub stored {
    my ($id) = @_;

    my $info = request($port, 'GET', "/info?id=$id", Accept => 'text/json');
    return 0 if $info->{status} == 404;
    my ($count) = $info->{body} =~ /"messages": (\d+)/;
    return $count;
}

sub first {
    my ($id) = @_;

    my $client = Ws::Client->open($port, "/sub?id=$id");
    my $message = $client->message;
    $client->abandon;
    return $message;
}

# subscribed(id, n): until the channel has so many subscribers.
sub subscribed {
    my ($id, $count) = @_;

    await("$count subscribers", sub {
        request($port, 'GET', "/info?id=$id", Accept => 'text/json')->{body} =~ /"subscribers": $count,/;
    });
}

my $ids = 0;
sub id { return 'id' . $ids++ }

case 'each answer, to a publisher by HTTP' => sub {
    for my $row (
        ['replace', 202, 'another message', TEXT], ['304', 202, 'mine', TEXT], ['204', 204], ['empty', 202, '', TEXT],
        ['binary', 202, 'octets', BINARY], ['file', 202, 'f' x 100_000, TEXT], ['400', 400], ['403', 403], ['404', 404],
        ['422', 422], ['500', 500], ['503', 503], ['moved', 403], ['201', 403], ['down', 502], ['late', 504],
        ['open', 202, 'mine', TEXT],
    ) {
        my ($say, $status, $published, $opcode) = @$row;
        my $id = id();
        my $response = request($port, 'POST', "/said?id=$id&say=$say", body => 'mine');
        is($response->{status}, $status, "$say: status");
        is($response->{body}, '', 'no body') if $status == 204;
        like($response->{body}, qr/^queued messages: 1\r\n/) if defined $published;
        is(stored($id), defined $published ? 1 : 0, "$say: stored");
        next if !defined $published;
        my $message = first($id);
        ok($message->{payload} eq $published, "$say: message");
        is($message->{opcode}, $opcode, "$say: type");
    }
};

case 'locations of many kinds' => sub {
    my $file = 'f' x 100_000;
    my %says = ((map { $_ => $file } qw(limited unbuffered few cached kept threads sent delayed mirrored caught tried)),
        rewritten => 'another message', chunks => "${file}another message", includes => "${file}another message",
        nowhere => 502, closed => 502, missing => 404);
    for my $round (1 .. 3) {
        for my $say (sort keys %says) {
            my ($id, $expected) = (id(), $says{$say});
            my $response = request($port, 'POST', "/said?id=$id&say=$say", body => 'mine', 'Accept-Encoding' => 'gzip');
            is($response->{status}, $expected =~ /^\d+$/ ? $expected : 202, "$say, $round");
            ok(first($id)->{payload} eq $expected, "message of $say") if $response->{status} == 202;
        }
    }
};

case 'each answer, to a publisher by WebSocket' => sub {
    for my $row (
        ['replace', 'another message'], ['304', 'mine'], ['empty', ''], ['403', undef, 403], ['422', undef, 422],
        ['moved', undef, 403], ['500', undef, 500, 1011], ['down', undef, 502, 1013],
    ) {
        my ($say, $published, $told, $code) = @$row;
        my $id = id();
        my $client = Ws::Client->open($port, "/said?id=$id&say=$say");
        $client->send(text('mine'));
        if (defined $published) {
            like($client->text, qr/^queued messages: 1\r\n/, "answer $say");
            is($client->close, 'close 1000');
            is(first($id)->{payload}, $published);
        } elsif ($code) {
            is($client->server_close, "close $code message refused: $told", "answer $say");
            is(stored($id), 0);
        } else {
            is($client->text, "message refused: $told", "answer $say");
            is($client->close, 'close 1000');
            is(stored($id), 0);
        }
    }
    my $id = id();
    my $client = Ws::Client->open($port, "/said?id=$id&say=204");
    $client->send(text('mine'));
    like($client->text, qr/^queued messages: 0\r\n/, 'a dropped message is answered too');
    is($client->close, 'close 1000');
    is(stored($id), 0);
};

case 'what the location sees of a message' => sub {
    my $client = Ws::Client->connect(port => $port);
    $client->send(request_text('POST', '/ask?id=a&x=1', 'Content-Type' => 'text/markdown', Cookie => 'c=1',
        'X-Forwarded-For' => '192.0.2.1', 'If-None-Match' => '*', 'Accept-Encoding' => 'gzip', Range => 'bytes=0-1',
        'X-Websocket-Hops' => 2, Authorization => 'Basic eDp5', body => 'the message'));
    my $asked = asked($app);
    is("$asked->{method} $asked->{path}", 'POST /app?id=a&x=1', 'the arguments are passed on');
    is($asked->{body}, 'the message');
    my %headers = map { $_ => join ',', @{$asked->{headers}{$_}} } keys %{$asked->{headers}};
    is($headers{'content-type'}, 'text/markdown');
    is($headers{'content-length'}, 11);
    is($headers{cookie}, 'c=1');
    is($headers{authorization}, 'Basic eDp5');
    is($headers{'x-forwarded-for'}, '192.0.2.1');
    is($headers{'x-channel'}, 'a');
    is($headers{'x-endpoint'}, 'channel');
    is($headers{'x-original'}, '/ask?id=a&x=1');
    is($headers{'x-address'}, '127.0.0.1:' . $client->local_port);
    is($headers{'x-scheme'}, 'http');
    is($headers{'x-set'}, 'of a', 'variables have their values');
    is($headers{'x-websocket-hops'}, 3);
    is($headers{$_}, undef, "no $_") for qw(if-none-match accept-encoding range);
    answer($asked, 304);
    is($client->response->{status}, 202);
    is(first('a')->{payload}, 'the message');
    my $tls = Ws::Client->open($ngx->tls_port, '/chat?id=tls', tls => 1);
    $tls->send(frame(BINARY, "\0\1"));
    $asked = asked($app);
    is($asked->{headers}{'x-scheme'}[0], 'https');
    is($asked->{headers}{'content-type'}[0], 'application/octet-stream');
    is($asked->{headers}{upgrade}, undef);
    answer($asked, 304);
    is($tls->message->{payload}, "\0\1");
    $tls->send(text('words'));
    $asked = asked($app);
    is($asked->{headers}{'content-type'}[0], 'text/plain; charset=utf-8');
    answer($asked, 200, 'other words', 'Content-Type' => 'text/plain');
    is($tls->text, 'other words');
    is($tls->close, 'close 1000');
};

case 'the messages of one publisher stay in order' => sub {
    my $reader = Ws::Client->open($port, '/sub?id=order');
    my $client = Ws::Client->open($port, '/chat?id=order');
    my $count = 20;
    $client->send(map { text("m$_") } 1 .. $count);
    for my $n (1 .. $count) {
        my $asked = asked($app);
        is($asked->{body}, "m$n");
        ok(!$app->waiting(0.02), 'one at a time') if $n < 4;
        answer($asked, $n % 3 ? 304 : (200, "M$n"));
    }
    is($reader->text, $_ % 3 ? "m$_" : "M$_") for 1 .. $count;
    is($client->text, $_ % 3 ? "m$_" : "M$_") for 1 .. $count;
    is($client->close, 'close 1000');
};

case 'a message in fragments, and a Close right behind the messages' => sub {
    my $client = Ws::Client->open($port, '/chat?id=close');
    $client->send(frame(TEXT, 'fra', fin => 0), frame(CONT, 'gment'), text('second'), close_frame(1000));
    my $asked = asked($app);
    is($asked->{body}, 'fragment');
    answer($asked, 304);
    $asked = asked($app);
    is($asked->{body}, 'second');
    answer($asked, 304);
    is(($client->frames)[0]{payload}, 'fragment');
    is(stored('close'), 2);
};

case 'a publisher that goes away while a hook is asked' => sub {
    my $client = Ws::Client->open($port, '/chat?id=gone');
    $client->send(text('complete'));
    my $asked = asked($app);
    $client->reset;
    answer($asked, 304);
    await('the message', sub { stored('gone') == 1 });
    is(first('gone')->{payload}, 'complete');
    my $http = Ws::Client->connect(port => $port);
    $http->send(request_text('POST', '/ask?id=gone2', body => 'complete too'));
    $asked = asked($app);
    $http->reset;
    $ngx->await_access_log(qr{POST /ask\?id=gone2.* 499 });
    answer($asked, 304);
    await('the message', sub { stored('gone2') == 1 });
    $client = Ws::Client->open($port, '/chat?id=gone3');
    $client->send(text('one'), text('two'));
    $asked = asked($app);
    $client->fin;
    sleep 1;
    answer($asked, 304);
    answer(asked($app), 304);
    await('both messages', sub { stored('gone3') == 2 });
};

sub enter {
    my ($transport, $path, @headers) = @_;

    my $client = Ws::Client->connect(port => $port);
    if ($transport eq 'websocket') {
        $client->send(upgrade($path, @headers));
    } else {
        my %how = (eventsource => [Accept => 'text/event-stream'], multipart => [Accept => 'multipart/mixed'],
            chunked => [TE => 'chunked', Connection => 'TE']);
        $client->send(request_text('GET', $path, @{$how{$transport} // []}, @headers));
    }
    return $client;
}

case 'a hook that takes its time' => sub {
    my $http = Ws::Client->connect(port => $port);
    $http->send(request_text('POST', '/ask?id=slow', body => 'a'));
    my $asked = asked($app);
    my $socket = enter('websocket', '/in?id=slow');
    my $join = asked($app);
    is(request($port, 'GET', '/info?id=slow')->{status}, 404, 'others are served meanwhile');
    ok($asked->{connection}->silent(0.5), 'nothing gives it up');
    ok($join->{connection}->silent(0.1));
    answer($asked, 304);
    answer($join, 200);
    is($http->response->{status}, 202);
    is($socket->response->{status}, 101);
    $socket->abandon;
    answer(asked($app), 200);
};

case 'the size of an answer' => sub {
    my $big = 'x' x (64 << 10);
    my $client = Ws::Client->open($port, '/chat?id=limit');
    $client->send(text('a'));
    answer(asked($app), 200, $big);
    ok($client->text eq $big, 'as large as a message may be');
    $client->send(text('a'));
    answer(asked($app), 200, "$big+");
    is($client->server_close, 'close 1013 message refused: 502', 'one octet more');
    is(request($port, 'POST', '/said?id=limit2&say=big', body => 'a')->{status}, 202);
    ok(first('limit2')->{payload} eq 'b' x (4 << 20), 'a large one by HTTP');
    my $http = Ws::Client->connect(port => $port);
    $http->send(request_text('POST', '/small?id=limit3', body => 'a'));
    answer(asked($app), 200, '0123456789');
    is($http->response->{status}, 202);
    $http->send(request_text('POST', '/small?id=limit3', body => 'a'));
    answer(asked($app), 200, '0123456789a');
    is($http->response->{status}, 502);
    $http = Ws::Client->connect(port => $port);
    $http->send(request_text('POST', '/small?id=limit3', body => 'a'));
    answer(asked($app), 403, 'a page that is longer than a message may be');
    is($http->response->{status}, 403);
    is(stored('limit3'), 1);
    my $large = join '', map { chr(33 + $_ % 90) } 1 .. 300_000;
    $http = Ws::Client->connect(port => $port);
    $http->send(request_text('POST', '/ask?id=limit4', body => $large));
    $http->flush;
    my $asked = asked($app);
    ok($asked->{body} eq $large, 'a message that was in a file');
    answer($asked, 304);
    is($http->response->{status}, 202);
    ok(first('limit4')->{payload} eq $large);
};

case 'an answer that is cut short' => sub {
    for my $row (["Content-Length: 100\r\n", 'some'], ["Transfer-Encoding: chunked\r\n", "4\r\nsome\r\n"]) {
        my ($header, $body) = @$row;
        my $id = id();
        my $http = Ws::Client->connect(port => $port);
        $http->send(request_text('POST', "/ask?id=$id", body => 'a'));
        my $asked = asked($app);
        $asked->{connection}->send("HTTP/1.1 200 OK\r\n$header\r\n$body");
        $asked->{connection}->close;
        is($http->response->{status}, 502);
        is(stored($id), 0);
    }
};

case 'an answer that would have to be decoded' => sub {
    my $http = Ws::Client->connect(port => $port);
    $http->send(request_text('POST', '/ask?id=encoded', body => 'a'));
    answer(asked($app), 200, "\x1f\x8b", 'Content-Encoding' => 'gzip');
    is($http->response->{status}, 502);
    is(stored('encoded'), 0);
    $ngx->await_log(qr/the answer of a hook is encoded: "gzip"/);
};

case 'an answer that says that it is not encoded' => sub {
    my $http = Ws::Client->connect(port => $port);
    $http->send(request_text('POST', '/ask?id=identity', body => 'a'));
    answer(asked($app), 200, 'b', 'Content-Encoding' => 'Identity');
    is($http->response->{status}, 202);
    is(stored('identity'), 1);
};

case 'no request is smuggled into the arguments of a hook' => sub {
    for my $evil ('a%20HTTP/1.1%0d%0aX-Evil:%201', 'a%0ab', 'a%20b', 'a%7fb', '%09') {
        is(request($port, 'POST', "/split/$evil", body => 'x')->{status}, 500, $evil);
        is(request($port, 'GET', "/parted/$evil", Accept => 'text/event-stream')->{status}, 500);
    }
    ok(!$app->waiting(0.1), 'nobody was asked');
    my $stream = events($port, '/parted/plain');
    $stream->{client}->reset;
    my $leave = asked($app);
    is($leave->{path}, '/bye?channel=plain');
    answer($leave, 204);
    $stream = events($port, '/path/a%20HTTP/1.1%0d%0aX-Evil:%201');
    $stream->{client}->reset;
    $leave = asked($app);
    is($leave->{path}, '/bye/a%20HTTP/1.1%0D%0AX-Evil:%201', 'a path is escaped');
    is($leave->{headers}{'x-evil'}, undef);
    answer($leave, 204);
};

case 'nobody subscribes who could leave unseen' => sub {
    for my $transport (qw(websocket eventsource longpoll)) {
        for my $hops (8, 'x') {
            my $client = enter($transport, '/in?id=unseen', 'X-Websocket-Hops' => $hops);
            is($client->response->{status}, 508, "$transport, $hops hops");
        }
        is(enter($transport, '/climb?who=..')->response->{status}, 500, 'a URI that is none');
    }
    my $stream = events($port, '/out?id=unseen&who=seven', 'X-Websocket-Hops' => 7);
    $stream->{client}->reset;
    my $leave = asked($app);
    is($leave->{headers}{'x-websocket-hops'}[0], 8);
    answer($leave, 204);
};

case 'circles end' => sub {
    is(request($port, 'POST', '/circle?id=circle', body => 'a')->{status}, 508);
    is(stored('circle'), 0);
    is(request($port, 'POST', '/self?id=circle', body => 'a')->{status}, 508);
    is(stored('circle'), 0);
    $ngx->await_log(qr/a hook is asked because of itself more than 8 times/);
};

case 'who may subscribe, on each transport' => sub {
    publish($port, '/info?id=door', 'hello');
    for my $transport (qw(websocket eventsource longpoll)) {
        for my $row (['replace', 200], ['204', 200], ['401', 401], ['403', 403], ['404', 404], ['429', 429], ['500', 500],
            ['moved', 403], ['down', 502], ['304', 403])
        {
            my ($say, $status) = @$row;
            my $client = enter($transport, "/enter?id=door&say=$say");
            $status = 101 if $status == 200 && $transport eq 'websocket';
            if ($status < 400) {
                subscribed('door', 1);
                publish($port, '/info?id=door', 'more');
                $client->wait_until(sub { $client->{in} =~ /\r\n\r\n/ }, 'a response');
                like($client->{in}, qr{^HTTP/1\.1 $status }, "$transport $say");
                $client->abandon;
                subscribed('door', 0);
            } else {
                is($client->response->{status}, $status, "$transport $say");
            }
        }
    }
};

case 'a challenge reaches the client' => sub {
    for my $transport (qw(websocket eventsource longpoll)) {
        my $client = enter($transport, '/in?id=challenge');
        answer(asked($app), 401, '', 'WWW-Authenticate' => 'Bearer realm="x"');
        is($client->response->{status}, 401);
        is($client->header('www-authenticate'), 'Bearer realm="x"', $transport);
    }
};

case 'join and leave, on each transport' => sub {
    for my $transport (qw(websocket eventsource longpoll chunked multipart)) {
        my $client = enter($transport, "/in?id=$transport&x=1");
        my $join = asked($app);
        is("$join->{method} $join->{path}", "GET /app?id=$transport&x=1");
        is($join->{body}, '');
        is($join->{headers}{'content-length'}, undef);
        is($join->{headers}{'x-channel'}[0], $transport);
        my $info = request($port, 'GET', "/info?id=$transport", Accept => 'text/json');
        is($info->{status}, 404, 'it has not subscribed yet');
        answer($join, 200, 'welcome');
        subscribed($transport, 1);
        my ($last) = publish($port, "/info?id=$transport", 'm')->{body} =~ /id: (\d+:\d+)/;
        $client->wait_until(sub { $client->{in} =~ /\bm/ && $client->{in} =~ /\r\n\r\n.*m/s }, 'the message');
        $client->abandon;
        my $leave = asked($app);
        is("$leave->{method} $leave->{path}", "GET /bye?id=$transport&x=1");
        is($leave->{headers}{'x-channel'}[0], $transport);
        is($leave->{headers}{'x-message'}[0], $last, 'the last message that it got');
        answer($leave, 500);
        ok(!$app->waiting(0.1), 'once');
    }
};

case 'a poll joins and leaves each time' => sub {
    publish($port, '/info?id=poll', 'm');
    for my $etag ('', '"1:1"') {
        my $client = Ws::Client->connect(port => $port);
        $client->send(request_text('GET', '/poll?id=poll', $etag ? ('If-None-Match' => $etag) : ()));
        answer(asked($app), 204);
        like($client->response->{status}, qr/^(?:200|304)$/);
        is((my $leave = asked($app))->{path}, '/bye?id=poll');
        answer($leave, 204);
    }
    my $client = Ws::Client->connect(port => $port);
    $client->send(request_text('GET', '/poll?id=poll'));
    answer(asked($app), 403);
    is($client->response->{status}, 403);
    ok(!$app->waiting(0.1));
};

case 'a client that goes away while its join is asked' => sub {
    for my $transport (qw(websocket eventsource longpoll)) {
        my $client = enter($transport, "/in?id=early");
        my $join = asked($app);
        $client->reset;
        # Another request of a client that is gone: nginx has noticed.
        await('the client to be missed', sub { $ngx->access_log =~ /early/ ? $ngx->file('access.log', '') : 0 });
        answer($join, 200);
        my $leave = asked($app);
        is($leave->{path}, '/bye?id=early', 'whoever was let in goes');
        is($leave->{headers}{'x-channel'}[0], 'early');
        answer($leave, 200);
        $client = enter($transport, "/in?id=early");
        $join = asked($app);
        $client->reset;
        await('the client to be missed', sub { $ngx->access_log =~ /early/ ? $ngx->file('access.log', '') : 0 });
        answer($join, 403);
        ok(!$app->waiting(0.1), 'who was refused does not');
    }
};

case 'a leave without a join request, and its arguments' => sub {
    my $client = Ws::Client->open($port, '/out?id=plain&who=me');
    is($client->close, 'close 1000');
    my $leave = asked($app);
    is($leave->{path}, '/bye?who=me');
    answer($leave, 200);
    # A Close that is not answered, a channel that is deleted, a client that is reset.
    $client = Ws::Client->open($port, '/out?id=plain&who=deleted');
    publish($port, '/info?id=plain', 'x');
    is(request($port, 'DELETE', '/info?id=plain')->{status}, 200);
    $leave = asked($app);
    is($leave->{path}, '/bye?who=deleted');
    answer($leave, 200);
    $client->reset;
    $client = Ws::Client->open($port, '/out?id=plain&who=reset');
    $client->reset;
    $leave = asked($app);
    is($leave->{path}, '/bye?who=reset');
    answer($leave, 200);
    ok(!$app->waiting(0.1), 'once each');
};

case 'many leave at once' => sub {
    my $count = 300;
    my @clients = map { Ws::Client->open($port, "/out?id=many&who=$_") } 1 .. $count;
    $_->reset for @clients;
    my %seen;
    for (1 .. $count) {
        my $leave = asked($app);
        $seen{$leave->{path}}++;
        answer($leave, 204);
    }
    is(scalar keys %seen, $count, 'each is told');
    ok(!$app->waiting(0.1), 'once');
};

my @workers = $ngx->workers;
is(scalar @workers, 2, 'the workers are the same') or diag $ngx->log;
$ngx->stop;

case 'a URI that is none' => sub {
    my $bad = Ws::Nginx->start(%common, server => <<'EOT');
    location = /pub { websocket_channel a mode=pub; websocket_channel_publish_request $arg_uri; }
    location = /sub { websocket_channel a; websocket_channel_join_request $arg_uri; }
    location = /ok  { return 304; }
EOT
    for my $uri ('', 'ok', '/../ok', '/x/../../ok', '%2e%2e') {
        is(request($bad->port, 'POST', "/pub?uri=$uri", body => 'x')->{status}, 500, "\"$uri\"");
        is(request($bad->port, 'GET', "/sub?uri=$uri")->{status}, 500);
    }
    is(request($bad->port, 'POST', '/pub?uri=/ok', body => 'x')->{status}, 202);
    $bad->stop;
};

case 'reload, quit, timeout and stop: everybody leaves once' => sub {
    for my $how (qw(reload quit timeout stop)) {
        my $main = $how eq 'timeout' ? 'worker_shutdown_timeout 200ms;' : '';
        my $server = $SERVER . ($how eq 'reload' || $how eq 'quit' ? 'websocket_drain 100ms;' : '');
        my $other = Ws::Nginx->start(%common, main => $main, server => $server, workers => 2);
        my $on = $other->port;
        my @clients = map { Ws::Client->open($on, "/out?id=end&who=$_") } 1 .. 6;
        my @streams = map { events($on, "/out?id=end&who=e$_") } 1 .. 3;
        if ($how eq 'reload') {
            $other->reload;
            $_->{client}->abandon for @streams;
        } elsif ($how eq 'quit') {
            $other->signal('QUIT');
            $_->{client}->abandon for @streams;
        } elsif ($how eq 'timeout') {
            $other->signal('QUIT');
        } else {
            $other->signal('TERM');
        }
        my %seen;
        # Half a second is not enough for all of them under valgrind, nor are two.
        my $is_hasty = under_valgrind() && ($how eq 'timeout' || $how eq 'stop');
        for (1 .. @clients + @streams) {
            last if $is_hasty && !$app->waiting(5);
            # Its worker may have gone meanwhile.
            my $leave = eval { asked($app) } // last;
            $seen{$leave->{path}}++;
            answer($leave, 204);
            if ($how ne 'stop' && keys %seen == 2) {
                $_->server_close for $how eq 'timeout' ? () : @clients;
            }
        }
        is(scalar keys %seen, @clients + @streams, "$how: all of them") if !$is_hasty;
        ok(!$app->waiting(0.1), "$how: once");
        $_->abandon for @clients;
        $how eq 'reload' ? $other->stop : $other->stop('gone');
    }
};

case 'publishers that go away leave connections to others' => sub {
    my $small = Ws::Nginx->start(%common, connections => 64);
    my $on = $small->port;
    my @asked;
    for my $n (1 .. 16) {
        my $publisher = Ws::Client->connect(port => $on);
        $publisher->send(request_text('POST', "/ask?id=left&n=$n", body => "m$n"));
        push @asked, asked($app);
        $publisher->reset;
    }
    is(request($on, 'POST', '/ask?id=left', body => 'x')->{status}, 503, 'by HTTP');
    my $socket = Ws::Client->open($on, '/chat?id=left');
    $socket->send(text('x'));
    is($socket->server_close, 'close 1013 nobody can be asked about the message', 'by WebSocket');
    is(request($on, 'GET', '/in?id=left', Accept => 'text/event-stream')->{status}, 503, 'a subscriber');
    $small->await_log(qr/16 hooks have not answered yet/);
    answer(shift @asked, 304);
    await('one message', sub { request($on, 'GET', '/info?id=left')->{status} == 200 });
    is(request($on, 'POST', '/said?id=left&say=304', body => 'x')->{status}, 202, 'there is room again');
    answer($_, 304) for @asked;
    await('all messages', sub { request($on, 'GET', '/info?id=left', Accept => 'text/json')->{body} =~ /"messages": 17/ });
    $small->stop;
};

case 'leave requests that wait are bounded' => sub {
    my $server = "location = /poll { websocket_channel_transports poll; websocket_channel a; websocket_channel_leave_request /deaf; }
        location = /deaf { proxy_pass http://$silent; }
        location = /other { return 200; }
        keepalive_requests 100000;";
    my $one = Ws::Nginx->start(http => 'websocket_channel_zone 1m;', server => $server);
    my ($count, $status) = (0, 0);
    while ($status != 503 && $count < 9000) {
        my $client = Ws::Client->connect(port => $one->port);
        my $some = 500;
        $client->send(request_text('GET', '/poll') x $some);
        for (1 .. $some) {
            $status = $client->response->{status};
            last if $status == 503;
            $count++;
        }
        $client->reset;
    }
    is($status, 503);
    cmp_ok($count, '>=', 8192);
    cmp_ok($count, '<', 8192 + 500);
    is(request($one->port, 'GET', '/other')->{status}, 200, 'others are served');
    $one->stop;
};

case 'no connections left' => sub {
    my $small = Ws::Nginx->start(%common, connections => 48);
    my $on = $small->port;
    my $publisher = Ws::Client->open($on, '/said?id=y&say=304');
    my ($said, @clients) = '';
    while ($said !~ /refused/ && @clients < 48) {
        push @clients, Ws::Client->open($on, '/out?id=x&who=' . @clients);
        $publisher->send(text('x'));
        $said = $publisher->frame->{payload};
    }
    like($said, qr/message refused: 503/, 'a hook that cannot be asked');
    like($small->log, qr/no connections left to ask a hook/);
    $_->reset for @clients;
    my %seen;
    for (@clients) {
        my $leave = asked($app);
        $seen{$leave->{path}}++;
        answer($leave, 204);
    }
    is(scalar keys %seen, @clients, 'but everybody has left');
    $publisher->abandon;
    $small->stop;
};

case 'a leave request that nobody answers keeps no worker for ever' => sub {
    my $other = Ws::Nginx->start(%common, main => 'worker_shutdown_timeout 100ms;');
    my $client = Ws::Client->open($other->port, '/out?id=end');
    my ($worker) = $other->workers;
    $other->reload;
    my $leave = asked($app);
    await('the worker to leave', sub { !$other->old_workers }, 20);
    like($other->log, qr/1 requests to hooks were given up/);
    $other->stop;
    my $stopped = Ws::Nginx->start(%common);
    $client = Ws::Client->open($stopped->port, '/out?id=end');
    $stopped->stop;
};

done_testing();
