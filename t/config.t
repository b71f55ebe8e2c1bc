# What "nginx -t" accepts and what it refuses: always with the directive, the value, what is accepted, file and line.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;

my $ngx = Ws::Nginx->new;
my $SIZE = qr/size.*"64k"|"64k"/;
my $TIME = qr/time.*"30s"|"30s"/;

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

sub refused {
    my ($name, $server, $blamed, @expected) = @_;

    $ngx->{server} = $server;
    my ($status, $said) = $ngx->check_config;
    my $line = line($blamed);
    subtest $name => sub {
        isnt($status, 0, 'refused');
        my ($emerg) = $said =~ /(\[emerg\].*)/;
        $emerg //= '';
        like($emerg, qr{ in \S+/conf/nginx\.conf:$line$}, 'file and line');
        for my $part (@expected) {
            if (ref $part) {
                like($emerg, $part);
            } else {
                isnt(index($emerg, $part), -1, "says $part") or diag($emerg);
            }
        }
    };
}

sub accepted {
    my ($name, $server) = @_;

    $ngx->{server} = $server;
    my ($status, $said) = $ngx->check_config;
    is($status, 0, $name) or diag($said);
}

# One directive in a location that has an endpoint.
sub bad_value {
    my ($directive, $value, @accepted) = @_;

    my $shown = $value =~ s/^"(.*)"$/$1/r =~ s/^'(.*)'$/$1/r;
    refused("$directive $value", "location / {\nwebsocket_exec /bin/cat;\n$directive $value;\n}", "$directive $value;",
        $directive, $shown, @accepted);
}

sub good_value {
    my ($directive, @values) = @_;

    accepted("$directive $_", "location / {\nwebsocket_exec /bin/cat;\n$directive $_;\n}") for @values;
}

sub usage {
    my ($name, $server, $blamed, @expected) = @_;

    refused($name, "location / {\n$server\n}", $blamed, @expected);
}

my %kind = (
    size => { good => [qw(0 1 512 64k 64K 1m 2g)], bad => [qw(x -1 1.5m 64kb 1t k 99999999999999999999)], says => $SIZE },
    time => { good => [qw(0 1 500ms 30s 5m 1h), '"1m 30s"'], bad => [qw(x -1 5x 1.5s s 30d 99999999999999999999)], says => $TIME },
    context => { good => [qw(on off dedicated)], bad => [qw(yes 1 ON shared)], says => qr/"on", "off" or "dedicated"/ },
    flag => { good => [qw(on off)], bad => [qw(yes 1 ON true)], says => qr/"?on"? or "?off"?/ },
);

my %directive = (
    websocket_max_message_size => 'size',
    websocket_max_frame_size   => 'size',
    websocket_fragment_size    => 'size',
    websocket_send_buffer      => 'size',
    websocket_close_timeout    => 'time',
    websocket_ping_interval    => 'time',
    websocket_ping_timeout     => 'time',
    websocket_idle_timeout     => 'time',
    websocket_send_timeout     => 'time',
    websocket_drain            => 'time',
    websocket_deflate          => 'flag',
    websocket_deflate_context  => 'context',
    websocket_deflate_min_size => 'size',
    websocket_console          => 'flag',
);

for my $directive (sort keys %directive) {
    my $kind = $kind{$directive{$directive}};
    SKIP: {
        # A directive that is not built yet must not parse.
        $ngx->{server} = "location / { $directive x; }";
        my (undef, $said) = $ngx->check_config;
        skip "$directive is not there", 1 if $said =~ /unknown directive/;

        good_value($directive, grep { $_ ne '0' || $directive ne 'websocket_send_buffer' } @{$kind->{good}});
        bad_value($directive, $_, $kind->{says}) for @{$kind->{bad}};
        usage("$directive twice", "websocket_exec /bin/cat;\n$directive $kind->{good}[1]; # first\n$directive $kind->{good}[1]; # second",
            '# second', $directive, 'duplicate');
        usage("$directive without a value", "websocket_exec /bin/cat;\n$directive;", "$directive;",
            $directive, qr/invalid number of arguments/);
        usage("$directive with two values", "websocket_exec /bin/cat;\n$directive 1 2;", "$directive 1 2;",
            $directive, qr/invalid number of arguments/);
        accepted("$directive in server and location", "$directive $kind->{good}[1];\nlocation / { websocket_exec /bin/cat; $directive $kind->{good}[-1]; }");
    }
}

good_value('websocket_exec_format', qw(lines bytes messages));
bad_value('websocket_exec_format', $_, qr/lines/, qr/bytes/, qr/messages/) for qw(line LINES text ""), '"lines bytes"';
usage('websocket_exec_format twice', "websocket_exec /bin/cat;\nwebsocket_exec_format lines;\nwebsocket_exec_format bytes;",
    'websocket_exec_format bytes;', 'websocket_exec_format', 'duplicate');
