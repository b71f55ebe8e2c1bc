# What stands behind the zone: a backend of the tests' own that answers late, in any order, never, or with errors. It is compiled
# with a feature that no release has: make test WITH=late.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Time::HiRes qw(time);
use Ws::Client;
use Ws::Frame;
use Ws::Hook;
use Ws::Http;
use Ws::Nginx;
use Ws::Service;

plan skip_all => 'the module was built without its test backend' if !$ENV{TEST_WS_TEST_BACKEND};

my $app = Ws::Service->listen;
my $SERVER = <<'SERVER';
    websocket_channel_group $arg_group;
    websocket_channel_history length=1000;
    location = /sub    { websocket_channel $arg_id; websocket_channel_start oldest; }
    location = /pub    { websocket_channel $arg_id mode=pub; websocket_channel_delete on; websocket_channel_presence ann; }
    location = /two    { websocket_channel $arg_a $arg_b mode=pub; }
    location = /pubsub { websocket_channel $arg_id mode=pubsub; }
    location = /info   { websocket_channel $arg_id mode=info; }
    location = /group  { websocket_channel_group_info; }
    location = /in     { websocket_channel $arg_id; websocket_channel_join_request /app; websocket_channel_leave_request /app?bye=1; }
    location = /asked  { websocket_channel $arg_id mode=pub; websocket_channel_publish_request /app; }
    location = /app    { proxy_pass http://%%APP%%; }
SERVER
$SERVER =~ s/%%APP%%/$app->address/e;

sub node {
    my ($plan, %opt) = @_;

    return Ws::Nginx->start(
        http => 'websocket_channel_zone 4m;', server => $SERVER, env => { WS_TEST_BACKEND => $plan }, grace => 30, %opt);
}

# statuses(port): of everything that waits for an answer.
sub statuses {
    my ($port) = @_;

    my @rows = (
        ['POST', '/pub?id=a', body => 'x'], ['POST', '/two?a=a&b=b', body => 'x'], ['GET', '/info?id=a'], ['DELETE', '/pub?id=a'],
        ['GET', '/info?id=a&presence'], ['GET', '/group?group=g'], ['POST', '/group?group=g', body => 'max_channels=5'],
        ['DELETE', '/group?group=g'], ['GET', '/sub?id=a', Accept => 'text/event-stream'],
        ['GET', '/sub?id=a', Accept => 'text/plain'],
    );
    my %found;
    for my $row (@rows) {
        my ($method, $path, @rest) = @$row;
        my $response = request($port, $method, $path, @rest);
        $found{join ' ', grep { !/^body|Accept$/ } $method, $path, @rest} =
            $response->{status} . ($response->{headers}{'retry-after'} ? ' again' : '');
    }
    my $websocket = Ws::Client->connect(port => $port);
    my $head = $websocket->handshake('/sub?id=a');
    $found{'a WebSocket'} = $head->{status} . ($head->{headers}{'retry-after'} ? ' again' : '');
    return %found;
}

for my $row (['unavailable', '503 again'], ['refused', 500], ['unknown', 504]) {
    my ($mode, $status) = @$row;
    case "a backend of which everything is $mode" => sub {
        my $ngx = node($mode);
        my %found = statuses($ngx->port);
        for my $what (sort keys %found) {
            # Whoever subscribes is told to come again, whatever is the matter.
            my $subscribes = $what =~ /sub|WebSocket/;
            is($found{$what}, $subscribes ? '503 again' : $status, $what);
        }
        my $publisher = Ws::Client->open($ngx->port, '/pub?id=a');
        $publisher->send(text('x'));
        if ($mode eq 'refused') {
            like($publisher->server_close, qr/^close 1011/);
        } else {
            like($publisher->text, qr/^message refused: ${\ substr($status, 0, 3)}$/);
            $publisher->send(text('y'));
            like($publisher->text, qr/^message refused/, 'and goes on');
            is($publisher->close, 'close 1000');
        }
        $ngx->stop;
    };
}

case 'a publisher by WebSocket whose messages are refused is not left without an answer' => sub {
    my $ngx = node('late,publish=unavailable');
    my $both = Ws::Client->open($ngx->port, '/pubsub?id=a');
    $both->send(text('x'));
    like($both->server_close, qr/^close 1013/);
    $ngx->stop;
};

case 'a backend that never answers: the time is up for each, and nobody else waits' => sub {
    my $ngx = node('late,publish=never,info=never,delete=never,presence=never,timeout=2000');
    my $port = $ngx->port;
    my $subscriber = Ws::Client->open($port, '/sub?id=a');
    my @waiting = map {
        my $client = Ws::Client->connect(port => $port);
        $client->send(request_text(@$_));
        $client;
    } ['POST', '/pub?id=a', body => 'x'], ['GET', '/info?id=a'], ['DELETE', '/pub?id=b'], ['GET', '/info?id=a&presence'];
    my $begun = time;
    is(request($port, 'GET', '/group?group=g')->{status}, 200, 'others are answered');
    cmp_ok(time - $begun, '<', 1.9, 'at once');
    is($_->response->{status}, 504) for @waiting;
    cmp_ok(time - $begun, '>', 1, 'when the time is up');
    is($subscriber->close, 'close 1000');
    $ngx->stop;
};

case 'an opening that never comes' => sub {
    my $ngx = node('late,open=never,timeout=1500');
    my $head = Ws::Client->connect(port => $ngx->port)->handshake('/sub?id=a');
    is($head->{status}, 503);
    is(request($ngx->port, 'GET', '/sub?id=a', Accept => 'text/event-stream')->{status}, 503);
    # Somebody who does not wait for it leaves nothing behind.
    for (1 .. 20) {
        my $client = Ws::Client->connect(port => $ngx->port);
        $client->send(upgrade('/sub?id=a'));
        $client->flush;
        # After it, the worker has taken the other one.
        is(request($ngx->port, 'GET', '/info?id=b')->{status}, 404);
        $client->reset;
    }
    await('those to be missed', sub { 20 == (() = $ngx->access_log =~ / 499 /g) });
    is(request($ngx->port, 'POST', '/pub?id=a', body => 'x')->{status}, 202, 'nobody is subscribed');
    $ngx->stop;
};

case 'whoever was let in by a hook and does not get in is told as left' => sub {
    for my $plan ('late,open=unavailable', 'late,open=never,timeout=1000') {
        my $ngx = node($plan);
        my $client = Ws::Client->connect(port => $ngx->port);
        $client->send(upgrade('/in?id=a'));
        answer(asked($app), 200);
        is($client->response->{status}, 503);
        my $leave = asked($app);
        is($leave->{path}, '/app?bye=1', 'a WebSocket');
        answer($leave, 200);
        $client = Ws::Client->connect(port => $ngx->port);
        $client->send(request_text('GET', '/in?id=a', Accept => 'text/event-stream'));
        answer(asked($app), 200);
        is($client->response->{status}, 503);
        $leave = asked($app);
        is($leave->{path}, '/app?bye=1', 'an EventSource');
        answer($leave, 200);
        # One who goes while the channels are opened.
        $client = Ws::Client->connect(port => $ngx->port);
        $client->send(upgrade('/in?id=a'));
        my $join = asked($app);
        answer($join, 200);
        $client->reset;
        $leave = asked($app);
        is($leave->{path}, '/app?bye=1', 'one who has gone');
        answer($leave, 200);
        ok(!$app->waiting(0.2), 'once');
        $ngx->stop;
    }
};

# Some are published, some are not, some may be; answers come in any order.
case 'answers keep the order of the messages, and subscribers get what was acknowledged' => sub {
    for my $seed (1 .. 3) {
        my $ngx = node("shuffled,publish=errors,timeout=700,seed=$seed");
        my $port = $ngx->port;
        my $subscriber = Ws::Client->open($port, '/sub?id=a');
        my $publisher = Ws::Client->open($port, '/pub?id=a');
        my $count = 0;
        my (@acknowledged, $end);
        # A backend that refuses ends the session, so there are several.
        while ($count < 100) {
            $publisher->send(map { text(sprintf 'm%03d', $count + $_) } 0 .. 19);
            my $answers = 0;
            eval {
                while ($answers < 20) {
                    my $text = $publisher->text;
                    push @acknowledged, [$1, sprintf 'm%03d', $count + $answers] if $text =~ /^last message id: \d+:(\d+)/m;
                    $answers++;
                }
                1;
            } or do {
                $publisher->abandon;
                $publisher = Ws::Client->open($port, '/pub?id=a');
            };
            $count += 20;
        }
        my @ids = map { $_->[0] } @acknowledged;
        is_deeply(\@ids, [sort { $a <=> $b } @ids], "seed $seed: the ids of the answers go up") or diag("@ids");
        my %known = map { $_ => 1 } @ids;
        is(scalar keys %known, scalar @ids, 'and none is there twice');
        # All that was published, in order.
        my $last = '';
        my %got;
        while (defined(my $frame = $subscriber->maybe_frame(1))) {
            my $text = $frame->{payload};
            cmp_ok($text, 'gt', $last, 'in order') if $text le $last;
            $last = $text;
            $got{$text} = 1;
        }
        is_deeply([grep { !$got{$_->[1]} } @acknowledged], [], 'all that was acknowledged has come');
        $ngx->stop;
    }
};

case 'several channels: one answer, of the first one' => sub {
    my $ngx = node('shuffled,seed=5');
    my $port = $ngx->port;
    publish($port, '/pub?id=b', 'x') for 1 .. 5;
    for (1 .. 10) {
        my $response = request($port, 'POST', '/two?a=a&b=b', body => 'y');
        is($response->{status}, 202);
        like($response->{body}, qr/^last message id: \d+:$_\r?$/m, 'the id in the first channel');
        my $both = 5 + 2 * $_;
        like($response->{body}, qr/^queued messages: $both\r?$/m, 'the sum');
    }
    $ngx->stop;
};

case 'a publisher that does not wait' => sub {
    my $ngx = node('late');
    my $port = $ngx->port;
    for my $n (1 .. 30) {
        my $client = Ws::Client->connect(port => $port);
        $client->send(request_text('POST', "/pub?id=a", body => $n));
        $client->flush;
        await('it to be taken', sub { request($port, 'GET', '/info?id=a')->{body} =~ /queued messages: $n\b/ }) if $n % 10 == 0;
        $client->reset;
    }
    pass('nothing is wrong');
    $ngx->stop;
};

case 'a worker is told to go while answers are awaited' => sub {
    my $ngx = node('late,publish=never,open=never,timeout=2500');
    my $port = $ngx->port;
    my @workers = $ngx->workers;
    my $publisher = Ws::Client->connect(port => $port);
    $publisher->send(request_text('POST', '/pub?id=a', body => 'x'));
    my $subscriber = Ws::Client->connect(port => $port);
    $subscriber->send(upgrade('/sub?id=a'));
    $_->flush for $publisher, $subscriber;
    is(request($port, 'GET', '/info?id=a')->{status} =~ /^(?:200|404)$/ ? 1 : 0, 1);
    my $begun = time;
    $ngx->reload;
    is($publisher->response->{status}, 504, 'the publisher is told');
    is($subscriber->response->{status}, 503, 'and the subscriber');
    await('the old worker to go', sub { !grep { kill 0, $_ } @workers });
    cmp_ok(time - $begun, '<', 12, 'it is not held up');
    $ngx->stop;
};

case 'worker_shutdown_timeout is the end of waiting' => sub {
    my $ngx = node('late,publish=never,timeout=60000', main => 'worker_shutdown_timeout 1s;');
    my @workers = $ngx->workers;
    my $publisher = Ws::Client->connect(port => $ngx->port);
    $publisher->send(request_text('POST', '/pub?id=a', body => 'x'));
    is(request($ngx->port, 'GET', '/info?id=b')->{status}, 404);
    $ngx->reload;
    await('the old worker to go', sub { !grep { kill 0, $_ } @workers }, 30);
    pass('long before the answer would have come');
    $publisher->abandon;
    $ngx->stop;
};

case 'a worker that is stopped at once does what it was asked for' => sub {
    my $ngx = node('late,publish=never,timeout=60000,seed=2');
    my $publisher = Ws::Client->connect(port => $ngx->port);
    $publisher->send(request_text('POST', '/pub?id=a', body => 'x'));
    is(request($ngx->port, 'GET', '/info?id=b')->{status}, 404);
    my $begun = time;
    $ngx->stop;
    cmp_ok(time - $begun, '<', 10, 'and does not wait');
};

case 'everything with errors, by several seeds' => sub {
    for my $seed (1 .. 4) {
        my $ngx = node("errors,timeout=400,seed=$seed", workers => 2);
        my $port = $ngx->port;
        my %statuses;
        for (1 .. 4) {
            my %found = statuses_without_streams($port);
            $statuses{$_}++ for values %found;
        }
        my @strange = grep { !/^(?:200|201|202|404|500|503 again|504|101|304)$/ } keys %statuses;
        is_deeply(\@strange, [], "seed $seed: " . join ', ', map { "$statuses{$_} of $_" } sort keys %statuses);
        $ngx->stop;
    }
};

# The same without what does not end when it is let in.
sub statuses_without_streams {
    my ($port) = @_;

    my %found;
    for my $row (
        ['POST', '/pub?id=a', body => 'x'], ['POST', '/two?a=a&b=b', body => 'x'], ['GET', '/info?id=a'], ['DELETE', '/pub?id=b'],
        ['GET', '/info?id=a&presence'], ['GET', '/group?group=g'], ['POST', '/group?group=g', body => 'max_channels=5'],
        ['DELETE', '/group?group=h'],
    ) {
        my ($method, $path, @rest) = @$row;
        my $response = request($port, $method, $path, @rest);
        $found{"$method $path"} = $response->{status} . ($response->{headers}{'retry-after'} ? ' again' : '');
    }
    for my $n (1 .. 3) {
        my $client = Ws::Client->connect(port => $port);
        my $head = $client->handshake("/sub?id=$n");
        $found{"WebSocket $n"} = $head->{status} . ($head->{headers}{'retry-after'} ? ' again' : '');
        $client->abandon;
    }
    return %found;
}

done_testing();
