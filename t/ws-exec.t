# ws-exec, the command that runs nginx for one program: flags of websocketd, arguments of any octets, and nothing that is left.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Cwd qw(abs_path);
use File::Temp qw(tempdir);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Process ();

my ($command) = grep { $_ && -x } $ENV{TEST_WS_COMMAND}, map { abs_path('target') . "/$_" } qw(ws-exec debug/ws-exec);
plan skip_all => 'ws-exec was not built' if !$command;
plan skip_all => 'the command waits only so long for nginx, and valgrind takes longer' if under_valgrind();

my $dir = tempdir('ws-exec-t-XXXXXXXX', TMPDIR => 1, CLEANUP => 1);
my $home = abs_path('.');
mkdir "$dir/$_" or die "mkdir: $!\n" for qw(tmp www cgi bin);
$ENV{TMPDIR} = "$dir/tmp";
$ENV{WS_EXEC_NGINX} = Ws::Nginx::binary();
$ENV{WS_EXEC_MODULE} = module_file() if !$ENV{TEST_WS_STATIC};
delete $ENV{NGINX};

sub spew {
    my ($name, $text, $mode) = @_;

    open my $out, '>', "$dir/$name" or die "$name: $!\n";
    print {$out} $text;
    close $out or die "$name: $!\n";
    chmod $mode // 0644, "$dir/$name";
    return "$dir/$name";
}

sub slurp {
    my ($file) = @_;

    open my $in, '<', $file or die "$file: $!\n";
    local $/;
    return scalar <$in>;
}

my $show = spew('bin/show', <<'EOT', 0755);
#!/usr/bin/perl
$| = 1;
print scalar(@ARGV), "\n";
print unpack('H*', $_), "\n" for @ARGV;
print "$_=$ENV{$_}\n" for sort keys %ENV;
print "cwd=", readlink('/proc/self/cwd'), "\nend\n";
print while <STDIN>;
EOT
spew('www/index.html', "a page\n");
spew('cgi/script', "#!/bin/sh\necho 'Content-Type: text/plain'\necho\necho \"\$REQUEST_METHOD \$QUERY_STRING \$SECRET\"\ncat\n", 0755);

my ($running, $port);

