# The environment of a program (RFC 3875, section 4.1): what is in it, and what must never be.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;

my $ngx = Ws::Nginx->new(
    tls  => 1,
    env  => { LEAK_INHERITED => 'secret', LEAK_DECLARED => 'secret', GIVEN => 'from nginx', HTTP_LEAK => 'secret' },
    main => "env LEAK_DECLARED;\nenv LEAK_SET=secret;\nenv GIVEN;\nenv ONLY_HERE=declared;\n",
    server => <<'EOT');
    underscores_in_headers on;
    ignore_invalid_headers off;
    websocket_close_timeout 500ms;
    location /env { websocket_exec %%PREFIX%%/bin/environment; }
    location /auth {
        auth_basic "test";
        auth_basic_user_file %%PREFIX%%/htpasswd;
        websocket_exec %%PREFIX%%/bin/environment;
    }
    location /set {
        websocket_exec %%PREFIX%%/bin/environment;
        websocket_exec_env MINE=$arg_mine EMPTY= GIVEN ONLY_HERE MISSING "SPACED=two words" SERVER_NAME=ours;
        websocket_exec_env MORE=more;
    }
    location /tried { try_files /none @tried; }
    location @tried { websocket_exec %%PREFIX%%/bin/environment; if ($arg_x) { set $seen 1; } }
    location /refused { error_page 418 = @tried; return 418; }
    location /slash { root %%PREFIX%%/html/; websocket_exec %%PREFIX%%/bin/environment; }
    location /alias { alias %%PREFIX%%/html/; websocket_exec %%PREFIX%%/bin/environment; }
    location ~ ^/regex/(?<what>.*)$ { websocket_exec %%PREFIX%%/bin/environment; }
EOT

# One text message a variable, with octets that are not printable written as \x and their number.
$ngx->program('environment', <<'EOT');
#!/usr/bin/perl
open my $in, '<', '/proc/self/environ' or die;
local $/ = "\0";
while (<$in>) { chomp; s/([^\x20-\x5b\x5d-\x7e])/sprintf '\\x%02x', ord $1/ge; print "$_\n"; }
EOT
$ngx->file('htpasswd', "alice:{PLAIN}wonder\n");
$ngx->start;

sub environment {
    my ($path, %opt) = @_;

    my $client = Ws::Client->open($opt{tls} ? $ngx->tls_port : $ngx->port, $path, %opt);
    my $port = $client->local_port;
    my $close = $client->server_close;
    die "$close\n" if $close ne 'close 1000';
    my %env;
    for (@{$client->{skipped}}) {
        my ($name, $value) = split /=/, $_->{payload}, 2;
        push @{$env{$name}}, $value;
    }
    $env{' port'} = $port;
    return { map { my $values = $env{$_}; ($_ => ref $values ? join('|', @$values) : $values) } keys %env };
}

