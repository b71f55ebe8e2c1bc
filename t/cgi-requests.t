# What a CGI program is told of the request (RFC 3875, section 4), and the body that it gets.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Time::HiRes qw(time);
use Ws::Nginx;
use Ws::Client;
use Ws::Http;

# Servers for clients that name no host: what they are called, and what a program is told.
my @names = ('', 'first.example second.example', '*.example', '~^x', '.some.example');
my @addressed = ('127.0.0.1', 'first.example', '127.0.0.1', '127.0.0.1', 'some.example');
my @ports = map { Ws::Nginx::free_port() } @names;

my $ngx = Ws::Nginx->new(workers => 2, tls => 1, http => <<'EOH', server => <<'EOT');
    limit_req_zone $remote_user zone=users:1m rate=100r/s;
    map $arg_realm $realm { default x; none off; }
EOH
    client_max_body_size 1m;
    client_body_buffer_size 8k;
    location /env    { websocket_cgi %%PREFIX%%/bin/env; websocket_exec_env ADDED=$request_method; }
    location = /auth { websocket_cgi %%PREFIX%%/bin/env; auth_basic x; auth_basic_user_file %%PREFIX%%/users; }
    location /auth/none { websocket_cgi %%PREFIX%%/bin/env; set $who $remote_user; limit_req zone=users burst=100 nodelay; }
    location /auth/ {
        auth_basic $realm; auth_basic_user_file %%PREFIX%%/users;
        location = /auth/sub { websocket_cgi %%PREFIX%%/bin/env; }
        location = /auth/off { websocket_cgi %%PREFIX%%/bin/env; auth_basic off; set $who $remote_user; }
        location = /auth/any { websocket_cgi %%PREFIX%%/bin/env; satisfy any; allow 127.0.0.1; deny all; set $who $remote_user; }
        location = /auth/asks { auth_request /decides; set $who $remote_user; try_files /page.html =404; }
        location = /auth/page { ssi on; default_type text/html; set $who $remote_user; try_files /page.html =404; }
    }
    location /auth/no-users { auth_basic x; websocket_cgi %%PREFIX%%/bin/env; set $who $remote_user; }
    location = /nowhere { mirror /watches; set $who $remote_user; root %%PREFIX%%/html; error_page 404 = /auth/stops; }
    location = /auth/stops { auth_basic x; auth_basic_user_file %%PREFIX%%/users; return 404 stopped; }
    location = /watches { internal; websocket_cgi %%PREFIX%%/bin/watches; }
    location = /decides { internal; websocket_cgi %%PREFIX%%/bin/decides; }
    location = /body { websocket_cgi %%PREFIX%%/bin/body; }
    location = /large { websocket_cgi %%PREFIX%%/bin/body; client_max_body_size 0; }
    location = /first { websocket_cgi %%PREFIX%%/bin/first; }
    location = /deaf { websocket_cgi %%PREFIX%%/bin/deaf; client_max_body_size 0; websocket_exec_send_timeout 1s; }
    location = /shut { websocket_cgi %%PREFIX%%/bin/shut; client_max_body_size 0; }
    location = /slow { websocket_cgi %%PREFIX%%/bin/slow; client_max_body_size 0; }
    location = /unread { websocket_cgi %%PREFIX%%/bin/unread; client_max_body_size 0; }
    location = /patient { websocket_cgi %%PREFIX%%/bin/body; websocket_cgi_timeout 500ms; }
    location = /late { websocket_cgi %%PREFIX%%/bin/late; websocket_cgi_timeout 500ms; }
    location = /timeout { websocket_cgi %%PREFIX%%/bin/body; client_body_timeout 500ms; }
    location = /mirrored { mirror /mirror; websocket_cgi %%PREFIX%%/bin/body; }
    location = /mirror { internal; websocket_cgi %%PREFIX%%/bin/keep; }
