# websocket_tcp_ssl: TLS to the service; websocket_tcp_proxy_protocol: the client's address for the service.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use IO::Socket::SSL;
use IO::Socket::SSL::Utils;
use Socket qw(inet_aton);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Service;

my $service = Ws::Service->listen;
my $address = $service->address;
my $port = $service->port;

my ($ca, $ca_key) = CERT_create(subject => { commonName => 'authority' }, CA => 1, key => KEY_create_ec('prime256v1'));
my ($cert, $key) = CERT_create(
    subject         => { commonName => 'service.test' },
    subjectAltNames => [['DNS', 'service.test'], ['DNS', 'localhost'], ['DNS', 'group'], ['IP', '127.0.0.1']],
    issuer_cert => $ca, issuer_key => $ca_key, key => KEY_create_ec('prime256v1'),
);
my ($client_cert, $client_key) = CERT_create(
    subject => { commonName => 'the gateway' }, purpose => 'client', issuer_cert => $ca, issuer_key => $ca_key, key => KEY_create_ec('prime256v1'),
);
my ($other_ca) = CERT_create(subject => { commonName => 'somebody' }, CA => 1, key => KEY_create_ec('prime256v1'));

my $ngx = Ws::Nginx->new;
$ngx->file('ca.pem', PEM_cert2string($ca));
$ngx->file('other.pem', PEM_cert2string($other_ca));
$ngx->file('client.pem', PEM_cert2string($client_cert));
$ngx->file('client.key', PEM_key2string($client_key));
my $listen = $ngx->prefix . '/nginx.sock';
# An authority with two certificates, one of which it has revoked.
my $authority = $ngx->prefix;
$ngx->file('ca.cnf', <<"EOT");
[ca]
default_ca = here
[here]
database = $authority/index
certificate = $authority/crl-ca.pem
private_key = $authority/crl-ca.key
default_md = sha256
default_crl_days = 2
EOT
$ngx->file('index', '');
sub openssl { system("openssl @_ >$authority/openssl.log 2>&1") == 0 or die "openssl @_\n" }
my @new = ('-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2');
openssl("req -x509 @new -subj /CN=revoker -keyout $authority/crl-ca.key -out $authority/crl-ca.pem");
for my $who (qw(good bad)) {
    openssl("req -x509 @new -subj /CN=$who -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE",
        "-CA $authority/crl-ca.pem -CAkey $authority/crl-ca.key -keyout $authority/$who.key -out $authority/$who.pem");
}
openssl("ca -config $authority/ca.cnf -revoke $authority/bad.pem");
openssl("ca -config $authority/ca.cnf -gencrl -out $authority/crl.pem");
$ngx->{http} = <<"EOT";
    upstream group { server $address; }
    server {
        listen unix:$listen;
        location = /v1   { websocket_tcp $address; websocket_tcp_proxy_protocol v1; }
        location = /v2   { websocket_tcp $address; websocket_tcp_proxy_protocol v2; }
        location = /real {
            set_real_ip_from unix:;
            real_ip_header X-Real-IP;
            websocket_tcp $address;
            websocket_tcp_proxy_protocol v1;
        }
    }
