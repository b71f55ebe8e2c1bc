# A start that takes long holds up nothing, and not for ever: websocket_exec_start_timeout.

use strict;
use warnings;

use lib 't/lib';
use Fcntl;
use Test::More;
use Time::HiRes 'time';
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;

my $ngx = Ws::Nginx->start(server => <<'EOT');
    websocket_close_timeout 500ms;
    websocket_exec_start_timeout 2s;
    location = /cat    { websocket_exec /bin/cat; }
    location = /shared { websocket_exec /bin/cat; websocket_channel shared; }
    location = /hang   { websocket_exec %%PREFIX%%/silent/program; websocket_exec_max 1; }
    location = /cwd    { websocket_exec /bin/cat; websocket_exec_cwd %%PREFIX%%/silent/sub; }
EOT

case 'a spawner that is stopped: 504' => sub {
    my ($spawner) = $ngx->spawners;
    kill 'STOP', $spawner;
    for my $path (qw(/cat /shared)) {
        my $client = Ws::Client->connect(port => $ngx->port);
        my $begin = time;
        is($client->handshake($path)->{status}, 504, $path);
        cmp_ok(time - $begin, '>', 1.5);
    }
    $ngx->await_log(qr/\[error\].*cannot start "\/bin\/cat".*websocket_exec_start_timeout/);
    kill 'CONT', $spawner;
    # Nothing is left of them.
    $ngx->await_programs(0);
    my $client = Ws::Client->open($ngx->port, '/cat');
    $client->send(text('hi'));
    is($client->text, 'hi');
    is($client->close(1000), 'close 1000');
    $ngx->await_programs(0);
};

# A file system in user space whose server never answers.
my $silent = $ngx->prefix . '/silent';
mkdir $silent;
my $server;
my $mounted = $^O eq 'linux' && `uname -m` =~ /x86_64/ && sysopen($server, '/dev/fuse', O_RDWR) && do {
    my @strings = ('silence', $silent, 'fuse', 'fd=' . fileno($server) . ',rootmode=40755,user_id=0,group_id=0');
    # mount(2)
    syscall(165, $strings[0], $strings[1], $strings[2], 0, $strings[3]) == 0;
};

case 'a file system that does not answer' => sub {
    plan skip_all => 'only root can mount one' unless $mounted;
    my $open = Ws::Client->open($ngx->port, '/cat');
    my @waiting = map { Ws::Client->connect(port => $ngx->port) } 1 .. 2;
    $waiting[0]->send(upgrade('/hang'));
    $waiting[1]->send(upgrade('/cwd'));
    my $begin = time;
    my $other = Ws::Client->open($ngx->port, '/cat');
    $other->send(text('hi'));
    is($other->text, 'hi', 'another program');
    is($other->close(1000), 'close 1000');
    is($open->close(1000), 'close 1000');
    $ngx->await_programs(0);
    cmp_ok(time - $begin, '<', 1.9, 'nothing has waited for them') unless Ws::Nginx::instrumented();
    is($_->response->{status}, 504) for @waiting;
    # What hangs is killed. Its place is given back when the system has let it go, which may be a moment after the answer.
    my $status;
    await('its place', sub { ($status = Ws::Client->connect(port => $ngx->port)->handshake('/hang')->{status}) != 503 });
    is($status, 504, 'again');
};

if ($mounted) { system('umount', '-l', $silent); close $server }

$ngx->stop;
done_testing;
