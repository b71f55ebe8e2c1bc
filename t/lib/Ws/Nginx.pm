package Ws::Nginx;

# An nginx of the test's own: master and workers, on ports of its own, in a private directory, in the
# foreground as a child of the test. The test process is a child subreaper, so everything that this nginx ever started
# stays among the test's descendants, however its parents died: nothing can get lost unseen.

use strict;
use warnings;

use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename qw(dirname);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use IO::Socket::INET;
use POSIX qw(WNOHANG);
use Test::More;
use Time::HiRes qw(time sleep);

use Ws::Process qw(become_subreaper descendants children parent exe state command status_field written);

our @EXPORT = qw(no_terminals await await_paused case instrumented under_valgrind grew_less nginx_version nginx_has module_file main_modules);

my $ROOT = abs_path(dirname(__FILE__) . '/../../..');

# Seconds until a wait is given up. Nobody who passes waits for it.
our $TIMEOUT = instrumented() ? 60 : 15;

become_subreaper();

# instrumented(): whether this nginx runs under AddressSanitizer or valgrind, where memory is not what it seems and time goes
# slowly.
sub instrumented { return $ENV{ASAN_OPTIONS} || under_valgrind() ? 1 : 0 }

# under_valgrind(): whether it runs under valgrind, which does not know every system call.
sub under_valgrind { return binary() =~ /valgrind/ ? 1 : 0 }

sub binary { return $ENV{TEST_NGINX_BINARY} || 'nginx' }

# nginx_version(): the number of the nginx under test, as 1022001 for 1.22.1.
sub nginx_version {
    my $said = `${\ binary()} -v 2>&1`;
    my ($major, $minor, $patch) = $said =~ m{/(\d+)\.(\d+)\.(\d+)} or die "no version from " . binary() . ": $said\n";
    return ($major * 1000 + $minor) * 1000 + $patch;
}

# nginx_has(argument): whether nginx was configured with it.
sub nginx_has {
    my ($argument) = @_;

    my $said = `${\ binary()} -V 2>&1`;
    return $said =~ /\Q$argument\E(?![\w-])/ ? 1 : 0;
}

# no_terminals(): why this machine has no pseudo-terminals; false if it has.
sub no_terminals {
    CORE::open my $ptmx, '+<', '/dev/ptmx' or return "no pseudo-terminals, /dev/ptmx: $! (is devpts mounted on /dev/pts?)";
    return '';
}

# module_file(): the module under test.
sub module_file {
    my ($given) = grep { m{ws_exec[^/]*\.so$} } split ' ', $ENV{TEST_NGINX_LOAD_MODULES} // '';
    return $given if $given;

    for my $file ("$ROOT/target/ngx_ws_exec.so", "$ROOT/target/release/libngx_ws_exec.so") {
        return $file if -e $file;
    }
    die "no module: make module\n";
}

# main_modules(): the lines that load the module under test; none where it is linked into nginx.
sub main_modules {
    return '' if $ENV{TEST_WS_STATIC};
    my @files = $ENV{TEST_NGINX_LOAD_MODULES} ? split(' ', $ENV{TEST_NGINX_LOAD_MODULES}) : module_file();
    return join '', map { "load_module $_;\n" } @files;
}