EOT
$ngx->{server} = <<"EOT";
    websocket_tcp_ssl_trusted_certificate %%PREFIX%%/ca.pem;
    location = /plain    { websocket_tcp $address; websocket_tcp_ssl on; }
    location = /rate     { websocket_tcp $address; websocket_tcp_ssl on; websocket_tcp_download_rate 40k; }
    location = /verified { websocket_tcp localhost:$port; websocket_tcp_ssl on; websocket_tcp_ssl_verify on; }
    location = /group    { websocket_tcp group; websocket_tcp_ssl on; websocket_tcp_ssl_verify on; }
    location = /named    {
        websocket_tcp \$arg_to;
        websocket_tcp_allow 127.0.0.1:$port localhost:$port;
        websocket_tcp_ssl on;
        websocket_tcp_ssl_name \$arg_name;
        websocket_tcp_ssl_verify on;
    }
    location = /other    {
        websocket_tcp localhost:$port;
        websocket_tcp_ssl on;
        websocket_tcp_ssl_verify on;
        websocket_tcp_ssl_trusted_certificate %%PREFIX%%/other.pem;
    }
    location = /address  { websocket_tcp $address; websocket_tcp_ssl on; websocket_tcp_ssl_verify on; }
    location = /shows    {
        websocket_tcp $address;
        websocket_tcp_ssl on;
        websocket_tcp_ssl_certificate %%PREFIX%%/client.pem;
        websocket_tcp_ssl_certificate_key %%PREFIX%%/client.key;
    }
    location = /older    { websocket_tcp $address; websocket_tcp_ssl on; websocket_tcp_ssl_protocols TLSv1.2; }
    location = /cipher   {
        websocket_tcp $address;
        websocket_tcp_ssl on;
        websocket_tcp_ssl_protocols TLSv1.2;
        websocket_tcp_ssl_ciphers ECDHE-ECDSA-AES256-GCM-SHA384;
    }
    location = /revoked  {
        websocket_tcp localhost:$port;
        websocket_tcp_ssl on;
        websocket_tcp_ssl_verify on;
        websocket_tcp_ssl_trusted_certificate %%PREFIX%%/crl-ca.pem;
        websocket_tcp_ssl_crl %%PREFIX%%/crl.pem;
    }
    location = /always   { websocket_tcp $address; websocket_tcp_ssl on; websocket_tcp_accept always; }
    location = /silent   { websocket_tcp $address; websocket_tcp_ssl on; websocket_tcp_connect_timeout 300ms; }
    location = /v1       { websocket_tcp $address; websocket_tcp_proxy_protocol v1; }
    location = /v2       { websocket_tcp $address; websocket_tcp_proxy_protocol v2; }
    location = /v1tls    { websocket_tcp $address; websocket_tcp_proxy_protocol v1; websocket_tcp_ssl on; }
    location = /real     {
        set_real_ip_from 127.0.0.1;
        real_ip_header X-Real-IP;
        websocket_tcp $address;
        websocket_tcp_proxy_protocol v2;
    }
EOT
$ngx->start;

my $name;
our %wanted;

# speak(peer): a connection of the service goes over to TLS; undef if that fails.
sub speak {
    my ($peer) = @_;

    $name = undef;
    my $tls = IO::Socket::SSL->start_SSL(
        $peer->{socket},
        SSL_server => 1, SSL_cert => $cert, SSL_key => $key, Timeout => 10, %wanted,
        # So that a client that does not like the certificate is heard of.
    ) or return;
    $name = $tls->get_servername;
    $peer->{socket} = $tls;
    return $peer;
}

# secured(path): a session with a service over TLS; the status where there is none.
sub secured {
    my ($path) = @_;

    my $client = Ws::Client->connect(port => $ngx->port);
    $client->send(upgrade($path));
    my $peer = speak($service->accept);
    my $head = $client->response;
    return $head->{status} == 101 ? ($client, $peer) : $head->{status};
}

case 'octets both ways' => sub {
    my ($client, $peer) = secured('/plain');
    $client->send(binary('hello'));
    is($peer->read(5), 'hello');
    $peer->send('world');
    is($client->message->{payload}, 'world');
    is($name, undef, 'an address is no name to ask for');
    is($client->close(1000), 'close 1000');
    is($peer->rest, '');
    is($peer->how, 'eof', 'with the good-bye of TLS');
};

case 'a rate' => sub {
    my ($client, $peer) = secured('/rate');
    # What TLS has decrypted already is held back as well, and nothing that is left in it is forgotten.
    my $begin = time;
    $peer->send('d' x 100_000);
    my $got = '';
    $got .= $client->message->{payload} while length $got < 100_000;
    is($got, 'd' x 100_000);
    cmp_ok(time - $begin, '>=', 1, 'the first second is free, and the others are not');
    is($client->close(1000), 'close 1000');
};

case 'a service that asks for a certificate' => sub {
    local %wanted = (SSL_verify_mode => SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, SSL_ca => [$ca]);
    my ($client, $peer) = secured('/shows');
    is($peer->{socket}->peer_certificate('commonName'), 'the gateway');
    is($client->close(1000), 'close 1000');
    # With TLS 1.3 a client is not told before it reads that its certificate was missed.
    %wanted = (%wanted, SSL_version => 'TLSv1_2');
    my $other = Ws::Client->connect(port => $ngx->port);
    $other->send(upgrade('/plain'));
    is(speak($service->accept), undef, 'who has none is not talked to');
    is($other->response->{status}, 502);
};

