# Who is on the channels of two nodes and one Redis, and how many they are, also when workers and nodes are killed.

use strict;
use warnings;

use lib 't/lib';
use JSON::PP qw(decode_json);
use Test::More;
use Time::HiRes qw(time);
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Nginx;
use Ws::Process qw(descendants);
use Ws::Redis;

my $redis = Ws::Redis->start;
my $url = $redis->url;

sub node {
    return Ws::Nginx->start(
        workers => 2,
        http    => "websocket_channel_zone 4m; websocket_channel_redis $url;",
        # The last one is nginx's, where the worker had the lock of the zone.
        noise   => [qr/exited on signal 9/, qr/shared memory zone "ws_exec_channels" was locked by/, qr/channels: /],
        server  => <<'SERVER');
    websocket_channel_presence $arg_name;
    location = /sub    { websocket_channel $arg_id; websocket_channel_lag skip; }
    location = /two    { websocket_channel $arg_id $arg_other; }
    location = /pub    { websocket_channel $arg_id mode=pub; }
    location = /both   { websocket_channel $arg_id $arg_other mode=pub; }
    location = /drop   { websocket_channel $arg_id mode=pub; websocket_channel_publish_request /nothing; }
    location = /nothing { return 204; }
    location = /status  { websocket_status; }
SERVER
}

my @nodes = (node(), node());
my ($one, $two) = map { $_->port } @nodes;
Ws::Redis::connected(@nodes);

sub info {
    my ($port, $id) = @_;

    my $response = request($port, 'GET', "/pub?id=$id", Accept => 'text/json');
    return $response->{status} == 200 ? decode_json($response->{body}) : { subscribers => $response->{status} };
}

# "anna*2 bob of 4".
sub present {
    my ($port, $query) = @_;

    my $response = request($port, 'GET', "$query&presence");
    return $response->{status} if $response->{status} != 200;
    my $presence = decode_json($response->{body});
    my @names = map { $_->{id} . ($_->{connections} > 1 ? "*$_->{connections}" : '') } @{$presence->{present}};
    return join ' ', @names, "of $presence->{subscribers}";
}

