# websocket_exec_user: programs run as the users that the configuration names, and as nobody else.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use POSIX ();
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Process qw(command descendants descriptors parent state status_field);

plan skip_all => 'only root can become somebody else' if $> != 0;
for my $name (qw(nobody games daemon)) {
    plan skip_all => "the system has no user $name" if !defined getpwnam $name;
}

my %uid = map { $_ => scalar getpwnam $_ } qw(nobody games daemon);
my %gid = map { $_ => (getpwnam $_)[3] } qw(nobody games daemon);
my $nogroup = getgrgid $gid{nobody};

my $ngx = Ws::Nginx->new(
    tls     => 1,
    workers => 2,
    user    => "nobody $nogroup",
    noise   => [qr/worker process \d+ exited on signal 9/, qr/shared memory zone "ws_exec_\w+" was locked by/],
    http    => 'websocket_exec_stop 200ms 1s; websocket_close_timeout 2s;
        log_format notes "$uri [$websocket_exec_note]"; access_log %%PREFIX%%/access.log notes;',
    server  => <<'EOT');
    location = /own    { websocket_exec %%PREFIX%%/bin/who; }
    location = /games  { websocket_exec %%PREFIX%%/bin/who; websocket_exec_user games; }
    location = /daemon { websocket_exec %%PREFIX%%/bin/who; websocket_exec_user daemon; }
    location = /group  { websocket_exec %%PREFIX%%/bin/who; websocket_exec_user games daemon; }
    location = /if     { websocket_exec %%PREFIX%%/bin/who; websocket_exec_user games; if ($arg_x) { websocket_exec_user daemon; } }
    location = /env    { websocket_exec /usr/bin/env; websocket_exec_user games; websocket_exec_env SHELL=/bin/mine; }
    location = /peek   { websocket_exec %%PREFIX%%/bin/peek $arg_pid; websocket_exec_user games; }
    location = /key    { websocket_exec /bin/cat %%PREFIX%%/key.pem; websocket_exec_user games; websocket_exec_stderr client; }
    location = /cat    { websocket_exec /bin/cat; websocket_exec_user games; }
    location = /reopen { websocket_exec %%PREFIX%%/bin/reopen;
        websocket_exec_user games; websocket_exec_stderr client; }
    location = /err    { websocket_exec /bin/sh -c "echo to the log >&2; exit 3"; websocket_exec_user games; }
    location = /tty    { websocket_exec %%PREFIX%%/bin/tty;
        websocket_exec_user games; websocket_exec_pty on; websocket_exec_format bytes; }
    location = /sh     { websocket_exec /bin/sh; websocket_exec_env PS1=ready: TERM=dumb; websocket_exec_user games;
        websocket_exec_pty on; websocket_exec_format bytes; }
    location = /shared-sh { websocket_exec /bin/sh; websocket_exec_env PS1=ready: TERM=dumb; websocket_exec_user games;
        websocket_channel sh; websocket_channel_start oldest; websocket_exec_pty on; websocket_exec_format bytes; }
    location = /daemonize { websocket_exec %%PREFIX%%/bin/daemonize; websocket_exec_user games; }
    location = /stubborn { websocket_exec %%PREFIX%%/bin/stubborn; websocket_exec_user games; }
    location /notes { websocket_exec_notes on; websocket_exec_user games;
        location = /notes/pipe { websocket_exec %%PREFIX%%/bin/notes; }
        location = /notes/tty  { websocket_exec %%PREFIX%%/bin/notes; websocket_exec_pty on; websocket_exec_format bytes; }
        location /notes/dir/   { websocket_exec_dir %%PREFIX%%/bin; websocket_exec_pty on; websocket_exec_format bytes; } }
    location = /shared { websocket_exec %%PREFIX%%/bin/shared; websocket_exec_user games; websocket_channel shared; }
    location = /one    { websocket_exec /bin/cat; websocket_exec_user games; websocket_exec_max 1; }
    location = /limit  { websocket_exec /bin/sh -c "ulimit -n"; websocket_exec_user games; websocket_exec_limit nofile=77; }
    location = /mode   { websocket_exec %%PREFIX%%/bin/mine; websocket_exec_user games; }
    location = /not    { websocket_exec %%PREFIX%%/bin/mine; websocket_exec_user daemon; }
    location /dir/     { websocket_exec_dir %%PREFIX%%/bin; websocket_exec_user games; }
    location /other/   { websocket_exec_dir %%PREFIX%%/bin; websocket_exec_user daemon; }
