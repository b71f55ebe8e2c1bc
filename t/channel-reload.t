# A reload keeps channels, messages and ids; workers of both configurations deliver to each other's subscribers.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;

my $SERVER = <<'EOT';
    location = /sub    { websocket_channel $arg_id; }
    location = /oldest { websocket_channel $arg_id; websocket_channel_start oldest; }
    location = /pub    { websocket_channel $arg_id mode=pub; }
    location = /pubsub { websocket_channel $arg_id mode=pubsub; websocket_close_timeout 500ms; }
EOT

sub info {
    my ($port, $id) = @_;

    return request($port, 'GET', "/pub?id=$id", Accept => 'text/json')->{body};
}

case 'history, ids and subscribers' => sub {
    my $ngx = Ws::Nginx->start(workers => 2, http => 'websocket_channel_zone 4m;', server => $SERVER);
    my $port = $ngx->port;
    publish($port, '/pub?id=a', $_) for 1 .. 3;
    my $before = info($port, 'a');
    my @old = map { Ws::Client->open($port, '/pubsub?id=a') } 1 .. 4;
    my $stream = events($port, '/sub?id=a');
    $ngx->reload;
    my @new = map { Ws::Client->open($port, '/pubsub?id=a') } 1 .. 4;
    like(info($port, 'a'), qr/"subscribers": 9,/, 'old and new ones');
    is(info($port, 'a') =~ s/"(?:requested|subscribers)": \d+//gr, $before =~ s/"(?:requested|subscribers)": -?\d+//gr,
        'the same messages and ids');
    my $sender = 0;
    for my $client ($old[0], $new[0], $old[3], $new[3]) {
        $client->send(text('from ' . ++$sender));
        is($_->text, "from $sender") for @old, @new;
        is((await_events($stream, 1))[0]{data}, "from $sender");
    }
    my $late = Ws::Client->open($port, '/oldest?id=a');
    is($late->text, $_) for 1 .. 3, map { "from $_" } 1 .. 4;
    $ngx->reload for 1 .. 3;
    publish($port, '/pub?id=a', 'after four reloads');
    is($_->text, 'after four reloads') for @old, @new;
    is($_->close(1000), 'close 1000') for @old, @new;
    $_->abandon for $late, $stream->{client};
    await('the old workers to leave', sub { !$ngx->old_workers });
    like(info($port, 'a'), qr/"subscribers": 0,/);
    $ngx->stop;
};

case 'a worker that was told to go and is killed: its subscribers do not count, though nginx starts none in its place' => sub {
    my $ngx = Ws::Nginx->start(
        workers => 2,
        noise   => [qr/worker process \d+ exited on signal 9/, qr/shared memory zone "ws_exec_\w+" was locked by/],
        http    => 'websocket_channel_zone 4m;', server => $SERVER);
    my $port = $ngx->port;
    my @old = map { Ws::Client->open($port, '/pubsub?id=a') } 1 .. 4;
    $ngx->reload;
    my $new = Ws::Client->open($port, '/pubsub?id=a');
    like(info($port, 'a'), qr/"subscribers": 5,/);
    kill 'KILL', $ngx->old_workers;
    ok(await('those of the dead to be forgotten', sub { info($port, 'a') =~ /"subscribers": 1,/ }));
    publish($port, '/pub?id=a', 'on');
    is($new->text, 'on');
    $_->abandon for @old, $new;
    $ngx->stop;
};

case 'without loss for those that stay, under load' => sub {
    my $ngx = Ws::Nginx->start(workers => 2, http => 'websocket_channel_zone 8m;', server => $SERVER);
    my $port = $ngx->port;
    my @clients = map { Ws::Client->open($port, '/sub?id=load') } 1 .. 6;
    my $sent = 0;
    for my $reload (1 .. 4) {
        my $publisher = Ws::Client->open($port, '/pub?id=load');
        for (1 .. 300) {
            $publisher->send(text(++$sent));
            $publisher->text;
            $ngx->signal('HUP') if $_ == 150;
        }
        push @clients, Ws::Client->open($port, '/sub?id=load') if $reload < 4;
        $publisher->close(1000);
    }
    for my $client (@clients) {
        my @got;
        push @got, $client->text while !@got || $got[-1] < $sent;
        is(scalar @got, $sent - $got[0] + 1, 'every one once, in order');
        is_deeply(\@got, [$got[0] .. $sent]);
    }
    $ngx->stop;
};

case 'another size of the zone: a line in the log, and channels begin empty' => sub {
    my $ngx = Ws::Nginx->start(workers => 2, http => 'websocket_channel_zone 4m;', server => $SERVER);
    my $port = $ngx->port;
    publish($port, '/pub?id=a', 'old');
    my $old = Ws::Client->open($port, '/pubsub?id=a');
    $ngx->{http} = 'websocket_channel_zone 5m;';
    $ngx->write_config;
    $ngx->reload;
    $ngx->await_log(qr/\[warn\].*"websocket_channel_zone" was 4194304 octets and is 5242880 now: channels begin empty/);
    is(request($port, 'GET', '/pub?id=a')->{status}, 404, 'empty');
    my $new = Ws::Client->open($port, '/pubsub?id=a');
    $old->send(text('to the old zone'));
    is($old->text, 'to the old zone', 'sessions of the old zone go on');
    publish($port, '/pub?id=a', 'to the new zone');
    is($new->text, 'to the new zone');
    is($old->maybe_frame(0.1), undef);
    is($_->close(1000), 'close 1000') for $old, $new;
    $ngx->stop;
};

case 'a configuration that is refused changes nothing' => sub {
    my $ngx = Ws::Nginx->start(workers => 1, http => 'websocket_channel_zone 4m;', server => $SERVER, noise => [qr/\[emerg\]/]);
    my $port = $ngx->port;
    my $client = Ws::Client->open($port, '/pubsub?id=a');
    for my $wrong ('websocket_channel_zone 5m; websocket_channel_zone 5m;', 'websocket_channel_zone 5m; listen;') {
        $ngx->{http} = $wrong;
        $ngx->write_config;
        $ngx->signal('HUP');
        $ngx->await_log(qr/\[emerg\].*nginx\.conf/);
    }
    publish($port, '/pub?id=a', 'still here');
    is($client->text, 'still here');
    $ngx->{http} = 'websocket_channel_zone 4m;';
    $ngx->write_config;
    $ngx->reload;
    publish($port, '/pub?id=a', 'and here');
    is($client->text, 'and here');
    is($client->close(1000), 'close 1000');
    $ngx->stop;
};

case 'quit: waiting subscribers are let go in time' => sub {
    my $ngx = Ws::Nginx->start(workers => 2, main => 'worker_shutdown_timeout 1s;', server => $SERVER);
    my @clients = map { Ws::Client->open($ngx->port, '/sub?id=q') } 1 .. 3;
    my $stream = events($ngx->port, '/sub?id=q');
    my $poll = Ws::Client->connect(port => $ngx->port);
    $poll->send(request_text('GET', '/sub?id=q'));
    $ngx->signal('QUIT');
    like($_->server_close, qr/^close 1001/) for @clients;
    $stream->{client}->wait_until(sub { $stream->{client}{end} }, 'the end of the stream');
    is($poll->wait_until(sub { $poll->{end} }, 'the end of the long-poll'), 1);
    $ngx->stop('gone');
};

done_testing();
