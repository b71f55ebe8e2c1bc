# What a location makes of its messages: templates on every transport, names of events, what is sent in a silence, long-polls with several
# messages, heartbeats of clients.

use strict;
use warnings;

use lib 't/lib';
use JSON::PP qw(decode_json);
use Test::More;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Nginx;
use Ws::Stream;

my $JSON = q('{"id":"$websocket_message_id","channel":"$websocket_channel_id","data":"$websocket_message"}');

my $ngx = Ws::Nginx->start(workers => 2, http => 'websocket_channel_zone 4m;', server => <<"SERVER");
    location = /pub  { websocket_channel \$arg_id mode=pub; }
    location = /two  { websocket_channel \$arg_id other mode=pub; }
    websocket_channel_start oldest;
    location /json/ {
        websocket_channel_message_template $JSON;
        location = /json/sub         { websocket_channel \$arg_id; }
        location = /json/both        { websocket_channel \$arg_id mode=pubsub; websocket_channel_start newest; }
        location = /json/many        { websocket_channel \$arg_id other; }
        location = /json/eventsource { websocket_channel \$arg_id; websocket_channel_tell_id on; }
        location = /json/multipart   { websocket_channel \$arg_id; websocket_channel_transports multipart; }
        location = /json/chunked     { websocket_channel \$arg_id; websocket_channel_transports chunked; }
        location = /json/raw         { websocket_channel \$arg_id; websocket_channel_transports raw; }
        location = /json/off         { websocket_channel \$arg_id; websocket_channel_message_template off; }
        location = /json/lines       { websocket_exec /bin/cat; websocket_channel \$arg_id; }
        location = /json/bytes       { websocket_exec /bin/cat; websocket_channel \$arg_id; websocket_exec_format bytes; }
    }
    location = /text  { websocket_channel \$arg_id; websocket_channel_message_template '\$websocket_channel_id: \$websocket_message'; }
    location = /bare  { websocket_channel \$arg_id; websocket_channel_message_template '{"m":\${websocket_message}}'; }
    location = /said  { websocket_channel \$arg_id; websocket_channel_message_template '{\$websocket_message}' text; }
    location = /jsonp { websocket_channel \$arg_id; websocket_channel_message_template '\$arg_cb({"m":"\$websocket_message","q":"\$arg_q"});'; }
    location = /name  { websocket_channel \$arg_id; websocket_channel_eventsource_event news; }
    location = /name/both { websocket_channel \$arg_id; websocket_channel_eventsource_event news; websocket_channel_tell_id event; }
    location = /ping  { websocket_channel \$arg_id; websocket_ping_interval 300ms; websocket_channel_eventsource_ping_event ping;
                        websocket_channel_eventsource_ping_data still; websocket_channel_eventsource_ping_comment here; }
    location = /parts { websocket_channel \$arg_id; websocket_channel_longpoll multipart; websocket_channel_tell_id on; }
    location = /lines { websocket_channel \$arg_id; websocket_channel_longpoll raw; websocket_channel_separator "|"; }
    location = /poll  { websocket_channel \$arg_id; websocket_channel_longpoll raw; websocket_channel_transports poll; }
    location = /short { websocket_channel \$arg_id mode=pub; websocket_channel_history length=2; }
    location /heart/ {
        websocket_client_heartbeat ping pong;
        location = /heart/sub    { websocket_channel \$arg_id; }
        location = /heart/pub    { websocket_channel \$arg_id mode=pub; }
        location = /heart/pubsub { websocket_channel \$arg_id mode=pubsub; }
        location = /heart/cat    { websocket_exec /bin/cat; websocket_channel \$arg_id; }
    }
SERVER
my $port = $ngx->port;

sub object { my ($text) = @_; my $object = decode_json($text); return join ' ', map { "$_=$object->{$_}" } sort keys %$object }

my $WEIRD = "a \"b\" \\ \n\x{c3}\x{a9}";

