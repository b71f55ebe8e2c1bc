# Groups of channels: what they have and may have over all workers, read and set through a location; 403 for what is new.

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
    websocket_channel_group $arg_group;
    websocket_close_timeout 500ms;
    location = /sub      { websocket_channel $arg_id; }
    location = /pub      { websocket_channel $arg_id mode=pub; websocket_channel_history length=5; }
    location = /group    { websocket_channel_group_info; }
    location = /closed   { websocket_channel_group_info; deny all; }
    location /limited/ {
        websocket_channel_group_limits channels=2 subscribers=3 messages=6 bytes=100;
        location = /limited/sub   { websocket_channel $arg_id; }
        location = /limited/two   { websocket_channel $arg_id b; }
        location = /limited/pub   { websocket_channel $arg_id mode=pub; websocket_channel_history length=5; }
        location = /limited/brief { websocket_channel $arg_id mode=pub; websocket_channel_history length=5 time=6s; }
        location = /limited/group { websocket_channel_group_info; }
    }
    location = /variable  { websocket_channel $arg_id mode=pub; websocket_channel_group_limits messages=$arg_limit; }
EOT

my @NOISE = (qr/worker process \d+ exited on signal 9/, qr/shared memory zone "ws_exec_channels" was locked by/);

my $ngx = Ws::Nginx->start(workers => 2, http => 'websocket_channel_zone 1m;', server => $SERVER, noise => \@NOISE);
my $port = $ngx->port;

