# Which location is which: each has limits and figures of its own, and keeps them over a reload as long as a reader of the
# configuration would call it the same.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use JSON::PP;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;

my $STATUS = 'location = /status { websocket_status; }';
# Clients that stay do not look for Pings.
my $EXEC = 'websocket_exec /bin/cat; websocket_exec_max 1; websocket_exec_stop 50ms 50ms; websocket_ping_interval 0;';

# try_open(port, path, host): a client, or the status.
sub try_open {
    my ($port, $path, $host) = @_;

    my $client = Ws::Client->connect(port => $port);
    my $response = $client->handshake($path, headers => [$host ? (Host => $host) : ()]);
    return $response->{status} == 101 ? $client : $response->{status};
}

sub taken {
    my ($port, $path, $name, $host) = @_;

    my $client = try_open($port, $path, $host);
    ok(ref $client, "$name: one") or diag($client);
    is(try_open($port, $path, $host), 503, "$name: no second one");
    return $client;
}

sub reloaded {
    my ($ngx, $server, $http) = @_;

    $ngx->{server} = $server;
    $ngx->{http} = $http if defined $http;
    $ngx->write_config;
    $ngx->reload;
    return;
}

# rows(nginx): location => [open now, opened, programs], by server and name.
sub rows {
    my ($ngx) = @_;

    my $status = decode_json(request($ngx->port, 'GET', '/status')->{body});
    return { map { ("$_->{server} $_->{location}" => [$_->{connections}{current}, $_->{connections}{total}]) }
        @{$status->{locations}} };
}

case 'one file in two servers' => sub {
    my $ngx = Ws::Nginx->new(workers => 2);
    my $second = Ws::Nginx::free_port();
    my $file = $ngx->file('conf/ws.inc', "location = /cat { $EXEC }\n");
    $ngx->{server} = "$STATUS include $file;";
    # Of one name at another address, and of another name at the same one.
    $ngx->{http} = "server { listen 127.0.0.1:$second; server_name localhost; include $file; }"
        . " server { listen 127.0.0.1:%%PORT%%; server_name other; include $file; }";
    $ngx = $ngx->start;
    my @clients = (taken($ngx->port, '/cat', 'first'), taken($second, '/cat', 'second'),
        taken($ngx->port, '/cat', 'third', 'other'));
    $ngx->reload;
    is(try_open($ngx->port, '/cat'), 503, 'first, after a reload');
    is(try_open($second, '/cat'), 503, 'second, after a reload');
    is(try_open($ngx->port, '/cat', 'other'), 503, 'third, after a reload');
    is_deeply(rows($ngx), { 'other /cat' => [1, 1], map { ("localhost 127.0.0.1:$_ /cat" => [1, 1]) } $second, $ngx->port },
        'figures of each');
    $_->abandon for @clients;
    $ngx->stop;
};

case 'two locations on one line, one inside another, one with "="' => sub {
    my $server = "$STATUS location /a { $EXEC } location /b { $EXEC location ~ x\$ { $EXEC } }"
        . " location /c { location ~ x\$ { $EXEC } $EXEC } location = /c { $EXEC }";
    my $ngx = Ws::Nginx->start(workers => 2, server => $server);
    my %clients = map { $_ => taken($ngx->port, $_, $_) } qw(/a /b /bx /c/ /cx /c);
    # Lines before, another order, another program.
    reloaded($ngx, "\n\n# a line\n$STATUS location /c { location ~ x\$ { $EXEC } $EXEC }\n location = /c { $EXEC }\n"
        . "location /b { location ~ x\$ { $EXEC } $EXEC }\n location /a { websocket_exec /bin/cat -u; websocket_exec_max 1; }");
    is(try_open($ngx->port, $_), 503, "$_ after a reload") for sort keys %clients;
    (delete $clients{'/b'})->abandon;
    my $again;
    await('/b to be free', sub { ref($again = try_open($ngx->port, '/b')) });
    is(try_open($ngx->port, $_), 503, "$_ is not what was freed") for sort keys %clients;
    $_->abandon for values %clients, $again;
    $ngx->stop;
};

case 'a line above, a location before, a server with another address' => sub {
    my $second = Ws::Nginx::free_port();
    my $http = sub { "server { listen 127.0.0.1:$_[0]; server_name moving; location = /m { $EXEC } }" };
    my $ngx = Ws::Nginx->start(workers => 2, http => $http->($second),
        server => "$STATUS\n location = /a { $EXEC }\n location = /b { $EXEC }\n");
    my $b = taken($ngx->port, '/b', '/b');
    my $moving = taken($second, '/m', '/m');
    my $third = Ws::Nginx::free_port();
    reloaded($ngx, "$STATUS\n\n location = /a { $EXEC }\n location = /b { $EXEC }\n", $http->($third));
    my $a = taken($ngx->port, '/a', '/a is not /b');
    is(try_open($ngx->port, '/b'), 503, '/b is still /b');
    is(try_open($third, '/m'), 503, 'the server is the same at another address');
    reloaded($ngx, "$STATUS\n location = /b { $EXEC }\n");
    is(try_open($ngx->port, '/b'), 503, 'what was before it has gone');
    is_deeply(rows($ngx)->{'localhost /a'}, [1, 1], 'what has a client is shown though it is in no configuration');
    $a->abandon;
    await('it to be gone', sub { !rows($ngx)->{'localhost /a'} });
    $_->abandon for $b, $moving;
    $ngx->stop;
};

case 'edits without end, and more locations than a table has' => sub {
    my $many = sub {
        my ($edit, $count) = @_;
        return join "\n", $STATUS, "location = /kept { $EXEC }", map { "location = /l$edit.$_ { $EXEC }" } 1 .. $count;
    };
    my $ngx = Ws::Nginx->start(workers => 1, server => $many->(0, 200));
    taken($ngx->port, '/kept', 'kept')->abandon;
    reloaded($ngx, $many->($_, 200)) for 1 .. 7;
    my @clients = map { taken($ngx->port, "/l7.$_", "location $_") } 1 .. 3;
    my $rows = rows($ngx);
    is(scalar(keys %$rows), 201, 'as many rows as locations');
    is($rows->{'localhost /kept'}[1], 1, 'what stays is counted on');
    reloaded($ngx, $many->(7, 1500));
    push @clients, map { taken($ngx->port, "/l7.$_", "location $_") } 1400 .. 1402;
    is(try_open($ngx->port, '/l7.1'), 503);
    is(scalar(grep { /other/ } keys %{rows($ngx)}), 0, 'none counts with others');
    $_->abandon for @clients;
    $ngx->stop;
};

done_testing();