EOT
$ngx->{http} .= join '', map { "server { listen 127.0.0.1:$ports[$_]; " . (length $names[$_] ? "server_name $names[$_]; " : '') . "location /env { websocket_cgi %%PREFIX%%/bin/env; } }\n" } 0 .. $#names;
$ngx->program('env', "#!/usr/bin/perl\nprint qq{Content-Type: text/plain\\n\\n};\nprint map { qq{\$_=\$ENV{\$_}\\n} } sort keys %ENV;\nprint 'STDIN=', scalar(<STDIN>) // '', qq{\\n};\n");
# Says how long the body was announced and is, and its checksum.
my $sum = <<'EOT';
#!/usr/bin/perl
use Digest::MD5 qw(md5_hex);
binmode STDIN;
local $/;
my $body = <STDIN> // '';
my $said = sprintf '%s %d %s', $ENV{CONTENT_LENGTH} // '-', length $body, md5_hex($body);
EOT
$ngx->program('body', $sum . "print qq{Content-Type: text/plain\\n\\n\$said};\n");
$ngx->program('keep', $sum . "open my \$out, '>', '" . $ngx->prefix . "/kept'; print \$out \$said; close \$out; print qq{Content-Type: text/plain\\n\\n};\n");
# Answers each line as it comes.
$ngx->program('first', "#!/usr/bin/perl\n\$| = 1; print qq{Content-Type: text/plain\\n\\n};\nwhile (<STDIN>) { print qq{got \$_} }\nprint 'end';\n");
$ngx->program('deaf', "#!/bin/sh\nexec sleep 600\n");
$ngx->program('late', "#!/bin/sh\ncat >/dev/null\nexec sleep 600\n");
$ngx->program('shut', "#!/bin/sh\nexec <&-\nprintf 'Content-Type: text/plain\\n\\n'\nseq 1 100000\n");
$ngx->program('unread', "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nnot read'\n");
$ngx->program('slow', "#!/usr/bin/perl\nselect undef, undef, undef, 0.5;\nmy \$n = 0; while (my \$got = sysread STDIN, my \$in, 65536) { \$n += \$got }\nprint qq{Content-Type: text/plain\\n\\n\$n};\n");
$ngx->program('watches', "#!/bin/sh\necho \$REMOTE_USER >" . $ngx->prefix . "/watched\nmv " . $ngx->prefix . "/watched " . $ngx->prefix . "/mirrored-who\nprintf 'Status: 204\\n\\n'\n");
$ngx->program('decides', "#!/bin/sh\necho \$REMOTE_USER >>" . $ngx->prefix . "/who\ntr -d '\\n' <" . $ngx->prefix . "/who >" . $ngx->prefix . "/decided\nprintf 'Status: 204\\n\\n'\n");
$ngx->file('html/page.html', '<!--# include virtual="/env" -->');
$ngx->file('users', "ann:{PLAIN}secret\n");
$ngx->start;

my $port = $ngx->port;

sub environment {
    my ($response) = @_;

    return map { /^(\w+)=(.*)$/ ? ($1 => $2) : () } split /\n/, $response->{body};
}

# sum(octets, announced): what the program says of a body.
sub sum {
    my ($octets, $announced) = @_;

    require Digest::MD5;
    return sprintf '%s %d %s', $announced // length $octets, length $octets, Digest::MD5::md5_hex($octets);
}

sub octets { my ($count) = @_; return join '', map { chr($_ * 7 % 256) } 1 .. $count }

