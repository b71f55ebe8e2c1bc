# What happens to programs when nobody needs them any more: the stop ladder, and every way for a client, a worker or a
# spawner to vanish.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Time::HiRes qw(time);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Process qw(children command descendants state);

my $ngx = Ws::Nginx->new(
    tls     => 1,
    workers => 2,
    # A worker and a spawner get killed here; the master and the worker say so.
    noise  => [qr/(?:worker process|process) \d+ exited on signal 9/, qr/spawner.*(?:signal 9|gone|died|exited|ended)/i],
    server => <<'EOT');
    websocket_close_timeout 500ms;
    websocket_exec_stop 200ms 700ms;
    location /cat      { websocket_exec /bin/cat; }
    location /sleep    { websocket_exec /bin/sleep 600; }
    location /narrow   { websocket_exec /bin/sleep 600; websocket_max_message_size 64k; }
    location /flood    { websocket_exec /usr/bin/yes; }
    location /polite   { websocket_exec %%PREFIX%%/bin/polite; }
    location /eof      { websocket_exec %%PREFIX%%/bin/eof; }
    location /stubborn { websocket_exec %%PREFIX%%/bin/stubborn; }
    location /family   { websocket_exec %%PREFIX%%/bin/family; }
    location /stopped  { websocket_exec %%PREFIX%%/bin/stopped; }
    location /slow     { websocket_exec /bin/sleep 600; websocket_exec_stop 0 0; }
EOT

# Each tells on a file what it was given.
$ngx->program('polite', <<'EOT');
#!/usr/bin/perl
$SIG{TERM} = sub { open my $o, '>', '%%'; print $o 'term'; close $o; exit 0 };
$| = 1; print "ready\n"; sleep 1 while 1;
EOT
$ngx->program('eof', <<'EOT');
#!/usr/bin/perl
$SIG{TERM} = sub { open my $o, '>', '%%'; print $o 'term'; exit 1 };
$| = 1; print "ready\n"; 1 while <STDIN>; open my $o, '>', '%%'; print $o 'eof';
EOT
$ngx->program('stubborn', <<'EOT');
#!/usr/bin/perl
$SIG{$_} = 'IGNORE' for qw(TERM HUP INT QUIT PIPE);
$| = 1; print "ready\n"; sleep 1 while 1;
EOT
$ngx->program('family', <<'EOT');
#!/bin/sh
# A child, a grandchild in the background whose parent is gone, one that ignores SIGTERM, and itself.
sleep 600 &
(sleep 601 &)
(trap '' TERM; exec sleep 602) &
echo ready
sleep 603
EOT
$ngx->program('stopped', "#!/bin/sh\necho ready\nkill -STOP \$\$\nsleep 600\n");

for my $name (qw(polite eof)) {
    open my $in, '<', $ngx->prefix . "/bin/$name" or die;
    my $text = do { local $/; <$in> } =~ s{%%}{$ngx->prefix . "/$name.said"}ger;
    close $in;
    $ngx->program($name, $text);
}
$ngx->start;

sub ready {
    my ($path, @opt) = @_;

    my $client = Ws::Client->open($ngx->port, $path, @opt);
    is($client->text, 'ready');
    return $client;
}

sub gone_within {
    my ($seconds, $since) = @_;

    $ngx->await_programs(0);
    my $took = time - $since;
    cmp_ok($took, '<', $seconds, sprintf 'gone after %.2f s', $took);
    $ngx->no_zombies;
    return $took;
}

case 'stdin is closed at once: a program that ends by itself is not signalled' => sub {
    my $client = ready('/eof');
    my $since = time;
    is($client->close(1000), 'close 1000');
    gone_within(2, $since);
    is($ngx->read_file('eof.said'), 'eof');
};

case 'SIGTERM after the first time' => sub {
    my $client = ready('/polite');
    my $since = time;
    is($client->close(1000), 'close 1000');
    my $took = gone_within(3, $since);
    cmp_ok($took, '>', 0.15, 'not before');
    is($ngx->read_file('polite.said'), 'term');
};

case 'SIGKILL after the second' => sub {
    my $client = ready('/stubborn');
    my $since = time;
    is($client->close(1000), 'close 1000');
    my $took = gone_within(4, $since);
    cmp_ok($took, '>', 0.6, 'not before');
};

case 'a stopped program' => sub {
    my $client = ready('/stopped');
    await('the program to stop', sub { grep { state($_) eq 'T' } $ngx->programs });
    my $since = time;
    is($client->close(1000), 'close 1000');
    gone_within(4, $since);
};

case 'no mercy: websocket_exec_stop 0 0' => sub {
    my $client = Ws::Client->open($ngx->port, '/slow');
    $ngx->await_programs(1);
    my $since = time;
    is($client->close(1000), 'close 1000');
    gone_within(2, $since);
};

case 'the whole group goes, grandchildren too' => sub {
    my $client = ready('/family');
    await('four sleepers', sub { (grep { command($_) =~ /^sleep 60/ } $ngx->programs) == 4 });
    my $since = time;
    is($client->close(1000), 'close 1000');
    gone_within(4, $since);
};

