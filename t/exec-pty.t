# websocket_exec_pty: a program on a terminal; websocket_exec_limit: its resource limits.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;

plan skip_all => no_terminals() if no_terminals();

my $ngx = Ws::Nginx->start(server => <<'EOT');
    websocket_close_timeout 500ms;
    websocket_exec_format bytes;
    location = /sh     { websocket_exec /bin/sh; websocket_exec_env PS1=ready: TERM=dumb; websocket_exec_pty on; }
    location = /tty    { websocket_exec /usr/bin/tty; websocket_exec_pty on; }
    location = /no-tty { websocket_exec /usr/bin/tty; }
    location = /limits {
        websocket_exec /bin/sh -c "ulimit -n; ulimit -t; ulimit -v; ulimit -f; ulimit -c";
        websocket_exec_limit nofile=$arg_n cpu=7 as=1g fsize=4k core=0;
        websocket_exec_format lines;
    }
EOT

# until(client, pattern): reads until it has come, and returns what did.
sub read_until {
    my ($client, $pattern) = @_;

    my $got = '';
    $got .= $client->message->{payload} while $got !~ $pattern;
    return $got;
}

case 'it is a terminal' => sub {
    my $client = Ws::Client->open($ngx->port, '/tty');
    like(read_until($client, qr/\n/), qr{^/dev/pts/\d+\r\n$});
    is($client->server_close, 'close 1000');
};

case 'without it there is none' => sub {
    my $client = Ws::Client->open($ngx->port, '/no-tty');
    like(read_until($client, qr/\n/), qr/not a tty/);
    like($client->server_close, qr/^close 1011 exit 1/);
};

case 'a shell: echo, job control, the size' => sub {
    my $client = Ws::Client->open($ngx->port, '/sh');
    read_until($client, qr/ready:/);
    $client->send(text("stty size\n"));
    like(read_until($client, qr/\d+ \d+\r\n/), qr/^stty size\r\n24 80\r\n/);
    $client->send(text("\e[8;50;132t"), text("stty size\n"));
    like(read_until($client, qr/\d+ \d+\r\n/), qr/50 132\r\n/);
    $client->send(text("sleep 1000\n"));
    $ngx->await_command(qr/^sleep 1000/);
    $client->send(text("\x03"));
    $ngx->await_programs(1);
    $client->send(text("exit 3\n"));
    read_until($client, qr/exit 3\r\n/);
    is($client->server_close, 'close 1011 exit 3');
};

case 'a size that comes in pieces is not typed' => sub {
    my $client = Ws::Client->open($ngx->port, '/sh');
    read_until($client, qr/ready:/);
    my $frame = text("\e[8;40;100t");
    for my $cut (6 .. length($frame) - 1) {
        my $rows = 30 + $cut;
        $frame = text("\e[8;$rows;100t");
        $client->send(substr $frame, 0, $cut);
        $client->flush;
        # The one worker has read it when it answers somebody else who came later.
        Ws::Client->open($ngx->port, '/no-tty')->abandon;
        $client->send(substr($frame, $cut), text("stty size\n"));
        my $shown = read_until($client, qr/\d+ \d+\r\n/);
        like($shown, qr/$rows 100\r\n/, "cut after $cut octets");
        unlike($shown, qr/\[8;/);
    }
    $client->send(text("\e[8;61", fin => 0), cont(';101t'), text("stty size\n"));
    like(read_until($client, qr/\d+ \d+\r\n/), qr/61 101\r\n/, 'in two frames');
    $client->send(text("\e[8;62;102t", fin => 0), cont('x', fin => 0), cont("\n"));
    like(read_until($client, qr/x\r?\n.*ready:/s), qr/\[8;62;102t?x/, 'one that goes on is typed as a whole');
};

case 'the client goes: the terminal hangs up' => sub {
    my $client = Ws::Client->open($ngx->port, '/sh');
    read_until($client, qr/ready:/);
    $client->send(text("sleep 1000 &\n"), text("sleep 1000\n"));
    $ngx->await_programs(3);
    $client->reset;
    $ngx->await_programs(0);
    ok(1);
};

case 'resource limits' => sub {
    plan skip_all => 'valgrind does not let a process change its limit of descriptors' if under_valgrind();
    my $client = Ws::Client->open($ngx->port, '/limits?n=99');
    is(join(' ', map { $client->text } 1 .. 5), '99 7 1048576 8 0');
    is($client->server_close, 'close 1000');
};

case 'a limit that is no number: 500' => sub {
    my $client = Ws::Client->connect(port => $ngx->port);
    is($client->handshake('/limits?n=many')->{status}, 500);
    $ngx->await_log(qr/websocket_exec_limit: "many" is not a number/);
};

$ngx->stop;
done_testing;
