# Who is on a channel, over all workers and transports, also when workers are killed and after a reload.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use JSON::PP;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;

my $SERVER = <<'EOT';
    websocket_channel_presence $arg_name;
    websocket_close_timeout 5s;
    location = /sub    { websocket_channel $arg_id; }
    location = /all    { websocket_channel $arg_id; websocket_channel_transports chunked multipart raw; }
    location = /two    { websocket_channel $arg_id other; }
    location = /pub    { websocket_channel $arg_id mode=pub; }
    location = /both   { websocket_channel $arg_id other mode=pub; }
    location = /pubsub { websocket_channel $arg_id mode=pubsub; }
    location = /fixed  { websocket_channel $arg_id; websocket_channel_presence "same <\"for\"> all\\"; }
    location = /nobody { websocket_channel $arg_id; websocket_channel_presence ""; }
    location = /user   { websocket_channel $arg_id; websocket_channel_presence $remote_user; auth_basic x; auth_basic_user_file users; }
EOT

my @NOISE = (qr/worker process \d+ exited on signal 9/, qr/shared memory zone "ws_exec_channels" was locked by/);

my $ngx = Ws::Nginx->new(workers => 2, http => 'websocket_channel_zone 1m;', server => $SERVER, noise => \@NOISE);
$ngx->file('conf/users', "anna:{PLAIN}secret\n");
$ngx->start;
my $port = $ngx->port;

