# websocket_exec_dir: the path below the location picks a program in a directory.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;

plan skip_all => 'valgrind does not know openat2(2)' if under_valgrind();

my $ngx = Ws::Nginx->start(server => <<'EOT', noise => [qr/\[error\].*no program for/]);
    websocket_close_timeout 500ms;
    location /programs/ { websocket_exec_dir %%PREFIX%%/bin; }
    location /elsewhere/ { websocket_exec_dir %%PREFIX%%/bin; websocket_exec_cwd /; }
    location /missing/ { websocket_exec_dir %%PREFIX%%/nowhere; }
    location /unsaid/ { websocket_exec_dir %%PREFIX%%/bin; log_not_found off; }
    location ~ ^/by/(?<who>[a-z]+)/ { websocket_exec_dir %%PREFIX%%/$who; }
EOT

my $SAYS = <<'EOT';
#!/bin/sh
echo "$0 $SCRIPT_NAME $PATH_INFO"
pwd
EOT
$ngx->program('says', $SAYS);
my $prefix = $ngx->prefix;
mkdir "$prefix/bin/below" or die "mkdir: $!\n";
for (['below/deep', 0755], ['plain', 0644], ['.hidden', 0755], ['../outside', 0755]) {
    my ($name, $mode) = @$_;
    open(my $file, '>', "$prefix/bin/$name") or die "$name: $!\n";
    print $file $SAYS;
    close $file;
    chmod $mode, "$prefix/bin/$name";
}
symlink 'says', "$prefix/bin/inside" or die "symlink: $!\n";
symlink '../outside', "$prefix/bin/escape" or die "symlink: $!\n";
symlink '/bin/echo', "$prefix/bin/absolute" or die "symlink: $!\n";
symlink "$prefix/bin/says", "$prefix/bin/absolute-inside" or die "symlink: $!\n";
symlink "$prefix/bin/below", "$prefix/bin/absolute-below" or die "symlink: $!\n";

sub said {
    my ($uri) = @_;

    my $client = Ws::Client->open($ngx->port, $uri);
    my @lines = ($client->text, $client->text);
    is($client->server_close, 'close 1000');
    return @lines;
}

sub refused {
    my ($uri, $status) = @_;

    my $client = Ws::Client->connect(port => $ngx->port);
    is($client->handshake($uri)->{status}, $status, "$uri: $status");
}

case 'a program, and the rest of the path' => sub {
    my ($line, $cwd) = said('/programs/says/some/thing?x');
    like($line, qr{/?says /programs/says /some/thing$});
    is($cwd, "$prefix/bin");
};

case 'a program in a directory below' => sub {
    my ($line, $cwd) = said('/programs/below/deep');
    like($line, qr{deep /programs/below/deep $});
    is($cwd, "$prefix/bin/below");
};

case 'a link that stays inside' => sub {
    like((said('/programs/inside'))[0], qr{/programs/inside});
};

case 'an absolute link that leads below the directory' => sub {
    my ($line, $cwd) = said('/programs/absolute-inside/x');
    like($line, qr{/?says /programs/absolute-inside /x$});
    is($cwd, "$prefix/bin");
    ($line, $cwd) = said('/programs/absolute-below/deep');
    like($line, qr{/?deep /programs/absolute-below/deep $});
    is($cwd, "$prefix/bin/below");
};

case 'another working directory' => sub {
    my ($line, $cwd) = said('/elsewhere/says');
    like($line, qr{^\Q$prefix\E/bin/says /elsewhere/says $});
    is($cwd, '/');
};

case 'what leads to no program' => sub {
    refused('/programs/', 404);
    refused('/programs/nothing', 404);
    refused('/programs/below', 404);
    refused('/programs/.hidden', 404);
    refused('/programs/says%00', 400);
    refused('/programs/plain', 403);
};

case 'log_not_found' => sub {
    refused('/programs/not-here', 404);
    $ngx->await_log(qr{\[error\].*no program for "not-here"});
    refused('/unsaid/not-there', 404);
    $ngx->await_log(qr{\[info\].*no program for "not-there"});
};

case 'a link that leads out' => sub {
    refused('/programs/escape', 403);
    refused('/programs/absolute', 403);
};

case 'a path that climbs' => sub {
    refused('/programs/..%2foutside', 404);
    refused('/programs/below/..%2f..%2foutside', 404);
};

case 'a directory that is missing: 500' => sub { refused('/missing/says', 500) };

case 'nothing is left' => sub { $ngx->await_programs(0); ok(1) };

$ngx->stop;
done_testing;