for my $how (qw(reset fin abandon)) {
    case "the client goes by $how" => sub {
        my @clients = map { ready($_) } qw(/eof /polite /stubborn /family);
        my $since = time;
        $_->$how for @clients;
        gone_within(4, $since);
        $_->abandon for @clients;
    };
}

case 'the client goes while the program floods it' => sub {
    my @clients = map { Ws::Client->open($ngx->port, '/flood', rcvbuf => 8192) } 1 .. 3;
    $_->reading(0) for @clients;
    $ngx->await_programs(3);
    my $since = time;
    $clients[0]->reset;
    $clients[1]->abandon;
    $clients[2]->send(close_frame(1000))->flush;
    gone_within(6, $since);
};

case 'the client goes while the program does not read and its pipe is full' => sub {
    my @clients = map { Ws::Client->open($ngx->port, '/sleep') } 1 .. 3;
    $ngx->await_programs(3);
    cmp_ok($_->send_until_stalled(text('x' x 10_000), 0.3), '>', 65_536, 'octets until it stalls') for @clients;
    my $since = time;
    $_->reset for @clients;
    gone_within(4, $since);
};

# What one session holds for a program that does not read: the pipe and 64k; the rest stays with the kernel. A FIN is seen
# wherever the reading has stopped, as long as TCP brings it.
for my $octets (100_000, 190_000) {
    case "the same by FIN behind $octets octets" => sub {
        my $client = Ws::Client->open($ngx->port, '/narrow');
        $ngx->await_programs(1);
        $client->send(text('x' x 1000)) for 1 .. $octets / 1000;
        my $since = time;
        $client->fin;
        gone_within(4, $since);
    };
}

case 'TLS' => sub {
    my @clients = map { Ws::Client->open($ngx->tls_port, '/sleep', tls => 1) } 1 .. 2;
    $ngx->await_programs(2);
    my $since = time;
    $clients[0]->reset;
    $clients[1]->abandon;
    gone_within(4, $since);
};

case '50 at once' => sub {
    my @clients = map { Ws::Client->open($ngx->port, '/sleep') } 1 .. 50;
    $ngx->await_programs(50);
    my $since = time;
    $_->reset for @clients;
    gone_within(5, $since);
};

case 'a worker killed with SIGKILL leaves nothing behind' => sub {
    my @clients = map { ready('/family') } 1 .. 4;
    push @clients, ready('/stubborn');
    my @victims = $ngx->workers;
    my %programs = map { $_ => 1 } $ngx->programs;
    my $since = time;
    kill 'KILL', @victims;
    $_->abandon for @clients;
    await('the programs to end', sub { Ws::Nginx::reap(); !grep { $programs{$_} } descendants($$) });
    cmp_ok(time - $since, '<', 5);
    await('new workers', sub { $ngx->workers == 2 });
    my $client = ready('/eof');
    is($client->close(1000), 'close 1000');
    $ngx->await_programs(0);
};

case 'a spawner killed with SIGKILL: its sessions end with 1011, the next ones work' => sub {
    my @clients = map { ready($_) } ('/eof', '/family', '/stubborn', '/eof', '/polite');
    my %programs = map { $_ => 1 } $ngx->programs;
    my @spawners = $ngx->spawners;
    is(scalar @spawners, 2, 'one a worker');
    kill 'KILL', @spawners;
    for my $client (@clients) {
        like($client->server_close, qr/^close 1011/);
    }
    await('the programs to end', sub { Ws::Nginx::reap(); !grep { $programs{$_} } descendants($$) });
    await('new spawners', sub { $ngx->spawners == 2 });
    for (1 .. 4) {
        my $client = ready('/eof');
        is($client->close(1000), 'close 1000');
    }
    $ngx->await_programs(0);
    # The guard of a spawner that was killed is reaped when its worker has to do with programs again.
    await('the guards to be reaped', sub { is(ready('/eof')->close(1000), 'close 1000'); !$ngx->zombies });
};

$ngx->stop;

case 'a program that talks on when its client has gone does not keep the worker busy' => sub {
    my $ngx = Ws::Nginx->start(server => <<'EOT');
        location = /talks { websocket_exec /bin/sh -c "echo ready; read line; sleep 1; echo bye; exec sleep 60"; websocket_exec_stop 5s 6s; }
EOT
    my $client = Ws::Client->open($ngx->port, '/talks');
    is($client->text, 'ready');
    $client->reset;
    $ngx->await_log(qr/client.*(?:lost|closed)/);
    await('its last words', sub { grep { command($_) =~ /^sleep 60/ } descendants($$) });
    my ($worker) = $ngx->workers;
    my $ticks = sub {
        open my $in, '<', "/proc/$worker/stat" or die "stat: $!\n";
        my @fields = split ' ', <$in>;
        return $fields[13] + $fields[14];
    };
    my $before = $ticks->();
    sleep 2;
    cmp_ok($ticks->() - $before, '<', 20, 'hundredths of a second of its time in two seconds');
    $ngx->stop;
};

done_testing();
