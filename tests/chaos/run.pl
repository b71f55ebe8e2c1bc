#!/usr/bin/perl
# run.pl [seconds [seed [engine]]]: nodes, clients of everything that the module serves, and faults, for so long. Afterwards each message and each session is
# looked at, whether what was promised of it was kept (docs/scaling.md), and the nodes, whether anything was left. Ends with 0 if all that is so. The
# engine is none ("none": the channels are those of each node), one Redis ("single"), a master with replicas and Sentinels ("sentinel", and "replicas"
# where publishers wait for one of these) or a cluster ("cluster").

use strict;
use warnings;

use FindBin ();
use lib "$FindBin::Bin/lib", "$FindBin::Bin/../../t/lib";
use Chaos::Checks;
use Chaos::Clients;
use Chaos::Clock;
use Chaos::Endpoints;
use Chaos::Engine::Cluster;
use Chaos::Engine::Sentinel;
use Chaos::Engine::Single;
use Chaos::Faults;
use Chaos::Model;
use Chaos::Node;
use Chaos::Publisher;
use Chaos::Report;
use Chaos::Schedule;
use Chaos::Service;
use Chaos::Starved;
use File::Temp qw(tempdir);
use POSIX ();
use Time::HiRes qw(time sleep);
use Ws::Http;
use Ws::Nginx;
use Ws::Process qw(descendants);

