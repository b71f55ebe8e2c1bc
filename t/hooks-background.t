# What the location of a hook does in the background: nginx goes on with it when the hook has been answered.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Time::HiRes qw(sleep time);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Hook;
use Ws::Process qw(descriptors);
use Ws::Service;

my $app = Ws::Service->listen;

# Stale answers are given while a new one is fetched in the background.
my %common = (
    http => 'websocket_channel_zone 32m;
    proxy_cache_path %%PREFIX%%/cache keys_zone=hooks:1m;
    upstream app { server ' . $app->address . '; }',
    server => <<'EOT',
    client_max_body_size 4m;
    websocket_max_message_size 4m;
    lingering_timeout 50ms;
    lingering_close always;
    reset_timedout_connection on;
    location = /info  { websocket_channel $arg_id mode=pub; }
    location = /ask   { websocket_channel $arg_id mode=pub; websocket_channel_publish_request /cached; }
    location = /enter { websocket_channel $arg_id; websocket_channel_join_request /cached; websocket_channel_start oldest; }
    location = /leave { websocket_channel $arg_id; websocket_channel_leave_request /cached; }
    location = /page  { auth_request /cached; alias %%PREFIX%%/html/file; }
    location = /short { websocket_channel $arg_id mode=pub; websocket_channel_publish_request /limited; }
    location = /cached { internal; proxy_pass http://app; proxy_cache hooks; proxy_cache_key $arg_id; proxy_cache_methods POST;
                         proxy_cache_background_update on; proxy_cache_use_stale updating; client_max_body_size 4m; }
    location = /limited { internal; proxy_pass http://app; proxy_cache hooks; proxy_cache_key $arg_id; proxy_cache_methods POST;
                         proxy_cache_background_update on; proxy_cache_use_stale updating; proxy_read_timeout 200ms; }
EOT
);

my @fresh = ('Cache-Control' => 'max-age=1');
my @kept = ('Cache-Control' => 'max-age=1000');
my $admitted = qr/^(?:101|20[012])$/;

