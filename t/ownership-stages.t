# Requests that are held, at each stage of their life, when their client or their worker goes.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Time::HiRes qw(sleep);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Service;
use Ws::Ownership;

# The kernel answers nobody who connects to it: its one place is taken.
my $full = Ws::Service->listen(backlog => 0);
my @taken = map {
    my $socket = IO::Socket::INET->new(Proto => 'tcp', Type => Socket::SOCK_STREAM);
    $socket->blocking(0);
    connect($socket, Socket::pack_sockaddr_in($full->port, Socket::inet_aton('127.0.0.1')));
    $socket;
} 1 .. 8;

# valgrind does not know openat2(2), by which programs of a directory are found.
my $DIR = under_valgrind() ? '/exec' : '/dir/silent';

my $STAGES = <<"EOT";
    location = /exec   { websocket_exec /bin/cat; }
    location /dir      { websocket_exec_dir %%PREFIX%%/bin; }
    location = /tcp    { websocket_tcp @{[$full->address]}; websocket_tcp_connect_timeout 60s; }
    location = /shared { websocket_channel s\$arg_id; websocket_exec /bin/cat; websocket_channel_transports websocket eventsource longpoll; }
    location = /ends   { websocket_exec /bin/true; websocket_close_timeout 30s; }
    location = /sub    { websocket_channel \$arg_id; websocket_channel_transports websocket eventsource; websocket_close_timeout 30s; }
    location = /multi  { websocket_channel \$arg_id; websocket_channel_transports multipart; websocket_close_timeout 30s; }
    location = /chunks { websocket_channel \$arg_id; websocket_channel_transports chunked; websocket_close_timeout 30s; }
    location = /pub    { websocket_channel \$arg_id mode=pub; client_max_body_size 8m; }
    location = /mirrored { websocket_exec /bin/cat; mirror /mirror; }
    location = /mirror { internal; $flight }
EOT

for my $posted ('', 'post_action /flight;') {
    for my $going (sort keys %GOING) {
        case "starting, then $going" . ($posted && ', with a post_action') => sub {
            my $ngx = server($STAGES . $posted, main => 'worker_shutdown_timeout 1s;');
            my ($spawner) = await('the spawner', sub { my @spawners = $ngx->spawners; @spawners == 1 && \@spawners })->[0];
            kill 'STOP', $spawner;
            my @clients;
            for my $path ('/exec', $DIR, '/tcp', '/shared?id=1') {
                push @clients, my $client = Ws::Client->connect(port => $ngx->port);
                $client->send(upgrade($path));
            }
            push @clients, my $client = Ws::Client->connect(port => $ngx->port);
            $client->send(request_text('GET', '/shared?id=2', Accept => 'text/event-stream'));
            sleep 0.2;
            if ($going eq 'the client first') {
                $_->reset for @clients;
                sleep 0.3;
                kill 'CONT', $spawner;
                $ngx->await_programs(0);
                $ngx->stop;
            } else {
                # The spawner outlives its worker only as long as it cannot notice.
                my $pid = fork // die "fork: $!\n";
                if (!$pid) {
                    sleep 2.5;
                    kill 'CONT', $spawner;
                    POSIX::_exit(0);
                }
                $GOING{$going}->($ngx, \@clients);
            }
        };

        case "open and closing, then $going" . ($posted && ', with a post_action') => sub {
            my $ngx = server($STAGES . $posted, main => 'worker_shutdown_timeout 1s;');
            my $port = $ngx->port;
            my @clients = map { Ws::Client->open($port, $_) } '/exec', $DIR, qw(/shared?id=1 /sub?id=a /ends /mirrored);
            is(describe($clients[4]->frame), 'close 1000', 'one closes');
            my ($mirrored) = in_flight(1);
            for my $path (qw(/sub?id=a /sub?id=b /multi?id=b /chunks?id=b /shared?id=1)) {
                push @clients, my $client = Ws::Client->connect(port => $port, rcvbuf => 4096)->reading(0);
                my %header = ('/multi?id=b' => 'multipart/mixed', '/chunks?id=b' => '*/*');
                $client->send(request_text('GET', $path, Accept => $header{$path} // 'text/event-stream', TE => 'chunked'));
            }
            is_subscribed($port, 'b', 3);
            # More than the clients take: what is left of it is sent after the channel has gone.
            publish($port, '/pub?id=b', 'x' x (4 << 20));
            sleep 0.2;
            is(request($port, 'DELETE', '/pub?id=b')->{status}, 200);
            sleep 0.2;
            $GOING{$going}->($ngx, \@clients);
            $mirrored->close;
        };
    }
}

done_testing();
