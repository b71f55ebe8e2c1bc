# Channels of two nodes and one Redis: publishing, subscribing, positions, deleting, info; and what happens without the Redis.

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

sub node {
    my (%opt) = @_;

    my $redis = delete $opt{redis} // $redis;
    return Ws::Nginx->start(
        workers => 2,
        http    => 'websocket_channel_zone 4m; websocket_channel_redis ' . $redis->url . '; websocket_channel_redis_timeout 2s;',
        server  => <<'SERVER',
    location = /pub    { websocket_channel $arg_id mode=pub; }
    location = /two    { websocket_channel $arg_id $arg_other mode=pub; }
    location = /sub    { websocket_channel $arg_id; websocket_channel_start oldest; }
    location = /named  { websocket_channel $arg_id; websocket_channel_presence $arg_name; }
    location = /lag    { websocket_channel $arg_id; websocket_channel_lag skip; }
    location = /pubsub { websocket_channel $arg_id mode=pubsub; }
    location = /local  { websocket_channel $arg_id mode=pubsub; websocket_channel_redis off; websocket_channel_delete on; }
    location = /info   { websocket_channel $arg_id mode=info; }
    location = /status { websocket_status; }
SERVER
        %opt);
}

my @nodes = (node(), node());
my ($one, $two) = map { $_->port } @nodes;

sub info {
    my ($port, $id) = @_;

    my $response = request($port, 'GET', "/info?id=$id", Accept => 'text/json');
    return $response->{status} == 200 ? decode_json($response->{body}) : undef;
}

Ws::Redis::connected(@nodes);

case 'what one node publishes, subscribers of all get' => sub {
    my @clients = map { Ws::Client->open($_, '/sub?id=a') } $one, $one, $two, $two;
    is(request($one, 'POST', '/pub?id=a', body => 'first')->{status}, 201);
    is($_->message->{payload}, 'first') for @clients;
    publish($two, '/pub?id=a', "message $_") for 1 .. 50;
    for my $client (@clients) {
        is_deeply([map { $client->message->{payload} } 1 .. 50], [map { "message $_" } 1 .. 50]);
    }
};

case 'history of another node' => sub {
    publish($one, '/pub?id=history', $_) for 1 .. 15;
    my $client = Ws::Client->open($two, '/sub?id=history');
    is_deeply([map { $client->message->{payload} } 1 .. 10], [6 .. 15], 'ten are kept by default');
    publish($one, '/pub?id=history', 16);
    is($client->message->{payload}, 16);
};

case 'a position of one node is one of the other' => sub {
    publish($one, '/pub?id=position', $_) for 1 .. 5;
    my $client = Ws::Client->open($one, '/sub?id=position', headers => ['Sec-WebSocket-Protocol' => 'ws+meta.nchan']);
    my ($id) = $client->message->{payload} =~ /^id: (\S+)/;
    ok($id, "id $id");
    my $other = Ws::Client->open($two, "/sub?id=position&last_event_id=$id");
    is_deeply([map { $other->message->{payload} } 1 .. 4], [2 .. 5]);
};

case 'subscribers one by one are those of the node that is asked' => sub {
    my ($here, $there) = map { Ws::Client->open($one, "/named?id=listed&name=$_") } qw(anna bob);
    my $other = Ws::Client->open($two, '/named?id=listed&name=carla');
    my $listed = sub {
        my ($port, $id) = @_;

        my $list = decode_json(request($port, 'GET', "/info?id=$id&subscribers")->{body});
        return join ' ', (map { $_->{id} } @{$list->{list}}), "of $list->{subscribers} at this $list->{scope}";
    };
    is($listed->($one, 'listed'), 'bob anna of 2 at this machine');
    is($listed->($two, 'listed'), 'carla of 1 at this machine');
    publish($two, '/pub?id=elsewhere', 'x');
    is($listed->($one, 'elsewhere'), 'of 0 at this machine', 'a channel that nobody has here');
    $_->close(1000) for $here, $there, $other;
};

case 'several channels, in one message' => sub {
    my $client = Ws::Client->open($two, '/sub?id=left');
    my $right = Ws::Client->open($two, '/sub?id=right');
    is(request($one, 'POST', '/two?id=left&other=right', body => 'both')->{status}, 201);
    is($_->message->{payload}, 'both') for $client, $right;
};

case 'channels of this machine are others' => sub {
    my $here = Ws::Client->open($one, '/local?id=same');
    my $there = Ws::Client->open($one, '/sub?id=same');
    publish($one, '/pub?id=same', 'engine');
    publish($one, '/local?id=same', 'here');
    is($here->message->{payload}, 'here');
    is($there->message->{payload}, 'engine');
    is(request($one, 'DELETE', '/local?id=same')->{status}, 200);
    is(info($one, 'same')->{messages}, 1, 'deleted here only');
};

