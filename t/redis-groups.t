# Groups of channels of two nodes and one Redis: what they have and may have over both, what expires, and how they are deleted.

use strict;
use warnings;

use lib 't/lib';
use IO::Socket::UNIX;
use JSON::PP qw(decode_json);
use Test::More;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Nginx;
use Ws::Redis;

my $redis = Ws::Redis->start;
my $url = $redis->url;

sub node {
    return Ws::Nginx->start(
        workers => 2,
        http    => "websocket_channel_zone 4m; websocket_channel_redis $url; websocket_channel_redis_timeout 2s;",
        noise   => [qr/channels: /],
        server  => 'websocket_close_timeout ' . (instrumented() ? '20s;' : '500ms;') . <<'SERVER');
    listen unix:%%PREFIX%%/socket;
    websocket_channel_group $arg_group;
    # Clients that are not looked at for long stay.
    websocket_ping_interval 0;
    location = /sub      { websocket_channel $arg_id; }
    location = /known    { websocket_channel $arg_id; websocket_channel_create off; }
    location = /pub      { websocket_channel $arg_id mode=pub; websocket_channel_history length=5; }
    location = /group    { websocket_channel_group_info; }
    location = /status   { websocket_status; }
    location /limited/ {
        websocket_channel_group_limits channels=2 subscribers=3 messages=6 bytes=100;
        # Where an engine has lost all, what nobody can know is told as a loss: the subscriber is not to be closed by that.
        location = /limited/sub   { websocket_channel $arg_id; websocket_channel_lag skip; }
        location = /limited/pub   { websocket_channel $arg_id mode=pub; websocket_channel_history length=5; }
        location = /limited/brief { websocket_channel $arg_id mode=pub; websocket_channel_history length=5 time=3s; }
        location = /limited/names { websocket_channel $arg_id; websocket_channel_names ~.; }
        location = /limited/group { websocket_channel_group_info; }
    }
SERVER
}

my @nodes = (node(), node());
my @ports = map { $_->port } @nodes;
my ($one, $two) = @ports;

sub status { my ($port, $method, $path, @rest) = @_; return request($port, $method, $path, @rest)->{status} }

# both(method, path ...): the status at each node.
sub both { my (@request) = @_; return join ' ', map { status($_, @request) } @ports }