EOT
chmod 0755, $ngx->prefix;

# By the descriptor, and by its name.
$ngx->program('notes', "#!/bin/sh\necho \"a \$(id -un)\" >&3\necho b >/dev/fd/3\necho done\n");

# What it is, and whether it can become more.
$ngx->program('who', <<'EOT');
#!/usr/bin/perl
use strict; use warnings;
$| = 1;
open my $in, '<', '/proc/self/status' or die;
while (<$in>) { my ($name, @values) = split; print join(' ', $name =~ s/://r, @values), "\n" if $name =~ /^(?:Uid|Gid|Groups|CapEff|CapPrm|NoNewPrivs):$/ }
{ local $! = 0; $> = 0; print 'back ', $> == 0 ? 'yes' : 'no', "\n"; }
my $log = `id -un 2>&1`; print "name $log";
EOT
# peek PID: what may be read of a process.
$ngx->program('peek', <<'EOT');
#!/usr/bin/perl
my $pid = $ARGV[0] eq 'self' ? $$ : $ARGV[0];
for my $file (qw(mem maps environ)) {
    open my $in, '<', "/proc/$pid/$file" or next;
    print "$file\n" if $file eq 'mem' || sysread $in, my $octet, 1;
}
print "fd\n" if opendir my $dir, "/proc/$pid/fd";
print "signal\n" if $pid != $$ && kill 0, $pid;
print "end\n";
EOT
$ngx->program('daemonize', <<'EOT');
#!/usr/bin/perl
use POSIX; $| = 1;
if (!fork) { POSIX::setsid(); exit if fork; $SIG{TERM} = 'IGNORE'; print "$$\n"; sleep 600; exit }
sleep 600;
EOT
$ngx->program('stubborn', "#!/usr/bin/perl\n\$| = 1; \$SIG{TERM} = 'IGNORE'; \$SIG{HUP} = 'IGNORE'; print \"\$\$\\n\"; sleep 1 while 1;\n");
$ngx->program('shared', "#!/usr/bin/perl\n\$| = 1; while (<STDIN>) { print \"\$> \$\$ \$_\" }\n");
$ngx->program('reopen', "#!/bin/sh\necho out >/dev/stdout; echo err >/dev/stderr; read x </dev/stdin; echo \$x\n");
$ngx->program('tty', "#!/bin/sh\nexec stat -c '%u %a' \$(tty)\n");
my $mine = $ngx->program('mine', "#!/bin/sh\necho mine\n");
chown $uid{games}, $gid{games}, $mine or die "chown: $!\n";
chmod 0500, $mine;
$ngx->start;

sub keepers { return grep { command($_) eq 'nginx: websocket keeper' && state($_) ne 'Z' } descendants($$) }

# of(uid): the spawners of a user.
sub of {
    my ($uid) = @_;

    return grep { (status_field($_, 'Uid') // -1) == $uid } grep { command($_) eq 'nginx: websocket spawner' } descendants($$);
}

# said(path): everything that a program said until it ended.
sub said {
    my ($path, $port) = @_;

    my $client = Ws::Client->open($port // $ngx->port, $path);
    my $close = $client->server_close;
    return join '', map { "$_->{payload}\n" } @{$client->{skipped}};
}

sub is_run_by {
    my ($path, $uid, $gid, $name) = @_;

    my $said = said($path);
    like($said, qr/^Uid $uid $uid $uid $uid$/m, 'user: real, effective, saved, of files');
    like($said, qr/^Gid $gid $gid $gid $gid$/m, 'group');
    like($said, qr/^CapEff 0+$/m, 'no capability');
    like($said, qr/^CapPrm 0+$/m, 'and none to be had');
    like($said, qr/^back no$/m, 'no way back');
    like($said, qr/^name $name$/m, 'the name');
    return $said;
}

sub status_of {
    my ($path, $port) = @_;

    return Ws::Client->connect(port => $port // $ngx->port)->handshake($path)->{status};
}

case 'the user of the workers where nothing is said' => sub { is_run_by('/own', $uid{nobody}, $gid{nobody}, 'nobody') };

case 'notes of another user, by a pipe and beside a terminal' => sub {
    for my $path ('/notes/pipe', '/notes/tty', under_valgrind() ? () : '/notes/dir/notes') {    # It does not know openat2(2).
        my $client = Ws::Client->open($ngx->port, $path);
        like($client->message->{payload}, qr/^done/);
        is($client->server_close, 'close 1000');
        is($ngx->await_access_log(qr/^\Q$path\E \[.*\]$/m), "$path [a=games b=]");
    }
};

case 'one user a location' => sub {
    my $said = is_run_by('/games', $uid{games}, $gid{games}, 'games');
    like($said, qr/^Groups $gid{games}$/m, 'its groups, and none of root or of the workers');
    like($said, qr/^NoNewPrivs 1$/m, 'set-user-ID programs give it nothing');
};
case 'another one' => sub { is_run_by('/daemon', $uid{daemon}, $gid{daemon}, 'daemon') };
case 'with a group' => sub { is_run_by('/group', $uid{games}, $gid{daemon}, 'games') };
case 'inside "if"' => sub {
    is_run_by('/if', $uid{games}, $gid{games}, 'games');
    is_run_by('/if?x=1', $uid{daemon}, $gid{daemon}, 'daemon');
};

case 'HOME, USER, LOGNAME and SHELL' => sub {
    my $said = said('/env');
    my $home = (getpwnam 'games')[7];
    for my $variable ("HOME=$home", 'USER=games', 'LOGNAME=games', 'SHELL=/bin/mine') {
        like($said, qr/^\Q$variable\E$/m, $variable);
    }
    is(() = $said =~ /^SHELL=/mg, 1, 'each once');
};

case 'what it may not look into, nor signal' => sub {
    my ($keeper) = keepers();
    my %process = (
        worker => ($ngx->workers)[0], keeper => $keeper, 'the spawner of another user' => (of($uid{daemon}))[0],
        'the spawner of the workers\' user' => (of($uid{nobody}))[0],
    );
    for my $name (sort keys %process) {
        like($process{$name}, qr/^\d+$/, "there is the $name");
        is(said("/peek?pid=$process{$name}"), "end\n", $name);
    }
    for my $pid (of($uid{games}), map { parent($_) } of($uid{games})) {
        # It runs as the same user, and may end what starts its programs.
        is(said("/peek?pid=$pid"), "signal\nend\n", 'its own spawner and guard');
    }
    is(said('/peek?pid=self'), "mem\nmaps\nenviron\nfd\nend\n", 'while nothing is wrong with the way of looking');
    like(said('/key'), qr/Permission denied/, 'the file of the key');
};

case 'the keeper has nothing but what it needs' => sub {
    plan skip_all => 'valgrind has signals and descriptors of its own' if under_valgrind();
    my @keepers = keepers();
    is(scalar @keepers, 1, 'there is one');
    my ($keeper) = @keepers;
    # CAP_SETGID and CAP_SETUID.
    is(status_field($keeper, $_), '00000000000000c0', $_) for qw(CapPrm CapEff);
    is(hex status_field($keeper, $_), 0, $_) for qw(CapInh CapBnd CapAmb);
    is(status_field($keeper, 'NoNewPrivs'), 1, 'no new privileges');
    is(status_field($keeper, 'SigCgt') =~ s/^0+//r, '', 'no handler of nginx');
    my $has = descriptors($keeper);
    my @other = grep { $_ ne '/dev/null' } values %$has;
    is(scalar @other, 1, 'one descriptor besides the null device') or diag(join ' ', @other);
    like($other[0], qr/^socket:/, 'its socket');
    my %inet;
    for my $table (qw(tcp tcp6)) {
        open my $in, '<', "/proc/net/$table" or next;
        while (<$in>) { my @f = split; $inet{"socket:[$f[9]]"} = 1 if defined $f[9] }
    }
    is_deeply([grep { $inet{$_} } @other], [], 'which is none that listens');
    is(readlink "/proc/$keeper/cwd", '/', 'its directory');
    isnt(parent($keeper), $ngx->master, 'no child of the master');
};

case 'the streams can be opened by name' => sub {
    my $client = Ws::Client->open($ngx->port, '/reopen');
    $client->send(text('in'));
    my $close = $client->server_close;
    is($close, 'close 1000');
    is(join(' ', sort map { $_->{payload} } @{$client->{skipped}}), 'err in out');
};

case 'stderr and the end are in the log' => sub {
    is(said('/err'), '');
    $ngx->await_log(qr/\[error\].*to the log/);
    $ngx->await_log(qr/\[error\].*ended by itself with exit 3/);
};

sub read_until {
    my ($client, $pattern) = @_;

    my $got = '';
    $got .= $client->message->{payload} while $got !~ $pattern;
    return $got;
}

case 'a terminal is the user\'s own' => sub {
    plan skip_all => no_terminals() if no_terminals();
    my $client = Ws::Client->open($ngx->port, '/tty');
    like(read_until($client, qr/\n/), qr/^$uid{games} 6[0-9]0\r\n$/, 'owner and mode');
    is($client->server_close, 'close 1000');
};

case 'a shell on a terminal: jobs, the size, opening it by name, hanging up' => sub {
    plan skip_all => no_terminals() if no_terminals();
    my $client = Ws::Client->open($ngx->port, '/sh');
    read_until($client, qr/ready:/);
    $client->send(text("\e[8;50;132t"), text("stty size\n"));
    like(read_until($client, qr/\d+ \d+\r\n/), qr/50 132\r\n/);
    $client->send(text("echo by-name >\$(tty); exec <\$(tty)\n"));
    like(read_until($client, qr/by-name\r\n.*ready:/s), qr/by-name\r\n/);
    $client->send(text("sleep 1000 &\n"), text("sleep 1000\n"));
    $ngx->await_programs(3);
    $client->reset;
    $ngx->await_programs(0);
};

case 'a terminal that clients share is the user\'s own' => sub {
    plan skip_all => no_terminals() if no_terminals();
    my @clients = map { Ws::Client->open($ngx->port, '/shared-sh') } 1 .. 2;
    read_until($_, qr/ready:/) for @clients;
    $clients[0]->send(text("\e[8;50;132t"), text("stat -c '%u is %U' \$(tty); stty size\n"));
    like(read_until($_, qr/\n\d+ \d+\r\n/), qr/\n$uid{games} is games\r\n50 132\r\n/) for @clients;
    $_->abandon for @clients;
    $ngx->await_programs(0);
};

case 'the client goes while the terminal is on its way' => sub {
    plan skip_all => no_terminals() if no_terminals();
    my @spawners = of($uid{games});
    kill 'STOP', @spawners;
    my @clients = map { Ws::Client->connect(port => $ngx->port) } 1 .. 6;
    $_->send(upgrade('/sh')) for @clients;
    select undef, undef, undef, 0.3;
    $_->reset for @clients;
    kill 'CONT', @spawners;
    my $client = Ws::Client->open($ngx->port, '/sh');
    read_until($client, qr/ready:/);
    $ngx->await_programs(1);
    $client->reset;
    ok($ngx->await_programs(0) == 0, 'nothing is left');
};

case 'the ladder, to the end' => sub {
    my $client = Ws::Client->open($ngx->port, '/stubborn');
    my $pid = $client->text;
    is(status_field($pid, 'Uid'), $uid{games});
    is($client->close(1000), 'close 1000');
    $ngx->await_programs(0);
};

case 'daemons are taken down' => sub {
    my $client = Ws::Client->open($ngx->port, '/daemonize');
    my $pid = $client->text;
    is(status_field($pid, 'Uid'), $uid{games});
    is($client->close(1000), 'close 1000');
    $ngx->await_programs(0);
};

case 'a program that clients share' => sub {
    my @clients = map { Ws::Client->open($ngx->port, '/shared') } 1 .. 3;
    $clients[0]->send(text('hello'));
    my %said = map { $_->text => 1 } @clients;
    is(scalar keys %said, 1, 'one program');
    like((keys %said)[0], qr/^$uid{games} \d+ hello$/, 'of the user');
    is($_->close(1000), 'close 1000') for @clients;
    $ngx->await_programs(0);
};

case 'limits' => sub {
    plan skip_all => 'valgrind does not let a process change its limit of descriptors' if under_valgrind();
    my $client = Ws::Client->open($ngx->port, '/one');
    is(status_of('/one'), 503, 'websocket_exec_max');
    is($client->close(1000), 'close 1000');
    is(said('/limit'), "77\n", 'websocket_exec_limit');
    $ngx->await_programs(0);
};

case 'it is the user that may execute a program' => sub {
    is(said('/mode'), "mine\n", 'its own');
    is(status_of('/not'), 500, 'that of another one');
    $ngx->await_log(qr/cannot start ".*mine": executing it failed \(Permission denied.*\), as user "daemon"/);
};

case 'websocket_exec_dir' => sub {
    plan skip_all => 'valgrind does not know openat2(2)' if under_valgrind();
    is(said('/dir/mine'), "mine\n", 'a program that the workers may not execute');
    is(status_of('/other/mine'), 403, 'one that the user may not');
    is(status_of('/dir/nothing'), 404, 'none');
};

case 'a worker is killed: nothing of its programs is left' => sub {
    my @clients = map { Ws::Client->open($ngx->port, $_) } ('/cat') x 4, ('/daemonize') x 2;
    $ngx->await_programs(8);
    my @workers = $ngx->workers;
    my %old = map { $_ => 1 } of($uid{games});
    kill 'KILL', @workers;
    $ngx->await_programs(0);
    await('the spawners to end', sub { !grep { $old{$_} } of($uid{games}) });
    await('new workers', sub { $ngx->workers == 2 });
    is(scalar keepers(), 1, 'the keeper stays');
    is_run_by('/games', $uid{games}, $gid{games}, 'games');
    $_->abandon for @clients;
};

case 'a spawner is killed: nothing of its programs is left, and the next one works' => sub {
    my $client = Ws::Client->open($ngx->port, '/daemonize');
    $client->text;
    my @spawners = of($uid{games});
    kill 'KILL', @spawners;
    like($client->server_close, qr/^close 1011/);
    $ngx->await_programs(0);
    $ngx->await_log(qr/the process that starts programs as user "games" is gone/);
    is_run_by('/games', $uid{games}, $gid{games}, 'games');
};

case 'reload: the user changes, programs that run do not' => sub {
    my $client = Ws::Client->open($ngx->port, '/cat');
    my ($pid) = $ngx->await_programs(1);
    my ($old) = keepers();
    $ngx->{server} =~ s{(location = /games .*websocket_exec_user) games}{$1 daemon} or die;
    $ngx->write_config;
    $ngx->reload;
    is_run_by('/games', $uid{daemon}, $gid{daemon}, 'daemon');
    is(scalar keepers(), 2, 'a keeper for each configuration');
    is(status_field($pid, 'Uid'), $uid{games}, 'the program goes on');
    $client->send(text('still'));
    is($client->text, 'still');
    is($client->close(1000), 'close 1000');
    await('the old keeper to end', sub { keepers() == 1 && (keepers())[0] != $old });
};

case 'a configuration that is refused leaves no keeper' => sub {
    my $server = $ngx->{server};
    $ngx->{server} .= 'location = /nosuch { websocket_exec /bin/cat; websocket_exec_user nosuchuser; }';
    $ngx->write_config;
    $ngx->signal('HUP');
    $ngx->await_log(qr/\[emerg\].*nosuchuser.*there is no such user/);
    $ngx->{server} = $server;
    $ngx->write_config;
    await('one keeper', sub { keepers() == 1 });
    is_run_by('/games', $uid{daemon}, $gid{daemon}, 'daemon');
    push @{$ngx->{noise}}, qr/no such user/;
};

case 'the keeper is killed: 503 and a line, until a reload' => sub {
    # Spawners that are there go on.
    my @keepers = keepers();
    kill 'KILL', @keepers;
    await('the keeper to be gone', sub { !keepers() });
    my @spawners = (of($uid{daemon}), of($uid{games}));
    kill 'KILL', @spawners;
    await('no spawner', sub { !of($uid{daemon}) && !of($uid{games}) });
    # Until a worker has noticed, nobody answers it.
    my $line = qr/\[error\].*as user "daemon" cannot be started.*websocket keeper.*reload nginx/;
    is(eval { await('the workers to notice', sub { status_of('/games') == 503 && $ngx->log =~ $line }) }, 1, 'answered 503');
    is_run_by('/own', $uid{nobody}, $gid{nobody}, 'nobody');
    $ngx->reload;
    is_run_by('/games', $uid{daemon}, $gid{daemon}, 'daemon');
    is(scalar keepers(), 1, 'a new one');
};

case 'a keeper that is stopped holds up nothing' => sub {
    $ngx->{server} =~ s{(location = /daemon \{)}{$1 websocket_exec_start_timeout 1s;} or die;
    $ngx->write_config;
    $ngx->reload;
    my @keepers = keepers();
    await('the old keeper to end', sub { (@keepers = keepers()) == 1 });
    kill 'STOP', @keepers;
    is(status_of('/daemon'), 504, 'a start that takes too long');
    is_run_by('/own', $uid{nobody}, $gid{nobody}, 'nobody');
    kill 'CONT', @keepers;
    is_run_by('/daemon', $uid{daemon}, $gid{daemon}, 'daemon');
};

case 'no keeper where no program needs one' => sub {
    $ngx->{server} = 'websocket_exec_user games; location = /own { websocket_channel x; }';
    $ngx->write_config;
    $ngx->reload;
    await('no keeper', sub { !keepers() });
    ok(1);
};

$ngx->stop;
is(scalar keepers(), 0, 'no keeper is left');

case 'a binary upgrade: the new master has a keeper of its own' => sub {
    my $up = Ws::Nginx->new(server => 'location = /cat { websocket_exec /bin/cat; websocket_exec_user games; }');
    $up->{port} = Ws::Nginx::free_port();
    # In the foreground nginx takes no upgrade as long as the process lives that has started it.
    $up->file('conf/nginx.conf', $up->config =~ s/daemon off/daemon on/r);
    is(system($up->command_line), 0, 'it goes to the background');
    ($up->{master}) = await('its number', sub { $up->read_file('nginx.pid') =~ /^(\d+)$/m ? $1 : undef });
    await('its worker', sub { $up->workers == 1 });
    is(scalar keepers(), 1, 'with a keeper');
    my $client = Ws::Client->open($up->port, '/cat');
    my ($old) = keepers();
    $up->signal('USR2');
    my ($new) = await('a new master',
        sub { (grep { command($_) =~ /^nginx: master/ } Ws::Process::children($up->master))[0] });
    await('its keeper', sub { keepers() == 2 });
    await('its workers', sub { grep { command($_) =~ /^nginx: worker/ } Ws::Process::children($new) });
    $up->signal('QUIT');
    $client->send(text('still'));
    is($client->text, 'still', 'the program goes on');
    is($client->close(1000), 'close 1000');
    await('the old master to end', sub { waitpid($up->master, POSIX::WNOHANG()) == $up->master });
    await('the old keeper to end', sub { keepers() == 1 && (keepers())[0] != $old });
    $up->{master} = $new;
    my $next = Ws::Client->open($up->port, '/cat');
    my ($pid) = $up->await_programs(1);
    is(status_field($pid, 'Uid'), $uid{games});
    is($next->close(1000), 'close 1000');
    $up->stop;
};

case 'without a master' => sub {
    my $alone = Ws::Nginx->new(server => 'location = /cat { websocket_exec /bin/cat; websocket_exec_user games; }');
    $alone->{port} = Ws::Nginx::free_port();
    $alone->file('conf/nginx.conf', $alone->config =~ s/master_process on/master_process off/r);
    defined(my $master = fork) or die "fork: $!\n";
    if (!$master) {
        open STDOUT, '>>', $alone->prefix . '/stdout.log';
        open STDERR, '>&', \*STDOUT;
        exec $alone->command_line or POSIX::_exit(127);
    }
    $alone->{master} = $master;
    await('it to listen', sub { $alone->accepts });
    my $client = Ws::Client->open($alone->port, '/cat');
    my ($pid) = $alone->await_programs(1);
    is(status_field($pid, 'Uid'), $uid{games});
    is($client->close(1000), 'close 1000');
    $alone->await_programs(0);
    $alone->stop;
};

# What "nginx -t" says.
sub refused {
    my ($name, $directive, @expected) = @_;

    case $name => sub {
        my $at_t = Ws::Nginx->new(server => "location / { websocket_exec /bin/cat; $directive }");
        my ($status, $said) = $at_t->check_config;
        isnt($status, 0, 'refused');
        my ($line) = $said =~ /(\[emerg\].*)/;
        like($line, $_) for @expected, qr{ in \S+/conf/nginx\.conf:\d+$};
    };
}

refused('an unknown user', 'websocket_exec_user nosuchuser;', qr/"nosuchuser" in "websocket_exec_user" directive: there is no such user/);
refused('an unknown group', 'websocket_exec_user games nosuchgroup;', qr/"nosuchgroup" in "websocket_exec_user" directive: there is no such group/);
refused('root', 'websocket_exec_user root;', qr/"root".*not started as root/);
refused('the group of root', 'websocket_exec_user games root;', qr/"root".*group of root/);
refused('twice', 'websocket_exec_user games; websocket_exec_user daemon;', qr/is duplicate/);
refused('off', 'websocket_exec_user off;', qr/"off".*name of a user/);

case 'not as root' => sub {
    my $at_t = Ws::Nginx->new(server => 'location / { websocket_exec /bin/cat; websocket_exec_user games; }');
    $at_t->write_config;
    system('chown', '-R', 'nobody', $at_t->prefix) == 0 or die "chown\n";
    my @command = ($at_t->command_line, '-t');
    my $said = do {
        open my $in, '-|', 'setpriv', '--reuid=nobody', "--regid=$nogroup", '--clear-groups', 'sh', '-c', 'exec "$0" "$@" 2>&1', @command
            or die "setpriv: $!\n";
        local $/; <$in> // '';
    };
    like($said, qr/\[emerg\].*"websocket_exec_user" directive: only a master process that runs as root/);
};

case 'what is looked at is what the user may do' => sub {
    my $at_t = Ws::Nginx->new(server => <<'EOT');
    location = /games  { websocket_exec %%PREFIX%%/bin/mine; websocket_exec_user games; }
    location = /daemon { websocket_exec %%PREFIX%%/bin/mine; websocket_exec_user daemon; }
EOT
    my $file = $at_t->program('mine', "#!/bin/sh\n");
    chown $uid{games}, $gid{games}, $file;
    chmod 0500, $file;
    my ($status, $said) = $at_t->check_config;
    is($status, 0, 'accepted');
    my @warnings = $said =~ /(\[warn\].*)/g;
    is(scalar @warnings, 1, 'one warning') or diag($said);
    like($warnings[0] // '', qr/mine" in "websocket_exec" directive cannot be started: Permission denied.*, as user "daemon"/);
    is(scalar keepers(), 0, 'a test makes no keeper');
};

done_testing();
