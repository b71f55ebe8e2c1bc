# The handshake over TLS: the same answers as without.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;

my $ngx = Ws::Nginx->start(tls => 1, server => <<'EOT');
    location = /ws { websocket_exec /bin/cat; add_header X-Test yes always; }
EOT

sub tls {
    my (@headers) = @_;

    my $client = Ws::Client->connect(port => $ngx->tls_port, tls => 1);
    $client->handshake('/ws', headers => \@headers);
    return $client;
}

case 'valid' => sub {
    my $client = tls();
    is($client->{head}{status}, 101);
    is($client->header('Upgrade'), 'websocket');
    is(lc $client->header('Connection'), 'upgrade');
    is($client->header('Sec-WebSocket-Accept'), ACCEPT);
    is($client->header('X-Test'), 'yes');
    is($client->header($_), undef, "no $_") for qw(Content-Length Transfer-Encoding);
    $client->send(text('hello'));
    is($client->text, 'hello');
    is($client->close(1000), 'close 1000');
};

case 'frames in the same record as the head' => sub {
    my $client = Ws::Client->connect(port => $ngx->tls_port, tls => 1);
    $client->handshake('/ws', after => ping('first') . text('second'));
    is(describe($client->frame), 'pong "first"');
    is($client->text, 'second');
    is($client->close(1000), 'close 1000');
};

for my $row (
    ['plain GET',        426, Upgrade => undef, Connection => undef],
    ['wrong version',    426, 'Sec-WebSocket-Version' => 8],
    ['no key',           400, 'Sec-WebSocket-Key' => undef],
    ['a foreign Origin', 403, Origin => 'https://evil.example'],
    ['POST',             405, method => 'POST', 'Content-Length' => 0],
) {
    my ($name, $status, @headers) = @$row;
    case $name => sub { is(tls(@headers)->{head}{status}, $status) };
}

case 'the same origin, with the port of https left out' => sub {
    my $client = tls(Host => 'localhost', Origin => 'https://localhost');
    is($client->{head}{status}, 101);
    is($client->close(1000), 'close 1000');
};

case 'the client ends TLS without a Close' => sub {
    my $client = tls();
    $ngx->await_programs(1);
    $client->{socket}->close;
    $ngx->await_programs(0);
    pass('its program is gone');
};

$ngx->stop;
done_testing();
