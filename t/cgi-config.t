# What "nginx -t" says of websocket_cgi and websocket_cgi_dir.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;

my $ngx = Ws::Nginx->new;
$ngx->program('runs', "#!/bin/sh\n");

sub said {
    my ($server) = @_;

    $ngx->{server} = $server;
    return $ngx->check_config;
}

my $program = 'websocket_cgi %%PREFIX%%/bin/runs;';
my $directory = 'websocket_cgi_dir %%PREFIX%%/bin;';

for my $row (
    ['alone', $program], ['a directory', $directory], ['variables', 'websocket_cgi $arg_program a $uri;'],
    ['a directory with variables', 'websocket_cgi_dir /srv/$host;'], ['a name', 'websocket_cgi sh;'],
    ['beside a program', "$program websocket_exec /bin/cat;"], ['in the other order', "websocket_exec /bin/cat; $program"],
    ['beside a directory', "$directory websocket_exec_dir %%PREFIX%%/bin;"], ['beside a service', "websocket_tcp 127.0.0.1:1; $program"],
    ['in "if"', "if (\$arg_x) { $program }"], ['in "limit_except"', "$program limit_except GET { deny all; }"],
    ['with what programs have', "$program websocket_exec_max 2; websocket_exec_stop 1s 2s; websocket_exec_env A=b; websocket_exec_cwd /; websocket_exec_limit cpu=1;"
        . ' websocket_cgi_timeout 5s;'],
    ['on a terminal is only the other one', "websocket_exec /bin/cat; websocket_exec_pty on; $program"],
) {
    my ($name, $text) = @$row;
    case $name => sub {
        my ($status, $said) = said("location /x { $text }");
        is($status, 0) or diag($said);
        unlike($said, qr/\[(?:warn|error)\]/);
    };
}

for my $row (
    ['twice', "$program $program", qr/"websocket_cgi" directive is duplicate/],
    ['two kinds', "$program $directory", qr/"websocket_cgi_dir" directive cannot stand beside "websocket_cgi"/],
    ['a channel', "$program websocket_channel a;", qr/"websocket_channel" directive cannot stand beside "websocket_cgi"/],
    ['a channel, first', "websocket_channel a mode=pub; $directory", qr/"websocket_cgi_dir" directive cannot stand beside "websocket_channel"/],
    ['a shared program', "websocket_exec /bin/cat; websocket_channel a; $program", qr/cannot stand beside "websocket_channel"/],
    ['the status', "websocket_status; $program", qr/cannot stand beside "websocket_status"/],
    ['nothing', 'websocket_cgi;', qr/invalid number of arguments/],
    ['an empty name', 'websocket_cgi "";', qr/invalid value "" in "websocket_cgi" directive, expected a program/],
    ['a relative path', 'websocket_cgi ./runs;', qr/invalid value "\.\/runs" in "websocket_cgi" directive, expected an absolute path/],
    ['a switch', 'websocket_cgi off;', qr/invalid value "off" in "websocket_cgi" directive/],
    ['a relative directory', 'websocket_cgi_dir cgi-bin;', qr/invalid value "cgi-bin" in "websocket_cgi_dir" directive, expected an absolute path/],
    ['a wrong time', "$program websocket_cgi_timeout soon;", qr/invalid value "soon" in "websocket_cgi_timeout" directive, expected a time/],
    ['proxy_pass', "$program proxy_pass http://127.0.0.1:1;", qr/"websocket_cgi" directive: another directive of this location takes its requests/],
) {
    my ($name, $text, $expected) = @$row;
    case "refused: $name" => sub {
        my ($status, $said) = said("location /x { $text }");
        isnt($status, 0);
        like($said, qr/\[emerg\].*$expected.* in \S+nginx\.conf:\d+/);
    };
}

for my $row (
    ['a program that is missing', 'websocket_cgi /no/such/program;', qr{"/no/such/program" in "websocket_cgi" directive cannot be started: there is no such file}],
    ['a directory that is missing', 'websocket_cgi_dir /no/such;', qr{"/no/such" in "websocket_cgi_dir" directive cannot be used}],
    ['what only a shell understands', 'websocket_cgi sh a | b;', qr{"\|" in "websocket_cgi" directive is passed to the program as an argument}],
) {
    my ($name, $text, $expected) = @$row;
    case "warned: $name" => sub {
        my ($status, $said) = said("location /x { $text }");
        is($status, 0);
        like($said, qr/\[warn\].*$expected.* in \S+nginx\.conf:\d+/);
    };
}

case 'in a server or in http there are no locations to be answered' => sub {
    for my $name (qw(websocket_cgi websocket_cgi_dir)) {
        my ($status, $said) = said("$name /bin;");
        isnt($status, 0);
        like($said, qr/"$name" directive is not allowed here/);
    }
};

done_testing();