# await(what, condition, timeout): looks until the condition holds and returns what it returned. Dies at the deadline.
sub await {
    my ($what, $condition, $timeout) = @_;

    my $deadline = time + ($timeout // $TIMEOUT);
    my $pause = 0.002;
    while (1) {
        my $value = $condition->();
        return $value if $value;
        die "deadline: $what\n" if time > $deadline;
        sleep $pause;
        $pause *= 1.3 if $pause < 0.03;
    }
}

# await_paused(pid): until a program that writes without end cannot write on. Returns how much it has written.
sub await_paused {
    my ($pid) = @_;

    # A busy machine may let the worker wait for a moment, or the program.
    my ($last, $same) = (-1, 0);
    await('the program to be paused', sub {
        my $now = written($pid);
        $same = $now == $last ? $same + 1 : 0;
        $last = $now;
        sleep 0.2;
        return $same == 4;
    });
    return $last;
}

# case(name, code): one row of a table, its own subtest. An exception in it fails it and the rest goes on.
sub case {
    my ($name, $code) = @_;

    my $builder = Test::More->builder;
    return subtest $name => sub {
        my $ok = eval { $code->(); 1 };
        if (!$ok) {
            my $error = $@;
            chomp $error if !ref $error;
            fail($error);
        }
        done_testing();
    };
}

# grew_less(pid, before, limit, name): its resident memory has grown by less than so many kB since it was "before".
sub grew_less {
    my ($pid, $before, $limit, $name) = @_;

    my $grown = status_field($pid, 'VmRSS') - $before;
    return pass("$name (not measured)") if instrumented();
    return cmp_ok($grown, '<', $limit, "$name: $grown kB more");
}

# new(name => value ...): writes the configuration, starts nothing.
#   main, events, http    text for these contexts; without "events" that is TEST_WS_EVENTS
#   server                text for the server that listens on {port}, and on {tls_port} by TLS where "tls" is true
#   listen                options of the plain one
#   workers               how many, 1 by default
#   connections           worker_connections, 1024 by default
#   level                 of the error log: else the one of TEST_WS_LOG_LEVEL, else "info"
#   modules               load_module lines in place of the usual
#   noise                 patterns for [alert], [crit] and [emerg] lines that this test provokes
#   user                  whom the workers run as, if the test runs as root; root by default
#   nofile                RLIMIT_NOFILE, by worker_rlimit_nofile
#   through               a command to start nginx through, such as prlimit
#   env                   variables to start nginx with: { name => value }
#   whole                 a configuration in place of all that, which must have error_log in the prefix and no load_module
# In the texts, %%PREFIX%%, %%PORT%% and %%TLS_PORT%% are replaced.
sub new {
    my ($class, %opt) = @_;

    my $prefix = tempdir('ngx-ws-XXXXXXXX', TMPDIR => 1, CLEANUP => 1);
    chmod 0755, $prefix;
    make_path("$prefix/conf", "$prefix/html", "$prefix/temp");

    return bless {
        workers     => 1,
        connections => 1024,
        level       => $ENV{TEST_WS_LOG_LEVEL} || 'info',
        noise       => [],
        %opt,
        prefix      => $prefix,
        owner       => $$,
    }, $class;
}

# example(name, name => value ...): conf/NAME.conf in place of a configuration; nothing is started. "edit" is called with the
# text in $_ and may change it.
sub example {
    my ($class, $name, %opt) = @_;

    my $edit = delete $opt{edit};
    my $self = ref $class ? $class : $class->new(%opt);
    my $conf = "$ROOT/conf";
    CORE::open(my $in, '<', "$conf/$name.conf") or die "$conf/$name.conf: $!\n";
    local $_ = do { local $/; <$in> };
    $edit->() if $edit;
    s/\@conf\@/$conf/g;
    s/\@prefix\@/$self->{prefix}/g;
    # What an example with several nodes needs is given by `edit`; without it, it can be checked and not used.
    s/\@redis\@/$self->{prefix}redis/g;
    s/\@other\@/1/g;
    s/\@port\@/%%PORT%%/g;
    $self->{whole} = $_;
    return $self;
}

# start(name => value ...): a running nginx, whose workers accept.
sub start {
    my ($class, %opt) = @_;

    my $self = ref $class ? $class : $class->new(%opt);

    for my $try (1 .. 5) {
        $self->{port} = free_port();
        $self->{tls_port} = free_port() if $self->{tls};
        $self->write_config;
        return $self if $self->launch;
        # Somebody else was given the port between our look and nginx's bind.
        die "nginx does not start:\n" . $self->log if $self->log !~ /Address already in use/;
        unlink "$self->{prefix}/error.log";
    }
    die "no port to be had\n";
}

# Ports that this process has handed out.
my %given;

# Below the ports that the kernel gives to outgoing connections: one of those could take the port before nginx has it.
sub free_port {
    CORE::open my $range, '<', '/proc/sys/net/ipv4/ip_local_port_range' or die "ip_local_port_range: $!\n";
    my ($end) = split ' ', <$range>;
    my $first = 10_240;
    die "no ports below those of outgoing connections\n" if $end < $first + 1_000;
    for (1 .. 1_000) {
        my $port = $first + int rand($end - $first);
        next if $given{$port}++;
        return $port if IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', LocalPort => $port);
    }
    die "no free port\n";
}

sub port     { return $_[0]{port} }
sub tls_port { return $_[0]{tls_port} }
sub prefix   { return $_[0]{prefix} }
sub master   { return $_[0]{master} }

# file(name, content, mode): a file below the prefix. Returns its path.
sub file {
    my ($self, $name, $content, $mode) = @_;

    my $path = "$self->{prefix}/$name";
    make_path(dirname($path));
    CORE::open(my $out, '>:raw', $path) or die "$path: $!\n";
    print $out $content or die "$path: $!\n";
    close $out or die "$path: $!\n";
    chmod $mode, $path if defined $mode;
    return $path;
}

# program(name, content): an executable below the prefix. Returns its path.
sub program {
    my ($self, $name, $content) = @_;

    return $self->file("bin/$name", $content, 0755);
}

sub read_file {
    my ($self, $name) = @_;

    CORE::open(my $in, '<:raw', "$self->{prefix}/$name") or return '';
    local $/;
    return scalar(<$in>) // '';
}

sub log        { return $_[0]->read_file('error.log') }
sub access_log { return $_[0]->read_file('access.log') }

# await_log(pattern, timeout): the first match in the error log.
sub await_log {
    my ($self, $pattern, $timeout) = @_;

    return await("a line like $pattern in the error log",
        sub { $self->log =~ /($pattern)/ ? $1 : undef }, $timeout);
}

sub await_access_log {
    my ($self, $pattern, $timeout) = @_;

    return await("a line like $pattern in the access log",
        sub { $self->access_log =~ /($pattern)/ ? $1 : undef }, $timeout);
}

# config(): the whole file.
sub config {
    my ($self) = @_;

    my $modules = $self->{modules} // main_modules();
    my $user = $> == 0 ? 'user ' . ($self->{user} // 'root') . ';' : '';
    if ($self->{whole}) {
        return "daemon off;\n$user\n$modules" . ($self->{whole} =~ s/%%PORT%%/$self->{port}/gr);
    }
    my $main = $self->{main} // '';
    my $nofile = $self->{nofile} ? "worker_rlimit_nofile $self->{nofile};" : '';
    my $listen = "listen 127.0.0.1:$self->{port} " . ($self->{listen} // '') . ';';
    if ($self->{tls}) {
        my $options = $self->{tls_listen} // 'ssl';
        $listen .= "\n        listen 127.0.0.1:$self->{tls_port} $options;"
            . "\n        ssl_certificate $self->{prefix}/cert.pem;"
            . "\n        ssl_certificate_key $self->{prefix}/key.pem;";
    }
    my $http = $self->{http} // '';
    my $server = $self->{server} // '';
    my $events = $self->{events} // $ENV{TEST_WS_EVENTS} // '';
    my $access_log = $http =~ /\baccess_log\b/ ? '' : "access_log $self->{prefix}/access.log;";

    my $text = <<"EOT";
daemon off;
master_process on;
worker_processes $self->{workers};
pid %%PREFIX%%/nginx.pid;
error_log %%PREFIX%%/error.log $self->{level};
$user
$nofile
$modules
$main
events {
    worker_connections $self->{connections};
    $events
}
http {
    $access_log
    client_body_temp_path %%PREFIX%%/temp/body;
    proxy_temp_path %%PREFIX%%/temp/proxy;
    fastcgi_temp_path %%PREFIX%%/temp/fastcgi;
    uwsgi_temp_path %%PREFIX%%/temp/uwsgi;
    scgi_temp_path %%PREFIX%%/temp/scgi;
    default_type text/plain;
    root %%PREFIX%%/html;
$http
    server {
        $listen
        server_name localhost;
$server
    }
}
EOT
    $text =~ s/%%PREFIX%%/$self->{prefix}/g;
    $text =~ s/%%PORT%%/$self->{port}/g;
    $text =~ s/%%TLS_PORT%%/$self->{tls_port}/g if $self->{tls};
    return $text;
}

sub write_config {
    my ($self) = @_;

    $self->{port} //= 1;
    if ($self->{tls} && !-e "$self->{prefix}/cert.pem") {
        $self->certificate;
    }
    $self->file('conf/nginx.conf', $self->config);
}

sub certificate {
    my ($self) = @_;

    require IO::Socket::SSL::Utils;
    my ($cert, $key) = IO::Socket::SSL::Utils::CERT_create(
        subject => { commonName => 'localhost' },
        key     => IO::Socket::SSL::Utils::KEY_create_ec('prime256v1'),
    );
    $self->file('cert.pem', IO::Socket::SSL::Utils::PEM_cert2string($cert));
    $self->file('key.pem', IO::Socket::SSL::Utils::PEM_key2string($key), 0600);
}

sub command_line {
    my ($self) = @_;

    return (binary(), '-p', "$self->{prefix}/", '-c', "$self->{prefix}/conf/nginx.conf",
        '-e', "$self->{prefix}/error.log");
}

# launch(): starts nginx and waits until it has its workers. False when it exited instead.
sub launch {
    my ($self) = @_;

    defined(my $pid = fork) or die "fork: $!\n";
    if (!$pid) {
        CORE::open(STDIN, '<', '/dev/null');
        CORE::open(STDOUT, '>>', "$self->{prefix}/stdout.log");
        CORE::open(STDERR, '>>', "$self->{prefix}/stdout.log");
        $SIG{PIPE} = 'DEFAULT';
        delete @ENV{qw(NGINX NGINX_BUILD_DIR NGINX_SOURCE_DIR)};
        my %env = %{$self->{env} // {}};
        @ENV{keys %env} = values %env;
        exec @{$self->{through} // []}, $self->command_line or POSIX::_exit(127);
    }
    $self->{master} = $pid;

    return await('nginx to start its workers', sub {
        if (waitpid($pid, WNOHANG) == $pid) {
            delete $self->{master};
            return 'gone';
        }
        return $self->workers == $self->{workers} && $self->accepts ? 'up' : undef;
    }) eq 'up';
}

sub accepts {
    my ($self) = @_;

    return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{port}) ? 1 : 0;
}

# Workers rename themselves, which tells them from a master that has just forked. Those that are shutting down are
# not counted.
sub workers {
    my ($self) = @_;

    return if !$self->{master};
    return grep { command($_) =~ /^nginx: worker process(?! is)/ } children($self->{master});
}

sub old_workers {
    my ($self) = @_;

    return grep { command($_) =~ /^nginx: worker process is shutting down/ } children($self->{master});
}

# spawners(): the processes that start programs. They leave their worker's side, so that its SIGCHLD handler has nothing to say
# about them; the test inherits them.
sub spawners {
    return grep { is_spawner($_) && !is_spawner(parent($_)) } descendants($$);
}

sub is_spawner { return command($_[0]) =~ /^nginx: \S*\s?spawner/ && state($_[0]) ne 'Z' }

# programs(): everything alive that this test has started and that is not nginx.
sub programs {
    my ($self) = @_;

    my $nginx = exe($self->{master});
    return grep { state($_) ne 'Z' && exe($_) && exe($_) ne $nginx } descendants($$);
}

# await_programs(n): until exactly so many programs run.
sub await_programs {
    my ($self, $count, $timeout) = @_;

    my @programs;
    eval { await("$count programs", sub { (@programs = $self->programs) == $count }, $timeout) }
        or die $@ =~ s/\n//r . ', but ' . @programs . ': ' . join(', ', map { substr command($_), 0, 60 } @programs[0 .. ($#programs > 4 ? 4 : $#programs)]) . "\n";
    return @programs;
}

# await_command(pattern): until one of the programs has become this command. What a shell has forked only is not in the foreground of
# its terminal yet.
sub await_command {
    my ($self, $pattern) = @_;

    return await("a program like $pattern", sub { scalar grep { command($_) =~ $pattern } $self->programs });
}

sub zombies {
    my ($self) = @_;

    # Those that the test itself inherited are for the test to reap.
    return grep { state($_) eq 'Z' && parent($_) != $$ } descendants($$);
}

# no_zombies(): a test that they are reaped; it takes their parents a moment.
sub no_zombies {
    my ($self) = @_;

    return ok(eval { await('zombies to be reaped', sub { !$self->zombies }) }, 'no zombie');
}

sub signal {
    my ($self, $signal) = @_;

    kill $signal, $self->{master} or die "kill: $!\n";
}

# reload(): HUP, and waits until only new workers accept; old ones may still be shutting down.
sub reload {
    my ($self) = @_;

    my %old = map { $_ => 1 } $self->workers;
    $self->signal('HUP');
    await('new workers', sub {
        my @now = $self->workers;
        return @now == $self->{workers} && !grep { $old{$_} } @now;
    });
}

# check_config(): "nginx -t": its exit status and what it said.
sub check_config {
    my ($self) = @_;

    $self->write_config;
    my ($binary, @arguments) = $self->command_line;
    CORE::open(my $said, '-|', 'sh', '-c', 'exec "$0" -t "$@" 2>&1', $binary, @arguments) or die "nginx -t: $!\n";
    my $text = do { local $/; <$said> } // '';
    CORE::close($said);
    return ($? >> 8, $text);
}

# stop(signal): ends nginx, and checks what every test must leave behind: nothing but an error log without [alert], [crit]
# and [emerg]. Two tests.
sub stop {
    my ($self, $signal) = @_;

    my $master = $self->{master} or return;
    kill $signal // 'TERM', $master if ($signal // '') ne 'gone';
    my $gone = eval { await('nginx to exit', sub { waitpid($master, WNOHANG) == $master }); 1 };
    my $status = $gone ? $? : 'none';
    if (!$gone) {
        diag('nginx had to be killed');
        kill 'KILL', $master;
        waitpid $master, 0;
    }
    delete $self->{master};

    $self->leaves_nothing;
    is($status, 0, 'nginx ends with status 0');
    $self->log_is_clean;
}

# leaves_nothing(): no process is left of all that this test started; those that are get killed.
sub leaves_nothing {
    my ($self) = @_;

    my $gone = eval { await('all processes to end', sub { reap(); !descendants($$) }, $self->{grace}); 1 };
    my @left = $gone ? () : descendants($$);
    ok($gone, 'no process is left') or do {
        for my $pid (@left) {
            diag("left: $pid " . state($pid) . ' ' . command($pid));
            kill 'KILL', $pid;
        }
        await('the rest to go', sub { reap(); !descendants($$) });
    };
}

sub reap {
    1 while waitpid(-1, WNOHANG) > 0;
}

sub log_is_clean {
    my ($self) = @_;

    # Processes that look for leaks when they end do so for longer than the master may wait for them.
    my @slow = instrumented() ? qr/(?:worker|cache manager|cache loader) process \d+ exited on signal 9/ : ();
    my @bad = grep {
        my $line = $_;
        $line =~ /\[(?:alert|crit|emerg)\]|panicked|AddressSanitizer/ && !grep { $line =~ $_ } @{$self->{noise}}, @slow;
    } split /\n/, $self->log;
    is(scalar @bad, 0, 'nothing in the error log but what was to be expected') or diag(join "\n", @bad[0 .. ($#bad > 9 ? 9 : $#bad)]);
}

# A test that dies must not leave its nginx running.
sub DESTROY {
    my ($self) = @_;

    return if !$self->{master} || $self->{owner} != $$;
    local ($?, $@, $!);
    kill 'KILL', descendants($$);
    reap();
}

1;