case 'a certificate that is revoked' => sub {
    my %files = map { $_ => [SSL_cert => PEM_file2cert("$authority/$_.pem"), SSL_key => PEM_file2key("$authority/$_.key")] } qw(good bad);
    local %wanted = @{$files{good}};
    my ($client, $peer) = secured('/revoked');
    is($client->close(1000), 'close 1000');
    %wanted = @{$files{bad}};
    is(secured('/revoked'), 502);
    $ngx->await_log(qr/certificate of the service "localhost" is not to be trusted: certificate revoked/);
};

case 'versions and ciphers' => sub {
    my ($client, $peer) = secured('/plain');
    is($peer->{socket}->get_sslversion, 'TLSv1_3');
    is($client->close(1000), 'close 1000');
    ($client, $peer) = secured('/older');
    is($peer->{socket}->get_sslversion, 'TLSv1_2');
    is($client->close(1000), 'close 1000');
    ($client, $peer) = secured('/cipher');
    is($peer->{socket}->get_cipher, 'ECDHE-ECDSA-AES256-GCM-SHA384');
    is($client->close(1000), 'close 1000');
};

case 'much, both ways' => sub {
    my ($client, $peer) = secured('/plain');
    my $octets = join '', map { pack 'N', $_ * 2654435761 % 4294967296 } 1 .. 131_072;
    $client->send(binary($octets));
    my $got = '';
    while (length $got < length $octets) {
        $client->write_some;
        $got .= $peer->read(1) if length $peer->{in} || $peer->{socket}->pending || !$peer->silent(0.001);
        $got .= $peer->read(length $peer->{in});
    }
    ok($got eq $octets, 'to the service');
    my $at = 0;
    $got = '';
    while (length $got < length $octets) {
        if ($at < length $octets) {
            $peer->send(substr $octets, $at, 16_384);
            $at += 16_384;
        }
        $got .= $client->message->{payload};
    }
    ok($got eq $octets, 'from the service');
    is($client->close(1000), 'close 1000');
};

case 'the certificate' => sub {
    my ($client, $peer) = secured('/verified');
    is($name, 'localhost', 'the host of the address');
    is($client->close(1000), 'close 1000');

    ($client, $peer) = secured('/group');
    is($name, 'group', 'the name of the upstream block');
    is($client->close(1000), 'close 1000');

    ($client, $peer) = secured("/named?to=$address&name=service.test");
    is($name, 'service.test', 'the name that is configured');
    is($client->close(1000), 'close 1000');

    ($client, $peer) = secured('/address');
    is($name, undef, 'an address is no name to ask for, and may stand in a certificate');
    is($client->close(1000), 'close 1000');
    is(secured("/named?to=$address&name=127.0.0.2"), 502, 'another address');
    $ngx->await_log(qr/certificate of the service "127\.0\.0\.2" is not to be trusted: it is for another name/);

    is(secured("/named?to=$address&name=another.test"), 502, 'another name');
    $ngx->await_log(qr/certificate of the service "another\.test" is not to be trusted: it is for another name/);
    is(secured('/other'), 502, 'another authority');
    $ngx->await_log(qr/certificate of the service "localhost" is not to be trusted: unable to/);
};

case 'a service that does not speak TLS' => sub {
    my $client = Ws::Client->connect(port => $ngx->port);
    $client->send(upgrade('/silent'));
    my $peer = $service->accept;
    is($client->response->{status}, 504, 'but nothing');

    $client = Ws::Client->connect(port => $ngx->port);
    $client->send(upgrade('/plain'));
    $peer = $service->accept;
    $peer->send("220 hello\r\n");
    is($client->response->{status}, 502, 'but something else');
};

case 'a client that talks while the service has not said anything' => sub {
    for my $path ('/plain', '/always') {
        my $client = Ws::Client->connect(port => $ngx->port);
        $client->send(upgrade($path));
        my $peer = $service->accept;
        ok(IO::Select->new($peer->{socket})->can_read(10), 'the gateway begins');
        if ($path eq '/always') {
            is($client->response->{status}, 101);
            $client->send(ping('there?'));
            is(describe($client->frame), 'pong "there?"');
        }
        $client->send(binary('early'));
        $client->flush;
        # Time for it to be read where it is read.
        select undef, undef, undef, 0.3;
        ok(speak($peer), "$path: TLS");
        is($client->response->{status}, 101) if $path eq '/plain';
        is($peer->read(5), 'early');
        $peer->send('answer');
        is($client->message->{payload}, 'answer');
        is($client->close(1000), 'close 1000');
    }
};

