#!/usr/bin/perl
# run.pl [seconds [seed [engine]]]: two nodes and a third that comes and goes, an engine, publishers and subscribers at all of them; whatever
# can be killed, stopped, cut off or made to forget is, for so long. Afterwards each message is looked at: whether what was promised of it was
# kept (docs/scaling.md). Ends with 0 if it was. The engine is one Redis ("single"), a master with replicas and Sentinels ("sentinel", and
# "replicas" where publishers wait for one of these) or a cluster ("cluster").

use strict;
use warnings;

use FindBin ();
use lib "$FindBin::Bin/lib", "$FindBin::Bin/../../t/lib";
use Chaos::Engine::Cluster;
use Chaos::Engine::Sentinel;
use Chaos::Engine::Single;
use Chaos::Model;
use Chaos::Publisher;
use Chaos::Subscriber;
use File::Temp qw(tempdir);
use POSIX ();
use Time::HiRes qw(time sleep);
use Ws::Http;
use Ws::Nginx;
use Ws::Process qw(descendants children);

my ($seconds, $seed, $kind) = @ARGV;
$seconds ||= 600;
$kind ||= 'single';
my $class = { single => 'Single', sentinel => 'Sentinel', replicas => 'Sentinel', cluster => 'Cluster' }->{$kind}
    or die "there is no engine called $kind\n";
