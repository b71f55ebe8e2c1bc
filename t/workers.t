# Workers of many generations, and where they are started: none fails to start because others are still there, and what
# keeps one from starting is said.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Cwd qw(abs_path);
use JSON::PP;
use Time::HiRes qw(sleep);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Process qw(children);

sub status {
    my ($ngx) = @_;

    return decode_json(request($ngx->port, 'GET', '/status')->{body});
}

sub of {
    my ($status, $location) = @_;

    my @found = grep { $_->{location} eq $location } @{$status->{locations}};
    die scalar(@found) . " of $location\n" if @found != 1;
    return $found[0];
}

case 'more than two hundred workers, all with clients' => sub {
    plan skip_all => 'not with so much memory for each worker' if instrumented();
    my ($workers, $generations) = (36, 6);
    my $ngx = Ws::Nginx->start(workers => $workers, http => 'websocket_channel_zone 4m;', server => <<'EOS');
    location = /status { websocket_status; }
    location = /sub    { websocket_channel a; }
    location = /pub    { websocket_channel a mode=pub; }
    location = /cat    { websocket_exec /bin/cat; websocket_exec_max 3; }
EOS
    my @clients;
    for my $generation (1 .. $generations) {
        $ngx->reload if $generation > 1;
        my %seen;
        # Until nearly every worker of this generation has one.
        for (1 .. 4 * $workers) {
            push @clients, Ws::Client->open($ngx->port, '/sub');
        }
    }
    my $running = @{[children($ngx->master)]};
    cmp_ok($running, '>', 140, "$running workers");
    is(status($ngx)->{workers}, $running, 'all are counted');
    my $published = request($ngx->port, 'POST', '/pub', body => 'to all');
    is($published->{status}, 201);
    like($published->{body}, qr/active subscribers: ${\ scalar @clients}\b/);
    is($_->text, 'to all') for @clients;
    my @cats = map { Ws::Client->open($ngx->port, '/cat') } 1 .. 3;
    is(Ws::Client->connect(port => $ngx->port)->handshake('/cat')->{status}, 503, 'the limit holds over all of them');
    unlike($ngx->log, qr/too many|no slot|cannot be respawned|fatal code/);
    $_->abandon for @clients, @cats;
    await('the old workers to leave', sub { !$ngx->old_workers }, 60);
    $ngx->stop;
};

# started(nginx): what it says when it does not start, or when its workers do not.
sub refused {
    my (%opt) = @_;

    my $ngx = Ws::Nginx->new(%opt, noise => [qr/emerg/, qr/alert/, qr/crit/]);
    $ngx->{port} = Ws::Nginx::free_port();
    $ngx->write_config;
    my $pid = fork // die "fork: $!\n";
    if (!$pid) {
        open STDERR, '>', "$ngx->{prefix}/stderr.log";
        exec Ws::Nginx::binary(), '-p', $ngx->prefix, '-c', 'conf/nginx.conf';
    }
    my $said = eval { $ngx->await_log(qr/^.*ws_exec: .*|^.*channels: .*/m, 20) };
    kill 'TERM', $pid;
    waitpid $pid, 0;
    return $said // $ngx->log;
}

case 'no connection for the channels' => sub {
    plan skip_all => 'valgrind starts another process' if under_valgrind();
    # One for the listening socket, one for the module itself.
    my $said = refused(connections => 2, server => 'location / { websocket_channel a; }');
    like($said, qr/channels: this worker cannot hear of messages of other workers/, $said);
};

# start_with_proc(command, name => value ...): two workers that see what the command mounts.
sub start_with_proc {
    my ($mount, %opt) = @_;

    my @unshared = ('unshare', '-m', '--propagation', 'private', 'sh', '-c');
    plan skip_all => 'needs root' if $> != 0 || instrumented();
    plan skip_all => 'no such /proc can be mounted' if system("@unshared '$mount' 2>/dev/null") != 0;
    return Ws::Nginx->start(
        workers => 2, through => [@unshared, qq($mount && exec "\$@"), 'sh'], http => 'websocket_channel_zone 4m;', %opt, server => <<'EOS');
    location = /status { websocket_status; }
    location = /cat    { websocket_exec /bin/cat; websocket_exec_max 1; websocket_exec_stop 50ms 50ms; }
    location = /pubsub { websocket_channel a mode=pubsub; }
EOS
}

case 'a root without /proc' => sub {
    my $ngx = start_with_proc('mount -t tmpfs none /proc');
    my @clients = map { Ws::Client->open($ngx->port, '/pubsub') } 1 .. 8;
    $clients[0]->send(text('hello'));
    is($_->text, 'hello') for @clients;
    my $cat = Ws::Client->open($ngx->port, '/cat');
    is(Ws::Client->connect(port => $ngx->port)->handshake('/cat')->{status}, 503);
    is(of(status($ngx), '/cat')->{programs}{running} // of(status($ngx), '/cat')->{running}, 1);
    is(status($ngx)->{workers}, 2);
    # A worker that was killed has nothing any more, though nobody can say when processes began.
    kill 'KILL', $_ for children($ngx->master);
    await('the limit to be free', sub {
        my $client = eval { Ws::Client->connect(port => $ngx->port) } or return 0;
        return eval { $client->handshake('/cat')->{status} == 101 };
    });
    $ngx->{noise} = [qr/exited on signal 9/];
    $ngx->stop;
};

# With "hidepid", as by ProtectProc= of systemd, a worker that hides its memory from the programs that it starts is shown to nobody but
# root.
case 'a /proc that hides processes from each other' => sub {
    my $ngx = start_with_proc('mount -t proc -o hidepid=2 none /proc', user => 'daemon');
    my @clients = map { Ws::Client->open($ngx->port, '/pubsub') } 1 .. 16;
    for my $nth (1 .. 4) {
        $clients[0]->send(text("hello $nth"));
        is($_->text, "hello $nth") for @clients;
        # Each worker looks once a second whether another one is there.
        sleep 1.2;
    }
    is(status($ngx)->{workers}, 2);
    $ngx->stop;
};

done_testing();