case 'a service that ends its side' => sub {
    my ($client, $peer) = secured('/plain');
    $peer->send('bye');
    $peer->{socket}->close;
    is($client->server_close, 'close 1000');
    is($client->{skipped}[0]{payload}, 'bye');
};

# opened(path, name => value ...): the connection of the service.
sub opened {
    my ($path, %opt) = @_;

    my $client = Ws::Client->open($ngx->port, $path, %opt);
    return ($client, $service->accept);
}

case 'PROXY protocol' => sub {
    my ($client, $peer) = opened('/v1', source => '127.0.0.9', after => binary('data'));
    is($peer->line, "PROXY TCP4 127.0.0.9 127.0.0.1 @{[$client->local_port]} @{[$ngx->port]}\r\n", 'v1');
    is($peer->read(4), 'data');
    is($client->close(1000), 'close 1000');

    ($client, $peer) = opened('/v2', source => '127.0.0.9');
    is($peer->read(28),
        "\r\n\r\n\0\r\nQUIT\n\x21\x11" . pack('n', 12) . inet_aton('127.0.0.9') . inet_aton('127.0.0.1')
            . pack('nn', $client->local_port, $ngx->port), 'v2');
    is($client->close(1000), 'close 1000');

    ($client, $peer) = opened('/real', headers => ['X-Real-IP' => '192.0.2.7']);
    is(substr($peer->read(28), 16, 8), inet_aton('192.0.2.7') . inet_aton('127.0.0.1'), 'after realip');
    is($client->close(1000), 'close 1000');
};

case 'PROXY protocol before TLS' => sub {
    my $client = Ws::Client->connect(port => $ngx->port);
    $client->send(upgrade('/v1tls'));
    my $peer = $service->accept;
    my $line = '';
    while ($line !~ /\n/) { sysread $peer->{socket}, $line, 1, length $line or last; }
    like($line, qr/^PROXY TCP4 127\.0\.0\.1 127\.0\.0\.1 \d+ \d+\r\n$/);
    ok(speak($peer), 'then the handshake');
    is($client->response->{status}, 101);
    $peer->send('hi');
    is($client->message->{payload}, 'hi');
    is($client->close(1000), 'close 1000');
};

case 'PROXY protocol for clients of a unix socket' => sub {
    my $ask = sub {
        my ($path, @headers) = @_;
        my $client = IO::Socket::UNIX->new(Peer => $listen) or die "connect: $!\n";
        print $client upgrade($path, @headers);
        return ($client, $service->accept);
    };
    my ($client, $peer) = $ask->('/v1');
    is($peer->line, "PROXY UNKNOWN\r\n");
    ($client, $peer) = $ask->('/v2');
    is($peer->read(16), "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
    ($client, $peer) = $ask->('/real', 'X-Real-IP' => '192.0.2.7');
    like($peer->line, qr/^PROXY TCP4 192\.0\.2\.7 0\.0\.0\.0 \d+ 0\r\n$/);
};

case 'what nginx refuses' => sub {
    for (
        ['websocket_tcp_ssl on; websocket_tcp_ssl_verify on;', qr/needs "websocket_tcp_ssl_trusted_certificate"/],
        ['websocket_tcp_ssl on; websocket_tcp_ssl_crl x;', qr/"websocket_tcp_ssl_crl" directive needs "websocket_tcp_ssl_trusted_certificate"/],
        ['websocket_tcp_ssl on; websocket_tcp_ssl_certificate x;', qr/needs "websocket_tcp_ssl_certificate_key"/],
        ['websocket_tcp_ssl on; websocket_tcp_ssl_certificate_key x;', qr/needs "websocket_tcp_ssl_certificate"/],
        ['websocket_tcp_ssl on; websocket_tcp_ssl_certificate x; websocket_tcp_ssl_certificate_key x;', qr/cannot load certificate/],
        ['websocket_tcp_ssl on; websocket_tcp_ssl_ciphers nonsense;', qr/SSL_CTX_set_cipher_list/],
        ['websocket_tcp_ssl on; websocket_tcp_ssl_trusted_certificate missing.pem;', qr/missing\.pem/],
    ) {
        my ($lines, $error) = @$_;
        my $refused = Ws::Nginx->new(port => 1, server => "location / { websocket_tcp 127.0.0.1:1; $lines }");
        my ($status, $said) = $refused->check_config;
        is($status, 1, $lines);
        like($said, $error);
    }
};

$service->close;
$ngx->stop;
done_testing();
