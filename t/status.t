# websocket_status: the figures of all locations and workers, in each form; they survive reloads and killed workers.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Cwd qw(abs_path);
use JSON::PP;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Stream;

my $SERVER = <<'EOT';
    websocket_close_timeout 500ms;
    websocket_exec_stop 100ms 500ms;
    location = /json       { websocket_status; }
    location = /prometheus { websocket_status prometheus; }
    location = /text       { websocket_status text; }
    location = /private    { websocket_status; deny all; }
    location /cat          { websocket_exec /bin/cat; websocket_exec_format messages; }
    location /missing      { websocket_exec /nonexistent; }
    location /false        { websocket_exec /bin/false; }
    location "/a\"b\\c"    { websocket_exec /bin/cat; }
EOT

sub start {
    my (%opt) = @_;

    return Ws::Nginx->start(workers => 2, server => $SERVER, %opt);
}

sub get {
    my ($ngx, $path, $method) = @_;

    my $client = Ws::Client->connect(port => $ngx->port);
    $client->send(($method // 'GET') . " $path HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    return $client->response;
}

# status(nginx): what JSON says.
sub status {
    my ($ngx) = @_;

    return decode_json(get($ngx, '/json')->{body});
}

# of(status, location): the figures of one.
sub of {
    my ($status, $location) = @_;

    my ($found, @more) = grep { $_->{location} eq $location } @{$status->{locations}};
    die "$location is there more than once\n" if @more;
    return $found;
}

# await_figures(nginx, location, figures): until they are there, which must be soon. Each is [path in the object, value].
sub await_figures {
    my ($ngx, $location, %expected) = @_;

    my %got;
    eval {
        await('the figures', sub {
            my $figures = of(status($ngx), $location);
            for my $path (keys %expected) {
                my $value = $figures;
                $value = $value->{$_} for split /\./, $path;
                $got{$path} = $value;
            }
            return !grep { ($got{$_} // 0) != $expected{$_} } keys %expected;
        }, 5);
    };
    is_deeply({ map { $_ => ($got{$_} // 0) } keys %expected }, \%expected, "figures of $location");
}

sub echo {
    my ($client, @messages) = @_;

    for my $message (@messages) {
        $client->send(text($message));
        $client->text;
    }
}

my $ngx = start();

case 'before anything happened' => sub {
    my $status = status($ngx);
    is($status->{workers}, 2);
    is(join(' ', map { $_->{location} } @{$status->{locations}}), '/a"b\\c /cat /false /missing', 'each location is there');
    my $cat = of($status, '/cat');
    is($cat->{endpoint}, 'exec');
    is($cat->{server}, 'localhost');
    is_deeply($cat->{connections}, { current => 0, total => 0 });
    is_deeply($cat->{closes}, {});
};

case 'connections, messages and octets both ways, programs' => sub {
    my @clients = map { Ws::Client->open($ngx->port, '/cat') } 1 .. 4;
    echo($_, 'a' x 10, 'b' x 1000) for @clients;
    await_figures($ngx, '/cat',
        'connections.current' => 4, 'connections.total' => 4, 'programs.running' => 4,
        'in.messages' => 8, 'in.bytes' => 4040, 'out.messages' => 8, 'out.bytes' => 4040);
    is($clients[0]->close(1000), 'close 1000');
    is($clients[1]->close(4321), 'close 4321');
    is($clients[2]->close(undef), 'close');
    $clients[3]->reset;
    await_figures($ngx, '/cat',
        'connections.current' => 0, 'connections.total' => 4, 'programs.running' => 0, 'out.bytes' => 4040,
        'closes.1000' => 1, 'closes.4xxx' => 1, 'closes.1005' => 1, 'closes.1006' => 1);
};

case 'programs that fail, and those that cannot be started' => sub {
    is(Ws::Client->connect(port => $ngx->port)->handshake('/missing')->{status}, 500) for 1 .. 3;
    await_figures($ngx, '/missing', 'programs.failures' => 3, 'connections.total' => 0, 'programs.running' => 0);
    is(Ws::Client->open($ngx->port, '/false')->server_close, 'close 1011 exit 1');
    await_figures($ngx, '/false', 'programs.failures' => 0, 'connections.total' => 1, 'closes.1011' => 1);
    is_deeply([keys %{of(status($ngx), '/false')->{closes}}], ['1011']);
};

case 'head, methods, access' => sub {
    my $answer = get($ngx, '/json');
    is($answer->{status}, 200);
    is_deeply([map { $answer->{headers}{$_}[0] } qw(content-type cache-control)], ['application/json', 'no-store']);
    is(get($ngx, '/prometheus')->{headers}{'content-type'}[0], 'text/plain; version=0.0.4; charset=utf-8');
    is(get($ngx, '/text')->{headers}{'content-type'}[0], 'text/plain; charset=utf-8');
    like(`curl -sI http://127.0.0.1:@{[$ngx->port]}/json`, qr{^HTTP/1.1 200 OK.*Content-Length: [1-9].*\r\n\r\n$}s, 'HEAD');
    my $refused = get($ngx, '/json', 'DELETE');
    is($refused->{status}, 405);
    is($refused->{headers}{allow}[0], 'GET, HEAD');
    is(get($ngx, '/private')->{status}, 403);
};

case 'Prometheus' => sub {
    my $text = get($ngx, '/prometheus')->{body};
    my $labels = 'endpoint="exec",server="localhost"';
    for my $line (
        'nginx_websocket_workers 2',
        "nginx_websocket_connections_total{$labels,location=\"/cat\"} 4",
        "nginx_websocket_sent_bytes_total{$labels,location=\"/cat\"} 4040",
        "nginx_websocket_closes_total{$labels,location=\"/cat\",code=\"1006\"} 1",
        "nginx_websocket_program_failures_total{$labels,location=\"/missing\"} 3",
        "nginx_websocket_connections{$labels,location=\"/a\\\"b\\\\c\"} 0",
    ) {
        ok((grep { $_ eq $line } split /\n/, $text), $line) or diag($text);
    }
    my $promtool = abs_path('target/prometheus/usr/bin/promtool');
    my $file = $ngx->file('metrics', $text);
    is(`$promtool check metrics <$file 2>&1`, '', 'promtool has nothing to say');
    is($?, 0, 'and takes it');
    # The check can fail.
    isnt(`sed 's/} 4/} x/' $file | $promtool check metrics 2>&1`, '', 'promtool looks');
};

case 'text' => sub {
    my $text = get($ngx, '/text')->{body};
    like($text, qr/^workers: 2\n/);
    like($text, qr{^exec\s+localhost\s+/cat\s+0\s+4\s+8\s+8\s+4040\s+4040\s+0\s+0$}m);
    like($text, qr{^closes of exec localhost /cat  1000: 1, 1005: 1, 1006: 1, 4xxx: 1$}m);
};

case 'a reload: totals stay, sessions of old workers are counted' => sub {
    my $old = Ws::Client->open($ngx->port, '/cat');
    echo($old, 'old');
    $ngx->reload;
    my $new = Ws::Client->open($ngx->port, '/cat');
    echo($new, 'new');
    echo($old, 'old');
    await_figures($ngx, '/cat', 'connections.current' => 2, 'connections.total' => 6, 'in.messages' => 11, 'in.bytes' => 4049);
    is($old->close(1000), 'close 1000');
    is($new->close(1000), 'close 1000');
    await_figures($ngx, '/cat', 'connections.current' => 0, 'closes.1000' => 3);
    await('the old workers to leave', sub { status($ngx)->{workers} == 2 });
};

case 'a line that moves is the same location' => sub {
    $ngx->{server} = "\n\n$SERVER";
    $ngx->write_config;
    $ngx->reload;
    await('the old workers to leave', sub { !$ngx->old_workers });
    echo(my $client = Ws::Client->open($ngx->port, '/cat'), 'here');
    await_figures($ngx, '/cat', 'connections.current' => 1, 'connections.total' => 7, 'in.messages' => 12);
    is($client->close(1000), 'close 1000');
    await_figures($ngx, '/cat', 'connections.current' => 0);
};

$ngx->stop;

case 'killed workers take nothing with them but what was theirs at that moment' => sub {
    my $ngx = start(noise => [qr/worker process \d+ exited on signal 9/]);
    my $total = 0;
    for my $round (1 .. 3) {
        my @clients = map { Ws::Client->open($ngx->port, '/cat') } 1 .. 6;
        echo($_, 'x' x 100) for @clients;
        $total += 6;
        await_figures($ngx, '/cat', 'connections.current' => 6, 'connections.total' => $total, 'in.bytes' => 100 * $total,
            'programs.running' => 6);
        my %old = map { $_ => 1 } $ngx->workers;
        kill 'KILL', keys %old;
        await('new workers', sub { 2 == grep { !$old{$_} } $ngx->workers });
        await_figures($ngx, '/cat', 'connections.current' => 0, 'connections.total' => $total, 'in.bytes' => 100 * $total,
            'out.messages' => $total, 'programs.running' => 0);
        is(status($ngx)->{workers}, 2);
    }
    $ngx->stop;
};

case 'channels' => sub {
    my $ngx = Ws::Nginx->start(workers => 2, server => <<'EOT');
        location = /json       { websocket_status; }
        location = /prometheus { websocket_status prometheus; }
        location = /channel    { websocket_channel c mode=pubsub; }
EOT
    my @clients = map { Ws::Client->open($ngx->port, '/channel') } 1 .. 3;
    $clients[0]->send(text('to all'));
    is($_->text, 'to all') for @clients;
    await_figures($ngx, '/channel', 'connections.current' => 3, 'in.messages' => 1, 'out.messages' => 3, 'out.bytes' => 18);
    my $channels = status($ngx)->{channels};
    is_deeply([@$channels{qw(channels messages published evicted)}], [1, 1, 1, 0]);
    cmp_ok($channels->{zone}{used}, '>', 0);
    cmp_ok($channels->{zone}{used}, '<', $channels->{zone}{size});
    my $file = $ngx->file('metrics', my $text = get($ngx, '/prometheus')->{body});
    like($text, qr/^nginx_websocket_channel_published_total 1$/m);
    is(`target/prometheus/usr/bin/promtool check metrics <$file 2>&1`, '', 'promtool has nothing to say');
    is($_->close(1000), 'close 1000') for @clients;
    $ngx->stop;
};

case 'subscribers by HTTP are connections while they are served' => sub {
    my $ngx = Ws::Nginx->start(workers => 2, server => <<'EOT');
        location = /json      { websocket_status; }
        location = /pub       { websocket_channel c mode=pub; }
        location = /sub       { websocket_channel c; websocket_channel_start -1; }
        location = /poll      { websocket_channel c; websocket_channel_transports poll; websocket_channel_start oldest; }
        location = /multipart { websocket_channel c; websocket_channel_transports multipart; }
        location = /full      { websocket_channel c; websocket_channel_max_subscribers 1; }
EOT
    my $port = $ngx->port;
    my @events = map { events($port, '/sub') } 1 .. 3;
    my $parts = stream($port, 'multipart', '/multipart');
    my $waits = Ws::Client->connect(port => $port);
    $waits->send(request_text('GET', '/sub'));
    await_figures($ngx, '/sub', 'connections.current' => 4, 'connections.total' => 4, 'out.messages' => 0);
    await_figures($ngx, '/multipart', 'connections.current' => 1, 'connections.total' => 1);
    publish($port, '/pub', 'twelve bytes');
    is($waits->response->{body}, 'twelve bytes');
    await_events($_, 1) for @events;
    $parts->next(1);
    await_figures($ngx, '/sub', 'connections.current' => 3, 'connections.total' => 4, 'out.messages' => 4, 'out.bytes' => 48);
    await_figures($ngx, '/multipart', 'out.messages' => 1, 'out.bytes' => 12);
    my $tag = request($port, 'GET', '/poll')->{headers}{etag}[0];
    is(request($port, 'GET', '/poll', 'If-None-Match' => $tag)->{status}, 304) for 1, 2;
    await_figures($ngx, '/poll', 'connections.current' => 0, 'connections.total' => 3, 'out.messages' => 1, 'out.bytes' => 12);
    is(request($port, 'GET', '/full', Accept => 'text/event-stream')->{status}, 503);
    await_figures($ngx, '/full', 'connections.total' => 0);
    $events[0]{client}->abandon;
    $events[1]{client}->reset;
    await_figures($ngx, '/sub', 'connections.current' => 1);
    is_deeply(of(status($ngx), '/sub')->{closes}, {}, 'a Close is of WebSockets');
    $ngx->reload;
    my $new = events($port, '/sub');
    await_figures($ngx, '/sub', 'connections.current' => 2, 'connections.total' => 5);
    request($port, 'DELETE', '/pub');
    await_figures($ngx, '/sub', 'connections.current' => 0, 'connections.total' => 5);
    await_figures($ngx, '/multipart', 'connections.current' => 0);
    $ngx->stop;
};

case 'a status alone, and what cannot stand beside it' => sub {
    my $ngx = Ws::Nginx->start(server => 'location /s { websocket_status; }');
    is_deeply(decode_json(get($ngx, '/s')->{body}), { workers => 1, locations => [] });
    $ngx->stop;
    for my $row (
        ['websocket_status xml;', qr/invalid value "xml" in "websocket_status" directive, expected "json", "prometheus" or "text" in/],
        ['websocket_status json text;', qr/invalid number of arguments in "websocket_status" directive/],
        ['websocket_status; websocket_status;', qr/"websocket_status" directive is duplicate/],
        ['websocket_status; websocket_exec /bin/cat;', qr/"websocket_exec" directive cannot stand beside "websocket_status"/],
        ['websocket_exec /bin/cat; websocket_status;', qr/"websocket_status" directive cannot stand beside "websocket_exec"/],
        ['websocket_status; proxy_pass http://127.0.0.1:1;', qr/"websocket_status" directive: another directive of this location/],
        ['proxy_pass http://127.0.0.1:1; websocket_status;', qr/"websocket_status" directive: another directive of this location/],
    ) {
        my ($status, $said) = Ws::Nginx->new(server => "location / { $row->[0] }")->check_config;
        isnt($status, 0);
        like($said, $row->[1], $row->[0]);
    }
};

done_testing();