# begin(port, kind, id): somebody who asks whether it may.
sub begin {
    my ($port, $kind, $id, $body) = @_;

    my $client = Ws::Client->connect(port => $port);
    $client->send($kind eq 'publisher' ? request_text('POST', "/ask?id=$id", body => $body // 'm')
        : $kind eq 'short' ? request_text('POST', "/short?id=$id", body => 'm')
        : $kind eq 'auth' ? request_text('GET', "/page?id=$id")
        : $kind eq 'websocket' ? upgrade("/enter?id=$id")
        : request_text('GET', "/enter?id=$id", $kind eq 'eventsource' ? (Accept => 'text/event-stream') : ()));
    return $client;
}

# told(port, kind, id, client): what it is told.
sub told {
    my ($port, $kind, $id, $client) = @_;

    # A long-poll that was let in waits for a message.
    request($port, 'POST', "/info?id=$id", body => 'm') if $kind eq 'longpoll';
    $client->wait_until(sub { $client->{in} =~ /\r\n\r\n/ }, 'a response');
    my ($status) = $client->{in} =~ m{^HTTP/1\.1 (\d+) };
    $client->abandon;
    return $status;
}

sub status { return told(@_[0 .. 2], begin(@_)) }

# prime(port, kind => id ...): their answers are in the cache, and stale.
sub prime {
    my ($port, @asking) = @_;

    while (my ($kind, $id) = splice @asking, 0, 2) {
        my $client = begin($port, $kind, $id);
        answer(asked($app), 200, 'first', @fresh);
        like(told($port, $kind, $id, $client), $admitted, "$kind: asked");
    }
    sleep 2.1;
}

my $ngx = Ws::Nginx->new(%common);
$ngx->file('html/file', 'f');
$ngx->start;
my $port = $ngx->port;
my @kinds = qw(publisher auth websocket eventsource longpoll);
my ($worker) = $ngx->workers;
my $open = keys %{descriptors($worker)};

prime($port, (map { $_ => $_ } @kinds), websocket => 'leave', publisher => 'socket', publisher => 'long', publisher => 'long2',
    short => 'timeout', publisher => 'cut', publisher => 'reset', publisher => 'refused');

case 'a stale answer admits until there is a new one' => sub {
    for my $kind (@kinds) {
        like(status($port, $kind, $kind), $admitted, "$kind: from the cache, which nobody waits for");
        my $update = asked($app);
        is($update->{body}, $kind eq 'publisher' ? 'm' : '', 'a new answer is fetched about the same message');
        ok($update->{connection}->silent(0.1), 'and goes on when the hook has been answered');
        like(status($port, $kind, $kind), $admitted, "$kind: still from the cache");
        answer($update, 403, '', @kept);
        await("$kind to be refused", sub { status($port, $kind, $kind) == 403 });
    }
    ok(!$app->waiting(0.1), 'asked no more than that');
};

case 'by WebSocket, and on leaving' => sub {
    my $client = Ws::Client->open($port, '/ask?id=socket');
    $client->send(text('mine'));
    like($client->text, qr/^queued messages: /);
    my $update = asked($app);
    is($update->{body}, 'mine');
    answer($update, 422, '', @kept);
    await('the message to be refused', sub { $client->send(text('mine')); $client->text eq 'message refused: 422' });
    is($client->close, 'close 1000');
    is(Ws::Client->open($port, '/leave?id=leave')->close, 'close 1000');
    $update = asked($app);
    ok($update->{connection}->silent(0.1), 'a leave request');
    answer($update, 200, 'second', @kept);
    like(status($port, 'websocket', 'leave'), $admitted);
};

case 'a long message is there as long as it is sent' => sub {
    my $message = join '', map { chr(97 + $_ % 26) } 1 .. 3_000_000;
    like(status($port, 'publisher', 'long', $message), $admitted, 'published');
    like(request($port, 'POST', '/info?id=long', body => 'x' x 3_000_000)->{status}, $admitted, 'memory is used for another one');
    my $update = asked($app);
    ok($update->{body} eq $message, 'what the location is told is what was to be published');
    answer($update, 200, 'second', @kept);
    my $socket = Ws::Client->open($port, '/ask?id=long2');
    $socket->send(text($message));
    like($socket->text, qr/^queued messages: /);
    is($socket->close, 'close 1000');
    like(request($port, 'POST', '/info?id=long', body => 'x' x 3_000_000)->{status}, $admitted);
    $update = asked($app);
    ok($update->{body} eq $message, 'by WebSocket');
    answer($update, 200, 'second', @kept);
};

case 'what ends badly in the background' => sub {
    for my $how (qw(timeout cut reset refused)) {
        my $kind = $how eq 'timeout' ? 'short' : 'publisher';
        like(status($port, $kind, $how), $admitted, $how);
        my $update = asked($app);
        if ($how eq 'timeout') {
            is($update->{connection}->rest, '', 'given up');
        } elsif ($how eq 'cut') {
            $update->{connection}->send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome");
            $update->{connection}->reset;
        } elsif ($how eq 'reset') {
            $update->{connection}->reset;
        } else {
            answer($update, 444);
        }
        await('it to be tried again', sub { like(status($port, $kind, $how), $admitted, $how); $app->waiting(0.1) });
        answer(asked($app), 403, '', @kept);
        await('the new answer', sub { status($port, $kind, $how) == 403 });
    }
};

await('all connections to be closed', sub { keys %{descriptors($worker)} <= $open });
is(($ngx->workers)[0], $worker, 'the worker is the same');
$ngx->stop;

case 'a reload waits for what goes on, a stop does not' => sub {
    for my $how (qw(reload timeout stop)) {
        my $main = $how eq 'timeout' ? 'worker_shutdown_timeout 1s;' : '';
        my $other = Ws::Nginx->start(%common, main => $main);
        prime($other->port, publisher => 'a');
        like(status($other->port, 'publisher', 'a'), $admitted, "$how");
        my $update = asked($app);
        if ($how eq 'reload') {
            $other->reload;
            is(scalar(() = $other->old_workers), 1, 'the old worker is there');
            ok($update->{connection}->silent(0.3), 'and its request');
            answer($update, 200, 'second', @kept);
            await('the old worker to leave', sub { !$other->old_workers });
        } elsif ($how eq 'timeout') {
            my $begun = time;
            $other->reload;
            await('the old worker to leave', sub { !$other->old_workers });
            cmp_ok(time - $begun, '<', 10, 'in time');
            is($update->{connection}->rest, '', 'with its request');
        }
        $other->stop;
    }
};

case 'what never ends leaves connections to others' => sub {
    my $small = Ws::Nginx->start(%common, connections => 64);
    my $count = 40;
    prime($small->port, map { (publisher => "many$_") } 1 .. $count);
    my @updates;
    for my $n (1 .. $count) {
        like(status($small->port, 'publisher', "many$n"), $admitted, "publisher $n");
        push @updates, asked($app);
    }
    $small->await_log(qr/requests? to hooks were given up: there are too many/);
    is($updates[0]{connection}->rest, '', 'the first ones are given up');
    ok($updates[-1]{connection}->silent(0.1), 'and not the last one');
    $small->stop;
};

done_testing();