case 'JSON, by WebSocket: each message an object, whatever it is' => sub {
    my @clients = map { Ws::Client->open($port, '/json/sub?id=ws"1') } 1 .. 6;
    my ($id) = publish($port, '/pub?id=ws"1', $WEIRD)->{body} =~ /id: (\d+:\d+)/;
    for my $client (@clients) {
        my $object = decode_json($client->text);
        is_deeply($object, { id => $id, channel => 'ws"1', data => "a \"b\" \\ \n\x{e9}" });
    }
    my ($octets) = publish($port, '/pub?id=ws"1', "\xff", 'Content-Type' => 'application/octet-stream')->{body} =~ /id: (\d+:\d+)/;
    my $message = $clients[0]->message;
    is($message->{opcode}, TEXT, 'JSON is text');
    is_deeply(decode_json($message->{payload}), { id => $octets, channel => 'ws"1', data => "\x{fffd}" });
    my $both = Ws::Client->open($port, '/json/both?id=both');
    $both->send(text('x'));
    like(object($both->text), qr/^channel=both data=x id=\d+:1$/, 'published as it is, and sent by the template');
    my $later = Ws::Client->open($port, '/json/off?id=both');
    is($later->text, 'x');
};

case 'subprotocols: the head stays, channels.v1 is one of its own' => sub {
    publish($port, '/pub?id=sub', 'x', 'Content-Type' => 'text/plain');
    my $meta = Ws::Client->open($port, '/json/sub?id=sub', headers => ['Sec-WebSocket-Protocol' => 'ws+meta.nchan']);
    like($meta->text, qr/^id: (\d+:1)\ncontent-type: application\/json\n\n\{"id":"\1","channel":"sub","data":"x"\}$/);
    my $v1 = Ws::Client->open($port, '/json/sub?id=sub', headers => ['Sec-WebSocket-Protocol' => 'channels.v1']);
    $v1->send(text('{"op":"subscribe"}'));
    $v1->text;
    is(decode_json($v1->text)->{data}, 'x');
};

