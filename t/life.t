# Open sessions while workers come and go: reload, quit, worker_shutdown_timeout, stop. Each leaves no [alert], no leak and
# no orphan; Ws::Nginx::stop looks for all of them.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Time::HiRes qw(time);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Process qw(descriptors descendants status_field);

# Clients that stay do not look for Pings.
my $SERVER = <<'EOT';
    websocket_ping_interval 0;
    websocket_close_timeout 500ms;
    websocket_exec_stop 100ms 500ms;
    location = /cat      { websocket_exec /bin/cat; }
    location = /stubborn { websocket_exec %%PREFIX%%/bin/stubborn; }
    location = /flood    { websocket_exec /usr/bin/yes; }
    location = /hi       { return 200 "hi"; }
EOT

sub start {
    my (%opt) = @_;

    my $ngx = Ws::Nginx->new(workers => 2, tls => 1, server => $SERVER, %opt);
    $ngx->program('stubborn', "#!/bin/sh\ntrap '' TERM HUP INT\necho ready\nwhile :; do sleep 1; done\n");
    return $ngx->start;
}

sub talks {
    my ($client, $what) = @_;

    $client->send(text('still here'));
    is($client->text, 'still here', $what);
}

sub sessions {
    my ($ngx, $count) = @_;

    return map {
        my $tls = $_ % 2;
        Ws::Client->open($tls ? $ngx->tls_port : $ngx->port, '/cat', tls => $tls);
    } 1 .. $count;
}

case 'a reload leaves open sessions to the old workers' => sub {
    my $ngx = start();
    my @clients = sessions($ngx, 6);
    $ngx->await_programs(6);
    my @old = $ngx->workers;
    $ngx->reload;
    talks($_, 'an old session') for @clients;
    my $new = Ws::Client->open($ngx->port, '/cat');
    talks($new, 'a new session');
    is($_->close(1000), 'close 1000') for @clients;
    await('the old workers to leave', sub { !grep { kill 0, $_ } @old });
    talks($new, 'the new session goes on');
    await('the old spawners to leave', sub { $ngx->spawners == 2 });
    is($new->close(1000), 'close 1000');
    $ngx->await_programs(0);
    $ngx->stop;
};

case 'workers without sessions leave at once' => sub {
    my $ngx = start();
    Ws::Client->open($ngx->port, '/cat')->close(1000);
    my @old = $ngx->workers;
    my $since = time;
    $ngx->reload;
    await('the old workers to leave', sub { !grep { kill 0, $_ } @old });
    cmp_ok(time - $since, '<', instrumented() ? 30 : 3);
    $ngx->stop;
};

case 'a reload that takes the location away' => sub {
    my $ngx = start();
    my ($client) = sessions($ngx, 1);
    talks($client, 'before');
    $ngx->{server} = 'location = /hi { return 200 "hi"; }';
    $ngx->write_config;
    $ngx->reload;
    talks($client, 'after');
    my $refused = Ws::Client->connect(port => $ngx->port);
    is($refused->handshake('/cat')->{status}, 404);
    is($client->close(1000), 'close 1000');
    $ngx->stop;
};

case 'a reload with an error changes nothing' => sub {
    my $ngx = start(noise => [qr/\[emerg\].*websocket_exec_format/]);
    my ($client) = sessions($ngx, 1);
    my @workers = sort $ngx->workers;
    $ngx->{server} = 'location = /cat { websocket_exec /bin/cat; websocket_exec_format nonsense; }';
    $ngx->write_config;
    $ngx->signal('HUP');
    $ngx->await_log(qr/\[emerg\].*nonsense/);
    talks($client, 'after');
    is_deeply([sort $ngx->workers], \@workers);
    is($client->close(1000), 'close 1000');
    $ngx->{server} = $SERVER;
    $ngx->stop;
};

case 'many reloads leave nothing behind' => sub {
    my $ngx = start();
    my @held = sessions($ngx, 2);
    for my $i (1 .. 8) {
        my ($client) = sessions($ngx, 1);
        $ngx->reload;
        talks($client, "reload $i");
        is($client->close(1000), 'close 1000');
    }
    is($_->close(1000), 'close 1000') for @held;
    await('the old workers to leave', sub { !$ngx->old_workers });
    await('the old spawners to leave', sub { $ngx->spawners == 2 });
    my $inherited = keys %{descriptors($ngx->master)};
    $ngx->reload;
    await('the old workers to leave', sub { !$ngx->old_workers });
    # The master closes its end of a worker's channel a moment after the worker has gone.
    await('as few descriptors in the master as before', sub { keys(%{descriptors($ngx->master)}) <= $inherited });
    pass('the master has no more descriptors than before');
    $ngx->stop;
};

# The last session of a worker ends with a Close of the server's, and its client still sends.
case 'a worker that leaves waits for what a client sends behind the end' => sub {
    for my $tls (0, 1) {
        my $ngx = start();
        my $client = Ws::Client->open($tls ? $ngx->tls_port : $ngx->port, '/cat', tls => $tls);
        my @old = $ngx->workers;
        $ngx->reload;
        talks($client, 'an old session');
        $client->send(frame(3, 'no such opcode') . 'dropped' x 20_000);
        $client->flush;
        like($client->server_close, qr{^close 1002});
        ok($client->end, 'without a reset');
        await('the old workers to leave', sub { !grep { kill 0, $_ } @old });
        $ngx->stop;
    }
};