# present(id, path): who is there: "anna*2 bob of 4".
sub present {
    my ($id, $path) = @_;

    my $response = request($port, 'GET', ($path // '/pub') . "?id=$id&presence");
    return $response->{status} if $response->{status} != 200;
    my $presence = decode_json($response->{body});
    my @names = map { $_->{id} . ($_->{connections} > 1 ? "*$_->{connections}" : '') } @{$presence->{present}};
    return join ' ', @names, "of $presence->{subscribers}";
}

sub await_present {
    my ($id, $expected) = @_;

    my $got;
    eval { await('presence', sub { ($got = present($id)) eq $expected }) };
    is($got, $expected);
}

sub join_as { my ($id, $name, $path) = @_; return Ws::Client->open($port, ($path // '/sub') . "?id=$id&name=$name") }

sub refused {
    my ($path) = @_;

    my $client = Ws::Client->connect(port => $port);
    $client->send(upgrade($path));
    return $client->response->{status};
}

case 'coming and going' => sub {
    is(present('a'), 404, 'no channel');
    my @clients = map { join_as('a', $_) } qw(anna bob anna), '';
    is(present('a'), 'anna*2 bob of 4', 'those without a name are only counted');
    push @clients, map { join_as('a', 'carla') } 1 .. 6;
    is(present('a'), 'anna*2 bob carla*6 of 10', 'over both workers');
    $clients[0]->close(1000);
    is(present('a'), 'anna bob carla*6 of 9');
    $clients[1]->abandon;
    await_present('a', 'anna carla*6 of 8');
    $_->close(1000) for @clients[2 .. 9];
    is(present('a'), 'of 0');
};

case 'the answer' => sub {
    my $client = join_as('json', 'anna');
    for my $query ('presence', 'presence=1', 'presence&x') {
        my $response = request($port, 'GET', "/pub?id=json&$query", Accept => 'text/xml');
        is($response->{status}, 200);
        is($response->{body}, '{"subscribers": 1, "present": [{"id": "anna", "connections": 1}]}', $query);
        is($response->{headers}{'content-type'}[0], 'application/json');
        is($response->{headers}{'cache-control'}[0], 'no-store');
    }
    my $head = request($port, 'HEAD', '/pub?id=json&presence');
    is($head->{body}, '');
    is($head->{headers}{'content-length'}[0], 65);
    like(request($port, 'GET', "/pub?id=json&$_")->{body}, qr/^queued messages/, "$_ is something else")
        for 'presences', 'x=presence', 'absence';
    is(request($port, 'GET', '/pub?id=json&presence', Origin => 'http://elsewhere.example')->{status}, 403);
    $client->close(1000);
};

case 'every transport' => sub {
    my $stream = events($port, '/sub?id=t&name=stream');
    my $poll = Ws::Client->connect(port => $port);
    $poll->send(request_text('GET', '/sub?id=t&name=poll'));
    my $pubsub = join_as('t', 'pubsub', '/pubsub');
    my $publisher = join_as('t', 'publisher', '/pub');
    my %stream = (chunked => [TE => 'chunked'], multipart => [Accept => 'multipart/mixed'], raw => []);
    my @streams = map {
        my $client = Ws::Client->connect(port => $port);
        $client->send(request_text('GET', "/all?id=t&name=$_", @{$stream{$_}}));
        $client;
    } sort keys %stream;
    await_present('t', 'chunked multipart poll pubsub raw stream of 6');
    $_->abandon for @streams;
    await_present('t', 'poll pubsub stream of 3');
    publish($port, '/pub?id=t&name=me', 'x');
    is($poll->response->{body}, 'x');
    await_present('t', 'pubsub stream of 2');
    $stream->{client}->abandon;
    await_present('t', 'pubsub of 1');
    $_->close(1000) for $pubsub, $publisher;
};

case 'several channels' => sub {
    my $client = join_as('one', 'anna', '/two');
    my $same = join_as('other', 'bob', '/two');
    is(present('one'), 'anna of 1');
    is(present('other'), 'anna bob of 2', 'an id that is named twice is one channel');
    is(present('one', '/both'), 'anna*2 bob of 3', 'of several channels all together');
    $_->close(1000) for $client, $same;
    is(present('other'), 'of 0');
    request($port, 'DELETE', "/pub?id=$_") for qw(one other);
    is(present('one', '/both'), 404);
};

case 'names' => sub {
    my $long = 'n' x 216;
    my @clients = (join_as('n', $long), join_as('n', '', '/fixed'), join_as('n', 'x', '/nobody'),
        join_as('n', '%22%3C\\"}]<b>'), join_as('n', "\xc3\xa9"), join_as('n', "\xff"));
    is(refused("/sub?id=n&name=${long}n"), 403, 'one octet more');
    is(request($port, 'GET', "/sub?id=n&name=${long}n", Accept => 'text/event-stream')->{status}, 403);
    is(request($port, 'GET', "/sub?id=n&name=${long}n")->{status}, 403);
    my $body = request($port, 'GET', '/pub?id=n&presence')->{body};
    unlike($body, qr/[<>]/, 'nothing of HTML');
    my $presence = decode_json($body);
    is($presence->{subscribers}, 6);
    is_deeply([map { $_->{id} } @{$presence->{present}}],
        ['%22%3C\\"}]<b>', $long, 'same <"for"> all\\', "\x{e9}", "\x{fffd}"]);
    $_->close(1000) for @clients;
    my $user = Ws::Client->open($port, '/user?id=n', headers => [Authorization => 'Basic YW5uYTpzZWNyZXQ=']);
    is(present('n'), 'anna of 1', 'a variable of another module');
    $user->close(1000);
};

case 'killed workers' => sub {
    my @workers = $ngx->workers;
    my @clients = map { join_as('k', "client$_") } 1 .. 8;
    is(present('k'), join(' ', map { "client$_" } 1 .. 8) . ' of 8');
    kill 'KILL', $workers[0];
    await('a new worker', sub { my @now = $ngx->workers; @now == 2 && !grep { $_ == $workers[0] } @now });
    my @alive = grep { eval { $_->maybe_frame(0.05) }; !$_->{end} } @clients;
    my $list = present('k');
    like($list, qr/of ${\ scalar @alive}$/, 'those of the other worker stay');
    is(scalar(() = $list =~ /client/g), scalar @alive);
    @workers = $ngx->workers;
    kill 'KILL', @workers;
    await('new workers', sub { my %old = map { $_ => 1 } @workers; 2 == grep { !$old{$_} } $ngx->workers });
    is(present('k'), 'of 0');
    $_->abandon for @clients;
    my $again = join_as('k', 'again');
    is(present('k'), 'again of 1');
    $again->close(1000);
};

sub disconnect { my ($query) = @_; my $got = request($port, 'DELETE', $query); return $got->{status} == 200 ? $got->{body} : $got->{status} }

case 'somebody is disconnected' => sub {
    publish($port, '/pub?id=x', 'kept');
    my @anna = map { join_as('x', 'anna') } 1 .. 6;
    my $bob = join_as('x', 'bob');
    my $pubsub = join_as('x', 'anna', '/pubsub');
    my $stream = events($port, '/sub?id=x&name=anna');
    my $poll = Ws::Client->connect(port => $port);
    $poll->send(request_text('GET', '/sub?id=x&name=anna'));
    my $elsewhere = join_as('y', 'anna');
    my $v1 = Ws::Client->open($port, '/sub?id=x&name=anna', headers => ['Sec-WebSocket-Protocol' => 'channels.v1']);
    $v1->send(text('{"op":"subscribe"}'));
    $v1->text;
    await_present('x', 'anna*10 bob of 11');
    is(disconnect('/pub?id=x&presence=anna'), '{"disconnected": 10}');
    is($_->server_close, 'close 1008 disconnected', 'over both workers') for @anna, $pubsub, $v1;
    $stream->{client}->wait_until(sub { Ws::Http::parse($stream); $stream->{end} }, 'the end of the stream');
    is($poll->response->{status}, 403);
    await_present('x', 'bob of 1');
    publish($port, '/pub?id=x', 'goes on');
    is($bob->text, 'goes on');
    is(present('y'), 'anna of 1', 'on another channel nothing happens');
    my $again = join_as('x', 'anna');
    is(present('x'), 'anna bob of 2', 'and may come again, if nobody keeps it away');
    $_->close(1000) for $bob, $elsewhere, $again;
};

case 'who is to be disconnected' => sub {
    my $fixed = join_as('w', '', '/fixed');
    is(disconnect('/pub?id=w&presence=same%20%3C%22for%22%3E%20all%5C'), '{"disconnected": 1}', 'percent-encoded');
    is($fixed->server_close, 'close 1008 disconnected');
    my $client = join_as('w', 'anna');
    is(disconnect('/pub?id=w&presence=ann'), 404, 'nobody is called so');
    is(disconnect('/pub?id=none&presence=anna'), 404, 'no such channel');
    is(disconnect("/pub?id=w&$_"), 400, "$_: nobody is meant, and the channel stays") for 'presence', 'presence=';
    is(disconnect('/sub?id=w&presence=anna'), 405, 'where clients may not delete');
    is(disconnect('/pubsub?id=w&presence=anna'), 405);
    is(disconnect('/both?id=w&presence=anna'), '{"disconnected": 1}', 'of several channels all together');
    is($client->server_close, 'close 1008 disconnected');
    is(request($port, 'GET', '/pub?id=w')->{status}, 200, 'the channel is there');
};

case 'many, and one that reads nothing' => sub {
    my @many = map { join_as('m', 'anna') } 1 .. 150;
    my $slow = join_as('m', 'slow');
    is(disconnect('/pub?id=m&presence=anna'), '{"disconnected": 150}');
    is(scalar(grep { $_->server_close eq 'close 1008 disconnected' } @many), 150);
    is(present('m'), 'slow of 1');
    $slow->close(1000);
};

case 'a deleted channel' => sub {
    my @clients = map { join_as('d', "client$_") } 1 .. 4;
    request($port, 'DELETE', '/pub?id=d');
    is(present('d'), 404);
    is($_->server_close, 'close 1001 channel deleted') for @clients;
    my $client = join_as('d', 'new');
    is(present('d'), 'new of 1');
    $client->close(1000);
};

case 'a full zone' => sub {
    # Messages make room for who comes, and nobody is lost or left behind.
    my $data = 'x' x 5000;
    publish($port, "/pub?id=fill$_", $data) for 1 .. 300;
    my @clients = map { join_as('full', "client$_") } 1 .. 40;
    publish($port, "/pub?id=fill$_", $data) for 1 .. 300;
    is(present('full'), join(' ', sort map { "client$_" } 1 .. 40) . ' of 40');
    $_->close(1000) for @clients;
    is(present('full'), 'of 0');
    request($port, 'DELETE', "/pub?id=fill$_") for 1 .. 300;
};

case 'a reload' => sub {
    my @old = map { join_as('r', 'old') } 1 .. 3;
    $ngx->reload;
    my @new = map { join_as('r', 'new') } 1 .. 3;
    is(present('r'), 'new*3 old*3 of 6', 'workers of both configurations');
    $_->close(1000) for @old;
    await('the old workers to leave', sub { !$ngx->old_workers });
    is(present('r'), 'new*3 of 3');
    $_->close(1000) for @new;
};

$ngx->stop;
done_testing();
