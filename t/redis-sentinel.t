# Channels whose master the Sentinels name: failovers of every kind, with subscribers of two nodes that are never cut off.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Time::HiRes qw(time sleep);
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Nginx;
use Ws::Redis;
use Ws::Redis::Sentinels;

# On a busy machine a master may not answer for a second: it is replaced only where a case says so.
my $patient = 60_000;
my $group = Ws::Redis::Sentinels->start(
    requirepass => 'of-the-servers', sentinel_password => 'of-the-sentinels', down_after => $patient);

sub node {
    my $ngx = Ws::Nginx->new(
        workers => 2,
        http    => 'websocket_channel_zone 4m; websocket_channel_history length=10000; websocket_channel_redis_timeout 2s; '
            . 'websocket_channel_redis ' . $group->url . '; websocket_channel_redis_password_file %%PREFIX%%/servers; '
            . 'websocket_channel_redis_sentinel_password_file %%PREFIX%%/sentinels;',
        server => <<'SERVER',
    location = /pub { websocket_channel $arg_id mode=pub; }
    location = /sub { websocket_channel $arg_id; }
    location = /oldest { websocket_channel $arg_id; websocket_channel_start oldest; }
    location = /local { websocket_channel $arg_id mode=pubsub; websocket_channel_redis off; }
SERVER
    );
    $ngx->file('servers', "of-the-servers\n");
    $ngx->file('sentinels', "of-the-sentinels\n");
    $ngx->start;
    return $ngx;
}

my @nodes = (node(), node());
my @ports = map { $_->port } @nodes;

# quit(nginx): ends one of several.
sub quit {
    my ($one) = @_;

    kill 'TERM', $one->master;
    waitpid $one->master, 0;
    is($?, 0);
    delete $one->{master};
    return $one->log_is_clean;
}

# published(port, id, text): the status, 0 where there is none.
sub published {
    my ($port, $id, $text) = @_;

    return eval { request($port, 'POST', "/pub?id=$id", body => $text)->{status} } // 0;
}