# start(arguments): the command on a free port of the loopback address, when it has said where it listens.
sub start {
    $port = Ws::Nginx::free_port();
    spew($_, '') for qw(out err);
    my $pid = fork() // die "fork: $!\n";
    if (!$pid) {
        chdir $dir;
        open STDOUT, '>', "$dir/out" or die "out: $!\n";
        open STDERR, '>', "$dir/err" or die "err: $!\n";
        exec $command, "--port=$port", '--address=127.0.0.1', @_ or die "$command: $!\n";
    }
    $running = $pid;
    await('the address', sub {
        return 1 if slurp("$dir/out") =~ m{^wss://127\.0\.0\.1:$port/\n}m || slurp("$dir/out") =~ m{^ws://127\.0\.0\.1:$port/\n}m;
        die "it has ended: " . slurp("$dir/err") . "\n" if waitpid($pid, 1) == $pid;
        return 0;
    }, 30);
    return;
}

# stop(signal): tells it to end, and looks whether it leaves anything. Its status.
sub stop {
    my ($signal) = @_;

    my @below = Ws::Process::descendants($running);
    kill $signal // 'INT', $running;
    waitpid $running, 0;
    my $status = $?;
    $running = undef;
    is_deeply([glob "$dir/tmp/ws-exec.*"], [], 'no file is left');
    is_deeply([grep { Ws::Process::state($_) !~ /^Z?$/ } @below], [], 'no process is left');
    return $status;
}

END { kill 'KILL', $running if $running }

# lines(client): what a program says up to the line "end".
sub lines {
    my ($client) = @_;

    my @lines;
    while ((my $line = $client->text) ne 'end') { push @lines, $line }
    return @lines;
}

sub refused {
    my (@arguments) = @_;

    my $pid = open(my $out, '-|') // die "fork: $!\n";
    if (!$pid) {
        open STDERR, '>&', \*STDOUT or die "dup: $!\n";
        exec $command, @arguments or die "$command: $!\n";
    }
    local $/;
    my $said = <$out>;
    close $out;
    return ($? >> 8, $said);
}

my @arguments = (
    '', ' ', '$', '$HOME ${HOME} $1 $$', '"', "'", '\\', '\\n', '\\"', ';', '{', '}', '#', "two\nlines", "\r\t", "\x{7f}\x80\xff", '*',
    '-x', '--port=1', 'a$' x 120, '$' x 5_000, '"' x 4_000, '\\' x 4_000, 'x' x 20_000,
);

case 'arguments are what they are' => sub {
    start($show, @arguments);
    my $client = Ws::Client->open($port, '/');
    my ($count, @got) = lines($client);
    is($count, scalar @arguments, 'their number');
    is($got[$_], unpack('H*', $arguments[$_]), "the one with index $_") for 0 .. $#arguments;
    $client->close(1000);
    await('the line of the session', sub { slurp("$dir/out") =~ /session 127\.0\.0\.1 "\/" pid \d+, .* closed 1000 by client/ });
    is(stop(), 0, 'its status');
};

case 'the configuration that it shows is one' => sub {
    my ($status, $said) = refused('--print-config', '--port=1', '--cgidir', "$dir/cgi", '--origin=a,b:81', '--sameorigin',
        '--header=A: b', '--header-ws=C: $d', '--closems=5', '--pingms=900', '--maxframesize=100', $show, @arguments);
    is($status, 0, 'its status');
    mkdir "$dir/shown" or die "mkdir: $!\n";
    spew('shown/nginx.conf', $said);
    $said = `$ENV{WS_EXEC_NGINX} -p $dir/shown -c $dir/shown/nginx.conf -e stderr -t 2>&1`;
    SKIP: {
        skip 'the module is linked into this nginx', 1 if $ENV{TEST_WS_STATIC};
        like($said, qr/syntax is ok/, 'nginx takes it');
    }
};

case 'what a program gets' => sub {
    local $ENV{SECRET} = ' of the caller ';
    local $ENV{OTHER} = 'x';
    start('--passenv', 'PATH,SECRET', '--reverselookup', 'bin/show');
    my $client = Ws::Client->open($port, '/some/path?a=b', headers => [Host => 'example.com:81']);
    my %env = map { split /=/, $_, 2 } grep { /=/ } lines($client);
    my %expected = (
        SECRET => 'of the caller', PATH => $ENV{PATH}, SCRIPT_NAME => '/', PATH_INFO => '/some/path', QUERY_STRING => 'a=b',
        REMOTE_ADDR => '127.0.0.1', SERVER_PORT => $port, SERVER_NAME => 'example.com', cwd => $dir,
    );
    is($env{$_}, $expected{$_}, $_) for sort keys %expected;
    ok(!exists $env{OTHER}, 'nothing else');
    my $name = gethostbyaddr("\x7f\0\0\1", 2) // '127.0.0.1';
    is($env{REMOTE_HOST}, $name, 'the name of the address');
    $client->abandon;
    is(stop('TERM'), 0, 'its status');
};

case 'a directory of programs, and one of pages' => sub {
    start("--dir=bin", '--static', 'www', '--header-http=X-Kind: http', '--header-ws=X-Kind: $ws', '--header', 'X-All: "a;b"');
    my $client = Ws::Client->open($port, '/show/more');
    is($client->header('x-kind'), '$ws', 'a header of handshakes');
    is($client->header('x-all'), '"a;b"', 'a header of all');
    ok(scalar(grep { $_ eq 'PATH_INFO=/more' } lines($client)), 'the program');
    $client->abandon;
    my $page = request($port, 'GET', '/');
    is($page->{body}, "a page\n", 'the page');
    is($page->{headers}{'x-kind'}[0], 'http', 'a header of answers that are no handshakes');
    is($page->{headers}{'content-type'}[0], 'text/html', 'its type');
    is(Ws::Client->connect(port => $port)->handshake('/nothing')->{status}, 404, 'no program');
    stop();
};

case 'scripts' => sub {
    local $ENV{SECRET} = 'passed';
    start('--cgidir=cgi', '--staticdir=www', '--passenv=PATH,SECRET', $show);
    my $got = request($port, 'POST', '/script?a=b', body => 'sent');
    is($got->{body}, "POST a=b passed\nsent", 'its answer');
    is(request($port, 'GET', '/index.html')->{body}, "a page\n", 'a page beside them');
    is(request($port, 'GET', '/missing')->{status}, 404, 'neither');
    my $client = Ws::Client->open($port, '/script');
    ok(scalar(lines($client)), 'a handshake is for the program');
    $client->abandon;
    stop();
};

# status(path, origin): the answer to a handshake from a page of this origin.
sub status {
    my ($origin) = @_;

    my $client = Ws::Client->connect(port => $port);
    my $status = $client->handshake('/', headers => [Host => 'own.example:81', defined $origin ? (Origin => $origin) : ()])->{status};
    $client->abandon;
    return $status;
}

case 'origins' => sub {
    start('/bin/cat');
    is(status('https://any.example'), 101, 'any, if nothing is said');
    stop();

    start('--origin=a.example,b.example:82,https://c.example', '/bin/cat');
    is(status('http://a.example:7'), 101, 'any port');
    is(status('http://b.example:82'), 101, 'this port');
    is(status('http://b.example:83'), 403, 'another port');
    is(status('https://c.example'), 101, 'this scheme');
    is(status('http://c.example'), 403, 'another scheme');
    is(status('http://x.a.example'), 403, 'another host');
    is(status(undef), 403, 'no origin');
    stop();

    start('--sameorigin', '--origin=own.example', '/bin/cat');
    is(status('http://own.example:81'), 101, 'the same, and in the list');
    is(status('http://own.example:82'), 403, 'another port');
    is(status(undef), 403, 'no origin');
    stop();

    start('--sameorigin', '--origin=other.example', '/bin/cat');
    is(status('http://own.example:81'), 403, 'the same, but not in the list');
    stop();
};

case 'octets and limits' => sub {
    start('--binary', '--maxforks=1', '--console', '/bin/cat');
    my $client = Ws::Client->open($port, '/');
    $client->send(Ws::Frame::frame(Ws::Frame::BINARY(), "\0\xff"));
    is($client->message->{payload}, "\0\xff", 'octets');
    is(Ws::Client->connect(port => $port)->handshake('/')->{status}, 503, 'one more program');
    $client->abandon;
    my $page = request($port, 'GET', '/', Accept => 'text/html');
    is($page->{status}, 200, 'a page to try it with');
    stop();
};

case 'both outputs' => sub {
    start('--passstderr', '/bin/sh', '-c', 'echo "a \"b\""; read x; echo "$x" >&2; read x; exit 3');
    my $client = Ws::Client->open($port, '/');
    is($client->text, '{"stream":"stdout","data":"a \"b\""}', 'standard output');
    $client->send(text('hello'));
    is($client->text, '{"stream":"stderr","data":"hello"}', 'standard error');
    $client->abandon;
    stop();
};

case 'TLS, and the way to it' => sub {
    my $other = Ws::Nginx->new;
    $other->certificate;
    my $redirect = Ws::Nginx::free_port();
    start('--tls-cert=' . $other->prefix . '/cert.pem', '--tls-key', $other->prefix . '/key.pem', "--redirport=$redirect", '/bin/cat');
    my $client = Ws::Client->open($port, '/', tls => 1);
    $client->send(text('hello'));
    is($client->text, 'hello', 'by TLS');
    $client->abandon;
    my $answer = request($redirect, 'GET', '/path');
    is($answer->{status}, 301, 'the other port');
    is($answer->{headers}{location}[0], "https://localhost:$port/", 'leads there');
    stop();
};

case 'an open session is told, and its program ends with it' => sub {
    start('/bin/sh', '-c', 'trap "" HUP; echo ready; sleep 1000 & wait');
    my $client = Ws::Client->open($port, '/');
    is($client->text, 'ready');
    is(stop('HUP'), 0, 'its status');
    like($client->server_close, qr/1012|1001/, 'the reason');
};

case 'what makes no sense' => sub {
    my $taken = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1') or die "listen: $!\n";
    for (
        [2, qr/not defined: -nonsense/, '--nonsense', 'cat'],
        [1, qr/unable to locate .*no-such-program/, '--port=81', 'no-such-program'],
        [1, qr/unable to locate/, '--port=81', "$dir/www/index.html"],
        [1, qr/not pointing to an accessible directory/, '--dir=/nonexistent'],
        [1, qr/a header is/, '--header=X', 'cat'],
        [1, qr/--origin takes/, '--origin=~x', 'cat'],
        [1, qr/Please specify COMMAND/, '--port=81'],
        [1, qr/ddress already in use/, '--address=127.0.0.1', '--port=' . $taken->sockport, 'cat'],
    ) {
        my ($status, $pattern, @line) = @$_;
        my ($got, $said) = refused(@line);
        is($got, $status, "the status of @line");
        like($said, $pattern, 'why');
    }
    is_deeply([glob "$dir/tmp/ws-exec.*"], [], 'no file is left');
    my ($status, $said) = refused('--help');
    is($status, 0, 'help');
    like($said, qr/^  --$_\b/m, "--$_") for qw(port address sameorigin origin ssl sslcert sslkey redirport passenv binary
        reverselookup dir staticdir cgidir maxforks closems header devconsole loglevel print-config);
    is((refused('--version'))[0], 0, 'the version');
};

done_testing();
