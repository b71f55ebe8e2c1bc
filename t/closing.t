# Who closes, when, and how the connection ends (RFC 6455, section 7).

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Time::HiRes qw(time);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;

my $ngx = Ws::Nginx->start(tls => 1, http => <<'EOT', server => <<'EOT2');
    log_format closing "$uri code=[$websocket_close_code] by=[$websocket_closed_by]";
    access_log %%PREFIX%%/access.log closing;
EOT
    websocket_close_timeout 500ms;
    location /echo  { websocket_exec /bin/cat; }
    location /once  { websocket_exec /usr/bin/head -n 1; }
    location /burst { websocket_exec /usr/bin/seq 1 20000; websocket_close_timeout 15s; }
    location /flood { websocket_exec /usr/bin/yes 0123456789012345678901234567890123456789; }
    location /slow  { websocket_exec %%PREFIX%%/bin/slow; }
    location /sink  { websocket_exec /bin/sh -c "exec cat >/dev/null"; }
EOT2

$ngx->program('slow', <<'EOT');
#!/bin/sh
read line
sleep 20
echo late
EOT

for my $tls (0, 1) {
    my $how = $tls ? 'TLS' : 'plain';
    my $open = sub { my ($path, @opt) = @_; Ws::Client->open($tls ? $ngx->tls_port : $ngx->port, $path, tls => $tls, @opt) };

    case "$how: the server starts: what is queued, the Close, the end after the client's Close" => sub {
        my $client = $open->('/burst');
        my @frames = $client->frames;
        is(describe(pop @frames), 'close 1000');
        is(scalar @frames, 20000, 'all that was queued came first');
        is($frames[-1]{payload}, '20000');
        is($client->maybe_frame(0.1), undef, 'the connection stays for the answer');
        $client->send(close_frame(1000));
        is($client->end, 'eof');
    };

    case "$how: the server starts, the client does not answer" => sub {
        my $client = $open->('/once');
        $client->send(text('x'));
        is(describe($client->frame), 'text "x"');
        is(describe($client->frame), 'close 1000');
        my $since = time;
        is($client->end, 'eof');
        cmp_ok(time - $since, '>', 0.3, 'not before websocket_close_timeout');
        cmp_ok(time - $since, '<', 5, 'and not long after it');
    };

    case "$how: the server starts, the client talks on before it answers" => sub {
        my $client = $open->('/once');
        $client->send(text('x'));
        is(describe($client->frame), 'text "x"');
        is(describe($client->frame), 'close 1000');
        $client->send(text('y' x 70_000) . ping('z') . text('y', fin => 0) . cont('y') . close_frame(1000));
        is($client->end, 'eof', 'no Pong, no second Close, no reset');
    };

    case "$how: the client starts; the server ends the connection first, without a reset" => sub {
        my $client = $open->('/echo');
        $client->send(text('x'));
        is($client->text, 'x');
        $client->send(close_frame(4321, 'enough') . text('y' x 200_000));
        is(describe(($client->frames)[-1]) =~ s/ enough$//r, 'close 4321');
        is($client->end, 'eof');
    };

    case "$how: both at once: the client's Close is the answer" => sub {
        my $client = $open->('/once');
        $client->send(text('x') . close_frame(4000));
        my @frames = $client->frames;
        like(describe($frames[-1]), qr/^close (?:1000|4000)$/);
        is((grep { $_->{opcode} == CLOSE } @frames), 1, 'one Close');
        is($client->end, 'eof');
    };

    case "$how: messages before a protocol error are answered before the Close" => sub {
        my $client = $open->('/echo');
        $client->send(text('one') . text('two') . text('three') . text('bad', rsv3 => 1) . text('never'));
        is(join(', ', map { describe($_) =~ s/(close 1002).*/$1/r } $client->frames),
            'text "one", text "two", text "three", close 1002');
        is($client->end, 'eof');
    };

    case "$how: a protocol error does not wait for a slow answer" => sub {
        my $client = $open->('/slow');
        my $since = time;
        $client->send(text('one') . text('bad', rsv3 => 1));
        is(join(', ', map { describe($_) =~ s/(close 1002).*/$1/r } $client->frames), 'close 1002');
        cmp_ok(time - $since, '<', 3);
        is($client->end, 'eof');
    };

    case "$how: after a protocol error nothing is looked at" => sub {
        my $client = $open->('/sink');
        $client->send(text('bad', rsv3 => 1) . ping('no') . text("\xff") . close_frame(4000));
        is(join(', ', map { describe($_) =~ s/(close 1002).*/$1/r } $client->frames), 'close 1002');
        is($client->end, 'eof');
    };

    case "$how: FIN without a Close: nothing is sent" => sub {
        my $client = $open->('/echo?fin');
        $client->send(text('x'));
        is($client->text, 'x');
        $ngx->await_programs(1);
        $client->fin;
        is($client->end, 'eof');
        $ngx->await_programs(0);
    } if !$tls;

    case "$how: FIN in the middle of a frame: nothing is sent" => sub {
        my $client = $open->('/echo');
        $client->send(substr text('abc'), 0, 7);
        $client->fin;
        is($client->end, 'eof');
        $ngx->await_programs(0);
    } if !$tls;

    case "$how: RST" => sub {
        my $client = $open->('/echo');
        $client->send(text('x'));
        is($client->text, 'x');
        $ngx->await_programs(1);
        $client->reset;
        $ngx->await_programs(0);
        pass('its program is gone');
    };

    case "$how: RST while the output is blocked" => sub {
        my $client = $open->('/flood', rcvbuf => 8192);
        $client->reading(0);
        await_paused($ngx->await_programs(1));
        $client->reset;
        $ngx->await_programs(0);
        pass('its program is gone');
    };

    case "$how: a Close while the output is blocked is bounded by websocket_close_timeout" => sub {
        my $client = $open->('/flood', rcvbuf => 8192);
        $client->reading(0);
        await_paused($ngx->await_programs(1));
        my $lines = () = $ngx->access_log =~ m{^/flood}mg;
        $client->send(close_frame(1000));
        $client->flush;
        my $since = time;
        await('the session to be logged', sub { (() = $ngx->access_log =~ m{^/flood}mg) > $lines });
        cmp_ok(time - $since, '<', 6);
        $ngx->await_programs(0);
    };
}

case 'the log tells who closed' => sub {
    is(Ws::Client->open($ngx->port, '/echo/by-client')->close(4000), 'close 4000');
    $ngx->await_access_log(qr{^/echo/by-client code=\[4000\] by=\[client\]$}m);

    my $client = Ws::Client->open($ngx->port, '/once/by-server');
    $client->send(text('x'));
    is($client->server_close, 'close 1000');
    $ngx->await_access_log(qr{^/once/by-server code=\[1000\] by=\[server\]$}m);

    $client = Ws::Client->open($ngx->port, '/echo/by-error');
    $client->send(text('x', mask => undef));
    like($client->server_close, qr/^close 1002/);
    $ngx->await_access_log(qr{^/echo/by-error code=\[1002\] by=\[server\]$}m);

    is(Ws::Client->open($ngx->port, '/echo/by-nothing')->close(undef), 'close');
    $ngx->await_access_log(qr{^/echo/by-nothing code=\[1005\] by=\[client\]$}m);

    $client = Ws::Client->open($ngx->port, '/echo/by-fin');
    $client->fin;
    is($client->end, 'eof');
    my $line = $ngx->await_access_log(qr{^/echo/by-fin .*$}m);
    like($line, qr/code=\[1006\] by=\[-\]/, 'the connection was lost, and nobody has closed');
    $ngx->await_log(qr/\[info\].*client.*/);
};

$ngx->stop;
done_testing();
