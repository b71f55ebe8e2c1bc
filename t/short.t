# Descriptors, or nginx's connections, are short: 503 before the 101, and the log says what is short and what to do about it.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Process qw(descriptors);
use Ws::Service;

my $service = Ws::Service->listen;
my $address = $service->address;

# What nginx itself says then.
my @noise = (qr/\[alert\].*worker_connections are not enough/, qr/\(24: Too many open files\)/);

my $server = <<"EOT";
    websocket_close_timeout 500ms;
    location = /tcp { websocket_tcp $address; }
    location = /cat { websocket_exec /bin/cat; }
EOT
my $shared = 'location = /shared { websocket_exec /bin/cat; websocket_channel $arg_id; }';

for my $path (qw(/tcp /cat /shared)) {
    for (['worker_connections', { connections => 40 }], ['worker_rlimit_nofile', { connections => 400, nofile => $path eq '/shared' ? 200 : 64 }]) {
        my ($limit, $opt) = @$_;
        case "$path: $limit" => sub {
            plan skip_all => 'valgrind does not let a process change its limit of descriptors'
                if $opt->{nofile} && under_valgrind();
            my $ngx = Ws::Nginx->start(%$opt, noise => \@noise,
                server => $path eq '/shared' ? $shared : $server);
            my ($worker) = $ngx->workers;
            my (@clients, @begun, $refused);
            # Where nothing is left for the client itself there is no answer: then another one has a little less.
            for my $try (1 .. 6) {
                $refused = undef;
                for (1 .. 64) {
                    my $client = Ws::Client->connect(port => $ngx->port, timeout => instrumented() ? 30 : 4);
                    my $response = eval { $client->handshake("$path?id=$try-$_") };
                    if (!$response || $response->{status} != 101) {
                        $refused = $response ? $response->{status} : 'no answer';
                        is($client->header('Retry-After'), 5) if $response;
                        $client->abandon;
                        last;
                    }
                    push @clients, $client;
                }
                last if $refused ne 'no answer';
                my $count = keys %{descriptors($worker)};
                (pop @clients)->reset;
                $ngx->await_programs(scalar @clients) if $path ne '/tcp';
                await('it to be gone', sub { keys %{descriptors($worker)} < $count });
                push @begun, Ws::Client->connect(port => $ngx->port)->send("GET / HTTP/1.1\r\n");
            }
            cmp_ok(scalar @clients, '>', 3, 'some were served: ' . @clients);
            is($refused, 503);
            my $line = $ngx->await_log(qr/\[error\].*cannot (?:start|connect).*/);
            like($line, qr/raise "\Q$limit\E"/);
            unlike($line, qr/Too many open files/) if !$opt->{nofile};
            $_->reset for @clients, @begun;
            $ngx->await_programs(0);
            is(await('a place', sub { eval { Ws::Client->open($ngx->port, "$path?id=x", timeout => 2)->close(1000) } }), 'close 1000');
            $ngx->stop;
        };
    }
}

done_testing();