case 'streams' => sub {
    publish($port, '/pub?id=streams', $_) for 'x', "two\nlines";
    my ($event, $other) = await_events(events($port, '/json/sub?id=streams'), 2);
    is(object($event->{data}), "channel=streams data=x id=$event->{id}");
    is(decode_json($other->{data})->{data}, "two\nlines");
    my $named = Ws::Client->connect(port => $port);
    $named->send(request_text('GET', '/json/eventsource?id=streams', Accept => 'text/event-stream'));
    $named->wait_until(sub { $named->{in} =~ /\nchannel: streams\ndata: \{"id":"\d+:1","channel":"streams"/ }, 'an event that names its channel');
    my ($part) = stream($port, 'multipart', '/json/multipart?id=streams')->next(1);
    is($part->{fields}{'content-type'}, 'application/json');
    like(object($part->{data}), qr/data=x/);
    like(object(stream($port, $_, "/json/$_?id=streams")->data(1)->[0]), qr/^channel=streams data=x id=\d+:1$/, $_) for qw(chunked raw);
};

case 'long-poll' => sub {
    publish($port, '/pub?id=poll', 'x');
    my $got = request($port, 'GET', '/json/sub?id=poll');
    is($got->{headers}{'content-type'}[0], 'application/json');
    is($got->{headers}{'content-length'}[0], length $got->{body});
    is($got->{headers}{'x-content-type-options'}[0], 'nosniff');
    my ($id) = $got->{headers}{etag}[0] =~ /"(.*)"/;
    is(object($got->{body}), "channel=poll data=x id=$id");
};

case 'text, and a message in JSON that is JSON itself' => sub {
    publish($port, '/pub?id=t', '{"a":[1]}');
    is(Ws::Client->open($port, '/text?id=t')->text, 't: {"a":[1]}');
    is(Ws::Client->open($port, '/bare?id=t')->text, '{"m":{"a":[1]}}');
    is(Ws::Client->open($port, '/said?id=t')->text, '{{"a":[1]}}');
    publish($port, '/pub?id=u', '1, "x":2');
    is_deeply(decode_json(Ws::Client->open($port, '/bare?id=u')->text), { m => '1, "x":2' }, 'or else a string');
    publish($port, '/pub?id=b', "\xff", 'Content-Type' => 'application/octet-stream');
    my $message = Ws::Client->open($port, '/text?id=b')->message;
    is_deeply([@$message{qw(opcode payload)}], [BINARY, "b: \xff"], 'octets stay octets in text');
};

case 'JSONP: the function is the client\'s, if it has the name of one' => sub {
    publish($port, '/pub?id=jp', '</script>"');
    my $got = request($port, 'GET', '/jsonp?id=jp&cb=app.f_1&q=a"b');
    is($got->{body}, 'app.f_1({"m":"\u003c/script>\"","q":"a\"b"});');
    like($got->{headers}{'content-type'}[0], qr{^application/javascript});
    is(request($port, 'GET', "/jsonp?id=jp&cb=$_")->{status}, 400, "no function: $_")
        for '', '1a', 'a(b)', 'alert(1)//', 'a..b', '%61', 'x' x 129;
    is(request($port, 'GET', '/jsonp?id=jp')->{status}, 400);
    is(Ws::Client->connect(port => $port)->handshake('/jsonp?id=jp&cb=a-b')->{status}, 400);
    my @polls = map { my $poll = Ws::Client->connect(port => $port); $poll->send(request_text('GET', "/jsonp?id=jq&cb=f$_&q=$_")); $poll } 1 .. 5;
    await('subscribers', sub { subscribers($port, 'jq') == 5 });
    publish($port, '/pub?id=jq', 'm');
    is($polls[$_ - 1]->response->{body}, qq(f$_({"m":"m","q":"$_"});), 'each has its own') for 1 .. 5;
};

case 'of several channels the one that it is from, and the position of all' => sub {
    my $client = Ws::Client->open($port, '/json/many?id=many');
    publish($port, '/two?id=many', 'x');
    my @got = map { decode_json($client->text) } 1, 2;
    is_deeply([sort map { $_->{channel} } @got], [qw(many other)]);
    publish($port, '/pub?id=other', 'y');
    my $again = Ws::Client->open($port, "/json/many?id=many&last_event_id=$got[1]{id}");
    is(decode_json($_->text)->{data}, 'y', 'its id is a position') for $client, $again;
};

case 'programs that are shared: lines are messages, octets are not' => sub {
    my $lines = Ws::Client->open($port, '/json/lines?id=lines');
    $lines->send(text('x'));
    like(object($lines->text), qr/^channel=lines data=x /);
    my $bytes = Ws::Client->open($port, '/json/bytes?id=bytes');
    $bytes->send(text('x'));
    is($bytes->message->{payload}, 'x');
};

case 'names of events' => sub {
    publish($port, '/pub?id=ev', 'plain');
    publish($port, '/pub?id=ev', 'named', 'X-EventSource-Event' => 'own');
    my @events = await_events(events($port, '/name?id=ev'), 2);
    is_deeply([map { "$_->{event} $_->{data}" } @events], ['news plain', 'own named']);
    my ($by_channel) = await_events(events($port, '/name/both?id=ev'), 1);
    is($by_channel->{event}, 'ev', 'the channel is the name where that is said');
    is(Ws::Client->open($port, '/name?id=ev')->text, 'plain', 'others have no names');
};

case 'a silence' => sub {
    my $events = events($port, '/ping?id=silence');
    my ($ping, $next) = await_events($events, 2);
    is_deeply([@$ping{qw(event data)}], [qw(ping still)]);
    is($next->{event}, 'ping');
    cmp_ok($events->{keepalives}, '>=', 2, 'and a comment');
    like($events->{id}, qr/^\d+:0$/, 'it is no message');
};

case 'a long-poll gets all that is there: parts' => sub {
    publish($port, '/pub?id=parts', $_, 'Content-Type' => 'text/x') for 1 .. 3;
    my $got = request($port, 'GET', '/parts?id=parts');
    my ($boundary) = $got->{headers}{'content-type'}[0] =~ m{^multipart/mixed; boundary=(\S+)$};
    is($got->{headers}{'content-length'}[0], length $got->{body});
    my @parts = split /\r?\n?--\Q$boundary\E/, $got->{body};
    is(shift @parts, '');
    is(pop @parts, "--\r\n");
    is_deeply([map { /\r\n\r\n(.*)$/s } @parts], [1 .. 3]);
    like($_, qr{^\r\nLast-Modified: .*\r\nEtag: "\d+:\d"\r\nContent-Type: text/x\r\nX-Channel-Id: parts\r\n\r\n}) for @parts;
    my $tag = $got->{headers}{etag}[0];
    like($tag, qr/^"\d+:3"$/, 'the position is behind the last one');
    my $poll = Ws::Client->connect(port => $port);
    $poll->send(request_text('GET', '/parts?id=parts', 'If-None-Match' => $tag));
    await('a subscriber', sub { subscribers($port, 'parts') == 1 });
    publish($port, '/pub?id=parts', 4);
    like($poll->response->{body}, qr/\r\n\r\n4\r\n--/, 'and waits where there is nothing');
};

case 'a long-poll gets all that is there: raw' => sub {
    publish($port, '/pub?id=rawpoll', $_) for 1 .. 3;
    my $got = request($port, 'GET', '/lines?id=rawpoll');
    is($got->{body}, '1|2|3|');
    like($got->{headers}{'content-type'}[0], qr{^text/plain});
    my ($tag) = $got->{headers}{etag}[0] =~ /"(.*)"/;
    is(request($port, 'GET', '/poll?id=rawpoll')->{body}, "1\n2\n3\n", 'a poll as well');
    is(request($port, 'GET', "/poll?id=rawpoll&last_event_id=$tag")->{status}, 304);
    publish($port, '/short?id=rawpoll', $_) for 4 .. 9;
    my $late = request($port, 'GET', "/lines?id=rawpoll&last_event_id=$tag");
    is($late->{body}, '8|9|');
    is($late->{headers}{'x-channel-gap'}[0], 4, 'what is lost is told');
    my $head = request($port, 'HEAD', '/lines?id=rawpoll');
    is($head->{status}, 200);
    is($head->{body}, '');
};

case 'heartbeats of clients' => sub {
    for my $where (qw(sub pubsub)) {
        my $client = Ws::Client->open($port, "/heart/$where?id=heart-$where");
        $client->send(text('ping'));
        is($client->text, 'pong', "$where: answered");
        publish($port, "/pub?id=heart-$where", 'x');
        is($client->text, 'x', 'and not published');
        $client->send(text('pi', fin => 0), cont('ng'));
        is($client->text, 'pong', 'in fragments as well');
    }
    my $sub = Ws::Client->open($port, '/heart/sub?id=no');
    $sub->send(binary('ping'));
    like($sub->server_close, qr/^close 1008 /, 'octets are none');
    my $pub = Ws::Client->open($port, '/heart/pub?id=p');
    $pub->send(text('x'), text('ping'), text('y'));
    # A heartbeat does not wait for a backend that answers later.
    my @answers = map { $pub->text =~ /^(pong|queued messages: \d)/ ? $1 : '' } 1 .. 3;
    @answers = @answers[1, 0, 2] if $ENV{TEST_WS_TEST_BACKEND} && $answers[0] eq 'pong';
    is_deeply(\@answers, ['queued messages: 1', 'pong', 'queued messages: 2'], 'in order');
    my $cat = Ws::Client->open($port, '/heart/cat?id=cat');
    $cat->send(text('ping'), text('x'));
    is_deeply([sort map { $cat->text } 1, 2], [qw(pong x)], 'a shared program does not get it');
    my $v1 = Ws::Client->open($port, '/heart/sub?id=v1', headers => ['Sec-WebSocket-Protocol' => 'channels.v1']);
    $v1->send(text('ping'));
    is($v1->text, 'pong');
};

done_testing();