my ($seconds, $seed, $kind) = @ARGV;
$seconds ||= 600;
$kind ||= 'single';
my %CLASS = (none => undef, single => 'Single', sentinel => 'Sentinel', replicas => 'Sentinel', cluster => 'Cluster');
die "there is no engine called $kind\n" if !exists $CLASS{$kind};
Chaos::Starved::mounts(@ARGV);
$seed = time ^ $$ if !length($seed // '');
$seed = int $seed;
srand $seed;
$| = 1;
$SIG{INT} = $SIG{TERM} = sub { exit 130 };

my @problems;
my $directory = tempdir('ws-chaos-XXXXXXXX', TMPDIR => 1, CLEANUP => !$ENV{KEEP});
my $schedule = Chaos::Schedule->new;
my ($engine, $starved);
if ($CLASS{$kind}) {
    $engine = "Chaos::Engine::$CLASS{$kind}"->start(
        later => sub { $schedule->later(@_) }, stop => sub { $schedule->stop(@_) }, ended => sub { $schedule->await(@_) },
        channels => \@Chaos::Endpoints::CHANNELS);
}

my $service = Chaos::Service->start("$directory/service");
my $clock = Chaos::Clock::build($directory);
# How the nodes differ: what becomes of clients when a worker is told to go.
my @NODES = (
    { name => 'stays' },
    { name => 'drains', drains => 1, http => 'websocket_drain 1s;' },
    { name => 'cuts', cuts => 1, main => 'worker_shutdown_timeout 1s;' },
);
my @nodes;
for my $nth (0 .. $#NODES) {
    my %options = %{$NODES[$nth]};
    my $http = 'websocket_channel_zone ' . ($nth ? '8m' : '2m') . ';' . ($options{http} // '');
    if ($engine) {
        my $url = $engine->url($nth);
        $http .= "websocket_channel_redis $url; websocket_channel_redis_timeout 1s; websocket_channel_redis_connect_timeout 1s;";
        $http .= 'websocket_channel_redis_replicas 1;' if $kind eq 'replicas';
    }
    push @nodes, Chaos::Node->new(%options, clock => $clock, http => Chaos::Endpoints::http("access_log off; $http"), 
        server => Chaos::Endpoints::server($engine ? '' : Chaos::Endpoints::SHARED, $service));
    Chaos::Endpoints::prepare($nodes[-1]);
}
$starved = Chaos::Starved->new($service, $clock);
push @nodes, $starved->node;
$_->start for @nodes;
my @ports = map { $_->port } @nodes;
$Chaos::Checks::KNOWN{$_} = 1 for @ports, $service->port, $service->hooks;
my @alike = @ports[0 .. $#NODES];
my @channels = @Chaos::Endpoints::CHANNELS;
sub answers { my ($port) = @_; return eval { request($port, 'POST', '/pub?id=ready', body => 'x')->{status} } // 0 }
for my $node (@nodes) {
    Ws::Nginx::await('a publication', sub { answers($node->port) =~ /^20[12]$/ }, 60);
    request($node->port, 'DELETE', '/pub?id=ready');
    $node->{unused} = Chaos::Checks::status($node)->{channels}{zone}{used} if !$engine || $node->{starves};
}
# The channels of the last one are always its own.
my @scopes = (($engine ? ['', \@alike] : map { ["$_/", [$_]] } @alike), ["starved/", [$ports[-1]]]);

# What the clients are, in the order in which they are told to go.
my (@publishers, @subscribers, @others);
my $number = 0;
sub clients {
    my ($list, $name, $make) = @_;

    $number++;
    my $file = "$directory/$name-$number";
    push @$list, { name => $name, file => $file, pid => Chaos::Clients->start(seed => $seed * 100 + $number, file => $file, make => $make) };
    return;
}
clients(\@others, 'programs', sub { Chaos::Endpoints::programs({@_}, [@ports, ($ports[-1]) x 3], 1) });
clients(\@subscribers, 'subscribers', sub { Chaos::Endpoints::subscribers({@_}, \@scopes, $engine ? 2 : 1) });
clients(\@subscribers, 'subscribers of too little', sub { Chaos::Endpoints::subscribers({@_}, [$scopes[-1]], 1) });
clients(\@others, 'shared', sub { Chaos::Endpoints::shared({@_}, $engine ? [$scopes[-1]] : \@scopes, 1) });
clients(\@others, 'services', sub { Chaos::Endpoints::services({@_}, \@ports) });
clients(\@subscribers, 'those that are asked about', sub { Chaos::Endpoints::asked({@_}, \@scopes, 1) });
for my $scope (@scopes) {
    for (1 .. ($engine ? 2 : 1)) {
        $number++;
        my $file = "$directory/publisher-$number";
        push @publishers, { file => $file, pid => Chaos::Publisher->start(
            number => $number, seed => $seed * 100 + $number, ports => $scope->[1], scope => $scope->[0], channels => \@channels, file => $file,
            path => $number % 3 ? '/pub' : '/ask', refusals => $scope->[0] eq 'starved/' ? qr/^50[0237]$/ : qr/^50[23]$/,
            pause => 0.004) };
    }
}

my $faults = Chaos::Faults->new(nodes => \@nodes, schedule => $schedule, problem => sub { push @problems, "fault: $_[0]" });
print "seed $seed, $seconds s, $kind\n";
my $begun = time;
sub stage { printf "%4d s: %s\n", time - $begun, $_[0]; return }
# The last workers live long enough for what they would leak to be seen.
my @gentle = ($faults->of_helpers, $faults->of_clocks, $faults->of_service($service), $starved->faults($schedule), $engine ? $engine->faults : ());
$faults->run($begun + $seconds * 0.9, 0.2, $faults->of_workers, $faults->of_masters, @gentle);
$faults->run($begun + $seconds, 1, @gentle);

stage('no more faults');
# Everything is as it should be again, and each channel gets a last message.
$schedule->run(0.1) until $schedule->is_empty;
$_->{clock}->set(0) for grep { $_->{clock} } @nodes;
$starved->allow_processes if Chaos::Limits::is_there();
$starved->feed;
$engine->settle if $engine;
stage('healed');
sub ended {
    my ($name, $seconds, @processes) = @_;

    my $deadline = time + $seconds;
    while (my @left = grep { !defined $schedule->status($_->{pid}) } @processes) {
        $schedule->run(0.05);
        next if time < $deadline;
        kill 'KILL', map { $_->{pid} } @left;
        push @problems, "hang: $name do not end";
        $deadline += 1000;
    }
    push @problems, map { "client: $name $_->{pid} ended with " . $schedule->status($_->{pid}) } grep { $schedule->status($_->{pid}) } @processes;
    return;
}
kill 'TERM', map { $_->{pid} } @publishers, @others;
ended('publishers', 60, @publishers);
stage('publishers have gone');
my $healed = time;
for my $port (@ports) {
    eval { Ws::Nginx::await('a publication', sub { answers($port) =~ /^20[12]$/ }, 30); 1 } or push @problems, "the node at $port serves no publisher again";
}
my $recovered = time - $healed;
my ($deadline, $nth, $sent) = (time + 120, 0, 0);
while (time < $deadline && grep { !defined $schedule->status($_->{pid}) } @subscribers) {
    # One that was acknowledged by an engine which then loses it would never come; there are no faults any more, but some are noticed late.
    if (time - $sent > 5) {
        ($sent, $nth) = (time, $nth + 1);
        for my $scope (@scopes) {
            eval { request(Chaos::Faults::any(@{$scope->[1]}), 'POST', "/pub?id=$_", body => "$_.end.$nth.$scope->[0]") } for @channels;
        }
    }
    $schedule->run(0.05);
}
kill 'TERM', map { $_->{pid} } grep { !defined $schedule->status($_->{pid}) } @subscribers;
stage('subscribers have all');
ended('clients', 90, @others);
ended('subscribers', 90, @subscribers);

stage('all clients have gone');
push @problems, map { "recovery: $_" } map { Chaos::Checks::without_programs($_) } @nodes;
my %left;
push @{$left{sessions}}, Chaos::Checks::sessions($_) for @nodes;
push @{$left{orphans}}, Chaos::Checks::orphans(@nodes);
stage('all sessions have gone');
my %old = map { $_->{name} => Chaos::Checks::most($_->workers) } @nodes;
my %pooled = map { $_->{name} => Chaos::Checks::pooled($_) } @nodes;
my %old_master = map { $_->{name} => Chaos::Checks::most($_->{master}) } @nodes;
$_->reload for @nodes;
# Fresh workers have to have served what the others did.
my @warming;
clients(\@warming, 'programs again', sub { Chaos::Endpoints::programs({@_}, \@ports, 1) });
clients(\@warming, 'services again', sub { Chaos::Endpoints::services({@_}, \@ports) });
clients(\@warming, 'those that are asked about again', sub { Chaos::Endpoints::asked({@_, warms => 1}, \@scopes, 1) });
clients(\@warming, 'shared again', sub { Chaos::Endpoints::shared({@_}, $engine ? [$scopes[-1]] : \@scopes, 1) });
clients(\@warming, 'subscribers again', sub { Chaos::Endpoints::subscribers({@_, warms => 1}, \@scopes, 1) });
$schedule->run(4);
kill 'TERM', map { $_->{pid} } @warming;
ended('clients', 90, @warming);
for my $node (@nodes) {
    push @problems, map { "node $node->{name}: $_" } Chaos::Checks::fill_pools($node, $pooled{$node->{name}});
    push @{$left{sessions}}, Chaos::Checks::sessions($node);
    push @{$left{descriptors}}, Chaos::Checks::more("worker of $node->{name}", $old{$node->{name}}, Chaos::Checks::most($node->workers));
    push @{$left{descriptors}}, Chaos::Checks::more("master of $node->{name}", Chaos::Checks::most($node->{master}), $old_master{$node->{name}});
    push @{$left{zone}}, Chaos::Checks::of_zone($node, @channels, @Chaos::Endpoints::SHARED, 'ready');
    push @{$left{alerts}}, map { "node $node->{name}: $_" } Chaos::Checks::of_log($node);
}

stage('fresh workers have served');
my $model = Chaos::Model->new($engine ? 1 : 0, @nodes);
$service->end;
$schedule->await($service->pid);
$model->served("$directory/service");
$model->published($_->{file}) for @publishers;
$model->received($_->{file}, $_->{name}) for @subscribers, @others, @warming;
push @problems, $model->problems;
my $failed = Chaos::Report::show(
    head => "seed $seed, $kind, $seconds s", model => $model, faults => $faults->counts, left => \%left, problems => \@problems, recovered => $recovered);
if ($failed && $ENV{KEEP}) {
    for my $node (@nodes) {
        open my $log, '>', "$directory/error.log.$node->{name}" or die "$directory: $!\n";
        print $log $node->log;
    }
    print "what was seen is in $directory\n";
}
for my $node (grep { $_->{master} } @nodes) {
    kill 'TERM', $node->master;
    $schedule->await(delete $node->{master});
}
$engine->kill if $engine;
exit $failed;

END {
    # Whoever is left was started here.
    my $status = $?;
    kill 'KILL', descendants($$);
    $starved->unmount if $starved;
    $? = $status;
}