usage('websocket_exec_format without a value', 'websocket_exec_format;', 'websocket_exec_format;', 'websocket_exec_format');

good_value('websocket_exec_stderr', qw(log client both null));
bad_value('websocket_exec_stderr', $_, qr/log/, qr/client/, qr/both/, qr/null/) for qw(off stdout BOTH /dev/null);

good_value('websocket_exec_max', qw(1 5 1024));
bad_value('websocket_exec_max', $_, qr/number/) for qw(x -1 1.5 1k 99999999999999999999);
usage('websocket_exec_max twice', "websocket_exec /bin/cat;\nwebsocket_exec_max 1;\nwebsocket_exec_max 2;",
    'websocket_exec_max 2;', 'websocket_exec_max', 'duplicate');

good_value('websocket_exec_stop', '0 0', '100ms 5s', '1s 1s', '1m 2m');
usage("websocket_exec_stop $_", "websocket_exec_stop $_;", "websocket_exec_stop $_;", 'websocket_exec_stop', /([xy])/, $TIME) for 'x 5s', '1s y';
usage('websocket_exec_stop with one time', 'websocket_exec_stop 1s;', 'websocket_exec_stop 1s;', 'websocket_exec_stop');
usage('websocket_exec_stop with three times', 'websocket_exec_stop 1s 2s 3s;', 'websocket_exec_stop 1s 2s 3s;', 'websocket_exec_stop');

good_value('websocket_exec_cwd', qw(/ /tmp $document_root));
usage('websocket_exec_cwd empty', "websocket_exec /bin/cat;\nwebsocket_exec_cwd \"\";", 'websocket_exec_cwd "";', 'websocket_exec_cwd', qr/directory/);

good_value('websocket_exec_env', qw(A=b A= A A_1=$arg_x), 'A=1 B=2 C', '"A=two words"');
bad_value('websocket_exec_env', $_, qr/name|NAME/) for qw(=b 1A=b A-B=c), '"A B=c"';