# group(port, name, location): { channels, subscribers, messages, bytes, limits }.
sub group {
    my ($port, $name, $location) = @_;

    my $response = request($port, 'GET', ($location // '/group') . "?group=$name", Accept => 'text/json');
    return { status => $response->{status} } if $response->{status} != 200;
    my $group = decode_json($response->{body});
    return { of($group), limits => { of($group->{limits}) } };
}

sub of { my ($values) = @_; return (bytes => $values->{messages_memory}, map { $_ => $values->{$_} } qw(channels subscribers messages)) }

# has(name, what => number ...): at both nodes, soon.
sub has {
    my ($name, %expected) = @_;

    for my $port (@ports) {
        my $got;
        eval { await('the group', sub { $got = group($port, $name); return !grep { $got->{$_} != $expected{$_} } keys %expected }, 40) };
        is_deeply({ map { $_ => $got->{$_} } keys %expected }, \%expected, "group $name at $port");
    }
    return;
}

sub limits { my ($channels, $subscribers, $messages, $bytes) = @_;
    return { channels => $channels, subscribers => $subscribers, messages => $messages, bytes => $bytes } }

sub subscribe { my ($port, $path) = @_; return Ws::Client->open($port, $path) }

# refused(port, path): the status of a handshake.
sub refused {
    my ($port, $path) = @_;

    my $client = Ws::Client->connect(port => $port);
    $client->send(upgrade($path));
    return $client->response->{status};
}

# keys_like(pattern): how many of them the engine has.
sub keys_like { my ($part) = @_; return scalar @{$redis->command('KEYS', $part)} }

Ws::Redis::connected(@nodes);

case 'what is counted is that of both nodes' => sub {
    publish($one, "/pub?id=$_&group=c", '12345') for qw(a a b);
    publish($two, "/pub?id=$_&group=c", '12') for qw(a c);
    publish($two, '/pub?id=a&group=other', '1');
    my @clients = (subscribe($one, '/sub?id=a&group=c'), map { subscribe($two, "/sub?id=$_&group=c") } qw(a b));
    has('c', channels => 3, subscribers => 3, messages => 5, bytes => 19);
    publish($one, '/pub?id=a&group=c', '1') for 1 .. 10;
    has('c', channels => 3, messages => 7, bytes => 12);
    $_->close(1000) for @clients[0, 1];
    has('c', subscribers => 1);
    is(status($one, 'DELETE', '/pub?id=b&group=c'), 200);
    is($clients[2]->server_close, 'close 1001 channel deleted');
    has('c', channels => 2, subscribers => 0, messages => 6, bytes => 7);
    has('other', channels => 1, subscribers => 0, messages => 1, bytes => 1);
    has('nobody', channels => 0, subscribers => 0, messages => 0, bytes => 0);
};

case 'the forms, and HEAD' => sub {
    publish($one, '/pub?id=a&group=forms', 'x' x 10);
    for my $port (@ports) {
        my $text = request($port, 'GET', '/limited/group?group=forms')->{body};
        like($text, qr/^channels: 1\r\nsubscribers: 0\r\nmessages: 1\r\nshared memory used by messages: 10 bytes\r\n/);
        like($text, qr/^  max channels: 2\r\n  max subscribers: 3\r\n  max messages: 6\r\n  max messages shared memory: 100\r\n/m);
        my $head = request($port, 'HEAD', '/group?group=forms', Accept => 'text/xml');
        is("$head->{status} $head->{headers}{'content-type'}[0] $head->{body}", '200 text/xml ');
    }
};

case 'messages and octets, on each side of the limit' => sub {
    publish($one, '/limited/pub?id=a&group=m', 'x') for 1 .. 5;
    publish($two, '/limited/pub?id=b&group=m', 'x');
    is(both('POST', '/limited/pub?id=b&group=m', body => 'x'), '403 403', 'a seventh message');
    publish($_, '/limited/pub?id=a&group=m', 'y' x 10) for $two, $one, $two;
    has('m', messages => 6, bytes => 33);
    is(both('POST', '/limited/pub?id=a&group=m', body => 'z' x 69), '403 403', 'an octet too many');
    publish($two, '/limited/pub?id=a&group=m', 'z' x 68);
    has('m', messages => 6, bytes => 100);
    for my $port (@ports) {
        my $publisher = subscribe($port, '/limited/pub?id=b&group=m');
        $publisher->send(text('x'));
        is($publisher->server_close, 'close 1008 channel group has as much as it may have', 'a WebSocket is closed');
    }
    is(status($one, 'DELETE', '/pub?id=b&group=m'), 200);
    is(both('POST', '/limited/pub?id=b&group=m', body => ''), '202 403', 'one place was free');
};

case 'channels, on each side of the limit' => sub {
    publish($one, '/limited/pub?id=a&group=n', 'x');
    my $client = subscribe($two, '/limited/sub?id=b&group=n');
    is(both('POST', '/limited/pub?id=c&group=n', body => 'x'), '403 403', 'a third channel');
    is(refused($_, '/limited/sub?id=c&group=n'), 403, 'nor by a subscriber') for @ports;
    is(status($_, 'GET', '/limited/sub?id=c&group=n', Accept => 'text/event-stream'), 403) for @ports;
    publish($_, '/limited/pub?id=b&group=n', 'y') for @ports;
    is($client->text, 'y') for @ports;
    my $other = subscribe($one, '/limited/sub?id=a&group=n');
    has('n', channels => 2, subscribers => 2, messages => 3);
    is(status($two, 'DELETE', '/pub?id=a&group=n'), 200);
    is($other->server_close, 'close 1001 channel deleted');
    publish($one, '/limited/pub?id=c&group=n', 'x');
    is(both('POST', '/limited/pub?id=d&group=n', body => 'x'), '403 403');
    $client->close(1000);
};

case 'subscribers are limited by each node' => sub {
    my @clients = map { subscribe($_, '/limited/sub?id=a&group=s') } ($one) x 3, $two;
    is(refused($one, '/limited/sub?id=a&group=s'), 403);
    push @clients, subscribe($two, '/limited/sub?id=a&group=s');
    has('s', channels => 1, subscribers => 5);
    # What is set at one node holds at the other soon.
    is(status($two, 'POST', '/group?group=s&subscribers=2'), 200);
    is(refused($two, '/sub?id=a&group=s'), 403, 'where it was set');
    $clients[0]->close(1000);
    await('the other node to know', sub { refused($one, '/sub?id=a&group=s') == 403 }, 60);
    $_->close(1000) for @clients[1 .. 4];
};

case 'what expires makes room' => sub {
    publish($_, '/limited/brief?id=a&group=e', 'x') for $one, $two, $one;
    publish($two, '/limited/pub?id=b&group=e', 'x') for 1 .. 3;
    is(status($one, 'POST', '/limited/pub?id=b&group=e', body => 'x'), 403);
    for my $port ($one, $two) {
        await('messages to expire', sub { status($port, 'POST', '/limited/pub?id=b&group=e', body => 'x') == 202 });
    }
    has('e', channels => 2, messages => 5, bytes => 5);
};

case 'channels whose keys expire' => sub {
    publish($one, "/limited/brief?id=$_&group=k", 'x') for qw(a b);
    is(both('POST', '/limited/pub?id=c&group=k', body => 'x'), '403 403');
    # As they do after a minute, which nobody is told of.
    for my $key (@{$redis->command('KEYS', 'ws:{aw.*')}) {
        $redis->command('PEXPIRE', $key, 1);
    }
    await('room', sub { status($two, 'POST', '/limited/pub?id=c&group=k', body => 'x') == 202 });
    publish($one, '/limited/pub?id=d&group=k', 'x');
    has('k', channels => 2, messages => 2, bytes => 2);
};

case 'limits that are set hold at both nodes' => sub {
    my $response = request($one, 'POST', '/group?group=set&max_channels=3&messages=2', Accept => 'text/json');
    is($response->{status}, 200);
    is(decode_json($response->{body})->{limits}{channels}, 3, 'the answer is what holds now');
    is_deeply(group($_, 'set')->{limits}, limits(3, 0, 2, 0)) for @ports;
    is_deeply(group($_, 'set', '/limited/group')->{limits}, limits(3, 3, 2, 100)) for @ports;
    publish($_, "/limited/pub?id=a&group=set", 'x') for @ports;
    is(both('POST', "$_?id=a&group=set", body => 'x'), '403 403') for '/limited/pub', '/pub';
    is(status($two, 'POST', '/group?group=set', body => 'messages=9&bytes=1k'), 200, 'by a form, at the other node');
    publish($one, "/limited/pub?id=$_&group=set", 'x') for qw(b c);
    is(both('POST', '/pub?id=d&group=set', body => 'x'), '403 403', 'a fourth channel');
    is(status($one, 'POST', '/group?group=set&messages=&channels=', body => 'bytes='), 200);
    is_deeply(group($two, 'set', '/limited/group')->{limits}, limits(2, 3, 6, 100), 'an empty value gives a limit back');
    is(status($one, 'POST', '/group?group=set&channels=x'), 400);
    $nodes[0]->reload;
    is(status($one, 'POST', '/group?group=set&messages=4'), 200);
    $nodes[1]->reload;
    is(both('POST', '/pub?id=a&group=set', body => 'x'), '403 403', 'over reloads');
};

case 'a group is deleted with its channels at both nodes' => sub {
    my @clients = map { (subscribe($one, "/sub?id=$_&group=d"), subscribe($two, "/sub?id=$_&group=d")) } qw(a b);
    publish($_ % 2 ? $one : $two, "/pub?id=$_&group=d", 'x') for 1 .. 200;
    publish($one, '/pub?id=a&group=stays', 'x');
    my $stays = subscribe($two, '/sub?id=a&group=stays');
    is(status($one, 'POST', '/group?group=d&channels=202'), 200);
    my $response = request($two, 'DELETE', '/group?group=d', Accept => 'text/json');
    is($response->{status}, 200);
    my $was = decode_json($response->{body});
    is("$was->{channels} $was->{messages}", '202 200', 'the answer is what it was');
    is($_->server_close, 'close 1001 channel deleted') for @clients;
    has('d', channels => 0, subscribers => 0, messages => 0, bytes => 0);
    is_deeply(group($_, 'd')->{limits}, limits(0, 0, 0, 0)) for @ports;
    is(both('GET', "/pub?id=$_&group=d"), '404 404') for qw(7 a);
    is(keys_like('ws:{ZA*'), 0, 'nothing is left in the engine');
    publish($two, '/pub?id=a&group=stays', 'still');
    is($stays->text, 'still');
    my $again = subscribe($one, '/sub?id=a&group=d');
    publish($two, '/pub?id=a&group=d', 'again');
    is($again->text, 'again');
    has('d', channels => 1, subscribers => 1, messages => 1);
    $_->close(1000) for $again, $stays;
    is(both('DELETE', '/group?group=nobody'), '200 200');
};

case 'the group without a name' => sub {
    my $before = group($one, '')->{channels};
    publish($two, '/pub?id=unnamed', 'x');
    is(group($one, '')->{channels}, $before + 1);
    is(status($one, 'DELETE', '/group'), 200);
    has('', channels => 0, messages => 0);
};

case 'who only looks makes no channel' => sub {
    for my $path ('/sub?id=head&group=h', '/known?id=head&group=h', '/pub?id=head&group=h') {
        for my $accept ('*/*', 'text/event-stream') {
            my @statuses = map { status($_, 'HEAD', $path, Accept => $accept) } @ports;
            my $expected = $path =~ /pub/ ? 404 : $path =~ /known/ ? 403 : $accept eq '*/*' ? 304 : 200;
            is("@statuses", "$expected $expected", "HEAD $path $accept");
        }
        is(both('GET', "/pub?id=head&group=h"), '404 404');
    }
    is(both('DELETE', '/pub?id=head&group=h'), '404 404');
    is(both('GET', '/pub?id=head&group=h&presence'), '404 404');
    is(refused($_, '/known?id=head&group=h'), 403, 'nor who must not make it') for @ports;
    is(status($_, 'GET', '/known?id=head&group=h'), 403) for @ports;
    is(keys_like('ws:{aA*'), 0, 'nothing is in the engine');
    publish($one, '/pub?id=head&group=h', 'x');
    my $head = request($two, 'HEAD', '/sub?id=head&group=h&last_event_id=0:0');
    ok($head->{status} == 200 || $head->{status} == 304, "HEAD of a channel: $head->{status}");
    my $client = subscribe($two, '/known?id=head&group=h');
    publish($one, '/pub?id=head&group=h', 'y');
    is($client->text, 'y');
    $client->close(1000);
};

case 'an engine that has lost all, and one that is away' => sub {
    my $client = subscribe($two, '/limited/sub?id=a&group=l');
    publish($one, '/limited/pub?id=a&group=l', 'x') for 1 .. 5;
    publish($one, '/limited/pub?id=b&group=l', 'x');
    is($client->text, 'x') for 1 .. 5;
    is(both('POST', '/limited/pub?id=b&group=l', body => 'x'), '403 403');
    is(status($one, 'POST', '/group?group=l&messages=1'), 200);
    $redis->kill;
    await('the nodes to notice', sub { both('GET', '/group?group=l') eq '503 503' });
    is(both('DELETE', '/group?group=l'), '503 503');
    is(both('POST', '/group?group=l&channels=1'), '503 503');
    for my $port (@ports) {
        for my $protocol ('', 'ws+meta.nchan') {
            my $new = Ws::Client->connect(port => $port);
            my @headers = $protocol ? ('Sec-WebSocket-Protocol' => $protocol) : ();
            is($new->handshake('/limited/sub?id=new&group=l', headers => \@headers)->{status}, 503, 'a WebSocket');
        }
        my $v1 = Ws::Client->open($port, '/limited/names?group=l', headers => ['Sec-WebSocket-Protocol' => 'channels.v1']);
        $v1->send(text(qq({"op":"subscribe","ref":$_,"channel":"new$_"}))) for 1, 2;
        like($v1->text, qr/"op":"error","ref":$_,.*"status":503/, 'one of channels.v1') for 1, 2;
        is($v1->close(1000), 'close 1000');
        is(status($port, 'GET', '/limited/sub?id=new&group=l', @$_), 503) for [Accept => 'text/event-stream'], [];
    }
    # To a socket of the file system nothing can be written any more as soon as the client is gone.
    for my $path ('/group?group=l', '/limited/sub?id=new&group=l') {
        for (1 .. 10) {
            my $gone = IO::Socket::UNIX->new(Peer => $nodes[0]->prefix . '/socket') or die "no connection: $@\n";
            $gone->syswrite("GET $path HTTP/1.1\r\nHost: localhost\r\n\r\n");
            $gone->close;
        }
    }
    $redis->launch;
    Ws::Redis::connected(@nodes);
    # It is listened to, so it is a channel, and so is what the others have.
    has('l', channels => 1, subscribers => 1, messages => 0, bytes => 0);
    is_deeply(group($_, 'l')->{limits}, limits(0, 0, 0, 0)) for @ports;
    publish($one, "/limited/pub?id=$_&group=l", 'y') for qw(b b b a a a);
    is(both('POST', '/limited/pub?id=b&group=l', body => 'x'), '403 403', 'counted anew');
    is(both('POST', '/limited/pub?id=c&group=l', body => 'x'), '403 403');
    has('l', channels => 2, messages => 6, bytes => 6);
    $client->abandon;
};

case 'a restart that loses nothing keeps what is counted and set' => sub {
    publish($one, "/pub?id=$_&group=p", 'xyz') for qw(a b);
    is(status($two, 'POST', '/group?group=p&channels=2'), 200);
    # A copy of the keys, as a snapshot has it.
    $redis->command('SAVE');
    $redis->kill;
    $redis->launch;
    Ws::Redis::connected(@nodes);
    has('p', channels => 2, messages => 2, bytes => 6);
    is(both('POST', '/pub?id=c&group=p', body => 'x'), '403 403');
    is(status($one, 'DELETE', '/group?group=p'), 200);
    has('p', channels => 0, messages => 0);
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