# in_chunks(path, octets ...): a POST of chunks.
sub in_chunks {
    my ($path, @chunks) = @_;

    my $client = Ws::Client->connect(port => $port);
    $client->send("POST $path HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
    $client->send(sprintf("%x\r\n%s\r\n", length, $_)) for @chunks;
    $client->send("0\r\n\r\n");
    my $response = $client->response;
    Ws::Http::dechunk($response);
    return $response;
}

case 'the environment' => sub {
    my %env = environment(request($port, 'GET', '/env/a%20b?x=1&y', 'X-One' => '1', Proxy => 'http://evil', 'X_Two' => 2, Cookie => 'c=d'));
    is($env{GATEWAY_INTERFACE}, 'CGI/1.1');
    is($env{REQUEST_METHOD}, 'GET');
    is($env{QUERY_STRING}, 'x=1&y');
    is($env{REQUEST_URI}, '/env/a%20b?x=1&y');
    is($env{SCRIPT_NAME}, '/env');
    is($env{PATH_INFO}, '/a b');
    is($env{PATH_TRANSLATED}, $ngx->prefix . '/html/a b');
    is($env{SERVER_NAME}, 'localhost');
    is($env{SERVER_PORT}, $port);
    is($env{SERVER_PROTOCOL}, 'HTTP/1.1');
    like($env{SERVER_SOFTWARE}, qr{^nginx/});
    is($env{REMOTE_ADDR}, '127.0.0.1');
    like($env{REMOTE_PORT}, qr/^\d+$/);
    is($env{HTTP_X_ONE}, '1');
    is($env{HTTP_COOKIE}, 'c=d');
    is($env{ADDED}, 'GET');
    ok(!exists $env{$_}, "no $_") for qw(HTTP_PROXY HTTP_X_TWO CONTENT_LENGTH CONTENT_TYPE AUTH_TYPE HTTPS HTTP_CONTENT_LENGTH);
    is($env{STDIN}, '', 'nothing on standard input');
    is(join(' ', grep { !/^(?:[A-Z_]+)$/ } keys %env), '');
    %env = environment(request($port, 'PUT', '/env', 'Content-Type' => 'a/b; c=d', body => 'body'));
    is($env{REQUEST_METHOD}, 'PUT');
    is($env{CONTENT_LENGTH}, 4);
    is($env{CONTENT_TYPE}, 'a/b; c=d');
    is($env{STDIN}, 'body');
    ok(!exists $env{$_}, "no $_") for qw(HTTP_CONTENT_LENGTH HTTP_CONTENT_TYPE HTTP_TRANSFER_ENCODING);
    is({environment(request($port, $_, '/env'))}->{REQUEST_METHOD}, $_) for qw(DELETE OPTIONS PATCH PROPFIND);
    %env = environment(request($port, 'POST', '/env', body => ''));
    is($env{CONTENT_LENGTH}, 0, 'an empty body');
};

case 'a client that names no host' => sub {
    for my $row (['localhost', 'localhost'], map { [$names[$_], $addressed[$_], $ports[$_]] } 0 .. $#names) {
        my ($names, $name, $at) = @$row;
        my $client = Ws::Client->connect(port => $at // $port);
        $client->send("GET /env HTTP/1.0\r\n\r\n");
        $client->wait_until(sub { $client->{end} }, 'the end of the response');
        like($client->{in}, qr/^SERVER_NAME=\Q$name\E$/m, $names);
        unlike($client->{in}, qr/^HTTP_HOST=/m);
    }
};

case 'a target that names the host' => sub {
    for my $row (
        ['http://localhost:81/env', 'other.example', 'localhost:81'], ['http://localhost/env', 'other.example', 'localhost'],
        ['/env', 'Other.Example:82', 'Other.Example:82'],
    ) {
        my ($target, $field, $host) = @$row;
        my $client = Ws::Client->connect(port => $port);
        $client->send("GET $target HTTP/1.1\r\nHost: $field\r\nForwarded: x\r\nConnection: close\r\n\r\n");
        my $response = $client->response;
        Ws::Http::dechunk($response);
        my %env = environment($response);
        is($env{HTTP_HOST}, $host, "$target takes precedence over the field");
        is($env{SERVER_NAME}, lc $host =~ s/:\d+//r);
        is($env{HTTP_FORWARDED}, 'x', 'other fields are what they are');
    }
};

case 'HTTP/0.9' => sub {
    my $client = Ws::Client->connect(port => $port);
    $client->send("GET /env?a=b\r\n");
    $client->wait_until(sub { $client->{end} }, 'the end of the response');
    like($client->{in}, qr/^SERVER_PROTOCOL=HTTP\/0\.9$/m);
    like($client->{in}, qr/^REQUEST_METHOD=GET$/m);
    like($client->{in}, qr/^QUERY_STRING=a=b$/m);
    unlike($client->{in}, qr/^(?:HTTP\/|Content-Type:)/m, 'there is no head');
};

case 'who has authenticated' => sub {
    my %env = environment(request($port, 'GET', '/auth', Authorization => 'Basic YW5uOnNlY3JldA=='));
    is($env{REMOTE_USER}, 'ann');
    is($env{AUTH_TYPE}, 'Basic');
    is(request($port, 'GET', '/auth')->{status}, 401, 'nothing is started for anybody else');
};

# A name that nobody has checked is in nginx's $remote_user all the same: "set" has looked for it in each of these locations.
case 'who has only said who it is' => sub {
    my @ann = (Authorization => 'Basic ' . 'YW5uOnNlY3JldA==');
    my @wrong = (Authorization => 'Basic ' . 'YW5uOndyb25n');
    for my $row (
        ['/env', @ann], ['/env', @wrong], ['/auth/none', @wrong], ['/auth/off', @wrong], ['/auth/off', @ann],
        ['/auth/any', @wrong], ['/auth/sub?realm=none', @wrong], ['/auth/no-users', @wrong],
    ) {
        my ($path, @headers) = @$row;
        my %env = environment(request($port, 'GET', $path, @headers));
        is($env{REMOTE_USER}, '', $path);
        ok(!exists $env{AUTH_TYPE});
    }
    my %env = environment(request($port, 'GET', '/auth/sub?realm=any', @ann));
    is("$env{REMOTE_USER} $env{AUTH_TYPE}", 'ann Basic', 'inherited');
    is(request($port, 'GET', '/auth/sub', @wrong)->{status}, 401);
    %env = environment(request($port, 'GET', '/auth/page', @ann));
    is("$env{REMOTE_USER} $env{AUTH_TYPE}", 'ann Basic', 'a part of a page');
    # Whichever of the two modules comes first, the password was wrong.
    request($port, 'GET', '/auth/asks', @wrong);
    is($ngx->read_file('decided') // '', '', 'a program that decides');
    # The location that it was redirected to asks for a password, and answers before anybody has looked at it.
    is(request($port, 'GET', '/nowhere', @wrong)->{body}, 'stopped');
    await('the mirror', sub { -e $ngx->prefix . '/mirrored-who' });
    is($ngx->read_file('mirrored-who'), "\n", 'a mirror');
};

case 'TLS' => sub {
    my $client = Ws::Client->connect(port => $ngx->tls_port, tls => 1);
    $client->send(request_text('POST', '/env', Connection => 'close', body => 'body'));
    my $response = $client->response;
    Ws::Http::dechunk($response);
    my %env = environment($response);
    is($env{HTTPS}, 'on');
    is($env{STDIN}, 'body');
};

case 'bodies' => sub {
    for my $count (1, 1000, 8192, 65_536, 65_537, 200_000, 1 << 20) {
        my $octets = octets($count);
        is(request($port, 'POST', '/body', body => $octets)->{body}, sum($octets), "$count octets");
    }
    my $octets = octets(5_000_000);
    is(request($port, 'POST', '/large', body => $octets)->{body}, sum($octets), 'more than any buffer');
};

case 'in chunks: the length is right' => sub {
    for my $chunks (['a'], ['a' x 10, 'b' x 20], [map { octets(9000) } 1 .. 30], []) {
        is(in_chunks('/body', @$chunks)->{body}, sum(join '', @$chunks), scalar(@$chunks) . ' chunks');
    }
    my %env = environment(in_chunks('/env', 'body'));
    is($env{CONTENT_LENGTH}, 4);
    is($env{STDIN}, 'body');
    ok(!exists $env{HTTP_TRANSFER_ENCODING}, 'the program sees no chunks');
};

case 'client_max_body_size: 413' => sub {
    is(request($port, 'POST', '/body', body => 'x' x ((1 << 20) + 1))->{status}, 413);
    is(in_chunks('/body', map { 'x' x 100_000 } 1 .. 11)->{status}, 413);
    $ngx->await_programs(0);
};

case 'a body is passed on as it comes' => sub {
    my $client = Ws::Client->connect(port => $port);
    $client->send("POST /first HTTP/1.1\r\nHost: localhost\r\nContent-Length: 14\r\n\r\n");
    for my $line (qw(first second)) {
        $client->send("$line\n");
        $client->wait_until(sub { $client->{in} =~ /got $line\n/ }, "the answer to $line");
    }
    $client->send("\n");
    $client->wait_until(sub { $client->{in} =~ /end/ }, 'the end');
    # With what came in one piece with the head.
    is(request($port, 'POST', '/first', body => "a\nb\n")->{body}, "got a\ngot b\nend");
};

case '100-continue' => sub {
    my $client = Ws::Client->connect(port => $port);
    $client->send("POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n");
    $client->wait_until(sub { $client->{in} =~ s/^HTTP\/1\.1 100 .*?\r\n\r\n//s }, '100');
    $client->send('body');
    my $response = $client->response;
    Ws::Http::dechunk($response);
    is($response->{body}, sum('body'));
};

case 'a program that reads slowly holds its client back' => sub {
    my $octets = 'x' x 3_000_000;
    is(request($port, 'POST', '/slow', body => $octets)->{body}, 3_000_000);
    my $client = Ws::Client->connect(port => $port);
    $client->send("POST /deaf HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n");
    my $sent = $client->send_until_stalled('x' x 65_536, 0.5);
    cmp_ok($sent, '<', 64 << 20, "$sent octets are under way");
    is($client->response->{status}, 504, 'one that reads nothing is given up');
    $ngx->await_log(qr/\[error\].*websocket_exec_send_timeout/);
    $client->abandon;
    $ngx->await_programs(0);
};

case 'a slow client has its own time, and not that of the program' => sub {
    my $client = Ws::Client->connect(port => $port);
    $client->send("POST /patient HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\nConnection: close\r\n\r\n");
    my ($program) = $ngx->await_programs(1);
    # Each pause, and all of them together, are longer than websocket_cgi_timeout.
    for my $piece (qw(ab cd ef)) {
        select undef, undef, undef, 0.8;
        $client->send($piece);
    }
    my $response = $client->response;
    Ws::Http::dechunk($response);
    is($response->{body}, sum('abcdef'));
    $client = Ws::Client->connect(port => $port);
    $client->send("POST /late HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\nConnection: close\r\n\r\nabc");
    select undef, undef, undef, 0.8;
    my $since = time;
    $client->send('def');
    is($client->response->{status}, 504, 'which begins when it has got everything');
    cmp_ok(time - $since, '>=', 0.4);
    $ngx->await_programs(0);
};

case 'a program need not read' => sub {
    my $client = Ws::Client->connect(port => $port);
    $client->send(request_text('POST', '/unread', body => 'x' x 10));
    my $response = $client->response;
    Ws::Http::dechunk($response);
    is($response->{body}, 'not read');
    $client->send(request_text('POST', '/body', body => 'y'));
    $response = $client->response;
    Ws::Http::dechunk($response);
    is($response->{body}, sum('y'), 'the connection goes on');
    # What nobody wants is received all the same: a client may send everything before it reads.
    is(length request($port, 'POST', '/shut', body => 'x' x 3_000_000)->{body}, 588_895);
};

case 'a client that stops in the middle of a body' => sub {
    my $client = Ws::Client->connect(port => $port);
    $client->send("POST /first HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nfirst\n");
    $client->wait_until(sub { $client->{in} =~ /got first/ }, 'the first line');
    $client->abandon;
    $ngx->await_programs(0);
    $client = Ws::Client->connect(port => $port);
    $client->send("POST /timeout HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nfirst\n");
    is($client->response->{status}, 408, 'or is silent');
    $ngx->await_programs(0);
};

case 'a body that others have as well' => sub {
    my $octets = octets(100_000);
    is(request($port, 'POST', '/mirrored', body => $octets)->{body}, sum($octets));
    is(await('what the mirror has got', sub { $ngx->read_file('kept') }), sum($octets));
};

$ngx->stop;
done_testing();
