# The lock of the channels' zone when its holder is killed: where nobody is left who would wake those that wait, and where the master is gone, which gives back
# what a dead worker holds.

use strict;
use warnings;

use lib 't/lib', 'tests/chaos/lib';
use Chaos::Tracer;
use POSIX ();
use Test::More;
use Ws::Client;
use Ws::Http;
use Ws::Nginx;
use Ws::Process qw(state);

plan skip_all => 'what is traced here is the tool that watches nginx' if instrumented();
plan skip_all => 'no process can be traced on this machine' if !Chaos::Tracer::is_there();
# waits_for(pid): the function of the kernel in which it sleeps; undef where that is not told.
sub waits_for {
    my ($pid) = @_;

    open my $in, '<', "/proc/$pid/wchan" or return;
    return <$in>;
}

# is_told(): whether this machine says it.
sub is_told {
    my $sleeper = fork // die "fork: $!\n";
    if (!$sleeper) {
        sleep 60;
        POSIX::_exit(0);
    }
    await('it to sleep', sub { state($sleeper) eq 'S' });
    my $where = waits_for($sleeper) || '0';
    kill 'KILL', $sleeper;
    waitpid $sleeper, 0;
    return $where ne '0';
}
plan skip_all => 'this machine does not say what a process waits for' if !is_told();

# kill_holder(nginx, code): kills a worker that has the lock while the other one, which is asked to publish, waits for it: where code->(the two words of the lock)
# holds. Returns the status that the publisher gets.
sub kill_holder {
    my ($ngx, $until) = @_;

    my ($worker, $other) = $ngx->workers;
    my $publisher;
    my $how = Chaos::Tracer->kill_at_instruction($worker, pause => 0, in_lock => 1, steps => 100_000, until => $until, held => sub {
        # The worker that holds the lock takes no connection now.
        $publisher = Ws::Client->connect(port => $ngx->port, timeout => 30);
        $publisher->send(request_text('POST', '/pub', body => 'x'));
        await('the other worker to wait', sub { state($other) eq 'S' && waits_for($other) !~ /^(?:0|ep_poll|do_epoll_wait)?$/ });
    });
    plan skip_all => 'this user may trace no process' if !$publisher;
    ok($how, 'the worker was killed');
    return $publisher->response->{status};
}

sub start {
    return Ws::Nginx->start(
        workers => 2,
        noise   => [qr/worker process \d+ exited on signal 9/, qr/shared memory zone "ws_exec_channels" was locked by/],
        http    => 'websocket_channel_zone 1m;',
        server  => 'location = /pub { websocket_channel c mode=pub; }');
}

case 'given back, and nobody woken' => sub {
    my $ngx = start();
    # Of those that wait in nginx's own way, one is taken off the list before it is woken.
    is(kill_holder($ngx, sub { my ($holder, $waiting) = @_; return !$holder && !$waiting }), 202, 'the other worker goes on');
    await('another worker', sub { $ngx->workers == 2 });
    is(request($ngx->port, 'POST', '/pub', body => 'x')->{status}, 202);
};

case 'held, and the master is gone' => sub {
    my $ngx = start();
    my @workers = $ngx->workers;
    kill 'KILL', $ngx->master;
    await('the master to be gone', sub { state($ngx->master) =~ /^Z?$/ });
    no warnings 'redefine';
    local *Ws::Nginx::workers = sub { @workers };
    is(kill_holder($ngx, sub { 1 }), 202, 'the other worker goes on');
    kill 'TERM', @workers;
};

done_testing();
