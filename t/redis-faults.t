# Channels in a Redis while workers are killed, configurations are loaded anew, and the server stalls or is replaced: every message
# that was acknowledged arrives once and in order, or a gap is told.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Time::HiRes qw(time sleep);
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Nginx;
use Ws::Process;
use Ws::Redis;

my $redis = Ws::Redis->start;
my $http = 'websocket_channel_zone 4m; websocket_channel_history length=1000; websocket_channel_redis_timeout 1s; websocket_channel_redis '
    . $redis->url . ';';
my $ngx = Ws::Nginx->start(workers => 3, connections => 1024, http => $http, server => <<'SERVER');
    location = /pub { websocket_channel $arg_id mode=pub; }
    location = /sub { websocket_channel $arg_id; }
    location = /ask { websocket_channel $arg_id; websocket_channel_join_request /yes; }
    location = /no  { websocket_channel $arg_id; websocket_channel_join_request /never; }
    location = /yes { return 200; }
    location = /status { websocket_status; }
    location = /never { return 403; }
    location = /few    { websocket_channel $arg_id; websocket_channel_start oldest; websocket_channel_history length=3; }
    location = /fewpub { websocket_channel $arg_id mode=pub; websocket_channel_history length=3; }
    location = /local { websocket_channel $arg_id mode=pubsub; websocket_channel_redis off; }
SERVER
my $port = $ngx->port;
# The last one is nginx's, where the worker had the lock of the zone.
$ngx->{noise} = [qr/exited on signal 9/, qr/shared memory zone "ws_exec_channels" was locked by/];

Ws::Redis::connected($ngx);

# The numbers that come, until the last one.
sub numbers {
    my ($client, $last) = @_;

    my @got;
    push @got, $client->message->{payload} while !@got || $got[-1] != $last;
    return \@got;
}

case 'hooks are asked before the engine is' => sub {
    my $client = Ws::Client->open($port, '/ask?id=hook');
    publish($port, '/pub?id=hook', 'x');
    is($client->message->{payload}, 'x');
    is(Ws::Client->connect(port => $port)->handshake('/no?id=hook')->{status}, 403);
};

case 'who comes while nginx is reloaded' => sub {
    my (%status, $shortest);
    for my $round (1 .. 4) {
        # The signal only: what is of interest is the moment in which the old workers leave.
        kill 'HUP', $ngx->master;
        my @clients;
        for my $nth (1 .. 60) {
            my $client = Ws::Client->connect(port => $port);
            $client->send(upgrade("/sub?id=reloaded-$round-$nth"));
            push @clients, $client;
            sleep 0.005;
        }
        my $begin = time;
        $status{$_->response->{status}}++ for @clients;
        my $time = time - $begin;
        $shortest = $time if !defined $shortest || $time < $shortest;
        $_->abandon for @clients;
    }
    is_deeply(\%status, { 101 => 240 }, 'all of them are served');
    cmp_ok($shortest, '<', 0.3, 'at once');
    await('three workers', sub { $ngx->workers == 3 });
    Ws::Redis::connected($ngx);
};