# until_is(expected, code): what it returns becomes that. Where it is something else in between, it is one of the others.
sub until_is {
    my ($expected, $code, $name, @between) = @_;

    my ($got, %seen);
    eval { await($name // 'a count', sub { $seen{$got = $code->()}++; return $got eq $expected }, 40) };
    is($got, $expected, $name);
    if (@between) {
        delete @seen{$expected, @between};
        is(join(', ', sort keys %seen), '', 'nothing else in between');
    }
    return;
}

sub join_as { my ($port, $name, $path) = @_; return Ws::Client->open($port, "$path&name=$name") }

case 'who is on a channel, at all nodes' => sub {
    is(present($one, '/pub?id=who'), 404, 'no channel');
    my @clients = (join_as($one, 'anna', '/sub?id=who'), join_as($two, 'anna', '/sub?id=who'), join_as($two, 'bob', '/sub?id=who'),
        join_as($one, '', '/sub?id=who'));
    until_is('anna*2 bob of 4', sub { present($_, '/pub?id=who') }, "at $_") for $one, $two;
    $clients[1]->close;
    until_is('anna bob of 3', sub { present($one, '/pub?id=who') }, 'one has gone');
    my $other = join_as($one, 'carl', '/two?id=who&other=else');
    until_is('anna bob carl*2 of 5', sub { present($two, '/both?id=who&other=else') }, 'two channels');
    $_->abandon for @clients, $other;
    until_is('of 0', sub { present($two, '/pub?id=who') }, 'nobody');
    is(info($one, 'who')->{requested}, info($two, 'who')->{requested}, 'known at both nodes');
    cmp_ok(info($one, 'who')->{requested}, '<', 30);
};

case 'somebody is disconnected, at all nodes' => sub {
    my @anna = map { join_as($_, 'anna', '/sub?id=expel') } ($one, $two) x 3;
    my $bob = join_as($two, 'bob', '/sub?id=expel');
    until_is('anna*6 bob of 7', sub { present($one, '/pub?id=expel') });
    my $got = request($one, 'DELETE', '/pub?id=expel&presence=anna');
    is("$got->{status} $got->{body}", '200 {"disconnected": 6}');
    is($_->server_close, 'close 1008 disconnected') for @anna;
    until_is('bob of 1', sub { present($one, '/pub?id=expel') });
    publish($one, '/pub?id=expel', 'goes on');
    is($bob->text, 'goes on');
    is(request($two, 'DELETE', '/pub?id=expel&presence=anna')->{status}, 404, 'nobody is called so any more');
    $bob->close;
};

case 'in each form' => sub {
    my @clients = map { join_as($_, 'x', '/sub?id=forms') } $one, $two, $two;
    until_is(3, sub { info($one, 'forms')->{subscribers} });
    my %form = ('text/plain' => qr/^active subscribers: 3\r?$/m, 'text/json' => qr/"subscribers": 3/, 'text/xml' => qr/<subscribers>3</,
        'text/yaml' => qr/^subscribers: 3\r?$/m);
    for my $port ($one, $two) {
        like(request($port, 'GET', '/pub?id=forms', Accept => $_)->{body}, $form{$_}, $_) for sort keys %form;
    }
    is(request($one, 'POST', '/pub?id=forms', body => 'x')->{status}, 201);
    like(request($two, 'POST', '/pub?id=forms', body => 'y')->{body}, $form{'text/plain'}, 'what a publisher is told');
    my $publisher = Ws::Client->open($one, '/drop?id=forms');
    $publisher->send(text('dropped'));
    like($publisher->message->{payload}, $form{'text/plain'}, 'and one whose message was dropped');
    $_->close for @clients;
};

case 'nobody is counted twice when another worker listens' => sub {
    my @clients = map { join_as($_, 'x', '/sub?id=twice') } ($one) x 3, ($two) x 3;
    until_is(6, sub { info($one, 'twice')->{subscribers} });
    # Whether the worker that was asked for the channel, or the one that listens after it, answers is a matter of moments.
    for my $count (7 .. 11) {
        $nodes[1]->reload;
        push @clients, join_as($two, 'new', '/sub?id=twice');
        until_is($count, sub { info($one, 'twice')->{subscribers} }, 'after a reload', $count - 1);
    }
    until_is('new*5 x*6 of 11', sub { present($one, '/pub?id=twice') });
    $_->abandon for @clients;
    until_is(0, sub { info($one, 'twice')->{subscribers} }, 'all have gone', 1 .. 11);
};

case 'an engine that has lost all' => sub {
    my @clients = map { join_as($_, 'x', '/sub?id=lost') } $one, $two;
    until_is('x*2 of 2', sub { present($one, '/pub?id=lost') });
    $redis->restart;
    until_is('x*2 of 2', sub { present($one, '/pub?id=lost') }, 'is told again', 'of 0', 404, 503, 504, 'x of 1');
    # It may also forget who they are only, as one that evicts keys does.
    $redis->command('DEL', (grep { /:p\z/ } @{$redis->command('KEYS', '*')}));
    until_is('x*2 of 2', sub { present($one, '/pub?id=lost') }, 'and again');
    $_->close for @clients;
};

case 'a node that has two engines of one server: a URL that is spelled in two ways' => sub {
    my $node = Ws::Nginx->start(
        http   => "websocket_channel_zone 4m; websocket_channel_redis $url;",
        server => <<"SERVER");
    websocket_channel_presence \$arg_name;
    location = /sub   { websocket_channel \$arg_id; }
    location = /other { websocket_channel \$arg_id; websocket_channel_redis redis://localhost:@{[$redis->port]}; }
    location = /status { websocket_status; }
SERVER
    Ws::Redis::connected($node);
    my @clients = (join_as($two, 'z', '/sub?id=spelled'));
    push @clients, join_as($node->port, 'x', '/sub?id=spelled') for 1 .. 3;
    push @clients, join_as($node->port, 'y', '/other?id=spelled') for 1 .. 2;
    until_is('x*3 y*2 z of 6', sub { present($one, '/pub?id=spelled') });
    # Each of them has said it again.
    for (1 .. 4) {
        sleep 3;
        is(present($one, '/pub?id=spelled'), 'x*3 y*2 z of 6');
    }
    $_->close for @clients;
    until_is(0, sub { info($one, 'spelled')->{subscribers} });
    $node->signal('TERM');
    waitpid $node->master, 0;
    is($?, 0);
    delete $node->{master};
    $node->log_is_clean;
};

case 'a node that dies is gone' => sub {
    my @clients = map { join_as($_, 'x', '/sub?id=dies') } $one, $two, $two;
    until_is('x*3 of 3', sub { present($one, '/pub?id=dies') });
    my $begun = time;
    my @processes = ($nodes[1]->master, descendants($nodes[1]->master));
    kill 'STOP', @processes;
    kill 'KILL', @processes;
    waitpid $nodes[1]->master, 0;
    delete $nodes[1]{master};
    until_is('x of 1', sub { present($one, '/pub?id=dies') }, 'its subscribers are not there');
    cmp_ok(time - $begun, '<', 30);
    is(info($one, 'dies')->{subscribers}, 1);
    $clients[0]->close;
};

$redis->kill;
$nodes[0]->stop;
done_testing();
