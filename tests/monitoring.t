# conf/monitoring: what a Prometheus that scrapes a real nginx knows, asked by every query of the dashboard and of the alerts. Run by
# make test-monitoring, from the root of the repository.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Cwd qw(abs_path);
use IO::Socket::INET;
use JSON::PP;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http qw(publish request);
use Ws::Process;
use Ws::Redis;

my $tools = abs_path('target/prometheus/usr/bin');
my $folder = abs_path('conf/monitoring');

sub slurp {
    my ($file) = @_;

    open my $in, '<', $file or die "$file: $!\n";
    local $/;
    return scalar <$in>;
}

sub promtool {
    my (@arguments) = @_;

    open my $out, '-|', 'sh', '-c', 'exec "$0" "$@" 2>&1', "$tools/promtool", @arguments or die "promtool: $!\n";
    my $text = do { local $/; <$out> } // '';
    close $out;
    return ($? >> 8, $text);
}

my $dashboard = decode_json(slurp("$folder/dashboard.json"));
my @queries = map { my $panel = $_; map { [$panel->{title}, $_->{expr}] } @{$panel->{targets}} } @{$dashboard->{panels}};

case 'rules and configuration' => sub {
    for my $check (['check', 'rules', "$folder/alerts.yml"], ['test', 'rules', "$folder/alerts.test.yml"],
        ['check', 'config', "$folder/prometheus.yml"]) {
        my ($status, $said) = promtool(@$check);
        is($status, 0, "promtool @$check[0, 1]") or diag($said);
    }
};

# What Grafana's types (tests/dashboard) do not ask of a dashboard.
case 'the dashboard has the form of one' => sub {
    for my $field (qw(uid title schemaVersion version panels templating time refresh annotations)) {
        ok(exists $dashboard->{$field}, $field);
    }
    my (%ids, %places);
    for my $panel (@{$dashboard->{panels}}) {
        my $name = $panel->{title};
        is(ref $panel->{targets}, 'ARRAY', "$name: targets");
        ok(!$ids{$panel->{id}}++, "$name: an id of its own");
        like($panel->{type}, qr/^(?:stat|timeseries)$/, "$name: type");
        my ($x, $y, $w, $h) = @{$panel->{gridPos}}{qw(x y w h)};
        ok($x >= 0 && $x + $w <= 24 && $h > 0, "$name: inside of the grid");
        for my $column ($x .. $x + $w - 1) {
            ok(!$places{"$column,$_"}++, "$name: nothing else is there") || last for $y .. $y + $h - 1;
        }
        my %refs;
        ok(!$refs{$_->{refId}}++, "$name: refId") for @{$panel->{targets}};
        # Series of several machines are told apart by their names, unless they are added up.
        for my $target (@{$panel->{targets}}) {
            next if $target->{expr} =~ /\b(?:sum|min|max|histogram_quantile)\b/;
            like($target->{legendFormat}, qr/\{\{instance\}\}/, "$name: which instance");
        }
        is_deeply($_->{datasource}, { type => 'prometheus', uid => '${datasource}' }, "$name: datasource") for $panel, @{$panel->{targets}};
    }
    my %variables = map { $_->{name} => $_ } @{$dashboard->{templating}{list}};
    my %used = map { $_ => 1 } map { $_->[1] =~ /\$(\w+)/g } @queries;
    delete $used{__rate_interval};
    is(join(' ', grep { !$variables{$_} } sort keys %used), '', 'each variable is there');
};

my $redis = Ws::Redis->start;
my $ngx = Ws::Nginx->start(workers => 2, server => <<"EOS");
    location = /metrics { websocket_status prometheus; access_log off; }
    location = /cat     { websocket_exec /bin/cat; }
    location = /false   { websocket_exec /bin/false; }
    location = /missing { websocket_exec /nonexistent; }
    location = /full    { websocket_exec /bin/cat; websocket_exec_max 1; }
    location = /closed  { websocket_exec /bin/cat; deny all; }
    location = /news    { websocket_channel news mode=pubsub; }
    location = /tcp     { websocket_tcp 127.0.0.1:1; }
    location = /far     { websocket_channel far mode=pubsub; websocket_channel_redis @{[$redis->url]}; }