# group(name, location): what the group has: { channels, subscribers, messages, bytes, limits }.
sub group {
    my ($name, $location) = @_;

    my $response = request($port, 'GET', ($location // '/group') . "?group=$name", Accept => 'text/json');
    is($response->{status}, 200);
    my $group = decode_json($response->{body});
    return { of($group), limits => { of($group->{limits}) } };
}

sub of {
    my ($values) = @_;

    is($values->{messages_disk}, 0);
    return (bytes => $values->{messages_memory}, map { $_ => $values->{$_} } qw(channels subscribers messages));
}

sub has {
    my ($name, %expected) = @_;

    my %got = %{group($name)};
    is_deeply({ map { $_ => $got{$_} } keys %expected }, \%expected, "group $name");
}

sub limits { my ($channels, $subscribers, $messages, $bytes) = @_;
    return { channels => $channels, subscribers => $subscribers, messages => $messages, bytes => $bytes } }

sub status { my ($method, $path, @rest) = @_; return request($port, $method, $path, @rest)->{status} }

sub subscribe { return Ws::Client->open($port, @_) }

# refused(path): the status of a handshake.
sub refused {
    my ($path) = @_;

    my $client = Ws::Client->connect(port => $port);
    $client->send(upgrade($path));
    return $client->response->{status};
}

case 'the forms' => sub {
    publish($port, '/pub?id=a&group=forms', 'x' x 10) for 1 .. 3;
    my %expected = (
        'text/plain' => "channels: 1\r\nsubscribers: 0\r\nmessages: 3\r\nshared memory used by messages: 30 bytes\r\n"
            . "disk space used by messages: 0 bytes\r\nlimits:\r\n  max channels: 2\r\n  max subscribers: 3\r\n"
            . "  max messages: 6\r\n  max messages shared memory: 100\r\n  max messages disk space: 0\r\n",
        'text/json' => qr/^\{\r\n  "channels": 1,\r\n.*"messages_memory": 30,\r\n.*  "limits": \{\r\n    "channels": 2,\r\n/s,
        'text/xml'  => qr{^<\?xml .*<group>\r\n  <channels>1</channels>.*  <limits>\r\n    <channels>2</channels>.*</group>$}s,
        'text/yaml' => qr{^---\r\nchannels: 1\r\n.*limits:\r\n  channels: 2\r\n.*\r\n\r\n$}s,
    );
    for my $type (sort keys %expected) {
        my $response = request($port, 'GET', '/limited/group?group=forms', Accept => $type);
        is($response->{status}, 200);
        is($response->{headers}{'content-type'}[0], $type);
        ref $expected{$type} ? like($response->{body}, $expected{$type}) : is($response->{body}, $expected{$type});
        is(request($port, 'HEAD', '/limited/group?group=forms', Accept => $type)->{body}, '');
    }
    is(request($port, 'GET', '/limited/group?group=forms')->{body}, $expected{'text/plain'}, 'text is the default');
    like(request($port, 'GET', '/group?group=nobody')->{body}, qr/^channels: 0\r\n/, 'a group without anything');
};

case 'methods and origins' => sub {
    my $response = request($port, 'PUT', '/group?group=m', body => 'channels=1');
    is($response->{status}, 405);
    is($response->{headers}{allow}[0], 'GET, HEAD, POST, DELETE, OPTIONS');
    is(status('OPTIONS', '/group'), 204);
    is(status('GET', '/closed'), 403, 'access modules decide first');
    is(status('POST', '/group?group=m&channels=1', Origin => 'http://elsewhere.example'), 403, 'a page from elsewhere');
    is(status('DELETE', '/group?group=m', Origin => 'http://elsewhere.example'), 403);
    is_deeply(group('m')->{limits}, limits(0, 0, 0, 0));
};

case 'what is counted' => sub {
    publish($port, "/pub?id=$_&group=c", '12345') for qw(a a b);
    publish($port, '/pub?id=a&group=other', '1');
    my @clients = map { subscribe("/sub?id=$_&group=c") } qw(a a a b);
    my $stream = events($port, '/sub?id=new&group=c');
    has('c', channels => 3, subscribers => 5, messages => 3, bytes => 15);
    publish($port, '/pub?id=a&group=c', '1') for 1 .. 10;
    is($clients[$_]->text, '1') for map { ($_) x 10 } 0 .. 2;
    has('c', messages => 6, bytes => 10);
    $_->close(1000) for @clients[0, 1, 3];
    $stream->{client}->abandon;
    await('the EventSource to be gone', sub { group('c')->{subscribers} == 1 });
    request($port, 'DELETE', '/pub?id=b&group=c');
    has('c', channels => 2, subscribers => 1, messages => 5, bytes => 5);
    has('other', channels => 1, subscribers => 0, messages => 1, bytes => 1);
    $clients[2]->abandon;
};

case 'limits are for what is new, over all workers' => sub {
    my @clients = map { subscribe('/limited/sub?id=a&group=l') } 1 .. 2;
    publish($port, '/limited/pub?id=b&group=l', 'x');
    is(status('POST', '/limited/pub?id=c&group=l', body => 'x'), 403, 'a third channel');
    is(refused('/limited/sub?id=c&group=l'), 403);
    push @clients, subscribe('/limited/sub?id=b&group=l');
    is(refused('/limited/sub?id=a&group=l'), 403, 'a fourth subscriber') for 1 .. 8;
    is(status('GET', '/limited/sub?id=a&group=l', Accept => 'text/event-stream'), 403);
    is(status('GET', '/limited/sub?id=a&group=l'), 403, 'nor by long-poll');
    has('l', channels => 2, subscribers => 3, messages => 1, bytes => 1);
    my $other = subscribe('/sub?id=d&group=l');
    is(refused('/limited/two?id=a&group=l'), 403);
    has('l', channels => 3, subscribers => 4);
    $_->close(1000) for $other, @clients[0, 1];
    # What is refused at the second channel is not left behind in the first.
    my $third = subscribe('/limited/sub?id=a&group=l');
    is(refused('/limited/two?id=a&group=l'), 403);
    has('l', subscribers => 2);
    $_->close(1000) for $third, $clients[2];
};

case 'messages and octets' => sub {
    publish($port, '/limited/pub?id=a&group=m2', 'x') for 1 .. 5;
    publish($port, '/limited/pub?id=b&group=m2', 'x');
    has('m2', messages => 6, bytes => 6);
    my $response = request($port, 'POST', '/limited/pub?id=b&group=m2', body => 'x');
    is($response->{status}, 403, 'a seventh message');
    publish($port, '/limited/pub?id=a&group=m2', 'y' x 10) for 1 .. 7;
    has('m2', messages => 6, bytes => 51);
    is(status('POST', '/limited/pub?id=a&group=m2', body => 'z' x 60), 403, 'too many octets');
    publish($port, '/limited/pub?id=a&group=m2', 'z' x 59);
    has('m2', messages => 6, bytes => 100);
    my $publisher = subscribe('/limited/pub?id=b&group=m2');
    $publisher->send(text('x'));
    is($publisher->server_close, 'close 1008 channel group has as much as it may have', 'a WebSocket is closed');
    request($port, 'DELETE', '/pub?id=a&group=m2');
    publish($port, '/limited/brief?id=b&group=m2', 'x') for 1 .. 4;
    has('m2', messages => 5, bytes => 5);
    publish($port, '/limited/pub?id=a&group=m2', 'x');
    is(status('POST', '/limited/pub?id=a&group=m2', body => 'x'), 403);
    await('one to expire', sub { status('POST', '/limited/pub?id=a&group=m2', body => 'x') =~ /^20/ });
    await('all that came with it to expire', sub { group('m2')->{messages} == 2 });
    has('m2', channels => 2, messages => 2, bytes => 2);
};

case 'limits that are set hold in all locations' => sub {
    my $response = request($port, 'POST', '/group?group=s&max_channels=3&messages=2', Accept => 'text/json');
    is($response->{status}, 200);
    is(decode_json($response->{body})->{limits}{channels}, 3, 'the answer is what holds now');
    is_deeply(group('s')->{limits}, limits(3, 0, 2, 0));
    is_deeply(group('s', '/limited/group')->{limits}, limits(3, 3, 2, 100), 'the others are those of the location');
    publish($port, "/limited/pub?id=a&group=s", 'x') for 1 .. 2;
    is(status('POST', "$_?id=a&group=s", body => 'x'), 403) for '/limited/pub', '/pub';
    is(status('POST', '/group?group=s', body => 'messages=4&bytes=1k'), 200, 'by a form');
    publish($port, "/pub?id=$_&group=s", 'x') for qw(b c);
    is(status('POST', '/pub?id=d&group=s', body => 'x'), 403);
    is(status('POST', '/group?group=s&messages=&channels=0', body => 'bytes='), 200);
    is_deeply(group('s', '/limited/group')->{limits}, limits(0, 3, 6, 100), 'an empty value gives a limit back');
    publish($port, "/limited/pub?id=d&group=s", 'x');
    for my $bad ('channels=x', 'bytes=1x', 'messages=1&max_messages=1') {
        is(status('POST', "/group?group=s&$bad"), 400, $bad);
        is(status('POST', '/group?group=s', body => $bad), 400, "form $bad");
    }
    is(status('POST', '/group?group=s&messages=1', body => 'messages=1'), 400, 'each limit once');
    is(status('POST', '/group?group=s', body => 'subs=1'), 400, 'an unknown name in a form');
    is_deeply(group('s')->{limits}, limits(0, 0, 0, 0));
};

case 'values with variables' => sub {
    publish($port, '/variable?id=a&group=v&limit=1', 'x');
    is(status('POST', '/variable?id=a&group=v&limit=1', body => 'x'), 403);
    publish($port, '/variable?id=a&group=v&limit=0', 'x');
    for my $bad ('', 'x', '-1') {
        is(status('POST', "/variable?id=a&group=v&limit=$bad", body => 'x'), 500);
    }
    $ngx->await_log(qr/"websocket_channel_group_limits" cannot be "-1"/);
};

case 'a group is deleted with its channels' => sub {
    my @clients = map { subscribe("/sub?id=$_&group=d") } qw(a b a);
    publish($port, "/pub?id=$_&group=d", 'x') for 1 .. 100;
    publish($port, '/pub?id=a&group=stays', 'x');
    request($port, 'POST', '/group?group=d&channels=102');
    my $response = request($port, 'DELETE', '/group?group=d', Accept => 'text/json');
    is(decode_json($response->{body})->{channels}, 102, 'the answer is what it was');
    is($_->server_close, 'close 1001 channel deleted') for @clients;
    has('d', channels => 0, subscribers => 0, messages => 0, bytes => 0, limits => limits(0, 0, 0, 0));
    has('stays', channels => 1, messages => 1);
    is(status('GET', '/pub?id=7&group=d'), 404);
    publish($port, '/pub?id=7&group=d', 'again');
    has('d', channels => 1);
    is(status('DELETE', '/group?group=nobody'), 200);
};

case 'a killed worker gives back at once' => sub {
    my @clients = map { subscribe('/limited/sub?id=a&group=k') } 1 .. 3;
    is(refused('/limited/sub?id=a&group=k'), 403);
    for my $round (1 .. 5) {
        my @workers = $ngx->workers;
        kill 'KILL', @workers;
        $_->abandon for @clients;
        await('new workers', sub { my %old = map { $_ => 1 } @workers; 2 == grep { !$old{$_} } $ngx->workers });
        @clients = map { subscribe('/limited/sub?id=a&group=k') } 1 .. 3;
        has('k', channels => 1, subscribers => 3);
        is(refused('/limited/sub?id=a&group=k'), 403, "round $round");
    }
    $_->close(1000) for @clients;
    has('k', subscribers => 0);
};

case 'a full zone' => sub {
    my $data = 'x' x 2000;
    publish($port, '/pub?id=' . ($_ % 150) . '&group=full', $data) for 1 .. 900;
    my $group = group('full');
    cmp_ok($group->{messages}, '<', 600, 'what made room');
    is($group->{bytes}, 2000 * $group->{messages}, 'counts no more');
    request($port, 'DELETE', '/group?group=full');
};

case 'a reload keeps what is counted and what was set' => sub {
    my @old = map { subscribe('/sub?id=a&group=r') } 1 .. 3;
    publish($port, '/pub?id=a&group=r', 'x');
    request($port, 'POST', '/group?group=r&subscribers=5');
    $ngx->reload;
    my @new = map { subscribe('/sub?id=a&group=r') } 1 .. 2;
    has('r', channels => 1, subscribers => 5, messages => 1, bytes => 1, limits => limits(0, 5, 0, 0));
    is(refused('/sub?id=a&group=r'), 403, 'old and new workers count together');
    is($_->text, 'x') for @old;
    $_->close(1000) for @old;
    await('the old workers to leave', sub { !$ngx->old_workers });
    has('r', subscribers => 2);
    $_->close(1000) for @new;
};

case 'nginx -t' => sub {
    my $other = Ws::Nginx->new;
    my $check = sub {
        $other->{server} = "location / {\n$_[0]\n}";
        my ($status, $said) = $other->check_config;
        return $status ? $said : 'ok';
    };
    is($check->($_), 'ok', $_) for 'websocket_channel_group_info;',
        "websocket_channel_group_limits channels=1 subscribers=2 messages=3 bytes=4k;\nwebsocket_channel_group_info;",
        "websocket_channel_group_limits bytes=\$arg_x;\nwebsocket_channel a;";
    like($check->("websocket_channel_group_limits $_;"), qr/invalid value "[^"]+" in "websocket_channel_group_limits"/, $_)
        for qw(channels bytes=x subs=1 messages=4294967296);
    like($check->('websocket_channel_group_limits;'), qr/invalid number of arguments/);
    like($check->('websocket_channel_group_info on;'), qr/invalid number of arguments/);
    like($check->("websocket_channel_group_info;\nwebsocket_channel_group_info;"), qr/is duplicate/);
    like($check->("websocket_channel_group_info;\nwebsocket_channel a;"), qr/cannot stand beside "websocket_channel_group_info"/);
    like($check->("websocket_channel_group_info;\nproxy_pass http://127.0.0.1:1;"), qr/takes its requests/);
    like($check->("proxy_pass http://127.0.0.1:1;\nwebsocket_channel_group_info;"), qr/has taken its requests already/);
};

$ngx->stop;
done_testing();
