# The subprotocol channels.v1: subscribing, unsubscribing and publishing on an open WebSocket.

use strict;
use warnings;

use lib 't/lib';
use JSON::PP ();
use MIME::Base64 qw(encode_base64);
use Test::More;
use Ws::Client;
use Ws::Frame;
use Ws::Hook;
use Ws::Http;
use Ws::Nginx;
use Ws::Process qw(status_field);
use Ws::Service;

my $app = Ws::Service->listen;
my $json = JSON::PP->new->utf8->canonical;
my $V1 = ['Sec-WebSocket-Protocol' => 'channels.v1, ws+meta.nchan'];

my $ngx = Ws::Nginx->start(workers => 2, tls => 1, http => <<"HTTP", server => <<'SERVER');
    websocket_channel_zone 8m;
    websocket_close_timeout 500ms;
    log_format v1 '\$uri \$websocket_protocol [\$websocket_channel_id] \$websocket_close_code';
    access_log %%PREFIX%%/access.log v1;
    upstream app { server @{[$app->address]}; }
    # Not volatile: what is known of one channel must not be taken for another one.
    map \$websocket_channel_id \$mode {
        ~^map/both/  pubsub;
        ~^map/read/  sub;
        ~^map/wrong/ yes;
    }
    map \$websocket_channel_id \$history { default 5; ~^rooms/short/ 1; }
