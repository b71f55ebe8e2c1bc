# What clients are told of a hook's answer: each status, on each transport.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Hook;
use Ws::Service;

my $app = Ws::Service->listen;
my $nobody = Ws::Service->refusing;

my $ngx = Ws::Nginx->start(
    http => 'websocket_channel_zone 4m; upstream app { server ' . $app->address . '; }',
    server => <<"EOT",
    lingering_timeout 50ms;
    reset_timedout_connection on;
    location = /info  { websocket_channel \$arg_id mode=pub; }
    location = /sub   { websocket_channel \$arg_id; websocket_channel_start oldest; }
    location = /ask   { websocket_channel \$arg_id mode=pub; websocket_channel_publish_request /app; }
    location = /chat  { websocket_channel \$arg_id mode=pubsub; websocket_channel_publish_request /app; }
    location = /enter { websocket_channel \$arg_id; websocket_channel_join_request /app; }
    location = /app   { internal; proxy_pass http://app; }

    # By nginx itself.
    location = /say   { websocket_channel \$arg_id mode=pub; websocket_channel_publish_request /say/\$arg_say; }
    location = /let   { websocket_channel \$arg_id; websocket_channel_join_request /say/\$arg_say; }
    location = /say/408 { return 408; }
    location = /say/444 { return 444; }
    location = /say/499 { return 499; }
    location = /say/page { error_page 408 444 =422 /say/page2; proxy_intercept_errors on; proxy_pass http://app; }
    location = /say/page2 { return 422; }
    location = /say/posted { post_action /after; proxy_pass http://app; }
    location = /say/accel { proxy_pass http://app; }
    location = /middle { internal; }
    location = /after  { return 200 " after"; }

    # Error pages of the location whose hook refuses.
    location = /own    { websocket_channel \$arg_id mode=pub; websocket_channel_publish_request /app;
                         error_page 408 444 495 497 /own/page; error_page 422 = \@named; }
    location = /ownjoin { websocket_channel \$arg_id; websocket_channel_join_request /app; error_page 408 444 = \@named; }
    location = /other  { websocket_channel \$arg_id; websocket_channel_join_request /app; error_page 408 444 = /enter?id=e; }
    location = /own/page { return 200 "page"; }
    location \@named { return 418 "named"; }
EOT
);
$ngx->file('html/middle', 'middle');
my $port = $ngx->port;

sub ask {
    my ($path, @headers) = @_;

    my $client = Ws::Client->connect(port => $port);
    $client->send(request_text('POST', $path, @headers, body => 'm'));
    return $client;
}

sub enter {
    my ($transport, $path) = @_;

    my $client = Ws::Client->connect(port => $port);
    $client->send($transport eq 'websocket' ? upgrade($path)
        : request_text('GET', $path, $transport eq 'eventsource' ? (Accept => 'text/event-stream') : ()));
    return $client;
}

my @transports = qw(websocket eventsource longpoll);
my @told = (400 .. 431, 444, 451, 494 .. 511, 599);

case 'a refusal is told as it is, to publishers and subscribers' => sub {
    for my $status (@told) {
        my $client = ask('/ask?id=a');
        answer(asked($app), $status, 'why');
        is($client->response->{status}, $status, "publisher: $status");
        for my $transport (@transports) {
            next if $status % 7 && $status !~ /^(?:408|444|49[4-9])$/;
            $client = enter($transport, '/enter?id=a');
            answer(asked($app), $status, 'why');
            is($client->response->{status}, $status, "$transport: $status");
        }
    }
    is(request($port, 'GET', '/info?id=a')->{status}, 404, 'nothing was published');
};

case 'what is no refusal and no consent' => sub {
    for my $row ([300, 403], [301, 403], [302, 403], [307, 403], [206, 403], [202, 403], [600, 403], [999, 403], ['000', 502]) {
        my ($status, $told) = @$row;
        my $client = ask('/ask?id=b');
        answer(asked($app), $status, '', Location => '/other');
        is($client->response->{status}, $told, "publisher: $status");
        next if $status =~ /^2/;
        for my $transport (@transports) {
            $client = enter($transport, '/enter?id=b');
            answer(asked($app), $status, '', Location => '/other');
            is($client->response->{status}, $told, "$transport: $status");
        }
    }
};

case 'the connection is there afterwards' => sub {
    for my $status (408, 444, 499, 422) {
        my $client = ask('/ask?id=c');
        answer(asked($app), $status);
        is($client->response->{status}, $status);
        $client->send(request_text('GET', '/after'));
        is($client->response->{body}, ' after', "after $status");
    }
};

case 'locations that nginx answers' => sub {
    for my $row ([408, 408], [444, 502], [499, 499]) {
        my ($say, $told) = @$row;
        is(request($port, 'POST', "/say?id=d&say=$say", body => 'm')->{status}, $told, "publisher: $say");
        for my $transport (@transports) {
            my $client = enter($transport, "/let?id=d&say=$say");
            is($client->response->{status}, $told, "$transport: $say");
        }
    }
    for my $status (408, 444) {
        my $client = ask('/say?id=d&say=page');
        answer(asked($app), $status);
        like($client->response->{status}, qr/^(?:408|502|422)$/, "intercepted $status");
    }
};

case 'what else a location is made of' => sub {
    my $client = ask('/say?id=accel&say=accel');
    answer(asked($app), 200, 'unwanted', 'X-Accel-Redirect' => '/middle');
    is($client->response->{status}, 202);
    $client = Ws::Client->open($port, '/sub?id=accel');
    is($client->text, 'middle', 'X-Accel-Redirect');
    $client->abandon;
    for my $how (304, 422) {
        $client = ask('/say?id=posted&say=posted');
        answer(asked($app), $how);
        is($client->response->{status}, $how == 304 ? 202 : 422, "post_action, $how");
    }
    $client = ask('/say?id=posted&say=posted');
    my $asked = asked($app);
    $asked->{connection}->send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome");
    $asked->{connection}->reset;
    is($client->response->{status}, 502, 'post_action, an answer that is cut');
};

case 'error pages of the location that asks' => sub {
    for my $row ([408, 408, 'page'], [444, 444, 'page'], [495, 400, 'page'], [422, 418, 'named'], [499, 499, '']) {
        my ($status, $told, $body) = @$row;
        my $client = ask('/own?id=e');
        answer(asked($app), $status);
        my $response = $client->response;
        is($response->{body}, $body, "publisher: $status");
    }
    for my $transport (@transports) {
        for my $status (408, 444) {
            my $client = enter($transport, '/ownjoin?id=e');
            answer(asked($app), $status);
            is($client->response->{status}, 418, "$transport: $status");
            $client = enter($transport, '/other?id=e');
            answer(asked($app), $status);
            answer(asked($app), 403);
            is($client->response->{status}, 403, "$transport: another location asks again");
        }
    }
};

case 'challenges reach those who can answer them' => sub {
    my @challenges = ('WWW-Authenticate' => 'Bearer realm="x"', 'WWW-Authenticate' => 'Basic realm="y"');
    my $expected = nginx_version() >= 1023000 ? 'Bearer realm="x", Basic realm="y"' : qr/^(?:Bearer realm="x"|Basic realm="y")$/;
    for my $transport (@transports) {
        my $client = enter($transport, '/enter?id=f');
        answer(asked($app), 401, '', @challenges);
        is($client->response->{status}, 401);
        ref $expected ? like($client->header('www-authenticate'), $expected) : is($client->header('www-authenticate'), $expected);
    }
    my $client = ask('/ask?id=f');
    answer(asked($app), 401, '', @challenges);
    is($client->response->{status}, 401);
    ref $expected ? like($client->header('www-authenticate'), $expected) : is($client->header('www-authenticate'), $expected);
    $client = ask('/ask?id=f');
    answer(asked($app), 403, '', @challenges);
    is($client->response->{status}, 403);
    is($client->header('www-authenticate'), undef, 'only with 401');
};

case 'when to come again reaches those who are to' => sub {
    for my $row ([429, '7'], [503, 'Fri, 31 Dec 2049 23:59:59 GMT'], [403, undef]) {
        my ($status, $after) = @$row;
        for my $transport (@transports) {
            my $client = enter($transport, '/enter?id=g');
            answer(asked($app), $status, '', 'Retry-After' => $after // 7);
            is($client->response->{status}, $status);
            is($client->header('retry-after'), $after, "$status, $transport");
        }
        my $client = ask('/ask?id=g');
        answer(asked($app), $status, '', 'Retry-After' => $after // 7);
        is($client->response->{status}, $status);
        is($client->header('retry-after'), $after, "$status, a publisher");
    }
};

case 'a refused message costs its publisher nothing where messages are answered' => sub {
    my %forms = (
        'text/plain' => "message refused: %d",
        'application/json' => '{"refused": %d }',
        'text/xml' => "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\r\n<channel>\r\n  <refused>%d</refused>\r\n</channel>",
        'text/yaml' => "---\r\nrefused: %d\r\n\r\n",
    );
    for my $form (sort keys %forms) {
        my $client = Ws::Client->open($port, "/ask?id=g", headers => [Accept => $form]);
        $client->send(map { text("m$_") } 1 .. 4);
        for my $row ([422, 422], [302, 403], [304], [444, 444]) {
            my ($status, $told) = @$row;
            answer(asked($app), $status);
            my $reply = $client->text;
            $told ? is($reply, sprintf($forms{$form}, $told), "$form: $status") : like($reply, qr/messages/, "$form: $status");
        }
        is($client->close, 'close 1000');
    }
};

case 'a refused message ends a session that would not hear of it' => sub {
    for my $status (400, 403, 408, 422, 429, 444, 499) {
        my $client = Ws::Client->open($port, '/chat?id=h');
        $client->send(text('m'));
        answer(asked($app), $status);
        is($client->server_close, "close 1008 message refused: $status");
    }
};

case 'a moderator that is down is not one that refuses' => sub {
    for my $path (qw(/ask /chat)) {
        for my $row ([500, 1011], [501, 1011], [502, 1013], [503, 1013], [504, 1013], [599, 1011]) {
            my ($status, $code) = @$row;
            my $client = Ws::Client->open($port, "$path?id=h");
            $client->send(text('m'));
            answer(asked($app), $status);
            is($client->server_close, "close $code message refused: $status", $path);
        }
        my $client = Ws::Client->open($port, "$path?id=h");
        $client->send(text('m'));
        asked($app)->{connection}->reset;
        is($client->server_close, 'close 1013 message refused: 502', "$path: no answer");
    }
};

$ngx->stop;
done_testing();
