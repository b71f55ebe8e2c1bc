# What the status page and the log say of an engine: connected or not, what was asked of it, what was missed.

use strict;
use warnings;

use lib 't/lib';
use JSON::PP qw(decode_json);
use Test::More;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Nginx;
use Ws::Redis;

my $redis = Ws::Redis->start;
my $url = $redis->url;
my $other = Ws::Nginx::free_port();
my $ngx = Ws::Nginx->start(
    workers => 2,
    http    => "websocket_channel_zone 4m; websocket_channel_redis_timeout 2s; websocket_channel_redis $url;",
    noise   => [qr/channels: /],
    server  => <<"SERVER");
    location = /sub    { websocket_channel \$arg_id; websocket_channel_lag skip; }
    location = /pub    { websocket_channel \$arg_id mode=pub; }
    location = /down   { websocket_channel \$arg_id; websocket_channel_redis redis://user:secret\@127.0.0.1:$other/3; }
    location = /status     { websocket_status; }
    location = /text       { websocket_status text; }
    location = /prometheus { websocket_status prometheus; }
SERVER
my $port = $ngx->port;
await('the engine', sub { request($port, 'POST', '/pub?id=ready', body => 'x')->{status} == 202 });

sub engine {
    my ($nth) = @_;

    return decode_json(request($port, 'GET', '/status')->{body})->{engines}[$nth // 0];
}

# lines(regex): how many lines of the log are like it.
sub lines { my ($regex) = @_; return scalar grep { $_ =~ $regex } split /\n/, $ngx->log }

case 'json' => sub {
    my $engine = await('all connections', sub {
        my $engine = engine();
        return $engine->{workers}{connected} == 2 && $engine->{listening}{connected} && $engine;
    });
    is($engine->{engine}, $url);
    like($engine->{master}, qr/^127\.0\.0\.1:\d+ (?:redis|valkey) \d+\.\d+/);
    ok($engine->{connected});
    is($engine->{workers}{all}, 2);
    cmp_ok(abs($engine->{$_} - time), '<', 120, $_) for 'since';
    cmp_ok(abs($engine->{listening}{since} - time), '<', 120);
    my $down = engine(1);
    ok(!$down->{connected} && !$down->{listening}{connected}, 'the other one is not there');
    ok($ngx->await_log(qr/channels: (?:\S+ is not there|not listening to \S+): Connection refused/), 'and the log says why');
    is($down->{master}, '');
    unlike(request($port, 'GET', $_)->{body}, qr/secret/, 'no password') for '/status', '/text', '/prometheus';
};

case 'one server, some prefixes' => sub {
    my $server = <<'SERVER';
    location = /a          { websocket_channel $arg_id mode=pub; }
    location = /b          { websocket_channel $arg_id mode=pub; websocket_channel_redis_prefix "b\"\n:"; }
    location = /c          { websocket_channel $arg_id mode=pub; websocket_channel_redis_prefix ONE; }
    location = /d          { websocket_channel $arg_id mode=pub; websocket_channel_redis_prefix OTHER; }
    location = /status     { websocket_status; }
    location = /prometheus { websocket_status prometheus; }
SERVER
    # Octets that are no text.
    $server =~ s/ONE/\xfe/;
    $server =~ s/OTHER/\xff/;
    my $two = Ws::Nginx->start(http => "websocket_channel_redis $url;", server => $server);
    Ws::Redis::connected($two);
    is_deeply([map { $_->{engine} } @{decode_json(request($two->port, 'GET', '/status')->{body})->{engines}}],
        [$url, map { "$url (prefix $_)" } 'b\"\n:', '\xfe', '\xff'], 'are engines with different names');
    my %seen;
    my @again = grep { $seen{$_}++ } map { /^(\w+(?:\{.*\})?) \S+$/ } split /\n/, request($two->port, 'GET', '/prometheus')->{body};
    is_deeply(\@again, [], 'and each sample is there once');
    kill 'TERM', $two->master;
    waitpid $two->master, 0;
    delete $two->{master};
    $two->log_is_clean;
};

case 'channels: those that clients can name' => sub {
    my $channels = sub { decode_json(request($port, 'GET', '/status')->{body})->{channels}{channels} };
    is($channels->(), 0, 'how the workers find each other is none');
    my $subscriber = Ws::Client->open($port, '/sub?id=named');
    is($channels->(), 1);
    is($subscriber->close(1000), 'close 1000');
    publish($port, '/pub?id=named', 'x');
    is(request($port, 'DELETE', '/pub?id=named')->{status}, 200);
    ok(await('the copy to go', sub { $channels->() == 0 }));
};

case 'what was asked of it' => sub {
    my $before = engine();
    publish($port, '/pub?id=count', $_) for 1 .. 20;
    my $after = engine();
    cmp_ok($after->{commands}{sent}, '>=', $before->{commands}{sent} + 20);
    cmp_ok($after->{latency}{answers}, '>=', $before->{latency}{answers} + 20);
    cmp_ok($after->{latency}{sum}, '>', $before->{latency}{sum});
    is($after->{commands}{pending}, 0);
    is($after->{commands}{failed}, $before->{commands}{failed});
};

case 'what was missed' => sub {
    my $client = Ws::Client->open($port, '/sub?id=missed');
    publish($port, '/pub?id=missed', 0);
    is($client->message->{payload}, 0);
    my $before = engine();
    for my $n (1 .. 5) {
        $redis->command('CLIENT', 'KILL', 'TYPE', 'pubsub');
        publish($port, '/pub?id=missed', $n);
        is($client->message->{payload}, $n);
    }
    cmp_ok(engine()->{fetched}, '>', $before->{fetched});
    $client->close;
};

case 'text' => sub {
    my $text = request($port, 'GET', '/text')->{body};
    like($text, qr/^engine: \Q$url\E$/m);
    like($text, qr/^master: 127\.0\.0\.1:\d+ /m);
    like($text, qr/^commands: connected since \w+, \d+ \w+ \d+ [\d:]+ GMT, 2 of 2 workers$/m);
    like($text, qr/^listening: connected since /m);
    like($text, qr/^sent: \d+, failed: \d+, pending: 0, fetched: [1-9]\d*, epochs: \d+$/m);
};

case 'prometheus' => sub {
    my $text = request($port, 'GET', '/prometheus')->{body};
    my $name = qr/nginx_websocket_engine/;
    my $engine = qr/engine="\Q$url\E"/;
    like($text, qr/^${name}_up\{$engine\} 1$/m);
    like($text, qr/^${name}_listening\{$engine\} 1$/m);
    like($text, qr/^${name}_commands_total\{$engine\} [1-9]\d*$/m);
    like($text, qr/^${name}_master_info\{$engine,master="127\.0\.0\.1:\d+ [^"]+"\} 1$/m);
    like($text, qr/^# TYPE ${name}_command_duration_seconds histogram$/m);
    my @buckets = $text =~ /^${name}_command_duration_seconds_bucket\{$engine,le="[^"]+"\} (\d+)$/mg;
    is(scalar @buckets, 16);
    is_deeply(\@buckets, [sort { $a <=> $b } @buckets], 'they add up');
    my ($count) = $text =~ /^${name}_command_duration_seconds_count\{$engine\} (\d+)$/m;
    is($buckets[-1], $count);
    cmp_ok($count, '>=', 20);
};

case 'it goes and comes back: a line for each, and none for messages' => sub {
    my ($gone, $back) = (qr/channels: (?:\Q$url\E is not there|not listening to \Q$url\E)/, qr/channels: \Q$url\E is there again/);
    # Cutting a connection above was one.
    my @before = map { lines($_) } $gone, $back;
    my $client = Ws::Client->open($port, '/sub?id=goes');
    publish($port, '/pub?id=goes', 'x');
    is($client->message->{payload}, 'x');
    my $epochs = engine()->{epochs};
    $redis->kill;
    my $down = await('it to be known', sub { my $engine = engine(); !$engine->{connected} && !$engine->{listening}{connected} && $engine });
    is($down->{workers}{connected}, 0);
    is(request($port, 'POST', '/pub?id=goes', body => 'y')->{status}, 503) for 1 .. 20;
    cmp_ok(engine()->{commands}{failed}, '>=', $down->{commands}{failed});
    is(lines($gone) - $before[0], 1, 'one line');
    is(lines($back) - $before[1], 0);
    $redis->launch;
    await('all connections', sub {
        my $engine = engine();
        return $engine->{workers}{connected} == 2 && $engine->{listening}{connected};
    });
    is(lines($gone) - $before[0], 1);
    is(lines($back) - $before[1], 1, 'and one more');
    is(lines(qr/\[error\] [^ ]* (?:\*\d+ )?(?:connect|recv|send)\(\) failed/), 0, 'none for each attempt to connect');
    publish($port, '/pub?id=goes', 'z');
    is($client->message->{payload}, 'z');
    cmp_ok(engine()->{epochs}, '>', $epochs, 'it had lost what it had');
    $client->close;
};

case 'refusals are logged once' => sub {
    publish($port, '/pub?id=asks', 'x');
    $redis->command('CONFIG', 'SET', 'maxmemory', '1');
    for (1 .. 10) {
        is(request($port, 'POST', '/pub?id=full', body => 'x')->{status}, 503);
        # What needs no memory is answered meanwhile.
        is(request($port, 'GET', '/pub?id=asks')->{status}, 200);
    }
    is(lines(qr/channels: .* refuses: /), 1);
    $redis->command('CONFIG', 'SET', 'maxmemory', '0');
    # Each worker finds out for itself.
    await('a line', sub { request($port, 'POST', '/pub?id=full', body => 'x'); lines(qr/channels: .* takes commands again/) });
};

case 'counts stay over a reload' => sub {
    my $sent = engine()->{commands}{sent};
    $ngx->reload;
    publish($port, '/pub?id=reload', 'x');
    cmp_ok(engine()->{commands}{sent}, '>', $sent);
    await('the new workers', sub { my $engine = engine(); $engine->{workers}{all} == 2 && $engine->{workers}{connected} == 2 });
};

$redis->kill;
$ngx->stop;
done_testing();
