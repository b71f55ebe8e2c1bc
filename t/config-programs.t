# What "nginx -t" says of programs and directories that nobody could be connected to: a warning with file and line, as the
# user that the workers run as.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;

my $ngx = Ws::Nginx->new(env => { PATH => '/no/such:/usr/bin:/bin' });
my $prefix = $ngx->prefix;
$ngx->program('runs', "#!/bin/sh\n");
$ngx->file('bin/not-executable', "#!/bin/sh\n", 0644);
mkdir "$prefix/closed" or die "mkdir: $!\n";
$ngx->file('closed/runs', "#!/bin/sh\n", 0755);

# said(server, name => value ...): what "nginx -t" says; it must accept the configuration.
sub said {
    my ($server, %opt) = @_;

    $ngx->{server} = $server;
    $ngx->{$_} = $opt{$_} for keys %opt;
    my ($status, $said) = $ngx->check_config;
    is($status, 0, 'accepted') or diag($said);
    return $said;
}

# line(text): the number of the line of the configuration with this text.
sub line {
    my ($text) = @_;

    my $number = 0;
    for (split /\n/, $ngx->config) {
        $number++;
        return $number if index($_, $text) >= 0;
    }
    die "no line with $text\n";
}

sub warned {
    my ($directives, $blamed, @expected) = @_;

    case "$directives warns" => sub {
        my $said = said("location / {\n$directives\n}");
        my @warnings = $said =~ /(\[warn\].*)/g;
        is(scalar @warnings, 1, 'one warning') or diag($said);
        my $line = line($blamed =~ s/%%PREFIX%%/$prefix/gr);
        like($warnings[0] // '', qr{ in \S+/conf/nginx\.conf:$line$}, 'file and line');
        for my $part (@expected) {
            like($warnings[0] // '', ref $part ? $part : qr/\Q$part\E/, "says $part");
        }
    };
}

sub silent {
    my ($directives) = @_;

    case "$directives does not" => sub {
        my $said = said("location / {\n$directives\n}");
        unlike($said, qr/\[warn\]/);
    };
}

for my $exec ('websocket_exec', 'websocket_channel x; websocket_exec') {
    warned("$exec %%PREFIX%%/bin/missing;", "$exec %%PREFIX%%/bin/missing;", '"websocket_exec" directive cannot be started', "$prefix/bin/missing",
        'there is no such file');
}
warned('websocket_exec %%PREFIX%%/bin/not-executable a b;', 'not-executable', 'Permission denied', 'as user "root"') if !$>;
warned('websocket_exec %%PREFIX%%/bin;', '/bin;', 'it is a directory');
warned('websocket_exec /dev/null;', '/dev/null', 'it is no regular file');
warned('websocket_exec no-such-program-anywhere;', 'no-such-program', 'PATH');
warned('websocket_exec "%%PREFIX%%/bin/runs -x";', 'runs -x', 'arguments are words of their own');
warned('websocket_exec cat | wc;', 'cat | wc', '"|"', 'there is no shell');
warned('websocket_exec_dir %%PREFIX%%/nowhere;', 'nowhere', '"websocket_exec_dir" directive cannot be used', 'there is no such file');
warned('websocket_exec_dir %%PREFIX%%/bin/runs;', 'bin/runs', 'it is no directory');
warned("websocket_exec %%PREFIX%%/bin/runs;\nwebsocket_exec_cwd %%PREFIX%%/nowhere;", 'websocket_exec_cwd', '"websocket_exec_cwd"',
    'there is no such file');
warned("websocket_exec sh;\nwebsocket_exec_env PATH=/no/such;", 'websocket_exec sh', 'PATH');
warned("websocket_exec %%PREFIX%%/bin/missing;\nif (\$arg_x) { set \$seen 1; }\nlimit_except GET { allow all; }", 'bin/missing', 'no such file');

silent($_) for 'websocket_exec %%PREFIX%%/bin/runs a;', 'websocket_exec sh -c "a | b";', 'websocket_exec $arg_program;',
    'websocket_exec %%PREFIX%%/$arg_x;', 'websocket_exec_dir %%PREFIX%%/bin;', 'websocket_exec_dir %%PREFIX%%/$arg_x;',
    "websocket_exec runs;\nwebsocket_exec_env PATH=%%PREFIX%%/bin;", "websocket_exec sh;\nwebsocket_exec_env PATH=\$arg_path;",
    "websocket_exec sh;\nwebsocket_exec_cwd \$arg_x;", "websocket_exec_cwd %%PREFIX%%/nowhere;\nwebsocket_tcp 127.0.0.1:1;";

case 'one directory that several locations inherit is named once' => sub {
    my $said = said("websocket_exec_cwd $prefix/nowhere;\nlocation /a { websocket_exec sh; }\nlocation /b { websocket_exec cat; }");
    is(scalar(() = $said =~ /\[warn\]/g), 1);
};

case 'a bare name is looked for where "env PATH" says' => sub {
    like(said('location / { websocket_exec sh; }', main => 'env PATH=/no/such;'), qr/\[warn\].*"sh".*PATH/);
    unlike(said('location / { websocket_exec runs; }', main => "env PATH=$prefix/bin;"), qr/\[warn\]/);
    $ngx->{main} = '';
};

SKIP: {
    skip 'not root', 3 if $>;

    case 'what root can execute and the workers cannot' => sub {
        chmod 0700, "$prefix/closed";
        my $exec = "location / { websocket_exec $prefix/closed/runs; }";
        unlike(said($exec), qr/\[warn\]/, 'workers that are root');
        chmod 0755, $prefix;
        my $said = said($exec, user => 'nobody nogroup');
        like($said, qr/\[warn\].*Permission denied.*, as user "nobody" in \S+nginx\.conf:\d+$/m);
        chmod 0755, "$prefix/closed";
        unlike(said($exec), qr/\[warn\]/, 'and can');
        $ngx->{user} = undef;
    };

    case 'the groups of the workers count' => sub {
        chmod 0750, "$prefix/closed";
        chown 0, scalar getgrnam('nogroup'), "$prefix/closed";
        unlike(said("location / { websocket_exec $prefix/closed/runs; }", user => 'nobody nogroup'), qr/\[warn\]/);
        chmod 0700, "$prefix/closed";
        $ngx->{user} = undef;
    };

    case 'the answer names the user as well' => sub {
        chmod 0755, $prefix;
        my $run = Ws::Nginx->new(user => 'nobody nogroup', server => <<'EOT');
    location = /closed { websocket_exec %%PREFIX%%/closed/runs; }
    location /dir/     { websocket_exec_dir %%PREFIX%%/closed; }
    location /out/     { websocket_exec_dir %%PREFIX%%/open; }
EOT
        mkdir $run->prefix . "/$_" for 'closed', 'open';
        $run->file('closed/runs', "#!/bin/sh\n", 0755);
        symlink '/bin/sh', $run->prefix . '/open/sh';
        chmod 0700, $run->prefix . '/closed';
        chmod 0755, $run->prefix;
        $run->start;
        # valgrind does not know openat2(2).
        for ('/closed', under_valgrind() ? () : ('/dir/runs', '/out/sh')) {
            my $client = Ws::Client->connect(port => $run->port);
            is($client->handshake($_)->{status}, $_ eq '/closed' ? 500 : 403, $_);
            $client->abandon;
        }
        $run->await_log(qr{cannot start "\S+closed/runs".*Permission denied.*, as user "nobody"});
        if (!under_valgrind()) {
            $run->await_log(qr{no program for "runs" in "\S+/closed": it cannot be executed by user "nobody"});
            $run->await_log(qr{no program for "sh" in "\S+/open": a link leads out of the directory});
        }
        $run->stop;
    };
}

done_testing();