good_value('websocket_origin', qw(same any https://app.example.com http://a.example:8080 *.example.com $arg_x), '"~^https://a\.b$"',
    'https://a.example *.example.com "~x"');
for my $bad ('"~("', '"~[a"') {
    refused("websocket_origin $bad", "location / {\nwebsocket_exec /bin/cat;\nwebsocket_origin $bad;\n}", "websocket_origin $bad;",
        'websocket_origin', $bad =~ s/^"~(.*)"$/$1/r);
}
bad_value('websocket_origin', $_, qr/same|any|https:/) for qw(https:// app.example.com:x https://a.example/path *. ""), '"a b"';
usage('websocket_origin any with others', "websocket_exec /bin/cat;\nwebsocket_origin any https://a.example;",
    'websocket_origin any', 'websocket_origin', 'any');
usage('websocket_origin twice', "websocket_exec /bin/cat;\nwebsocket_origin any;\nwebsocket_origin same;",
    'websocket_origin same;', 'websocket_origin', 'duplicate');

good_value('websocket_protocols', 'chat', 'chat v2.super-chat', 'a!b');
bad_value('websocket_protocols', $_, qr/token|name/) for 'a/b', 'a,b', 'chat@home', '""', '"a b"';
usage('a subprotocol twice', "websocket_exec /bin/cat;\nwebsocket_protocols chat chat;", 'websocket_protocols chat', 'websocket_protocols', 'chat');

usage('websocket_exec without a program', 'websocket_exec;', 'websocket_exec;', 'websocket_exec', qr/invalid number of arguments/);
usage('websocket_exec with an empty program', 'websocket_exec "";', 'websocket_exec "";', 'websocket_exec', qr/program/);
usage('websocket_exec twice', "websocket_exec /bin/cat;\nwebsocket_exec /bin/echo;", 'websocket_exec /bin/echo;', 'websocket_exec', 'duplicate');
{
    # nginx looks at variables when it has read everything.
    $ngx->{server} = 'location / { websocket_exec /bin/echo $no_such_variable; }';
    my ($status, $said) = $ngx->check_config;
    isnt($status, 0, 'an unknown variable');
    like($said, qr/\[emerg\].*"no_such_variable"/, 'by its name');
}
refused('websocket_exec in a server', "websocket_exec /bin/cat;\n", 'websocket_exec /bin/cat;', 'websocket_exec', qr/not allowed here/);
accepted('websocket_exec in if in a location', "location / {\nif (\$arg_x) {\nwebsocket_exec /bin/cat;\n}\n}");
accepted('one more in if', "location / {\nwebsocket_exec /bin/cat;\nif (\$arg_x) {\nwebsocket_exec /bin/echo;\n}\n}");
accepted('variables in program and arguments', "location / {\nwebsocket_exec \$document_root/x \$uri \"\${arg_a}b\" 'c d';\n}");
accepted('a nested location', "location / {\nwebsocket_exec /bin/cat;\nlocation /a {\nwebsocket_exec /bin/echo;\n}\n}");

# Words that would be taken as something that nobody means, with what was meant.
for my $row (
    ['websocket_channel x pubsub',          'mode=pubsub'],
    ['websocket_channel x pub',             'mode=pub'],
    ['websocket_channel sub',               'mode=sub'],
    ['websocket_channel x Mode=pub',        'mode=pub'],
    ['websocket_channel x length=5',        'websocket_channel_history'],
    ['websocket_channel off',               'not a switch'],
    ['websocket_channel a, b',              'blanks'],
    ['websocket_exec ./prog',               'absolute path', 'PATH'],
    ['websocket_exec bin/prog',             'absolute path', 'PATH'],
    ['websocket_exec ../prog a',            'absolute path', 'PATH'],
    ['websocket_exec off',                  'not a switch'],
    ['websocket_exec_dir off',              'an absolute path'],
    ['websocket_tcp http://127.0.0.1:80',   '"127.0.0.1:80"'],
    ['websocket_tcp wss://127.0.0.1:80',    '"127.0.0.1:80"', 'websocket_tcp_ssl on'],
    ['websocket_tcp tcp://$arg_host:80',    '"$arg_host:80"'],
    ['websocket_tcp /run/x.sock',           'unix:/run/x.sock'],
    ['websocket_tcp 5901',                  '127.0.0.1:5901'],
    ['websocket_tcp off',                   'not a switch'],
) {
    my ($line, @meant) = @$row;
    usage($line, "$line;", "$line;", $line =~ /^(\S+)/, @meant);
}
for my $row (
    ['websocket_channel_group off',         'not a switch', '""'],
    ['websocket_channel_presence off',      'not a switch', '""'],
    ['websocket_channel_separator none',    'not a switch', '""'],
    ['websocket_channel_split off',         'not a switch'],
    ['websocket_channel_events on',         'not a switch', '"off"'],
    ['websocket_protocols none',            'not a switch'],
    ['websocket_protocols *',               'names of subprotocols'],
    ['websocket_exec_env off',              'not a switch'],
    ['websocket_exec_cwd off',              'absolute path'],
    ['websocket_exec_cwd work',             'absolute path'],
    ['websocket_tcp_ssl_name off',          'not a switch'],
    ['websocket_tcp_upload_rate 64k/s',     '"64k"', '"0" for no limit'],
    ['websocket_tcp_download_rate off',     '"0" for no limit'],
    ['websocket_origin off',                '"any"', '"same"'],
    ['websocket_origin none',               'deny all'],
    ['websocket_origin self',               '"same"'],
    ['websocket_origin Same',               '"same"'],
    ['websocket_origin *',                  '"any"'],
    ['websocket_origin all',                '"any"'],
    ['websocket_origin wss://app.example',  'the origin is that of the page', '"https://app.example"'],
    ['websocket_origin ws://app.example:81', '"http://app.example:81"'],
    ['websocket_origin wss://$host',        '"https://$host"'],
    ['websocket_origin https://$host/',     'an origin has no path'],
    ['websocket_origin app.example/path',   'an origin has no path', '"app.example"'],
    ['websocket_origin https://app.example/', '"https://app.example"'],
    ['websocket_origin *..example.com',     '*.example.com'],
    ['websocket_origin ~ ^https',           'without a blank'],
    ['websocket_origin ~*^https',           'case-insensitively'],
) {
    my ($line, @meant) = @$row;
    usage($line, "websocket_exec /bin/cat;\n$line;", "$line;", $line =~ /^(\S+)/, @meant);
}
accepted("$_ is what it says", "location / { $_; }") for 'websocket_channel pub mode=sub', 'websocket_channel room=5 a:b', 'websocket_exec cat',
    'websocket_tcp 127.0.0.1:80', 'websocket_tcp unix:/run/x.sock', 'websocket_channel_group ""';

# The library names its function, and the expression once more.
for my $row (['"~("', qr/it is no regular expression: .*missing/], ['"~[a"', qr/it is no regular expression: .*missing/], ['"~a**b(x"', qr/no regular expression: /]) {
    my ($value, $expected) = @$row;
    usage("websocket_origin $value", "websocket_exec /bin/cat;\nwebsocket_origin $value;", "websocket_origin $value;",
        'invalid value "' . $value =~ s/"//gr =~ s/^~//r . '" in "websocket_origin" directive: ', $expected);
}

# Two endpoints in one location; those of later directives only once these exist.
{
    # proxy_pass does not ask whether somebody was there before it.
    $ngx->{server} = "location / { websocket_exec /bin/cat; proxy_pass http://127.0.0.1:1; }";
    my ($status, $said) = $ngx->check_config;
    isnt($status, 0, 'websocket_exec and proxy_pass');
    like($said, qr{\[emerg\].*"websocket_exec".* in \S+/conf/nginx\.conf:\d+$}m, 'file and line');
}
for my $other ('websocket_exec_dir /bin', 'websocket_tcp 127.0.0.1:1') {
    $ngx->{server} = "location / { $other; }";
    my ($status) = $ngx->check_config;
    SKIP: {
        skip "$other is not there", 1 if $status;
        usage("websocket_exec and $other", "websocket_exec /bin/cat;\n$other;", "$other;", 'websocket_exec', $other =~ s/ .*//r);
    }
}

# The one pair: a program that the clients of a channel share.
accepted('websocket_exec and websocket_channel', "location / {\nwebsocket_exec /bin/cat;\nwebsocket_channel a;\n}");
accepted('websocket_channel and websocket_exec', "location / {\nwebsocket_channel \$arg_id mode=sub;\nwebsocket_exec /bin/cat;\n}");
usage('a second program', "websocket_exec /bin/cat;\nwebsocket_channel a;\nwebsocket_exec /bin/echo;", 'websocket_exec /bin/echo;',
    'websocket_exec', 'duplicate');
usage('a second channel', "websocket_exec /bin/cat;\nwebsocket_channel a;\nwebsocket_channel b;", 'websocket_channel b;',
    'websocket_channel', 'duplicate');
for my $other ('websocket_exec_dir /bin', 'websocket_tcp 127.0.0.1:1', 'websocket_status') {
    my ($name) = $other =~ /^(\S+)/;
    usage("a shared program and $name", "websocket_exec /bin/cat;\nwebsocket_channel a;\n$other;", "$other;", $name,
        qr/cannot stand beside "websocket_exec"/);
    usage("a channel and $name", "$other;\nwebsocket_channel a;", 'websocket_channel a;', 'websocket_channel',
        qr/cannot stand beside "$name"/);
}
usage('a shared program with two channels', "websocket_exec /bin/cat;\nwebsocket_channel a b;", 'websocket_channel a b;',
    'websocket_channel', qr/one channel, not several/);
for my $mode (qw(pub pubsub)) {
    usage("a shared program and mode=$mode", "websocket_channel a mode=$mode;\nwebsocket_exec /bin/cat;", 'websocket_exec /bin/cat;',
        'websocket_exec', qr/mode=sub/);
}
accepted("a shared terminal: $_", "websocket_exec_pty on;\nwebsocket_exec_pty_size $_;\nlocation / {\nwebsocket_exec /bin/cat;\nwebsocket_channel a;\n}")
    for qw(smallest writer);
usage('websocket_exec_pty_size', "websocket_exec /bin/cat;\nwebsocket_exec_pty_size 80x24;", 'websocket_exec_pty_size 80x24;',
    'websocket_exec_pty_size', qr/"smallest" or "writer"/);
usage('websocket_exec_linger without a unit of time', "websocket_exec /bin/cat;\nwebsocket_exec_linger soon;", 'websocket_exec_linger soon;',
    'websocket_exec_linger', qr/soon/);
usage('websocket_exec_request', "websocket_exec /bin/cat;\nwebsocket_channel a;\nwebsocket_exec_request get;", 'websocket_exec_request get;',
    'websocket_exec_request', qr/"off" or "post"/);
for my $endpoint ('websocket_exec /bin/cat;', 'websocket_exec_dir /bin;', 'websocket_channel a;', 'websocket_tcp 127.0.0.1:1;', 'websocket_cgi /bin/cat;',
    'websocket_status;') {
    $ngx->{server} = "location / {\nwebsocket_exec_request post;\n$endpoint\n}";
    my (undef, $said) = $ngx->check_config;
    like($said, qr/\[emerg\].*"websocket_exec_request" directive: .*"websocket_exec" beside a "websocket_channel"/, "beside $endpoint");
    accepted("websocket_exec_request around $endpoint", "websocket_exec_request post;\nlocation / {\n$endpoint\n}");
    accepted("websocket_exec_request off beside $endpoint", "location / {\n$endpoint\nwebsocket_exec_request off;\n}");
}
accepted("websocket_exec_request beside a shared program", "location / {\nwebsocket_exec_request post;\nwebsocket_exec /bin/cat;\nwebsocket_channel a;\n"
    . "if (\$arg_a) {\nwebsocket_exec_request off;\n}\n}");
accepted("websocket_exec_linger $_", "location / {\nwebsocket_exec /bin/cat;\nwebsocket_exec_linger $_;\n}") for qw(0 500ms 1h);

done_testing();
