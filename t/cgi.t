# CGI programs: what they write becomes the response (RFC 3875, section 6), and what is none is a 502.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Time::HiRes qw(time);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;

my $ngx = Ws::Nginx->new(workers => 2, server => <<'EOT');
    location = /cat      { websocket_cgi /bin/cat; }
    location /print      { websocket_cgi %%PREFIX%%/bin/print; websocket_cgi_timeout 1s; }
    location = /stream   { websocket_cgi %%PREFIX%%/bin/stream; }
    location = /flood    { websocket_cgi %%PREFIX%%/bin/flood; }
    location = /lines    { websocket_cgi %%PREFIX%%/bin/lines $arg_n; }
    location = /missing  { websocket_cgi %%PREFIX%%/bin/missing; }
    location = /plain    { websocket_cgi %%PREFIX%%/bin/plain; }
    location = /max      { websocket_cgi %%PREFIX%%/bin/stream; websocket_exec_max 1; }
    location /dir/       { websocket_cgi_dir %%PREFIX%%/cgi; }
    location = /exec     { websocket_exec /bin/cat; websocket_cgi %%PREFIX%%/bin/print; }
    location = /tcp      { websocket_tcp 127.0.0.1:1; websocket_cgi %%PREFIX%%/bin/print; }
    location = /console  { websocket_exec /bin/cat; websocket_cgi %%PREFIX%%/bin/print; websocket_console on; }
    location = /hello    { return 200 "hello $request_method $args\n"; }
    location = /inner    { internal; return 200 "inner\n"; }
    location = /quiet    { websocket_cgi %%PREFIX%%/bin/fails; websocket_exec_stderr null; }
    location = /fails    { websocket_cgi %%PREFIX%%/bin/fails; }
    location = /client   { websocket_cgi %%PREFIX%%/bin/fails; websocket_exec_stderr client; }
EOT
# Writes what the query says, percent-decoded; the form "+n" waits for the file that releases it.
$ngx->program('print', <<'EOT');
#!/usr/bin/perl
$| = 1;
my $text = $ENV{QUERY_STRING};
my $wait = $text =~ s/^wait&// ? 1 : 0;
my $die = $text =~ s/^kill&// ? 1 : 0;
$text =~ s/%(..)/chr hex $1/ge;
print $text;
sleep 60 if $wait;
kill 9, $$ if $die;
EOT
$ngx->program('stream', <<'EOT');
#!/usr/bin/perl
$| = 1;
print "Content-Type: text/plain\n\n";
for my $n (1 .. 1000) {
    print "piece $n\n";
    until (-e "$ENV{QUERY_STRING}.$n") { select undef, undef, undef, 0.01 }
}
EOT
$ngx->program('flood', "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\nexec yes\n");
$ngx->program('lines', "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\nseq 1 \$1\nprintf 'the last line'\n");
$ngx->program('fails', "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nbody'\nprintf 'what went wrong' >&2\nexit 3\n");
$ngx->file('bin/plain', "#!/bin/sh\n", 0644);
$ngx->file('cgi/hello', "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n%s|%s' \"\$SCRIPT_NAME\" \"\$PATH_INFO\"\n", 0755);
$ngx->file('cgi/sub/hello', "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nsub'\n", 0755);
$ngx->file('cgi/data', 'no program', 0644);
$ngx->file('outside/hello', "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\noutside'\n", 0755);
$ngx->start;
symlink '../outside/hello', $ngx->prefix . '/cgi/link' or die "symlink: $!\n";

my $port = $ngx->port;