HTTP
    location = /own { websocket_channel $arg_id mode=pubsub; websocket_channel_start oldest; }
    location = /own/sub { websocket_channel $arg_id; }
    location = /own/pub { websocket_channel $arg_id mode=pub; }
    location = /many { websocket_channel $arg_a $arg_b mode=pubsub; }
    location = /rooms {
        websocket_channel $arg_id;
        websocket_channel_names ~^rooms/closed mode=off;
        websocket_channel_names ~^rooms/ mode=pubsub;
        websocket_channel_names news inbox-$arg_user;
        websocket_channel_names ~*^drop/ mode=pub;
        websocket_channel_names ~^who/ mode=info;
        websocket_channel_names ~^map/ mode=$mode;
        websocket_channel_presence $arg_user;
        websocket_channel_max_id_length 40;
        websocket_channel_history length=$history;
        websocket_max_message_size 64k;
    }
    location = /few { websocket_channel $arg_id; websocket_channel_names ~^; websocket_channel_max_subscriptions 3; }
    location = /group { websocket_channel $arg_id; websocket_channel_group $arg_group; websocket_channel_names ~^ mode=pubsub;
                        websocket_channel_group_limits channels=2; }
    location = /deflate { websocket_channel $arg_id; websocket_channel_names ~^ mode=pubsub; websocket_deflate on;
                          websocket_deflate_min_size 10; }
    location = /lag { websocket_channel $arg_id; websocket_channel_names ~^ mode=pubsub; websocket_channel_history length=2; }
    location = /watched { websocket_channel $arg_id; websocket_channel_names ~^ mode=pubsub; websocket_channel_events watch;
                          websocket_channel_presence $arg_user; }
    location = /hooks { websocket_channel $arg_id; websocket_channel_names ~^ mode=pubsub; websocket_ping_interval 0;
                        websocket_channel_join_request /app/join; websocket_channel_leave_request /app/leave;
                        websocket_channel_publish_request /app/publish; }
    location = /drain { websocket_channel $arg_id; websocket_channel_names ~^ mode=pubsub; websocket_drain 500ms; }
    location /app/ { internal; proxy_pass http://app; proxy_set_header X-Channel $websocket_channel_id; }
    location = /pub { websocket_channel $arg_id mode=pub; }
    location = /group/pub { websocket_channel $arg_id mode=pub; websocket_channel_group $arg_group; }
    location = /shared { websocket_exec /bin/cat; websocket_channel shared; }
    location = /off { websocket_channel_names off; websocket_channel $arg_id; }
SERVER
my $port = $ngx->port;

# opened(path): a client that has chosen the subprotocol.
sub opened {
    my ($path, %opt) = @_;

    my $client = Ws::Client->open($opt{port} // $port, $path, %opt, headers => [@$V1, @{$opt{headers} // []}]);
    is($client->header('sec-websocket-protocol'), 'channels.v1') if !$opt{quiet};
    return $client;
}

sub say_to { my ($client, @commands) = @_; $client->send(map { text(ref $_ ? $json->encode($_) : $_) } @commands); return }
sub hear { my ($client, $timeout) = @_; return $json->decode($client->text($timeout)) }

# ask(client, name => value ...): sends one command and returns what comes next.
sub ask { my ($client, %command) = @_; say_to($client, \%command); return hear($client) }

sub subscribe {
    my ($client, $channel, %more) = @_;

    my $answer = ask($client, op => 'subscribe', channel => $channel, %more);
    is($answer->{op}, 'subscribed', "subscribed to $channel") or diag($json->encode($answer));
    return $answer;
}

case 'the channels of the location' => sub {
    publish($port, '/pub?id=own', 'before');
    my $client = opened('/own?id=own');
    is($client->maybe_frame(0.2), undef, 'nothing comes before it is asked for');
    my $answer = ask($client, op => 'subscribe', ref => 7);
    like($answer->{id}, qr/^\d+:0$/, 'the position before the first message');
    is_deeply([@$answer{qw(op ref channel)}], ['subscribed', 7, undef]);
    my $message = hear($client);
    is_deeply([@$message{qw(op data channel)}], ['message', 'before', undef]);
    like($message->{id}, qr/^\d+:1$/);
    my $said = ask($client, op => 'publish', ref => 8, data => "a \"b\"\n\x{e9}");
    is_deeply([@$said{qw(op ref subscribers messages)}], ['published', 8, 1, 2]);
    $message = hear($client);
    is($message->{data}, "a \"b\"\n\x{e9}");
    is($message->{id}, $said->{id}, 'the id that the publisher was told');
    my ($again) = opened('/own?id=own', quiet => 1);
    is(ask($again, op => 'subscribe', after => $message->{id})->{id}, $message->{id}, 'a position of the client');
    publish($port, '/pub?id=own', "\x00\xff", 'Content-Type' => 'application/octet-stream', 'X-EventSource-Event' => 'e');
    for ($client, $again) {
        my $octets = hear($_);
        is_deeply([@$octets{qw(base64 type event)}], [encode_base64("\x00\xff", ''), 'application/octet-stream', 'e']);
    }
    is(ask($client, op => 'unsubscribe', ref => 9)->{op}, 'unsubscribed');
    publish($port, '/pub?id=own', 'after');
    is(hear($again)->{data}, 'after');
    is(ask($client, op => 'ping', ref => 0)->{op}, 'pong', 'nothing comes any more');
    is($client->close(1000), 'close 1000');
};

case 'a position in the URL' => sub {
    publish($port, '/pub?id=url', $_) for 1 .. 3;
    my $first = opened('/own?id=url', quiet => 1);
    my ($epoch) = ask($first, op => 'subscribe')->{id} =~ /^(\d+):/;
    my $client = opened("/own?id=url&last_event_id=$epoch:2");
    is(ask($client, op => 'subscribe')->{id}, "$epoch:2");
    is(hear($client)->{data}, 3);
    my $header = opened('/own?id=url', headers => ['Last-Event-ID' => "$epoch:1"], quiet => 1);
    is(ask($header, op => 'subscribe')->{id}, "$epoch:1");
};

case 'several channels of the location' => sub {
    my $client = opened('/many?a=m1&b=m2');
    like(ask($client, op => 'subscribe')->{id}, qr/^\d+:0,\d+:0$/);
    publish($port, '/pub?id=m2', 'two');
    is(hear($client)->{data}, 'two');
    is(ask($client, op => 'publish', data => 'both')->{subscribers}, 2, 'to each of them');
    is(hear($client)->{data}, 'both') for 1 .. 2;
};

case 'what the location does not say is not allowed' => sub {
    for (['/own/sub?id=x', { op => 'publish', data => '' }], ['/own/pub?id=x', { op => 'subscribe' }],
        ['/own/sub?id=x', { op => 'presence' }], ['/own?id=x', { op => 'subscribe', channel => 'x' }],
        ['/off?id=x', { op => 'subscribe', channel => 'x' }],
        map { ['/rooms?id=x&user=a', $_] } { op => 'subscribe', channel => 'room' }, { op => 'subscribe', channel => 'xrooms/1' },
            { op => 'subscribe', channel => 'rooms/closed' }, { op => 'publish', channel => 'rooms/closed', data => '' },
            { op => 'publish', channel => 'news', data => '' }, { op => 'subscribe', channel => 'drop/x' },
            { op => 'subscribe', channel => 'inbox-b' }, { op => 'presence', channel => 'news' },
            { op => 'subscribe', channel => 'Rooms/1' }, { op => 'subscribe', channel => 'who/x' },
            { op => 'subscribe', channel => 'rooms/' . 'x' x 40 })
    {
        my $client = opened($_->[0], quiet => 1);
        my $answer = ask($client, ref => 1, %{$_->[1]});
        is_deeply([@$answer{qw(op ref status)}], ['error', 1, 403], "$_->[0] $_->[1]{op} " . ($_->[1]{channel} // ''));
        is($answer->{channel}, $_->[1]{channel});
    }
    my $client = opened('/rooms?user=a', quiet => 1);
    is(ask($client, op => 'subscribe')->{status}, 404, 'an empty id');
    is(ask($client, op => 'subscribe', channel => '')->{status}, 404, 'an empty name');
    is(ask($client, op => 'subscribe', channel => 'inbox-a')->{op}, 'subscribed', 'a name with a variable');
    is(ask($client, op => 'publish', channel => 'DROP/x', data => 'x')->{op}, 'published', 'whatever the case of letters');
};

case 'names by a map, each for itself' => sub {
    my $client = opened('/rooms', quiet => 1);
    for (1 .. 2) {
        is(ask($client, op => 'subscribe', channel => "map/no/$_")->{status}, 403);
        is(ask($client, op => 'subscribe', channel => "map/both/$_")->{op}, 'subscribed');
        is(ask($client, op => 'publish', channel => "map/read/$_", data => '')->{status}, 403);
        is(ask($client, op => 'subscribe', channel => "map/read/$_")->{op}, 'subscribed');
    }
    is(ask($client, op => 'subscribe', channel => 'map/wrong/1')->{status}, 403);
    $ngx->await_log(qr/\[error\].*"websocket_channel_names" cannot be "mode=yes"/);
};

case 'other directives by the name' => sub {
    my $client = opened('/rooms', quiet => 1);
    for (['rooms/long/1', 3], ['rooms/short/1', 1], ['rooms/long/2', 3]) {
        my ($name, $kept) = @$_;
        ask($client, op => 'publish', channel => $name, data => 'x') for 1 .. 2;
        is(ask($client, op => 'publish', channel => $name, data => 'x')->{messages}, $kept, $name);
    }
};

case 'subscribing and unsubscribing' => sub {
    my $client = opened('/rooms?user=ann', quiet => 1);
    my $other = opened('/rooms?user=bob', quiet => 1);
    for my $name ('rooms/a', 'rooms/b') {
        subscribe($client, $name);
        subscribe($other, $name);
    }
    is(ask($client, op => 'subscribe', channel => 'rooms/a', ref => 3)->{status}, 409, 'once');
    my $said = ask($other, op => 'publish', channel => 'rooms/b', data => 'hello', ref => 4);
    is_deeply([@$said{qw(op channel subscribers)}], ['published', 'rooms/b', 2]);
    for ($client, $other) {
        my $message = hear($_);
        is_deeply([@$message{qw(op channel data id)}], ['message', 'rooms/b', 'hello', $said->{id}]);
    }
    my $there = ask($client, op => 'presence', channel => 'rooms/b');
    is($there->{subscribers}, 2);
    is_deeply([map { "$_->{id} $_->{connections}" } @{$there->{present}}], ['ann 1', 'bob 1']);
    is(ask($client, op => 'presence', channel => 'rooms/nobody')->{status}, 404);
    is(ask($client, op => 'unsubscribe', channel => 'rooms/b')->{op}, 'unsubscribed');
    is(ask($client, op => 'unsubscribe', channel => 'rooms/b')->{status}, 404, 'once');
    is(ask($other, op => 'publish', channel => 'rooms/b', data => 'again')->{subscribers}, 1);
    is(hear($other)->{data}, 'again');
    my $back = ask($client, op => 'subscribe', channel => 'rooms/b', after => $said->{id});
    is($back->{id}, $said->{id});
    is(hear($client)->{data}, 'again', 'what came meanwhile');
    $client->close(1000);
    await('it has gone', sub { ask($other, op => 'presence', channel => 'rooms/a')->{subscribers} == 1 });
    $ngx->await_access_log(qr{^/rooms channels\.v1 \[-?\] 1000}m);
};

case 'subscribers of two workers, of all transports' => sub {
    my @clients = map { opened('/rooms', quiet => 1) } 1 .. 8;
    subscribe($_, 'rooms/all') for @clients;
    my $plain = Ws::Client->open($port, '/own?id=rooms/all');
    is(publish($port, '/pub?id=rooms/all', "message $_")->{status}, 201) for 1 .. 20;
    for my $client (@clients) {
        is_deeply([map { hear($client)->{data} } 1 .. 20], [map { "message $_" } 1 .. 20]);
    }
    is($plain->text, "message $_") for 1 .. 20;
};

case 'many channels, each in its order and each to its subscribers only' => sub {
    my $client = opened('/few?id=x', quiet => 1);
    subscribe($client, $_) for qw(f1 f2 f3);
    is(ask($client, op => 'subscribe', channel => 'f4', ref => 1)->{status}, 429, 'websocket_channel_max_subscriptions');
    is(ask($client, op => 'subscribe', ref => 1)->{status}, 429, 'those of the location are one of them');
    publish($port, "/pub?id=f$_->[0]", "$_->[0].$_->[1]") for map { my $n = $_; map { [$_, $n] } 1 .. 4 } 1 .. 100;
    my %got;
    for (1 .. 300) {
        my $message = hear($client);
        push @{$got{$message->{channel}}}, $message->{data};
    }
    for my $nth (1 .. 3) {
        is_deeply($got{"f$nth"}, [map { "$nth.$_" } 1 .. 100], "f$nth");
    }
    ask($client, op => 'unsubscribe', channel => 'f2');
    is(ask($client, op => 'subscribe', channel => 'f4')->{op}, 'subscribed', 'there is room again');
};

case 'gaps, and channels that are deleted' => sub {
    my $client = opened('/lag', quiet => 1);
    my $first = ask($client, op => 'publish', channel => 'lag', data => '1');
    ask($client, op => 'publish', channel => 'lag', data => "$_") for 2 .. 6;
    my ($epoch) = $first->{id} =~ /^(\d+):1$/;
    is(ask($client, op => 'subscribe', channel => 'lag', after => $first->{id})->{op}, 'subscribed');
    my $gap = hear($client);
    is_deeply([@$gap{qw(op channel id lost)}], ['gap', 'lag', "$epoch:4", 3]);
    is(hear($client)->{data}, $_) for 5, 6;
    is(request($port, 'DELETE', '/pub?id=lag')->{status}, 200);
    my $end = hear($client);
    is_deeply([@$end{qw(op channel status)}], ['unsubscribed', 'lag', 410]);
    is(ask($client, op => 'subscribe', channel => 'lag')->{op}, 'subscribed', 'the connection stays');
    my $again = ask($client, op => 'publish', channel => 'lag', data => 'new');
    is(hear($client)->{id}, $again->{id});
};

case 'groups' => sub {
    my $client = opened('/group?group=one', quiet => 1);
    subscribe($client, 'g');
    publish($port, '/group/pub?id=g&group=two', 'of another group');
    publish($port, '/group/pub?id=g&group=one', 'of this one');
    is(hear($client)->{data}, 'of this one');
    subscribe($client, 'h');
    is(ask($client, op => 'subscribe', channel => 'i')->{status}, 403, 'websocket_channel_group_limits');
};

case 'compressed' => sub {
    my $client = opened('/deflate', headers => ['Sec-WebSocket-Extensions' => 'permessage-deflate'], quiet => 1);
    my $channel = 'deflate' x 10;
    say_to($client, { op => 'subscribe', channel => $channel });
    ok($client->message->{rsv1}, 'an answer');
    publish($port, "/pub?id=$channel", 'x' x 1000);
    my $message = $client->message;
    ok($message->{rsv1} && length $message->{payload} < 200, 'a message');
};

case 'TLS' => sub {
    my $client = opened('/rooms', port => $ngx->tls_port, tls => 1, quiet => 1);
    subscribe($client, "rooms/tls$_") for 1 .. 5;
    publish($port, "/pub?id=rooms/tls$_", "for $_") for 1 .. 5;
    my %got = map { my $message = hear($client); ($message->{channel} => $message->{data}) } 1 .. 5;
    is_deeply(\%got, { map { ("rooms/tls$_" => "for $_") } 1 .. 5 });
};

case 'a client that reads slowly' => sub {
    my $client = opened('/lag', rcvbuf => 4096, quiet => 1);
    subscribe($client, $_) for qw(slow1 slow2);
    my $text = 'x' x 30_000;
    for my $n (1 .. 60) {
        publish($port, "/pub?id=slow$_", "$n $text") for 1, 2;
    }
    my %last;
    while (($last{slow1} // 0) < 60 || ($last{slow2} // 0) < 60) {
        my $message = hear($client);
        my $then = $last{$message->{channel}} // 0;
        if ($message->{op} eq 'gap') {
            my ($offset) = $message->{id} =~ /:(\d+)$/;
            is($offset, $then + $message->{lost}, 'a gap is told');
            $last{$message->{channel}} = $offset;
            next;
        }
        my ($n) = $message->{data} =~ /^(\d+) /;
        $n == $then + 1 or fail("$message->{channel}: $n after $then");
        $last{$message->{channel}} = $n;
    }
    is_deeply(\%last, { slow1 => 60, slow2 => 60 });
};

case 'what is no command' => sub {
    for ('{}', '{"op":"nothing"}', '{"op":1}', '{"op":"ping","ref":-1}', '{"op":"subscribe","channel":7}',
        '{"op":"subscribe","channel":"rooms/a","before":"1:1"}', '{"op":"publish","channel":"rooms/a"}',
        '{"op":"publish","channel":"rooms/a","data":"","base64":""}', '{"op":"publish","channel":"rooms/a","base64":"A"}',
        '{"op":"subscribe","channel":"rooms/a\u0000"}', '{"op":"publish","channel":"rooms/a","data":"","event":"gap"}')
    {
        my $client = opened('/rooms', quiet => 1);
        say_to($client, $_);
        my $answer = hear($client);
        is_deeply([@$answer{qw(op status)}], ['error', 400], $_);
        is(ask($client, op => 'ping')->{op}, 'pong', 'the connection stays');
    }
};

case 'what is not of the subprotocol' => sub {
    my %frames = (
        'close 1007' => [map { text($_) } 'hello', '', '[]', '"a"', '{"op":"ping"', '{"op":"ping"}x', '{"op":{}}',
            '{"op":"ping","op":"ping"}', '[' x 5000, '{"a":' x 5000, '{' . join(',', map { "\"$_\":0" } 1 .. 17) . '}',
            '{"op":"\ud800"}', "{\"op\":\"a\nb\"}"],
        'close 1003' => [binary('{"op":"ping"}')],
        'close 1009' => [text('x' x 65_537)],
    );
    for my $expected (sort keys %frames) {
        for my $frame (@{$frames{$expected}}) {
            my $client = opened('/rooms', quiet => 1);
            $client->send($frame);
            like($client->server_close, qr/^$expected/, substr($frame, 0, 20) =~ s/[^ -~]/./gr);
        }
    }
    my $client = opened('/rooms', quiet => 1);
    $client->send(frame(TEXT, '{"op":"pi', fin => 0), cont('ng"}'));
    is(hear($client)->{op}, 'pong', 'a command in pieces');
    $client->send(text('{"op":"ping","ref":1}'), text('nonsense'));
    is(hear($client)->{ref}, 1, 'what came before is answered');
    like($client->server_close, qr/^close 1007/);
};

case 'a flood of commands' => sub {
    my $client = opened('/rooms', quiet => 1);
    for my $round (0 .. 19) {
        $client->send(map { text("{\"op\":\"ping\",\"ref\":$_}") } $round * 100 .. $round * 100 + 99);
    }
    is_deeply([map { hear($client)->{ref} } 0 .. 1999], [0 .. 1999], 'all are answered, in their order');
    $client->send(map { text(qq({"op":"publish","channel":"rooms/flood","data":"$_"})) } 1 .. 500);
    is(join(' ', map { (split /:/, hear($client)->{id})[1] } 1 .. 500), join(' ', 1 .. 500));
};

case 'hooks: each subscription is asked about, and each publication' => sub {
    my $client = opened('/hooks', quiet => 1);
    say_to($client, map { { op => 'subscribe', channel => "h$_", ref => $_ } } 1 .. 3);
    say_to($client, { op => 'ping', ref => 4 });
    is(hear($client)->{op}, 'pong', 'what need not wait does not');
    my %asked = map { my $request = asked($app); ($request->{headers}{'x-channel'}[0] => $request) } 1 .. 3;
    is_deeply([sort keys %asked], [qw(h1 h2 h3)], 'all at once, each with its channel');
    is($asked{h1}{path}, '/app/join');
    answer($asked{h3}, 200);
    is_deeply([@{hear($client)}{qw(op ref channel)}], ['subscribed', 3, 'h3']);
    answer($asked{h1}, 403);
    is_deeply([@{hear($client)}{qw(op ref status)}], ['error', 1, 403]);
    say_to($client, { op => 'unsubscribe', channel => 'h2', ref => 5 }, { op => 'ping', ref => 6 });
    answer($asked{h2}, 204);
    is_deeply([map { $_->{op} } map { hear($client) } 1 .. 3], [qw(subscribed unsubscribed pong)], 'in their order');
    my $left = asked($app);
    is_deeply([$left->{path}, $left->{headers}{'x-channel'}[0]], ['/app/leave', 'h2']);
    answer($left, 200);

    say_to($client, map { { op => 'publish', channel => 'h3', data => "m$_", ref => 10 + $_ } } 1 .. 4);
    my $first = asked($app);
    is_deeply([@$first{qw(path body)}, $first->{headers}{'x-channel'}[0]], ['/app/publish', 'm1', 'h3']);
    is($client->maybe_frame(0.2), undef, 'the next one waits');
    answer($first, 200, 'changed');
    my @heard = map { hear($client) } 1 .. 2;
    is_deeply([sort map { $_->{data} // $_->{op} } @heard], ['changed', 'published']);
    answer(asked($app), 304);
    @heard = map { hear($client) } 1 .. 2;
    is_deeply([sort map { $_->{data} // $_->{op} } @heard], ['m2', 'published']);
    answer(asked($app), 204);
    my $dropped = hear($client);
    is_deeply([@$dropped{qw(op ref id)}], ['published', 13, undef], 'dropped: no id');
    answer(asked($app), 422);
    is_deeply([@{hear($client)}{qw(op ref status)}], ['error', 14, 422]);
    is(ask($client, op => 'ping')->{op}, 'pong', 'the connection stays');

    $client->send(map { text($_) } '{"op":"publish","channel":"h3","data":"last 1"}', '{"op":"publish","channel":"h3","data":"last 2"}');
    my $last = asked($app);
    $client->abandon;
    answer($last, 304);
    $last = asked($app);
    is($last->{body}, 'last 2', 'what was sent is published');
    answer($last, 304);
    $left = asked($app);
    is_deeply([$left->{path}, $left->{headers}{'x-channel'}[0]], ['/app/leave', 'h3'], 'and the leave is told');
    answer($left, 200);
};

case 'a client that goes while a hook is asked' => sub {
    my $client = opened('/hooks', quiet => 1);
    say_to($client, { op => 'subscribe', channel => 'gone' });
    my $join = asked($app);
    $client->reset;
    await('it is noticed', sub { request($port, 'GET', '/pub?id=gone')->{status} == 404 });
    answer($join, 200);
    my $leave = asked($app);
    is_deeply([$leave->{path}, $leave->{headers}{'x-channel'}[0]], ['/app/leave', 'gone'], 'whoever was let in is told of');
    answer($leave, 200);
};

case 'events of each channel' => sub {
    my $watch = Ws::Client->open($port, '/own?id=watch');
    my $client = opened('/watched?user=ann', quiet => 1);
    subscribe($client, 'w1');
    ask($client, op => 'publish', channel => 'w1', data => 'x');
    hear($client);
    ask($client, op => 'unsubscribe', channel => 'w1');
    my @events = map { $json->decode($watch->text) } 1 .. 3;
    is_deeply([map { "$_->{event} $_->{channel} $_->{who}" } @events], ['join w1 ann', 'publish w1 ann', 'leave w1 ann']);
    subscribe($client, 'w2');
    $client->close(1000);
    @events = map { $json->decode($watch->text) } 1 .. 2;
    is_deeply([map { "$_->{event} $_->{channel}" } @events], ['join w2', 'leave w2']);
};

case 'a shared program has one channel' => sub {
    my $client = Ws::Client->open($port, '/shared', headers => $V1);
    is($client->header('sec-websocket-protocol'), 'ws+meta.nchan');
};

case 'the memory of a connection does not grow with its commands' => sub {
    my $client = opened('/rooms', quiet => 1);
    my $churn = sub {
        for my $n (map { $_ % 500 } 1 .. $_[0]) {
            say_to($client, { op => 'subscribe', channel => "rooms/churn$n" }, { op => 'unsubscribe', channel => "rooms/churn$n" });
            hear($client) for 1 .. 2;
        }
    };
    $churn->(500);
    my %before = map { $_ => status_field($_, 'VmRSS') } $ngx->workers;
    $churn->(3000);
    grew_less($_, $before{$_}, 600, 'the worker') for sort keys %before;
};

case 'a reload' => sub {
    my $client = opened('/rooms', quiet => 1);
    my $drained = opened('/drain', quiet => 1);
    subscribe($client, 'rooms/reload');
    subscribe($drained, 'rooms/reload');
    $ngx->reload;
    like($drained->server_close, qr/^close 1012/, 'websocket_drain');
    my $new = opened('/rooms', quiet => 1);
    subscribe($new, 'rooms/reload');
    is(ask($new, op => 'publish', channel => 'rooms/reload', data => 'x')->{subscribers}, 2, 'workers of both configurations');
    is(hear($_)->{data}, 'x') for $client, $new;
    subscribe($client, 'rooms/reload2');
    $client->close(1000);
};

done_testing();