case 'meta-variables' => sub {
    my $env = environment('/env/some/pa%20th?a=1&b=%20');
    my %expected = (
        GATEWAY_INTERFACE => 'websocket-CGI/0.1',
        SERVER_PROTOCOL   => 'HTTP/1.1',
        SERVER_NAME       => 'localhost',
        SERVER_PORT       => $ngx->port,
        REQUEST_METHOD    => 'GET',
        REQUEST_URI       => '/env/some/pa%20th?a=1&b=%20',
        QUERY_STRING      => 'a=1&b=%20',
        SCRIPT_NAME       => '/env',
        PATH_INFO         => '/some/pa th',
        PATH_TRANSLATED   => $ngx->prefix . '/html/some/pa th',
        REMOTE_ADDR       => '127.0.0.1',
        REMOTE_HOST       => '127.0.0.1',
        REMOTE_PORT       => $env->{' port'},
        HTTP_HOST         => 'localhost',
        HTTP_UPGRADE      => 'websocket',
        HTTP_SEC_WEBSOCKET_VERSION => '13',
    );
    is($env->{$_}, $expected{$_}, $_) for sort keys %expected;
    like($env->{SERVER_SOFTWARE}, qr{^nginx/1\.\d+\.\d+}, 'SERVER_SOFTWARE');
    like($env->{UNIQUE_ID}, qr/^\S+$/, 'UNIQUE_ID');
    is($env->{HTTPS}, undef, 'no HTTPS');
    is($env->{REMOTE_USER} // '', '', 'no REMOTE_USER');
};

case 'a location with a name: no part of the path led to it' => sub {
    for my $path ('/tried/some/path', '/tried/some/path?x=1', '/refused') {
        my $env = environment($path);
        is($env->{SCRIPT_NAME}, '', $path);
        is($env->{PATH_INFO}, $path =~ s/\?.*//r, 'the path is for the program');
        is($env->{REQUEST_URI}, $path);
    }
};

case 'a document root with a slash at its end' => sub {
    is(environment($_)->{PATH_TRANSLATED}, $ngx->prefix . '/html/a', $_) for '/slash/a', '/alias/a';
};

case 'no path below the location' => sub {
    my $env = environment('/env');
    is($env->{SCRIPT_NAME}, '/env');
    is($env->{PATH_INFO} // '', '');
    is($env->{PATH_TRANSLATED} // '', '');
    is($env->{QUERY_STRING}, '', 'QUERY_STRING is always set (RFC 3875, section 4.1.7)');
};

case 'TLS' => sub {
    my $env = environment('/env', tls => 1);
    is($env->{HTTPS}, 'on');
    is($env->{SERVER_PORT}, $ngx->tls_port);
};

case 'REMOTE_USER' => sub {
    my $env = environment('/auth', headers => [Authorization => 'Basic YWxpY2U6d29uZGVy']);
    is($env->{REMOTE_USER}, 'alice');
    $env = environment('/env', headers => [Authorization => 'Basic YWxpY2U6d29uZGVy']);
    is($env->{REMOTE_USER} // '', '', 'nobody has looked at the password');
};

case 'UNIQUE_ID differs' => sub {
    my %seen;
    $seen{environment('/env')->{UNIQUE_ID}}++ for 1 .. 20;
    is(scalar keys %seen, 20);
};

case 'nothing of the environment of nginx but PATH' => sub {
    my $env = environment('/env');
    is($env->{PATH}, $ENV{PATH}, 'PATH');
    my %allowed = map { $_ => 1 } qw(
        PATH GATEWAY_INTERFACE SERVER_SOFTWARE SERVER_PROTOCOL SERVER_NAME SERVER_PORT REQUEST_METHOD REQUEST_URI
        QUERY_STRING SCRIPT_NAME PATH_INFO PATH_TRANSLATED REMOTE_ADDR REMOTE_PORT REMOTE_HOST REMOTE_USER UNIQUE_ID HTTPS
        HTTP_HOST HTTP_UPGRADE HTTP_CONNECTION HTTP_SEC_WEBSOCKET_KEY HTTP_SEC_WEBSOCKET_VERSION
    );
    is_deeply([grep { !$allowed{$_} && $_ ne ' port' } sort keys %$env], []);
};

case 'request headers' => sub {
    my $env = environment('/env', headers => [
        'X-One' => 'a b', 'x-lower-Case' => 'c', 'X-2' => 'digit', 'X-Empty' => '', 'X-Long' => 'l' x 3000,
        'Cookie' => 'a=1; b=2', 'X-Octets' => "caf\xc3\xa9 \xff",
    ]);
    is($env->{HTTP_X_ONE}, 'a b');
    is($env->{HTTP_X_LOWER_CASE}, 'c');
    is($env->{HTTP_X_2}, 'digit');
    is($env->{HTTP_X_EMPTY}, '');
    is($env->{HTTP_X_LONG}, 'l' x 3000);
    is($env->{HTTP_COOKIE}, 'a=1; b=2');
    is($env->{HTTP_X_OCTETS}, 'caf\xc3\xa9 \xff');
};

case 'a header in several lines is one variable' => sub {
    my $env = environment('/env', headers => ['X-Many' => ['a', 'b']]);
    is($env->{HTTP_X_MANY}, 'a, b', 'RFC 3875, section 4.1.18');
};

case 'no HTTP_PROXY' => sub {
    for my $name ('Proxy', 'PROXY', 'proxy') {
        my $env = environment('/env', headers => [$name => 'http://evil.example']);
        is($env->{HTTP_PROXY}, undef, $name);
    }
};

case 'X_A cannot pose as X-A' => sub {
    my $env = environment('/env', headers => ['X_A' => 'forged']);
    is($env->{HTTP_X_A}, undef, 'alone');
    $env = environment('/env', headers => ['X_A' => 'forged', 'X-A' => 'true']);
    is($env->{HTTP_X_A}, 'true', 'before it');
    $env = environment('/env', headers => ['X-A' => 'true', 'X_A' => 'forged']);
    is($env->{HTTP_X_A}, 'true', 'after it');
};

case 'other characters in a name never become a variable' => sub {
    my $env = environment('/env', headers => ['X.A' => 'dot', 'X!B' => 'mark', 'X~C' => 'tilde', 'X$D' => 'dollar', "X'E" => 'quote']);
    is_deeply([grep { /^HTTP_X/ } keys %$env], []);
};

case 'no newline gets through' => sub {
    my $client = Ws::Client->connect(port => $ngx->port);
    my $response = $client->handshake('/env/a%0aFORGED=1%0d');
    SKIP: {
        skip 'the request was refused', 1 if $response->{status} >= 400;
        is($client->server_close, 'close 1000');
        is_deeply([grep { /^FORGED/ || /\\x0[ad]/ } map { $_->{payload} } @{$client->{skipped}}], []);
    }
    ok($response->{status} == 101 || $response->{status} == 400 || $response->{status} == 403 || $response->{status} == 404,
        "status $response->{status}");
};

case 'no NUL gets through' => sub {
    my $client = Ws::Client->connect(port => $ngx->port);
    is($client->handshake('/env/a%00b')->{status}, 400);
};

case 'websocket_exec_env' => sub {
    my $env = environment('/set?mine=what;ever');
    is($env->{MINE}, 'what;ever');
    is($env->{EMPTY}, '');
    is($env->{GIVEN}, 'from nginx');
    is($env->{ONLY_HERE}, 'declared');
    is($env->{MISSING}, undef);
    is($env->{SPACED}, 'two words');
    is($env->{MORE}, 'more');
    is($env->{SERVER_NAME}, 'ours', 'the administrator has the last word, once');
};

case 'websocket_exec_env from a request cannot add a second variable' => sub {
    my $env = environment('/set?mine=a%0aFORGED=1');
    is($env->{MINE}, 'a%0aFORGED=1');
    is($env->{FORGED}, undef);
};

case 'a location by regular expression' => sub {
    my $env = environment('/regex/some/path?q');
    is($env->{SCRIPT_NAME} . ($env->{PATH_INFO} // ''), '/regex/some/path');
    is($env->{QUERY_STRING}, 'q');
};

$ngx->stop;
done_testing();