# working(): both workers of each node publish; how long after a time that was.
sub working {
    my ($since) = @_;

    my $longest = 0;
    for my $port (@ports) {
        # One success in a row may be of one worker.
        my $row = 0;
        await('the engine', sub { $row = published($port, 'ready', 'x') =~ /^20[12]$/ ? $row + 1 : 0; return $row >= 8 }, 60);
        my $took = time - ($since // time);
        $longest = $took if $took > $longest;
    }
    return $longest;
}

working();

# A subscriber at each node, and what it has been told: numbers, and "gap" where it was told of one.
sub subscribers {
    my ($id) = @_;

    return map { Ws::Client->open($_, "/sub?id=$id", headers => ['Sec-WebSocket-Protocol' => 'ws+meta.nchan']) } @ports;
}

sub until_message {
    my ($client, $last) = @_;

    my @got;
    while (!@got || $got[-1] ne $last) {
        my $payload = $client->message->{payload};
        my ($text) = $payload =~ /\n\n(.*)\z/s;
        my $has_gap = $payload =~ /^gap: /m;
        push @got, 'gap' if $has_gap;
        # A gap is told at once, without a message where there is none yet.
        push @got, $text if length $text || !$has_gap;
    }
    return @got;
}

# Checks what promise 3 says, for numbers that were published in order: each once and in order, and whatever is not there that was
# acknowledged is at a gap.
sub is_told {
    my ($got, $acknowledged, $name) = @_;

    my @numbers = grep { /^\d+$/ } @$got;
    is_deeply(\@numbers, [sort { $a <=> $b } @numbers], "$name: in order");
    my %count;
    $count{$_}++ for @numbers;
    is(scalar(grep { $_ > 1 } values %count), 0, "$name: once");
    my @lost = grep { !$count{$_} } @$acknowledged;
    my $gaps = grep { $_ eq 'gap' } @$got;
    ok(!@lost || $gaps, "$name: " . @lost . " lost, $gaps gaps told");
    return @lost;
}

# failover(name, code): what happens to subscribers and publishers while the code replaces the master.
sub failover {
    my ($id, $replace, %expected) = @_;

    my @clients = subscribers($id);
    my ($n, @acknowledged) = (0);
    for (1 .. 20) {
        $n++;
        push @acknowledged, $n if published($ports[$n % 2], $id, $n) =~ /^20[12]$/;
    }
    is(scalar @acknowledged, 20);
    my $before = $group->master;
    $group->down_after(1000);
    $replace->($before, sub { $n++; push @acknowledged, $n if published($ports[$n % 2], $id, $n) =~ /^20[12]$/ });
    my $promoted = $group->another_master($before);
    $group->down_after($patient);
    my $took = working($promoted);
    note("$id: every node has published " . sprintf('%.3f', $took) . ' s after the promotion was seen');
    cmp_ok($took, '<', 10);
    for (1 .. 20) {
        $n++;
        my $next = $n;
        await('a publication', sub { published($ports[$n % 2], $id, $next) =~ /^20[12]$/ });
        push @acknowledged, $next;
    }
    await('the end', sub { published($ports[0], $id, 'end') =~ /^20[12]$/ });
    for my $client (@clients) {
        my @got = until_message($client, 'end');
        is_told(\@got, \@acknowledged, $id);
        is(scalar(grep { $_ eq 'gap' } @got), 1, 'one gap is told: nobody can know what the promoted replica has');
        ok(scalar(grep { $_ eq $n } @got), 'what was published after it has come');
        is($client->close(1000), 'close 1000', 'it was never cut off');
    }
    return @acknowledged;
}

case 'the master is killed' => sub {
    my $killed;
    failover('killed', sub {
        my ($master, $publish) = @_;
        $killed = $master;
        $master->kill;
        # 503 is the truth, and nothing else may be said.
        $publish->() for 1 .. 10;
    });
    # It comes back, and is made a replica.
    $killed->launch;
    $group->settled;
};

case 'SENTINEL FAILOVER' => sub {
    failover('asked', sub {
        my ($master, $publish) = @_;
        ($group->sentinels)[0]->command('SENTINEL', 'FAILOVER', $Ws::Redis::Sentinels::NAME);
        $publish->() for 1 .. 50;
    });
    $group->settled;
};

case 'a master that was cut off comes back' => sub {
    my $stopped;
    failover('deposed', sub {
        my ($master, $publish) = @_;
        $stopped = $master;
        $master->signal('STOP');
        $publish->() for 1 .. 2;
    });
    $stopped->signal('CONT');
    # It is a master for seconds, and whoever is still connected to it hears READONLY then.
    my @clients = subscribers('back');
    my ($n, @acknowledged) = (0);
    my $until = time + 3;
    while (time < $until) {
        $n++;
        push @acknowledged, $n if published($ports[$n % 2], 'back', $n) =~ /^20[12]$/;
    }
    await('the end', sub { published($ports[0], 'back', 'end') =~ /^20[12]$/ });
    is_told([until_message($_, 'end')], \@acknowledged, 'back') for @clients;
    cmp_ok(scalar @acknowledged, '>', 0);
    $group->settled;
};

case 'the promoted replica has less' => sub {
    my @acknowledged = failover('less', sub {
        my ($master, $publish) = @_;
        my @replicas = $group->replicas;
        $_->signal('STOP') for @replicas;
        # What is on its way to them would arrive all the same.
        $master->command('CLIENT', 'KILL', 'TYPE', 'replica');
        $publish->() for 1 .. 10;
        $master->kill;
        $_->signal('CONT') for @replicas;
    });
    my @got = until_message(Ws::Client->open($ports[1], '/oldest?id=less', headers => ['Sec-WebSocket-Protocol' => 'ws+meta.nchan']), 'end');
    my %got = map { $_ => 1 } @got;
    my @lost = grep { !$got{$_} } @acknowledged;
    cmp_ok(scalar @lost, '>=', 5, "what it never had is gone: @lost");
    is_deeply([grep { $_ ne 'end' && $_ ne 'gap' } @got], [grep { $got{$_} } @acknowledged], 'and the rest is there, in order');
    $_->launch for grep { !$_->pid } $group->servers;
    $group->settled;
};

case 'Sentinels die one after the other' => sub {
    my @sentinels = $group->sentinels;
    my $client = Ws::Client->open($ports[0], '/sub?id=blind');
    for my $sentinel (@sentinels) {
        $sentinel->kill;
        is(published($_, 'blind', 'x'), 201) for @ports;
    }
    is($client->message->{payload}, 'x', 'the master is there all the same') for 1 .. 6;
    $_->launch for @sentinels;
    $group->settled;
};

# The two know nothing of each other, as where the network between them is cut.
case 'a Sentinel that is behind, at the start and after reloads' => sub {
    my ($before, $master) = map { Ws::Redis->start } 1 .. 2;
    my $behind = Ws::Redis::Sentinels::One->start($before, 1, "sentinel config-epoch $Ws::Redis::Sentinels::NAME 4");
    my $newest = Ws::Redis::Sentinels::One->start($master, 1, "sentinel config-epoch $Ws::Redis::Sentinels::NAME 5");
    my $url = 'redis+sentinel://' . join(',', map { "127.0.0.1:$_->{port}" } $behind, $newest) . "/$Ws::Redis::Sentinels::NAME";
    my $ngx = Ws::Nginx->start(
        workers => 2,
        http    => "websocket_channel_redis $url; websocket_channel_redis_timeout 5s;",
        server  => <<'SERVER');
    location = /pub    { websocket_channel $arg_id mode=pub; }
    location = /status { websocket_status; }
SERVER
    my $known = sub { () = $ngx->log =~ /: 127\.0\.0\.1:${\ $master->port} is the master/g };
    await('both workers to know the newer one', sub { $known->() == 2 });
    is(request($ngx->port, 'POST', '/pub?id=first', body => 'x')->{status}, 202) for 1 .. 4;
    for my $reload (1 .. 6) {
        my @old = $ngx->workers;
        $ngx->reload;
        await('the fresh workers', sub { $known->() == 2 + 2 * $reload });
        await('an answer', sub { request($ngx->port, 'POST', "/pub?id=$reload", body => 'x')->{status} == 202 }) for 1 .. 4;
    }
    is($before->command('DBSIZE'), 0, 'nothing is published to the master of before');
    unlike($ngx->log, qr/:${\ $before->port} is the master/, 'nobody has taken it for the master');
    quit($ngx);
    $_->kill for $behind, $newest, $before, $master;
};

case 'no Sentinel is there, or none knows the name' => sub {
    my $nobody = Ws::Nginx::free_port();
    my ($sentinel) = $group->sentinels;
    my %engines = (
        nobody   => "redis+sentinel://127.0.0.1:$nobody/news",
        nowhere  => "redis+sentinel://127.0.0.1:$sentinel->{port}/nowhere",
        password => "redis+sentinel://:wrong\@127.0.0.1:$sentinel->{port}/news",
        some     => "redis+sentinel://:of-the-servers\@127.0.0.1:$nobody,127.0.0.1:$sentinel->{port}/news/1",
    );
    my $ngx = Ws::Nginx->new(
        http => 'websocket_channel_zone 1m; websocket_channel_redis_sentinel_password_file %%PREFIX%%/sentinels; '
            . (instrumented() ? 'websocket_channel_redis_timeout 20s; websocket_channel_redis_connect_timeout 20s;' : 'websocket_channel_redis_timeout 2s;'),
        server => join '', map { "location = /$_ { websocket_channel x mode=pub; websocket_channel_redis $engines{$_}; }\n" } sort keys %engines,
    );
    $ngx->file('sentinels', "of-the-sentinels\n");
    $ngx->start;
    is(request($ngx->port, 'POST', "/$_", body => 'x')->{status}, 503, $_) for qw(nobody nowhere password);
    await('the one that is there', sub { request($ngx->port, 'POST', '/some', body => 'x')->{status} == 202 });
    ok($ngx->await_log(qr/127\.0\.0\.1:$nobody\/news: no Sentinel tells the master/));
    # One line: where a first attempt was too slow, it says that.
    ok($ngx->await_log(under_valgrind() ? qr/nowhere: no Sentinel/ : qr/nowhere: no Sentinel knows a master of this name/));
    # The line is of the connection that found out first: to publish, or to listen.
    ok($ngx->await_log(qr/channels: (?:\S* is not there|not listening to \S*): HELLO was refused: WRONGPASS/));
    is(() = $ngx->log =~ /\[error\] .*(?:connect|recv)\(\) failed/g, 0, 'no line for each attempt');
    quit($ngx);
};

case 'what cannot be' => sub {
    my %wrong = (
        'websocket_channel_redis redis+sentinel://127.0.0.1;' => qr/the name by which the Sentinels know the master/,
        'websocket_channel_redis redis+sentinel://127.0.0.1/a redis+sentinel://127.0.0.2/b;' => qr/two servers are no engine/,
        'websocket_channel_redis redis+sentinel://127.0.0.1/a; websocket_channel_redis_sentinel_password_file /nonexistent;' => qr/No such file/,
        'websocket_channel_redis redis+sentinel://127.0.0.1/a; websocket_channel_redis_sentinel_user u;' =>
            qr/needs "websocket_channel_redis_sentinel_password_file"/,
    );
    for my $line (sort keys %wrong) {
        my ($status, $said) = Ws::Nginx->new(server => "location / { websocket_channel x; $line }")->check_config;
        isnt($status, 0, $line);
        like($said, $wrong{$line});
    }
};

quit($nodes[1]);
$group->kill;
$nodes[0]->stop;
done_testing();