case 'quit waits for open sessions' => sub {
    my $ngx = start();
    my @clients = sessions($ngx, 4);
    $ngx->await_programs(4);
    $ngx->signal('QUIT');
    await('the workers to begin to leave', sub { !$ngx->workers });
    talks($_, 'a session') for @clients;
    my $refused = eval { Ws::Client->connect(port => $ngx->port)->handshake('/cat') };
    ok(!$refused || $refused->{status} == 503, 'no new session');
    is($_->close(1000), 'close 1000') for @clients;
    $ngx->stop('gone');
};

case 'a handshake that arrives at a worker on its way out is refused or served, never half' => sub {
    my $ngx = start(workers => 1);
    my ($holder) = sessions($ngx, 1);
    my $client = Ws::Client->connect(port => $ngx->port);
    my $head = upgrade('/cat');
    $client->send(substr $head, 0, 30);
    # nginx takes connections in their order: this one is answered when the other one is known.
    talks($holder, 'a session');
    my $other = Ws::Client->connect(port => $ngx->port);
    $other->send("GET /hi HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    is($other->response->{body}, 'hi');
    $ngx->signal('QUIT');
    await('the worker to begin to leave', sub { !$ngx->workers });
    $client->send(substr $head, 30);
    my $status = $client->response->{status};
    if ($status == 101) {
        talks($client, 'served');
        is($client->close(1000), 'close 1000');
    } else {
        is($status, 503, 'refused');
        is($client->end, 'eof');
    }
    is($holder->close(1000), 'close 1000');
    $ngx->stop('gone');
};

case 'worker_shutdown_timeout ends sessions with 1001' => sub {
    # Under valgrind they need longer than a second to say something.
    my $ngx = start(main => 'worker_shutdown_timeout ' . (instrumented() ? 6 : 1) . 's;');
    my @clients = sessions($ngx, 4);
    my $stubborn = Ws::Client->open($ngx->port, '/stubborn');
    is($stubborn->text, 'ready');
    $ngx->await_programs(5 + 1);
    my @old = $ngx->workers;
    my $since = time;
    $ngx->reload;
    talks($_, 'a session') for @clients;
    # The time is up: their answers are not waited for.
    like($_->server_close, qr/^close 1001(?:$|, then reset)/) for @clients, $stubborn;
    cmp_ok(time - $since, '>', 0.7);
    cmp_ok(time - $since, '<', instrumented() ? 30 : 5);
    await('the old workers to leave', sub { !grep { kill 0, $_ } @old });
    await('their programs to go', sub { !$ngx->programs });
    $ngx->stop;
};

case 'worker_shutdown_timeout and a client that does not answer' => sub {
    my $ngx = start(main => 'worker_shutdown_timeout 500ms;');
    my ($client) = sessions($ngx, 1);
    my $blocked = Ws::Client->open($ngx->port, '/flood', rcvbuf => 8192);
    $blocked->reading(0);
    my @old = $ngx->workers;
    my $since = time;
    $ngx->reload;
    is(describe($client->frame), 'close 1001');
    await('the old workers to leave', sub { !grep { kill 0, $_ } @old });
    cmp_ok(time - $since, '<', 8);
    await('their programs to go', sub { !$ngx->programs });
    $ngx->stop;
};

case 'stop ends sessions with 1001' => sub {
    my $ngx = start();
    my @clients = sessions($ngx, 4);
    my $stubborn = Ws::Client->open($ngx->port, '/stubborn');
    is($stubborn->text, 'ready');
    my $since = time;
    $ngx->signal('TERM');
    for my $client (@clients, $stubborn) {
        is(describe(($client->frames)[-1]), 'close 1001');
        eval { $client->send(close_frame(1001)) };
    }
    $ngx->stop('gone');
    cmp_ok(time - $since, '<', 6, 'and does not wait for programs');
};

case '"nginx -s stop" with floods, blocked clients and full pipes' => sub {
    my $ngx = start();
    my @blocked = map { Ws::Client->open($ngx->port, '/flood', rcvbuf => 8192) } 1 .. 3;
    my @full = map { Ws::Client->open($ngx->port, '/stubborn') } 1 .. 2;
    is($_->text, 'ready') for @full;
    $_->send_until_stalled(text('x' x 10_000), 0.2) for @full;
    $ngx->signal('TERM');
    $ngx->stop('gone');
};

case 'quit, then stop' => sub {
    my $ngx = start();
    my @clients = sessions($ngx, 2);
    $ngx->signal('QUIT');
    await('the workers to begin to leave', sub { !$ngx->workers });
    talks($_, 'a session') for @clients;
    $ngx->signal('TERM');
    is(describe(($_->frames)[-1]), 'close 1001') for @clients;
    $ngx->stop('gone');
};

case '300 sessions leave no memory and no descriptor behind' => sub {
    my $ngx = start(workers => 1);
    my ($worker) = $ngx->workers;
    my $round = sub {
        my @clients = map { Ws::Client->open($ngx->port, '/cat') } 1 .. 50;
        $_->send(text('x' x 2000)) for @clients;
        is(length $_->text, 2000) || last for @clients;
        $clients[$_]->reset for 0 .. 9;
        $clients[$_]->abandon for 10 .. 19;
        $_->send(text('x', rsv1 => 1)) for @clients[20 .. 29];
        $_->server_close for @clients[20 .. 29];
        $_->close(1000) for @clients[30 .. 49];
        $ngx->await_programs(0);
    };
    $round->() for 1 .. 2;
    my ($descriptors, $memory) = (scalar keys %{descriptors($worker)}, status_field($worker, 'VmRSS'));
    $round->() for 1 .. 4;
    await('all descriptors to be closed', sub { keys %{descriptors($worker)} <= $descriptors });
    grew_less($worker, $memory, 1024, 'memory');
    $ngx->no_zombies;
    $ngx->stop;
};

done_testing();
