# Over HTTP/2 there is no upgrade: 426, without the headers that HTTP/2 forbids (RFC 9113, section 8.2.2).

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;

plan skip_all => 'this nginx has no HTTP/2' if !nginx_has('--with-http_v2_module');
my $curl = `curl --version 2>/dev/null` || '';
plan skip_all => 'curl with HTTP/2 is not installed' if $curl !~ /\bHTTP2\b/;

# "http2 on" came with 1.25.1; "listen ... http2" went later.
my $on = nginx_version() >= 1025001;
my $ngx = Ws::Nginx->start(
    tls        => 1,
    tls_listen => $on ? 'ssl' : 'ssl http2',
    server     => ($on ? "http2 on;\n" : '') . <<'EOT');
    websocket_close_timeout 500ms;
    location = /ws { websocket_exec /bin/cat; }
EOT

sub curl {
    my (@arguments) = @_;

    open my $in, '-|', 'curl', '-s', '-k', '-i', '--max-time', 10, '--http2', @arguments,
        'https://127.0.0.1:' . $ngx->tls_port . '/ws' or die "curl: $!\n";
    my $said = do { local $/; <$in> };
    close $in;
    return $said;
}

case 'GET' => sub {
    my ($head) = split /\r\n\r\n/, curl();
    like($head, qr{^HTTP/2 426}, 'status');
    like($head, qr/^sec-websocket-version: 13\r?$/mi, 'version');
    unlike($head, qr/^(?:upgrade|connection):/mi, 'no Upgrade and no Connection');
};

case 'GET with the headers of a handshake' => sub {
    my ($head) = split /\r\n\r\n/, curl('-H', 'Sec-WebSocket-Key: ' . KEY, '-H', 'Sec-WebSocket-Version: 13');
    like($head, qr{^HTTP/2 426});
    unlike($head, qr/^(?:upgrade|connection):/mi);
};

case 'POST' => sub {
    like(curl('-d', 'body'), qr{^HTTP/2 405}m);
};

case 'HTTP/1.1 on the same port is upgraded' => sub {
    my $client = Ws::Client->open($ngx->tls_port, '/ws', tls => 1, alpn => ['http/1.1']);
    $client->send(text('hello'));
    is($client->text, 'hello');
    is($client->close(1000), 'close 1000');
};

$ngx->await_programs(0);
$ngx->stop;
done_testing();
