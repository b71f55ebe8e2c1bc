# TLS to an engine: certificates of both sides, names and addresses, and what nginx -t says.

use strict;
use warnings;

use lib 't/lib';
use File::Temp qw(tempdir);
use IO::Socket::SSL::Utils;
use Test::More;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Nginx;
use Ws::Redis;
use Ws::Redis::Sentinels;

my $directory = tempdir('ws-redis-tls-XXXXXXXX', TMPDIR => 1, CLEANUP => 1);

# file(name, text): a file that workers may read.
sub file {
    my ($name, $text) = @_;

    open my $out, '>', "$directory/$name" or die "$directory/$name: $!\n";
    print $out $text;
    close $out or die "$directory/$name: $!\n";
    chmod 0755, $directory;
    return "$directory/$name";
}

# certificate(name, option => value ...): a certificate and its key, in files.
sub certificate {
    my ($name, %options) = @_;

    my ($cert, $key) = CERT_create(subject => { commonName => $name }, key => KEY_create_ec('prime256v1'), %options);
    return (file("$name.pem", PEM_cert2string($cert)), file("$name.key", PEM_key2string($key)), $cert, $key);
}

my ($ca_file, undef, $ca, $ca_key) = certificate('authority', CA => 1);
my ($other_ca_file) = certificate('somebody', CA => 1);
my @issuer = (issuer_cert => $ca, issuer_key => $ca_key);
my ($cert, $key) = certificate('engine', @issuer, subjectAltNames => [['DNS', 'engine.test'], ['IP', '127.0.0.1']]);
my ($nowhere_cert, $nowhere_key) = certificate('elsewhere', @issuer, subjectAltNames => [['DNS', 'engine.test'], ['IP', '127.0.0.2']]);
my ($client_cert, $client_key) = certificate('client', @issuer, purpose => 'client');
my ($stranger_cert, $stranger_key) = certificate('stranger');

my %tls = ('tls-cert-file' => $cert, 'tls-key-file' => $key, 'tls-ca-cert-file' => $ca_file);
my $open = Ws::Redis->start(%tls, 'tls-auth-clients' => 'no');
my $strict = Ws::Redis->start(%tls, 'tls-auth-clients' => 'yes');
my $elsewhere = Ws::Redis->start(%tls, 'tls-cert-file' => $nowhere_cert, 'tls-key-file' => $nowhere_key, 'tls-auth-clients' => 'no');

# Sentinels and clusters tell of servers by the addresses at which these talk TLS.
my $sentinel = bless { directory => $directory, port => Ws::Nginx::free_port(), tls_port => Ws::Nginx::free_port() }, 'Ws::Redis::Sentinels::One';
$sentinel->{file} = file('sentinel.conf', join '', map { "$_\n" } (
    "port $sentinel->{port}", "tls-port $sentinel->{tls_port}", 'bind 127.0.0.1', 'tls-replication yes', 'tls-auth-clients no',
    "tls-cert-file $cert", "tls-key-file $key", "tls-ca-cert-file $ca_file",
    "sentinel monitor $Ws::Redis::Sentinels::NAME 127.0.0.1 " . $open->tls_port . ' 1'
));
$sentinel->launch;
my $cluster = Ws::Redis->start(
    %tls, 'tls-auth-clients' => 'no', 'tls-cluster' => 'yes', 'cluster-enabled' => 'yes', 'cluster-port' => Ws::Nginx::free_port(),
);
$cluster->command('CLUSTER', 'ADDSLOTSRANGE', 0, 16383);
await('the cluster', sub { $cluster->command('CLUSTER', 'INFO') =~ /cluster_state:ok/ }, 30);

my %urls = (
    sentinel => "rediss+sentinel://127.0.0.1:$sentinel->{tls_port}/$Ws::Redis::Sentinels::NAME",
    cluster  => 'rediss+cluster://127.0.0.1:' . $cluster->tls_port,
);
my %engines = (
    (map { $_ => [undef, "websocket_channel_redis_ssl_verify on; websocket_channel_redis_ssl_trusted_certificate $ca_file;"] } keys %urls),
    plain     => [$open, ''],
    verified  => [$open, "websocket_channel_redis_ssl_verify on; websocket_channel_redis_ssl_trusted_certificate $ca_file;"],
    named     => [
        $open,
        "websocket_channel_redis_ssl_verify on; websocket_channel_redis_ssl_trusted_certificate $ca_file; websocket_channel_redis_ssl_name engine.test;"
    ],
    misnamed => [
        $open,
        "websocket_channel_redis_ssl_verify on; websocket_channel_redis_ssl_trusted_certificate $ca_file; websocket_channel_redis_ssl_name other.test;"
    ],
    other    => [$open, "websocket_channel_redis_ssl_verify on; websocket_channel_redis_ssl_trusted_certificate $other_ca_file;"],
    address  => [$elsewhere, "websocket_channel_redis_ssl_verify on; websocket_channel_redis_ssl_trusted_certificate $ca_file;"],
    shown    => [$strict, "websocket_channel_redis_ssl_certificate $client_cert; websocket_channel_redis_ssl_certificate_key $client_key;"],
    unshown  => [$strict, ''],
    stranger => [$strict, "websocket_channel_redis_ssl_certificate $stranger_cert; websocket_channel_redis_ssl_certificate_key $stranger_key;"],
);