EOS

my $port = Ws::Nginx::free_port();
my $config = slurp("$folder/prometheus.yml");
my $target = '127.0.0.1:' . $ngx->port;
$config =~ s/127\.0\.0\.1:8080/$target/;
$config =~ s/scrape_interval: 15s/scrape_interval: 1s\n  evaluation_interval: 1s/;
$config =~ s{alerts\.yml}{$folder/alerts.yml};
my $file = $ngx->file('prometheus.yml', $config);

defined(my $prometheus = fork) or die "fork: $!\n";
if (!$prometheus) {
    open STDOUT, '>', $ngx->prefix . '/prometheus.log';
    open STDERR, '>&', \*STDOUT;
    exec "$tools/prometheus", "--config.file=$file", '--storage.tsdb.path=' . $ngx->prefix . '/data',
        "--web.listen-address=127.0.0.1:$port" or POSIX::_exit(127);
}
END { local $?; if ($prometheus) { kill 'KILL', $prometheus; waitpid $prometheus, 0 } }

# query(text): the samples, as { labels, value }.
sub query {
    my ($text) = @_;

    my ($status, $said) = promtool('query', 'instant', '--format=json', '--', "http://127.0.0.1:$port", $text);
    die "$text: $said" if $status != 0;
    my $samples = decode_json($said);
    return ref $samples eq 'ARRAY' ? @$samples : @{$samples->{result} // []};
}

sub work {
    my @clients = map { Ws::Client->open($ngx->port, $_) } '/cat', '/news', '/full';
    for my $client (@clients) {
        $client->send(text('hello'));
        $client->text if $client != $clients[0];
    }
    my $again = sub { Ws::Client->connect(port => $ngx->port)->handshake($_[0], headers => $_[1] // [])->{status} };
    is($again->('/full'), 503, 'a limit');
    is($again->('/missing'), 500, 'a program that is not there');
    is($again->('/closed'), 403, 'a rule for access');
    is($again->('/cat', [Origin => 'http://evil.example']), 403, 'an origin');
    is($again->('/tcp'), 502, 'a service that is not there');
    is(Ws::Client->open($ngx->port, '/false')->server_close, 'close 1011 exit 1', 'a program that fails');
    publish($ngx->port, $_, 'hello') for '/news', '/far';
    $_->close(1000) for @clients[1, 2];
    $clients[0]->abandon;
}

case 'every query has an answer' => sub {
    await('Prometheus to have looked twice', sub {
        return if !IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port);
        my @up = eval { query('count_over_time(up[1m]) > 1') };
        return scalar @up;
    }, 60);
    my $kept = Ws::Client->open($ngx->port, '/news');
    my $far = Ws::Client->open($ngx->port, '/far');
    work() for 1 .. 3;
    my $scraped = sub { my ($sample) = eval { query($_[0]) }; $sample };
    await('Prometheus to have seen it', sub { $scraped->('nginx_websocket_refused_total{status="502"} >= 3') }, 60);
    work();
    await('Prometheus to have seen more', sub { $scraped->('nginx_websocket_refused_total{status="502"} >= 4') }, 60);
    for my $query (@queries) {
        my ($title, $text) = @$query;
        $text =~ s/\$__rate_interval/1m/g;
        $text =~ s/\$(?:job|endpoint|location)\b/.*/g;
        my @samples = eval { query($text) };
        is($@, '', "$title: Prometheus takes it") or next;
        ok(@samples > 0, "$title: has an answer") or diag($text);
        for my $metric ($text =~ /(nginx_websocket_\w+)/g) {
            ok($scraped->("count($metric)"), "$metric is scraped");
        }
    }
    for my $alert (slurp("$folder/alerts.yml") =~ /(nginx_websocket_\w+)/g) {
        ok($scraped->("count($alert)"), "$alert is scraped");
    }
    $_->abandon for $kept, $far;
};

kill 'TERM', $prometheus;
waitpid $prometheus, 0;
undef $prometheus;
undef $redis;
$ngx->stop;

done_testing();