$seed = time ^ $$ if !length($seed // '');
$seed = int $seed;
srand $seed;
$| = 1;
$SIG{INT} = $SIG{TERM} = sub { exit 130 };

my @CHANNELS = qw(a b c);
my $directory = tempdir('ws-chaos-XXXXXXXX', TMPDIR => 1, CLEANUP => !$ENV{KEEP});
my $engine = "Chaos::Engine::$class"->start(later => \&later, stop => \&stop, ended => \&ended, channels => \@CHANNELS);
my $replicas = $kind eq 'replicas' ? 'websocket_channel_redis_replicas 1;' : '';
my (%faults, @heal, @nodes);
for my $nth (0 .. 2) {
    my $url = $engine->url($nth);
    push @nodes, Ws::Nginx->new(
        workers => 2,
        level   => 'notice',
        http    => <<"HTTP",
    websocket_channel_zone 4m;
    websocket_channel_history length=300 time=1h;
    websocket_channel_redis $url;
    $replicas
    websocket_channel_redis_timeout 1s;
    websocket_channel_redis_connect_timeout 1s;
    keepalive_requests 100000;
HTTP
        server => <<'SERVER');
    location = /pub { websocket_channel $arg_id mode=pub; client_body_buffer_size 64k; }
    location = /sub { websocket_channel $arg_id; websocket_channel_transports websocket eventsource longpoll; websocket_channel_lag skip; }
SERVER
}
$_->start for @nodes;
my @ports = map { $_->port } @nodes;
sub answers { my ($port) = @_; return eval { request($port, 'POST', '/pub?id=ready', body => 'x')->{status} } // 0 }
for my $port (@ports) {
    Ws::Nginx::await('the engine', sub { answers($port) =~ /^20[12]$/ }, 60);
}

my (@publishers, @subscribers);
my $number = 0;
for my $channel (@CHANNELS) {
    for my $transport (qw(websocket websocket eventsource longpoll)) {
        $number++;
        my $file = "$directory/subscriber-$number";
        my $pid = Chaos::Subscriber->start(
            number => $number, seed => $seed * 100 + $number, ports => \@ports, channel => $channel, transport => $transport, file => $file);
        push @subscribers, { pid => $pid, file => $file, channel => $channel, name => "$transport $number of $channel" };
    }
}
for my $nth (1 .. 3) {
    my $file = "$directory/publisher-$nth";
    my $pid = Chaos::Publisher->start(
        number => $nth, seed => $seed * 100 + 50 + $nth, ports => \@ports, channels => \@CHANNELS, file => $file);
    push @publishers, { pid => $pid, file => $file };
}

sub any { return $_[rand @_] }

# later(seconds, code): done when it is time.
sub later {
    my ($seconds, $code) = @_;

    @heal = sort { $a->[0] <=> $b->[0] } @heal, [time + $seconds, $code];
    return;
}

sub heal {
    while (@heal && $heal[0][0] <= time) {
        (shift @heal)->[1]->();
    }
    return;
}

# stop(pids, seconds): they do nothing for so long.
sub stop {
    my ($seconds, @pids) = @_;

    kill 'STOP', @pids;
    later($seconds, sub { kill 'CONT', @pids });
    return;
}

# ended(pid): waits for it; what was stopped goes on meanwhile, or some would wait for ever.
sub ended {
    my ($pid) = @_;

    my $deadline = time + 20;
    while (waitpid($pid, POSIX::WNOHANG()) == 0) {
        heal();
        if (time > $deadline) {
            warn "process $pid had to be killed\n";
            kill 'KILL', descendants($pid), $pid;
        }
        sleep 0.02;
    }
    return;
}

sub running { return grep { $_->{master} } @nodes }

sub kill_node {
    my ($node) = @_;

    my @processes = ($node->master, descendants($node->master));
    kill 'STOP', @processes;
    kill 'KILL', @processes;
    kill 'CONT', @processes;
    ended(delete $node->{master});
    return;
}

sub start_node {
    my ($node) = @_;

    # A worker that was killed may not have given the port back yet.
    for (1 .. 100) {
        return if $node->{master} || $node->launch;
        heal();
        sleep 0.1;
    }
    die "a node does not start\n";
}

# Name, how often, and what is done.
my @FAULTS = (
    ['worker killed', 6, sub { my $node = any(running()); kill 'KILL', any($node->workers) if $node && $node->workers }],
    ['worker stopped', 3, sub { my $node = any(running()); stop(rand 3, any($node->workers)) if $node && $node->workers }],
    ['node killed', 2, sub {
        return 0 if running() < 3;
        my $node = any(@nodes[0, 1]);
        kill_node($node);
        later(rand 2, sub { start_node($node) });
    }],
    ['node stopped', 2, sub { my $node = any(running()) or return 0; stop(rand 3, $node->master, descendants($node->master)) }],
    ['node leaves', 2, sub {
        my $node = $nodes[2];
        return 0 if !$node->{master};
        my $master = delete $node->{master};
        kill any('QUIT', 'TERM'), $master;
        later(1 + rand 3, sub {
            kill 'TERM', $master;
            ended($master);
            start_node($node);
        });
    }],
    ['reload', 3, sub { my $node = any(running()) or return 0; kill 'HUP', $node->master }],
    $engine->faults,
);

my @weighted = map { my $fault = $_; ($fault) x $fault->[1] } @FAULTS;
my $end = time + $seconds;
print "seed $seed, $seconds s, $kind\n";
my $shown = time;
while (time < $end) {
    my $pause = time + rand(rand() < 0.2 ? 3 : 0.8);
    while (time < $pause) {
        heal();
        sleep 0.02;
    }
    my $fault = any(@weighted);
    my $done = eval { $fault->[2]->() };
    warn "$fault->[0]: $@" if $@;
    $faults{$fault->[0]}++ if !$@ && !(defined $done && $done eq '0');
    if (time - $shown > 30) {
        $shown = time;
        printf "%4d s left, %d faults\n", $end - $shown, eval { my $sum = 0; $sum += $_ for values %faults; $sum };
    }
}

# Everything is as it should be again, and each channel gets a last message.
while (@heal) {
    heal();
    sleep 0.05;
}
$engine->settle;
kill 'TERM', map { $_->{pid} } @publishers;
waitpid $_->{pid}, 0 for @publishers;
my %sent = map { $_ => 0 } @CHANNELS;
my @problems;
my $healed = time;
for my $port (@ports) {
    eval { Ws::Nginx::await('a publication', sub { answers($port) =~ /^20[12]$/ }, 30); 1 } or push @problems, "the node at $port serves no publisher again";
}
my $recovered = time - $healed;
my %left = map { $_->{pid} => $_ } @subscribers;
my $deadline = time + 60;
my $nth = 0;
while (%left && time < $deadline) {
    # One that was acknowledged by an engine which then loses it would never come; there are no faults any more, but some are noticed late.
    if (time - ($sent{time} // 0) > 5) {
        $sent{time} = time;
        $nth++;
        eval { request(any(@ports), 'POST', "/pub?id=$_", body => "end-$nth-$_") } for @CHANNELS;
    }
    for my $pid (keys %left) {
        delete $left{$pid} if waitpid($pid, POSIX::WNOHANG()) == $pid;
    }
    sleep 0.05;
}
push @problems, map { "loss: the last message never came to $_->{name}" } values %left;
kill 'TERM', keys %left;
waitpid $_, 0 for keys %left;

my $model = Chaos::Model->new;
$model->published($_->{file}) for @publishers;
$model->received($_->{file}, $_->{name}, $_->{channel}) for @subscribers;
push @problems, $model->problems;
for my $node (@nodes) {
    push @problems, map { "log: $_" } grep {
        /\[(?:alert|crit|emerg)\]|panicked/
            && !/exited on signal 9|shared memory zone "ws_exec_\w+" was locked by|Address already in use|still could not bind/
    } split /\n/, $node->log;
}

my $counts = $model->counts;
print "\nseed           $seed, $kind\n";
printf "messages       %d acknowledged, %d refused, %d of unknown unanswered\n", @$counts{qw(taken refused unknown)};
printf "deliveries     %d\n", $counts->{deliveries};
printf "faults         %s\n", join ', ', map { "$_ $faults{$_}" } sort keys %faults;
printf "gaps told      %d\n", $counts->{gaps};
printf "longest wait   %.1f s of a publisher, %.1f s until all nodes published again\n", $counts->{longest}, $recovered;
printf "unexplained losses  %d\n", scalar grep { /^loss/ } @problems;
printf "repeats             %d\n", scalar grep { /^repeat/ } @problems;
if (@problems) {
    print "\n", map { "$_\n" } @problems[0 .. ($#problems > 29 ? 29 : $#problems)];
    print @problems - 30, " more\n" if @problems > 30;
    print "what was seen is in $directory\n" if $ENV{KEEP};
}
for my $node (running()) {
    kill 'TERM', $node->master;
    waitpid delete $node->{master}, 0;
}
$engine->kill;
exit(@problems ? 1 : 0);

END {
    # Whoever is left was started here.
    my $status = $?;
    kill 'KILL', descendants($$);
    $? = $status;
}
