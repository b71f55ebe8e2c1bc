# websocket_channel_redis_replicas: a publication is acknowledged once so many replicas have it, else nobody knows.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Time::HiRes qw(time);
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Nginx;
use Ws::Redis;

my %options = ('repl-diskless-sync-delay' => 0, 'repl-ping-replica-period' => 1);
my $master = Ws::Redis->start(%options);
my @replicas = map { Ws::Redis->start(%options, replicaof => '127.0.0.1 ' . $master->port) } 1 .. 2;

# replicas(number): waits until the master has so many that are up to date.
sub replicas {
    my ($number) = @_;

    return await("$number replicas", sub {
        my $found = () = $master->command('INFO', 'replication') =~ /state=online/g;
        return $found == $number;
    }, 60);
}
replicas(2);

my $ngx = Ws::Nginx->start(
    workers => 2,
    http    => 'websocket_channel_zone 4m; websocket_channel_history length=10000; websocket_channel_redis_timeout 2s; websocket_channel_redis '
        . $master->url . ';',
    server => <<'SERVER',
    location = /two { websocket_channel $arg_id mode=pubsub; websocket_channel_redis_replicas 2; websocket_channel_redis_prefix two:; }
    location = /one { websocket_channel $arg_id mode=pubsub; websocket_channel_redis_replicas 1; websocket_channel_redis_prefix one:; }
    location = /none { websocket_channel $arg_id mode=pubsub; }
    location = /three { websocket_channel $arg_id mode=pub; websocket_channel_redis_replicas 3; websocket_channel_redis_prefix three:; }
SERVER
);
my $port = $ngx->port;

sub published {
    my ($path, $text) = @_;

    return request($port, 'POST', "/$path?id=a", body => $text)->{status};
}

for my $path (qw(none one two)) {
    my $row = 0;
    await('the engine', sub { $row = published($path, 'x') =~ /^20[12]$/ ? $row + 1 : 0; return $row >= 8 });
}

case 'as many as there are' => sub {
    my $client = Ws::Client->open($port, '/two?id=a');
    is(published('two', "m$_"), 201) for 1 .. 20;
    is_deeply([map { $client->message->{payload} } 1 .. 20], [map { "m$_" } 1 .. 20]);
};

case 'one WAIT for a batch' => sub {
    my $before = $master->command('INFO', 'commandstats') =~ /cmdstat_wait:calls=(\d+)/ ? $1 : 0;
    my $client = Ws::Client->open($port, '/two?id=batch');
    $client->send(join '', map { text("m$_") } 1 .. 500);
    my @got = grep { /^m/ } map { $client->message->{payload} } 1 .. 500;
    push @got, grep { /^m/ } $client->message->{payload} while @got < 500;
    is_deeply(\@got, [map { "m$_" } 1 .. 500], 'in order');
    my $after = $master->command('INFO', 'commandstats') =~ /cmdstat_wait:calls=(\d+)/ ? $1 : 0;
    cmp_ok($after - $before, '<', 300, ($after - $before) . ' for 500 publications');
    cmp_ok($after - $before, '>', 0);
};

case 'more than there are' => sub {
    my $begun = time;
    is(published('three', 'x'), 504, 'nobody knows');
    my $took = time - $begun;
    cmp_ok($took, '<', 2.6, "a publisher waits for websocket_channel_redis_timeout and no longer: $took s");
    # Several at once wait no longer.
    $begun = time;
    my @waiting = map { Ws::Client->connect(port => $port) } 1 .. 5;
    $_->send("POST /three?id=b HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx") for @waiting;
    my %status;
    $status{$_->response->{status}}++ for @waiting;
    is(join(' ', grep { !/^50[34]$/ } keys %status), '', join ' ', map { "$_: $status{$_}" } sort keys %status);
    cmp_ok(time - $begun, '<', 3.6);
};

case 'a replica stalls' => sub {
    my $client = Ws::Client->open($port, '/two?id=a');
    $replicas[1]->signal('STOP');
    is(published('two', 'unsure'), 504);
    is($client->message->{payload}, 'unsure', 'it may have been published, and was');
    is(published('one', 'sure') =~ /^20[12]$/ ? 1 : 0, 1, 'one has it');
    is(published('none', 'sure') =~ /^20[12]$/ ? 1 : 0, 1);
    $replicas[1]->signal('CONT');
    await('all', sub { published('two', 'again') == 201 });
};

case 'no replica is left' => sub {
    $_->kill for @replicas;
    await('none', sub { $master->command('INFO', 'replication') =~ /connected_slaves:0/ });
    is(published('one', 'x'), 504);
    is(published('none', 'x') =~ /^20[12]$/ ? 1 : 0, 1);
};

case 'the master dies' => sub {
    $master->kill;
    my $row = 0;
    await('it is known', sub { $row = published('one', 'x') == 503 ? $row + 1 : 0; return $row >= 8 });
    pass('it is');
};

case 'what cannot be' => sub {
    my %wrong = (
        'websocket_channel_redis redis://127.0.0.1; websocket_channel_redis_replicas x;' => qr/"x"/,
        'websocket_channel_redis redis://127.0.0.1; websocket_channel_redis_replicas -1;' => qr/"-1"/,
        'websocket_channel_redis redis://127.0.0.1; websocket_channel_redis_replicas 1; } location /b { websocket_channel x; websocket_channel_redis redis://127.0.0.1;' =>
            qr/two locations name one engine/,
    );
    for my $line (sort keys %wrong) {
        my ($status, $said) = Ws::Nginx->new(server => "location / { websocket_channel x; $line }")->check_config;
        isnt($status, 0, $line);
        like($said, $wrong{$line});
    }
};

$ngx->stop;
done_testing();