case 'info tells of all nodes' => sub {
    is(info($one, 'nobody'), undef);
    my @clients = map { Ws::Client->open($_, '/sub?id=info') } $one, $two, $two;
    publish($one, '/pub?id=info', 'x');
    $_->message for @clients;
    await('all subscribers', sub { (info($one, 'info')->{subscribers} // 0) == 3 });
    my $info = info($two, 'info');
    is($info->{messages}, 1);
    $clients[1]->close;
    await('one less', sub { info($one, 'info')->{subscribers} == 2 });
};

case 'deleting' => sub {
    my @clients = map { Ws::Client->open($_, '/sub?id=gone') } $one, $two;
    publish($one, '/pub?id=gone', 'x');
    $_->message for @clients;
    is(request($two, 'DELETE', '/pub?id=gone')->{status}, 200);
    is(request($two, 'DELETE', '/pub?id=gone')->{status}, 404);
    like($_->server_close, qr/1001/) for @clients;
};

case 'a publisher by WebSocket' => sub {
    my $subscriber = Ws::Client->open($two, '/sub?id=ws');
    my $publisher = Ws::Client->open($one, '/pub?id=ws');
    $publisher->send(text("m$_")) for 1 .. 200;
    is_deeply([map { $subscriber->message->{payload} } 1 .. 200], [map { "m$_" } 1 .. 200]);
    like($publisher->message->{payload}, qr/queued messages: 1\b/);
    my $both = Ws::Client->open($one, '/pubsub?id=ws');
    $both->send(text('echo'));
    is($both->message->{payload}, 'echo');
};

case 'a server that was restarted' => sub {
    my @clients = map { Ws::Client->open($_, '/sub?id=restart', headers => ['Sec-WebSocket-Protocol' => 'ws+meta.nchan']) } $one, $two;
    publish($one, '/pub?id=restart', 'before');
    like($_->message->{payload}, qr/before\z/) for @clients;
    $redis->kill;
    await('the engine to be away', sub { request($one, 'POST', '/pub?id=restart', body => 'lost')->{status} == 503 });
    like(request($one, 'POST', '/pub?id=restart', body => 'lost')->{headers}{'retry-after'}[0] // '', qr/^\d+$/);
    my $late = Ws::Client->open($one, '/sub?id=restart');
    is($late->message->{payload}, 'before', 'who comes now gets what this machine has');
    my $nowhere = Ws::Client->connect(port => $one)->handshake('/sub?id=nowhere');
    is($nowhere->{status}, 503, 'which is not what nobody here has asked for');
    ok($nowhere->{headers}{'retry-after'});
    $redis->launch;
    Ws::Redis::connected(@nodes);
    # Each worker connects by itself.
    await('a publication', sub { request($two, 'POST', '/pub?id=restart', body => 'after')->{status} =~ /^20[12]$/ });
    for my $client (@clients) {
        like($client->message->{payload}, qr/^gap: 0$/m, 'everybody is told');
        like($client->message->{payload}, qr/^after\z/m, 'and gets what was published meanwhile');
    }
    $_->{noise} = [qr/channels: /] for @nodes;
};

case 'what cannot be' => sub {
    my %wrong = (
        'websocket_channel_redis http://x;'                        => qr/redis:\/\//,
        'websocket_channel_redis off redis://127.0.0.1;'           => qr/"off" stands alone/,
        'websocket_channel_redis redis://127.0.0.1 redis://[::1];' => qr/two servers are no engine/,
        'websocket_channel_redis redis://:p@127.0.0.1; websocket_channel_redis_password_file x;' => qr/a password in the URL beside/,
        'websocket_channel_redis redis://127.0.0.1; websocket_channel_redis_password_file /nonexistent;' => qr/No such file/,
        'websocket_channel_redis redis://127.0.0.1; websocket_channel_redis_timeout 0;' => qr/longer than 0/,
        'websocket_channel_redis redis://127.0.0.1; websocket_channel_redis_prefix "a{b";' => qr/without braces/,
        'websocket_channel_redis redis://127.0.0.1; websocket_exec /bin/cat;' => qr/one machine's/,
    );
    for my $line (sort keys %wrong) {
        my ($status, $said) = Ws::Nginx->new(server => "location / { websocket_channel x; $line }")->check_config;
        isnt($status, 0, $line);
        like($said, $wrong{$line});
        unlike($said, qr/:p\@/, 'no password');
    }
};

# No process may be left of any of them.
kill 'TERM', $nodes[1]->master;
waitpid $nodes[1]->master, 0;
is($?, 0);
delete $nodes[1]{master};
$nodes[1]->log_is_clean;
$redis->kill;
$nodes[0]->stop;
done_testing();