# An engine is told from another one by its prefix or database here.
my $database = 0;
my $locations = join '', map {
    my ($redis, $lines) = @{$engines{$_}};
    my $url = $urls{$_} //= 'rediss://127.0.0.1:' . $redis->tls_port . '/' . $database++;
    "location = /$_ { websocket_channel \$arg_id mode=pubsub; websocket_channel_redis $url; $lines }\n"
} sort keys %engines;
my $ngx = Ws::Nginx->start(
    workers => 2,
    # Keys of RSA take their time in a worker that is watched.
    http    => 'websocket_channel_zone 4m; ' . (instrumented()
        ? 'websocket_channel_redis_timeout 20s; websocket_channel_redis_connect_timeout 30s;'
        : 'websocket_channel_redis_timeout 2s; websocket_channel_redis_connect_timeout 3s;'),
    server  => $locations . 'location = /status { websocket_status; }',
);
my $port = $ngx->port;

# quit(nginx): ends one of several.
sub quit {
    my ($one) = @_;

    kill 'TERM', $one->master;
    waitpid $one->master, 0;
    is($?, 0);
    delete $one->{master};
    return $one->log_is_clean;
}

sub published {
    my ($name) = @_;

    return request($port, 'POST', "/$name?id=ready", body => 'x')->{status};
}

for my $name (qw(plain verified named shown sentinel cluster)) {
    case "there: $name" => sub {
        Ws::Redis::connected_to(qr/^\Q$urls{$name}\E$/, $ngx);
        await('each worker to publish', sub { !grep { published($name) !~ /^20[12]$/ } 1 .. 4 });
        my $client = Ws::Client->open($port, "/$name?id=a");
        my $big = 'x' x 200_000;
        publish($port, "/$name?id=a", $_) for 'first', $big, 'last';
        is($client->message->{payload}, 'first');
        ok($client->message->{payload} eq $big, 'more than a record of TLS');
        is($client->message->{payload}, 'last');
    };
}

my %refused = (
    misnamed => qr/certificate of the service "other\.test" is not to be trusted: it is for another name/,
    other    => qr/is not to be trusted: (?:unable to get|self)/,
    address  => qr/certificate of the service "127\.0\.0\.1" is not to be trusted: it is for another name/,
    unshown  => qr/not there/,
    stranger => qr/not there/,
);
for my $name (sort keys %refused) {
    case "not there: $name" => sub {
        is(published($name), 503) for 1 .. 3;
        ok($ngx->await_log($refused{$name}));
    };
}

case 'a connection that is cut is made anew' => sub {
    my $client = Ws::Client->open($port, '/verified?id=cut');
    for my $n (1 .. 3) {
        $open->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
        $open->command('CLIENT', 'KILL', 'TYPE', 'pubsub');
        await('a publication', sub { request($port, 'POST', '/verified?id=cut', body => $n)->{status} =~ /^20[12]$/ });
    }
    my @got;
    push @got, $client->message->{payload} while !@got || $got[-1] ne '3';
    is_deeply([grep { !/^[123]$/ } @got], []);
    is(scalar(grep { $_ eq '3' } @got), 1);
};

case 'TLS to a port that talks none' => sub {
    my $url = 'rediss://127.0.0.1:' . $open->port;
    my $plain = Ws::Nginx->start(
        http   => 'websocket_channel_zone 1m; websocket_channel_redis_connect_timeout 1s;',
        server => "location / { websocket_channel x mode=pubsub; websocket_channel_redis $url; }",
    );
    is(request($plain->port, 'POST', '/', body => 'x')->{status}, 503);
    quit($plain);
};

case 'what cannot be' => sub {
    my $url = 'websocket_channel_redis rediss://127.0.0.1;';
    my %wrong = (
        "$url websocket_channel_redis_ssl_verify on;"  => qr/needs "websocket_channel_redis_ssl_trusted_certificate"/,
        "$url websocket_channel_redis_ssl_verify yes;" => qr/"yes"/,
        "$url websocket_channel_redis_ssl_certificate $client_cert;"    => qr/needs "websocket_channel_redis_ssl_certificate_key"/,
        "$url websocket_channel_redis_ssl_certificate_key $client_key;" => qr/needs "websocket_channel_redis_ssl_certificate"/,
        "$url websocket_channel_redis_ssl_certificate $client_cert; websocket_channel_redis_ssl_certificate_key $key;" => qr/mismatch/,
        "$url websocket_channel_redis_ssl_certificate /nonexistent; websocket_channel_redis_ssl_certificate_key $key;" => qr/nonexistent/,
        "$url websocket_channel_redis_ssl_trusted_certificate /nonexistent;" => qr/nonexistent/,
        "$url websocket_channel_redis_ssl_name \$host;"                      => qr/without variables/,
        "$url websocket_channel_redis_ssl_name off;"                         => qr/not a switch/,
        "$url } location /b { websocket_channel x; $url websocket_channel_redis_ssl_name b;" => qr/two locations name one engine/,
    );
    for my $lines (sort keys %wrong) {
        my ($status, $said) = Ws::Nginx->new(server => "location / { websocket_channel x; $lines }")->check_config;
        isnt($status, 0, $lines);
        like($said, $wrong{$lines});
    }
};

# What the server says of a certificate that it does not trust comes after the handshake in TLS 1.3.
$ngx->{noise} = [qr/\[crit\].*SSL_read\(\) failed.*alert/];
$_->kill for $open, $strict, $elsewhere, $sentinel, $cluster;
$ngx->stop;
done_testing();