sub encoded { return join '', map { sprintf '%%%02x', ord } split //, $_[0] }

# printed(octets, method, path): the response of a program that writes these octets.
sub printed {
    my ($octets, $method, $path) = @_;

    return request($port, $method // 'GET', ($path // '/print') . '?' . encoded($octets));
}

sub header { return $_[0]{headers}{$_[1]}[0] }

case 'a document' => sub {
    for my $end ("\n", "\r\n") {
        my $response = printed("Content-Type: text/html; charset=utf-8${end}X-One: 1${end}Set-Cookie: a=1${end}Set-Cookie: b=2${end}${end}<p>\n\nbody");
        is($response->{status}, 200);
        is(header($response, 'content-type'), 'text/html; charset=utf-8');
        is_deeply($response->{headers}{'set-cookie'}, ['a=1', 'b=2']);
        is(header($response, 'x-one'), '1');
        is(header($response, 'transfer-encoding'), 'chunked');
        is($response->{body}, "<p>\n\nbody");
    }
};

case 'Status' => sub {
    for my $row (
        ['404 Not Found', 404, 'Not Found'], ['200 Fine', 200, 'Fine'], ['403', 403, 'Forbidden'], ['503 x', 503, 'x'],
        ['201 Created', 201, 'Created'],
    ) {
        my ($value, $status, $words) = @$row;
        my $client = Ws::Client->connect(port => $port);
        $client->send(request_text('GET', '/print?' . encoded("Status: $value\nContent-Type: text/plain\n\nbody")));
        my $response = $client->response;
        is($response->{status}, $status);
        like($response->{raw}, qr{^HTTP/1\.1 $status \Q$words\E\r\n}, $words);
        Ws::Http::dechunk($response);
        is($response->{body}, 'body');
    }
    for my $status ('204', '204 No Content', '204 Done', '304', '304 Not Modified') {
        for my $length ('', "Content-Length: 4\n") {
            my $client = Ws::Client->connect(port => $port);
            $client->send(request_text('GET', '/print?' . encoded("Status: $status\n${length}X: y\n\nbody")));
            my $response = $client->response;
            like($response->{raw}, qr{^HTTP/1\.1 @{[substr $status, 0, 3]} (No Content|Not Modified)\r\n}, "Status: $status $length");
            is(header($response, 'x'), 'y');
            is(header($response, 'transfer-encoding'), undef);
            is(header($response, 'content-length'), undef) if $status =~ /^204/;
            $client->send(request_text('GET', '/hello'));
            is($client->response->{body}, "hello GET \n", 'and no body');
        }
        my $response = printed("Status: $status\nETag: \"x\"\nContent-Length: 4\n\n");
        is($response->{status}, substr($status, 0, 3), 'its length is that of another response');
    }
};

case 'Location' => sub {
    my $response = printed("Location: https://example.com/there?a=b\n\n");
    is($response->{status}, 302);
    is(header($response, 'location'), 'https://example.com/there?a=b');
    $response = printed("Status: 301 Moved Permanently\nLocation: https://example.com/\n\n");
    is($response->{status}, 301);
    $response = printed("Location: /hello?a=b#c\nX-Ignored: 1\n\nignored");
    is($response->{status}, 200, 'a local one');
    is($response->{body}, "hello GET a=b\n");
    is(header($response, 'x-ignored'), undef);
    is(printed("Location: /hell%6f\n\n")->{body}, "hello GET \n", 'is decoded');
    is(printed("Location: /inner\n\n")->{body}, "inner\n", 'as by X-Accel-Redirect');
    is(printed("Location: /nowhere\n\n")->{status}, 404);
    is(printed("Location: /../etc/passwd\n\n")->{status}, 502, 'one that walks out');
    $response = printed("Status: 303 See Other\nLocation: /hello\n\n");
    is($response->{status}, 303, 'with a status it is for the client');
    is(header($response, 'location'), '/hello');
    $response = request($port, 'POST', '/print?' . encoded("Location: /hello\n\n"), body => 'x' x 100_000);
    is($response->{body}, "hello GET \n", 'a POST becomes a GET');
    is(printed("Location: /print?" . encoded("Location: /hello?twice\n\n") . "\n\n")->{body}, "hello GET twice\n");
};

case 'a loop of local redirects ends' => sub {
    plan skip_all => 'valgrind does not know openat2(2)' if under_valgrind();
    my $response = request($port, 'GET', '/dir/loop');
    is($response->{status}, 404);
    $ngx->file('cgi/loop', "#!/bin/sh\nprintf 'Location: /dir/loop\\n\\n'\n", 0755);
    is(request($port, 'GET', '/dir/loop')->{status}, 500);
};

case 'what is no response: 502' => sub {
    for my $row (
        ['nothing', ''], ['no header', "\nbody"], ['a page without a header', "<html>\n<body>\n\n</html>\n"], ['no end of the header', "Content-Type: text/plain\n"],
        ['no newline at all', 'Content-Type: text/plain'], ['NPH', "HTTP/1.1 200 OK\nContent-Type: text/plain\n\nbody"],
        ['a wrong status', "Status: OK\n\n"], ['an interim status', "Status: 101\n\n"], ['two types', "Content-Type: a/b\nContent-Type: a/b\n\n"],
        ['a folded line', "X: a\n b\n\n"], ['a NUL', "X: a\0b\n\n"], ['a length that is none', "Content-Length: x\n\n"],
    ) {
        my ($name, $octets) = @$row;
        my $before = length $ngx->log;
        is(printed($octets)->{status}, 502, $name);
        like(substr($ngx->log, $before), qr/\[error\].*the program wrote.*client: 127\.0\.0\.1/, 'and a line in the log');
    }
    return if under_valgrind();    # It does not know openat2(2).
    $ngx->program('long', "#!/usr/bin/perl\nprint 'X: ', 'x' x \$ENV{QUERY_STRING}, qq{\\n\\nbody};\n");
    rename $ngx->prefix . '/bin/long', $ngx->prefix . '/cgi/long' or die "rename: $!\n";
    is(length header(request($port, 'GET', '/dir/long?30000'), 'x'), 30_000, 'a long header');
    is(request($port, 'GET', '/dir/long?70000')->{status}, 502, 'one that is too long');
    $ngx->await_programs(0);
};

case 'an error page of cgitb' => sub {
    # The module of Python writes this line so that it is a comment in a page that has begun, and a field in a header.
    my $response = printed("<!--: spam\nContent-Type: text/html\n\n<body> --> what went wrong");
    is($response->{status}, 200);
    is(header($response, 'content-type'), 'text/html');
    ok(!grep({ /</ } keys %{$response->{headers}}), 'which is not for the client');
    is($response->{body}, '<body> --> what went wrong');
};

case 'fields of the connection are not the program\'s' => sub {
    my $response = printed("Connection: close\nTransfer-Encoding: gzip\nKeep-Alive: 1\nUpgrade: x\nTrailer: y\nContent-Type: text/plain\n\nbody");
    is_deeply($response->{headers}{connection}, ['close'], 'that the request has asked for');
    is_deeply($response->{headers}{'transfer-encoding'}, ['chunked']);
    is(header($response, $_), undef, $_) for qw(keep-alive upgrade trailer);
    is($response->{body}, 'body');
    $response = printed("Server: mine\nDate: Thu, 01 Jan 1970 00:00:00 GMT\nContent-Type: text/plain\n\n");
    is_deeply($response->{headers}{server}, ['mine'], 'one Server');
    is_deeply($response->{headers}{date}, ['Thu, 01 Jan 1970 00:00:00 GMT'], 'one Date');
};

case 'Content-Length' => sub {
    my $response = printed("Content-Length: 4\nContent-Type: text/plain\n\nbody");
    is(header($response, 'content-length'), 4);
    is(header($response, 'transfer-encoding'), undef);
    is($response->{body}, 'body');
    $response = printed("Content-Length: 4\n\nbody and more");
    is($response->{body}, 'body', 'more than announced');
    $ngx->await_log(qr/\[error\].*more than its Content-Length/);
    my $client = Ws::Client->connect(port => $port);
    $client->send(request_text('GET', '/print?' . encoded("Content-Length: 40\n\nbody")));
    ok(!eval { $client->response; 1 }, 'less than announced: the client sees that something is missing');
    ok($client->{end}, 'as the connection ends');
    $ngx->await_log(qr/\[error\].*36 octets less than its Content-Length/);
};

case 'a response that is cut short does not look whole' => sub {
    # That it was killed is not waited for without end, on a busy machine.
    ok(await('a response that ends early', sub {
        my $client = Ws::Client->connect(port => $port);
        $client->send(request_text('GET', '/print?kill&' . encoded("Content-Type: text/plain\n\nhalf of it")));
        return !eval { $client->response; 1 } && $client->{end};
    }));
    $ngx->await_log(qr/\[error\].*killed by signal 9/);
};

case 'HEAD' => sub {
    my $response = printed("Content-Type: text/plain\nX: y\n\nbody", 'HEAD');
    is($response->{status}, 200);
    is(header($response, 'x'), 'y');
    is($response->{body}, '');
    is(printed("Location: /hello\n\n", 'HEAD')->{status}, 200, 'a local redirect');
    my $client = Ws::Client->connect(port => $port);
    $client->send(request_text('HEAD', '/print?' . encoded("Content-Length: 4\n\nbody")));
    $client->wait_until(sub { $client->{in} =~ s/^HTTP.*?\r\n\r\n//s }, 'the head');
    $client->send(request_text('GET', '/hello'));
    is($client->response->{body}, "hello GET \n", 'the connection goes on');
};

case 'a response is sent as it comes' => sub {
    my $client = Ws::Client->connect(port => $port);
    my $file = $ngx->prefix . '/go';
    $client->send(request_text('GET', "/stream?$file"));
    for my $n (1 .. 3) {
        $client->wait_until(sub { $client->{in} =~ /piece $n\n/ }, "piece $n");
        unlike($client->{in}, qr/piece @{[$n + 1]}/);
        $ngx->file("go.$n", '');
    }
    $client->abandon;
    $ngx->await_programs(0);
    # Not even the header waits for the body.
    $client = Ws::Client->connect(port => $port);
    $client->send(request_text('GET', '/print?wait&' . encoded("Content-Type: text/plain\n\n")));
    $client->wait_until(sub { $client->{in} =~ /\r\n\r\n/ }, 'the head');
    $client->abandon;
    $ngx->await_programs(0);
};

case 'nothing is lost' => sub {
    for my $count (1, 10, 100_000, 300_000) {
        my $response = request($port, 'GET', "/lines?n=$count");
        is($response->{body}, join('', map { "$_\n" } 1 .. $count) . 'the last line', "$count lines");
    }
    for (1 .. 30) {
        is(printed("Content-Type: text/plain\n\nthe last line")->{body}, 'the last line');
    }
};

case 'a client that does not read holds its program back' => sub {
    my $client = Ws::Client->connect(port => $port, rcvbuf => 8192);
    $client->send(request_text('GET', '/flood'));
    $client->reading(0);
    my ($program) = $ngx->await_programs(1);
    my $written = await_paused($program);
    cmp_ok($written, '<', 64 << 20, "after $written octets");
    is(printed("Content-Type: text/plain\n\nx")->{body}, 'x', 'others are served');
    $client->abandon;
    $ngx->await_programs(0);
};

case 'connections are kept, also by HTTP/1.0' => sub {
    my $client = Ws::Client->connect(port => $port);
    for my $n (1 .. 5) {
        $client->send(request_text('GET', '/print?' . encoded("Content-Type: text/plain\n\nbody $n")));
        my $response = $client->response;
        Ws::Http::dechunk($response);
        is($response->{body}, "body $n");
    }
    $client = Ws::Client->connect(port => $port);
    $client->send("GET /print?" . encoded("Content-Length: 4\n\nbody") . " HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    $client->wait_until(sub { $client->{in} =~ s/^.*?\r\n\r\nbody//s }, 'the response');
    $client->send("GET /print?" . encoded("Content-Type: text/plain\n\nbody") . " HTTP/1.0\r\n\r\n");
    $client->wait_until(sub { $client->{end} }, 'the end');
    like($client->{in}, qr/\r\n\r\nbody$/);
    unlike($client->{in}, qr/transfer-encoding/i);
};

case 'no header in time: 504' => sub {
    my $response = request($port, 'GET', '/print?wait&' . encoded("Content-Type: text/plain\n"));
    is($response->{status}, 504);
    $ngx->await_log(qr/\[error\].*websocket_cgi_timeout/);
    $ngx->await_programs(0);
};

case 'a program that cannot be started' => sub {
    for my $row (
        ['/missing', 500, qr{cannot start ".*bin/missing"}], ['/plain', 500, qr{cannot start ".*bin/plain".*Permission denied}],
        ['/dir/none', 404, qr{no program for "none"}], ['/dir/', 404, qr{no program}], ['/dir/data', 403, qr{cannot be executed}],
        ['/dir/link', 403, qr{a link leads out}], ['/dir/../dir/.hidden', 404, qr{no program}],
    ) {
        my ($path, $status, $log) = @$row;
        plan skip_all => 'valgrind gives a child no memory in common with its parent' if under_valgrind() && $status == 500;
        my $before = length $ngx->log;
        is(request($port, 'GET', $path)->{status}, $status, $path);
        like(substr($ngx->log, $before), qr/\[error\].*$log/);
    }
};

case 'a directory of programs' => sub {
    plan skip_all => 'valgrind does not know openat2(2)' if under_valgrind();
    is(request($port, 'GET', '/dir/hello')->{body}, '/dir/hello|');
    is(request($port, 'GET', '/dir/hello/a/b?c')->{body}, '/dir/hello|/a/b');
    is(request($port, 'GET', '/dir/sub/hello')->{body}, 'sub');
};

case 'websocket_exec_max: 503 with Retry-After' => sub {
    my $client = Ws::Client->connect(port => $port);
    $client->send(request_text('GET', '/max?' . $ngx->prefix . '/never'));
    $client->wait_until(sub { $client->{in} =~ /piece 1/ }, 'the first piece');
    my $response = request($port, 'GET', '/max');
    is($response->{status}, 503);
    like(header($response, 'retry-after'), qr/^\d+$/);
    $client->abandon;
    $ngx->await_programs(0);
};

case 'standard error' => sub {
    my $before = length $ngx->log;
    is(request($port, 'GET', '/fails')->{body}, 'body', 'a status is no matter of the response');
    $ngx->await_log(qr/\[error\].*stderr of the program: "what went wrong".*client: 127\.0\.0\.1/);
    $ngx->await_log(qr/\[error\].*bin\/fails" ended by itself with exit 3/);
    is(request($port, 'GET', '/client')->{body}, 'body');
    await('two lines', sub { (() = $ngx->log =~ /"what went wrong"/g) == 2 });
    is(request($port, 'GET', '/quiet')->{body}, 'body');
    is((() = $ngx->log =~ /"what went wrong"/g), 2, 'or none');
};

case 'beside an endpoint' => sub {
    for my $path ('/exec', '/console') {
        my $client = Ws::Client->open($port, $path);
        $client->send(text('echo'));
        is($client->text, 'echo', 'a WebSocket');
        $client->close(1000);
        is(printed("Content-Type: text/plain\n\nbody", 'GET', $path)->{body}, 'body', 'and a program');
        is(request($port, 'POST', "$path?" . encoded("Content-Type: text/plain\n\nbody"), body => 'x')->{body}, 'body');
        is(request($port, 'GET', "$path?" . encoded("Content-Type: text/plain\n\nbody"), Upgrade => 'h2c')->{body}, 'body', 'another upgrade');
    }
    is(printed("Content-Type: text/plain\n\nbody", 'GET', '/tcp')->{body}, 'body');
    is(Ws::Client->connect(port => $port)->handshake('/tcp')->{status}, 502, 'the service is not there');
    is(Ws::Client->connect(port => $port)->handshake('/exec', headers => ['Sec-WebSocket-Version' => 12])->{status}, 426, 'a wrong handshake stays one');
    is(Ws::Client->connect(port => $port)->handshake('/print')->{status}, 404, 'where there is no WebSocket');
    $ngx->await_programs(0);
};

$ngx->stop;
done_testing();