case 'any worker may be killed' => sub {
    my ($n, $stayed) = (0, 0);
    for my $round (1 .. 3) {
        # The kernel tends to give connections to the worker that has waited longest: it is killed first, and then last.
        my @workers = $round % 2 ? $ngx->workers : reverse $ngx->workers;
        for my $victim (@workers) {
            # Those of the worker that is killed go with it.
            my @clients = map { Ws::Client->open($port, '/sub?id=killed') } 1 .. 6;
            my $first = $n + 1;
            publish($port, '/pub?id=killed', ++$n) for 1 .. 3;
            kill 'KILL', $victim;
            for (1 .. 5) {
                my $next = $n + 1;
                await('a publication', sub { eval { request($port, 'POST', '/pub?id=killed', body => $next)->{status} } // 0 =~ /^20[12]$/ });
                $n++;
            }
            for my $client (@clients) {
                my $got = eval { numbers($client, $n) } or next;
                is_deeply($got, [$first .. $n], 'in order and once');
                $stayed++;
            }
            await('three workers', sub { $ngx->workers == 3 });
        }
    }
    Ws::Redis::connected($ngx);
    cmp_ok($stayed, '>', 0, "$stayed of 54 were connected to another worker");
};

case 'a reload: old clients and new ones' => sub {
    my @old = map { Ws::Client->open($port, '/sub?id=reload') } 1 .. 6;
    publish($port, '/pub?id=reload', 1);
    $ngx->reload;
    my @new = map { Ws::Client->open($port, '/sub?id=reload') } 1 .. 6;
    publish($port, '/pub?id=reload', $_) for 2 .. 20;
    is_deeply(numbers($_, 20), [1 .. 20], 'one of before') for @old;
    is_deeply(numbers($_, 20), [2 .. 20], 'one of after') for @new;
    $_->close for @old, @new;
};

case 'what is kept here is what the location says, whoever listens' => sub {
    my $old = Ws::Client->open($port, '/few?id=few');
    publish($port, '/fewpub?id=few', $_) for 1 .. 2;
    $ngx->reload;
    # The next one that listens has read what came meanwhile when this arrives.
    publish($port, '/fewpub?id=few', 0);
    is_deeply(numbers($old, 0), [1, 2, 0]);
    publish($port, '/fewpub?id=few', $_) for 3 .. 12;
    is_deeply(numbers($old, 12), [3 .. 12]);
    my $late = Ws::Client->open($port, '/few?id=few');
    is_deeply(numbers($late, 12), [10 .. 12], 'three are kept');
    $_->close for $old, $late;
};

case 'many wait for an engine that stalls, and hold up nobody' => sub {
    my $local = Ws::Client->open($port, '/local?id=y');
    $redis->signal('STOP');
    my @waiting = map { Ws::Client->connect(port => $port) } 1 .. 300;
    $waiting[$_]->send(Ws::Frame::upgrade("/sub?id=waits$_")) for 0 .. $#waiting;
    for my $n (1 .. 20) {
        my $begun = time;
        $local->send(text($n));
        is($local->message->{payload}, $n) or last;
        cmp_ok(time - $begun, '<', instrumented() ? 10 : 1) or last;
    }
    $redis->signal('CONT');
    my %status;
    $status{$_->response->{status}}++ for @waiting;
    is(join(' ', grep { $_ != 101 && $_ != 503 } keys %status), '', join ' ', map { "$_: $status{$_}" } sort keys %status);
    Ws::Redis::connected($ngx);
};

case 'a server that stalls' => sub {
    my $client = Ws::Client->open($port, '/sub?id=stall');
    my $local = Ws::Client->open($port, '/local?id=x');
    publish($port, '/pub?id=stall', 1);
    is($client->message->{payload}, 1);
    $redis->signal('STOP');
    my $begun = time;
    my $status = request($port, 'POST', '/pub?id=stall', body => 2)->{status};
    my $took = time - $begun;
    is($status, 504, 'nobody knows');
    cmp_ok($took, '<', instrumented() ? 20 : 4, "answered after $took s");
    # Each worker finds out for itself.
    my ($tries, %refused) = (0);
    await('it is known to be away', sub {
        my $body = 'try ' . ++$tries;
        $refused{$body} = 1 if request($port, 'POST', '/pub?id=stall', body => $body)->{status} == 503;
        return keys %refused >= 3;
    });
    $local->send(text('here'));
    is($local->message->{payload}, 'here', 'other locations do not notice');
    $redis->signal('CONT');
    Ws::Redis::connected($ngx);
    publish($port, '/pub?id=stall', 'end');
    my @got;
    push @got, $client->message->{payload} while !@got || $got[-1] ne 'end';
    is(scalar(grep { $refused{$_} } @got), 0, 'what was refused was not published');
};

case 'scripts are forgotten' => sub {
    my $client = Ws::Client->open($port, '/sub?id=flush');
    $redis->command('SCRIPT', 'FLUSH');
    await('a publication', sub { request($port, 'POST', '/pub?id=flush', body => 'x')->{status} == 201 });
    is($client->message->{payload}, 'x');
    # The connections that commands go by find out one after the other, and so does the one that listens, once there is another channel.
    my $late;
    $redis->command('SCRIPT', 'FLUSH');
    await('a subscription', sub {
        $late = Ws::Client->connect(port => $port);
        $late->handshake('/sub?id=flushed')->{status} == 101;
    });
    await('a publication', sub { request($port, 'POST', '/pub?id=flushed', body => 'y')->{status} == 201 });
    is($late->message->{payload}, 'y');
    Ws::Redis::connected($ngx);
};

case 'who listens is cut off' => sub {
    my $client = Ws::Client->open($port, '/sub?id=cut');
    for my $n (1 .. 5) {
        $redis->command('CLIENT', 'KILL', 'TYPE', 'pubsub');
        publish($port, '/pub?id=cut', $n);
    }
    is_deeply(numbers($client, 5), [1 .. 5]);
};

case 'no memory' => sub {
    $redis->command('CONFIG', 'SET', 'maxmemory', '1');
    is(request($port, 'POST', '/pub?id=memory', body => 'x')->{status}, 503);
    $redis->command('CONFIG', 'SET', 'maxmemory', '0');
    is(request($port, 'POST', '/pub?id=memory', body => 'x')->{status}, 202);
};

case 'what it has cannot be saved, as with a full disk' => sub {
    # Nothing can take the place of a directory that has something in it.
    my $dump = $redis->log_file =~ s/log\z/dump.rdb/r;
    mkdir $_ or die "$_: $!\n" for $dump, "$dump/full";
    $redis->command('CONFIG', 'SET', 'save', '3600 1000000');
    $redis->command('BGSAVE');
    await('saving to fail', sub { $redis->command('INFO', 'persistence') =~ /rdb_last_bgsave_status:err/ });
    my $response = request($port, 'POST', '/pub?id=disk', body => 'x');
    is($response->{status}, 503);
    ok($response->{headers}{'retry-after'});
    rmdir $_ for "$dump/full", $dump;
    $redis->command('BGSAVE');
    await('saving to succeed', sub { $redis->command('INFO', 'persistence') =~ /rdb_last_bgsave_status:ok/ });
    is(request($port, 'POST', '/pub?id=disk', body => 'x')->{status}, 202);
    $redis->command('CONFIG', 'SET', 'save', '');
};

$redis->kill;
$ngx->stop;

case 'what is asked while the connection is being made leaves with it' => sub {
    my $redis = Ws::Redis->start;
    $redis->signal('STOP');
    my $new = Ws::Nginx->start(
        http   => 'websocket_channel_zone 4m; websocket_channel_redis_timeout 60s; websocket_channel_redis_connect_timeout 60s; '
            . "websocket_channel_redis @{[$redis->url]};",
        server => 'location = /pub { websocket_channel $arg_id mode=pub; }');
    my $publisher = Ws::Client->connect(port => $new->port);
    $publisher->send(request_text('POST', '/pub?id=early', 'Content-Length' => 1) . 'x');
    # It is in the worker by then.
    is(request($new->port, 'GET', '/none')->{status}, 404);
    my $begun = time;
    $redis->signal('CONT');
    is($publisher->response->{status}, 202);
    my $took = time - $begun;
    cmp_ok($took, '<', instrumented() ? 20 : 3, "answered after $took s");
    $redis->kill;
    $new->stop;
};

case 'more than the system takes for a server that stalls' => sub {
    my $redis = Ws::Redis->start;
    my $new = Ws::Nginx->start(
        http   => "websocket_channel_zone 64m; websocket_channel_redis_timeout 60s; websocket_channel_redis @{[$redis->url]};",
        server => <<'SERVER');
        client_max_body_size 32m;
        location = /pub    { websocket_channel $arg_id mode=pub; }
        location = /status { websocket_status; }
SERVER
    Ws::Redis::connected($new);
    $redis->signal('STOP');
    # One message: the answer to another one would have the connection looked at.
    my $publisher = Ws::Client->connect(port => $new->port);
    my $size = 24 << 20;
    $publisher->send(request_text('POST', '/pub?id=large', 'Content-Length' => $size) . 'x' x $size);
    is(request($new->port, 'GET', '/none')->{status}, 404);
    my $begun = time;
    $redis->signal('CONT');
    is($publisher->response->{status}, 202);
    my $took = time - $begun;
    cmp_ok($took, '<', instrumented() ? 50 : 10, "answered after $took s");
    $redis->kill;
    $new->stop;
};

# Redis ends a connection that has subscribed and is to be sent more than client-output-buffer-limit says.
case 'many channels are to be read at once' => sub {
    my $redis = Ws::Redis->start('client-output-buffer-limit' => 'pubsub 1mb 0 0');
    my $new = Ws::Nginx->start(
        workers => 2,
        http    => "websocket_channel_zone 64m; websocket_channel_redis_timeout 2s; websocket_channel_redis @{[$redis->url]};",
        server  => <<'SERVER');
        # Clients that are not looked at for long stay.
        websocket_ping_interval 0;
        location = /pub    { websocket_channel $arg_id mode=pub; }
        location = /sub    { websocket_channel $arg_id; websocket_channel_start oldest; }
        location = /status { websocket_status; }
SERVER
    Ws::Redis::connected($new);
    my @ids = 1 .. 150;
    for my $id (@ids) {
        publish($new->port, "/pub?id=$id", 'x' x 16_000 . $_) for 1 .. 8;
    }
    my @clients = map { Ws::Client->connect(port => $new->port) } @ids;
    $clients[$_ - 1]->send(upgrade("/sub?id=$_")) for @ids;
    for my $client (@clients) {
        is($client->response->{status}, 101);
        is(join(' ', map { substr $client->message->{payload}, 16_000 } 1 .. 8), '1 2 3 4 5 6 7 8');
    }
    my $lost = () = $new->log =~ /not listening to/g;
    cmp_ok($lost, '<', 8, "and it was lost $lost times");
    $redis->kill;
    $new->stop;
};

case 'a unix socket that is gone for a while, and made anew' => sub {
    my $redis = Ws::Redis->start;
    my $engine = 'unix:' . $redis->socket;
    my $new = Ws::Nginx->start(http => "websocket_channel_redis $engine;", server => <<'SERVER');
        location = /pub    { websocket_channel $arg_id mode=pub; }
        location = /sub    { websocket_channel $arg_id; }
        location = /status { websocket_status; }
SERVER
    Ws::Redis::connected($new);
    unlink $redis->socket;
    $redis->kill;
    await('it to be known', sub { request($new->port, 'POST', '/pub?id=socket', body => 'x')->{status} == 503 });
    # Several attempts to connect.
    sleep 1.5;
    my @lines = grep { /\[(?:warn|error|crit|alert|emerg)\]/ } split /\n/, $new->log;
    is(scalar @lines, 1, 'one line, and none for each attempt to connect') or diag(join "\n", @lines);
    $redis->launch;
    Ws::Redis::connected($new);
    my $client = Ws::Client->open($new->port, '/sub?id=socket');
    publish($new->port, '/pub?id=socket', 'again');
    is($client->message->{payload}, 'again');
    is($client->close(1000), 'close 1000');
    $redis->kill;
    $new->stop;
};

case 'a server that ends each connection soon' => sub {
    my $redis = Ws::Redis->start('client-output-buffer-limit' => 'pubsub 4kb 0 0');
    my $new = Ws::Nginx->start(
        http   => "websocket_channel_redis_timeout 1s; websocket_channel_redis @{[$redis->url]};",
        server => <<'SERVER');
        location = /pub    { websocket_channel $arg_id mode=pub; }
        location = /sub    { websocket_channel $arg_id; }
        location = /status { websocket_status; }
SERVER
    Ws::Redis::connected($new);
    publish($new->port, '/pub?id=large', 'x' x 100_000);
    for (1 .. 3) {
        is(request($new->port, 'GET', '/sub?id=large', Accept => 'text/event-stream')->{status}, 503);
    }
    my $lost = () = $new->log =~ /not listening to/g;
    cmp_ok($lost, '>', 1);
    cmp_ok($lost, '<', 12, "not again and again at once: $lost times");
    $redis->kill;
    $new->stop;
};

# Nobody else is there for whom the old workers would stay.
case 'who waits for the engine while nginx is reloaded' => sub {
    my $redis = Ws::Redis->start;
    my $new = Ws::Nginx->start(
        workers => 2,
        http    => "websocket_channel_redis @{[$redis->url]};",
        server  => <<'SERVER');
        location = /sub    { websocket_channel $arg_id; }
        location = /status { websocket_status; }
SERVER
    Ws::Redis::connected($new);
    $redis->signal('STOP');
    kill 'HUP', $new->master;
    my @clients;
    for my $nth (1 .. 60) {
        my $client = Ws::Client->connect(port => $new->port);
        $client->send("GET /sub?id=waiting-$nth HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n");
        push @clients, $client;
        sleep 0.005;
    }
    $redis->signal('CONT');
    my %status;
    for my $client (@clients) {
        $client->wait_until(sub { $client->{in} =~ m{^HTTP/1\.1 \d+} }, 'an answer');
        $status{ substr $client->{in}, 9, 3 }++;
    }
    is_deeply(\%status, { 200 => 60 }, 'all of them are served');
    $_->abandon for @clients;
    $redis->kill;
    $new->stop;
};

done_testing();
