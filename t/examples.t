# The examples of conf/ are configurations that nginx takes; those without a test file of their own are tried. The directives
# that docs/migrating.md names exist.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Cwd qw(abs_path);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;

my $conf = abs_path('conf');

sub slurp {
    my ($file) = @_;

    open my $in, '<', $file or die "$file: $!\n";
    local $/;
    return scalar <$in>;
}

# example(name): an nginx with it, not started yet.
sub example {
    my ($name) = @_;

    my $ngx = Ws::Nginx->new(workers => 1);
    ($ngx->{whole} = slurp("$conf/$name.conf")) =~ s/\@conf\@/$conf/g;
    $ngx->{whole} =~ s/\@prefix\@/$ngx->prefix/ge;
    $ngx->{whole} =~ s/\@port\@/%%PORT%%/g;
    return $ngx;
}

case 'nginx takes them' => sub {
    for my $file (sort glob "$conf/*.conf") {
        my ($name) = $file =~ m{([^/]+)\.conf$};
        my ($status, $said) = example($name)->check_config;
        is($status, 0, $name) or diag($said);
    }
};

case 'log' => sub {
    my $ngx = example('log')->start;
    my $get = sub { Ws::Client->connect(port => $ngx->port)->handshake("/$_[0]") };
    $get->("first-$_") for 1 .. 3;
    $ngx->await_access_log(qr{GET /first-3 });
    my @clients = map { Ws::Client->open($ngx->port, '/tail') } 1 .. 2;
    for my $client (@clients) {
        like($client->text, qr{"GET /first-$_ HTTP/1.1" 404}, 'what was there') for 1 .. 3;
    }
    $get->('later');
    like($_->text, qr{"GET /later HTTP/1.1" 404}, 'what came') for @clients;
    rename $ngx->prefix . '/access.log', $ngx->prefix . '/access.log.1' or die "rename: $!\n";
    $ngx->signal('USR1');
    # The master makes the new file, and the worker writes to the old one until it has heard of it.
    await('a line in the new log', sub { $get->('rotated'); -s $ngx->prefix . '/access.log' });
    like($_->text, qr{"GET /rotated HTTP/1.1" 404}, 'what came after the log was rotated') for @clients;
    $ngx->await_programs(2);
    is($_->close(1000), 'close 1000') for @clients;
    $ngx->await_programs(0);
    is(Ws::Client->connect(port => $ngx->port)->handshake('/')->{status}, 200, 'its page');
    $ngx->stop;
};

case 'who migrates is not led astray' => sub {
    my $text = slurp(abs_path('docs/migrating.md'));
    my %named = map { $_ => 1 } $text =~ /(?<![\$\w])(websocket_[a-z_]+)/g;
    delete $named{websocket_};
    my $directives = slurp(abs_path('docs/directives.md'));
    is(join(' ', grep { $directives !~ /^### $_$/m } sort keys %named), '', 'each directive is described');
    my @servers = $text =~ /^```nginx\n(.*?)^```$/msg;
    # Those of the peers are the only ones in which there is nothing of this module.
    for my $server (grep { /websocket_/ } @servers) {
        $server =~ s/listen \d+;/listen 127.0.0.1:1;/;
        $server = "server {\nlisten 127.0.0.1:1;\n$server}\n" if $server !~ /^server/;
        my ($status, $said) = Ws::Nginx->new(http => $server, server => '')->check_config;
        is($status, 0, 'nginx takes it') or diag("$server$said");
    }
    my $origin = Ws::Nginx->new(server => 'location / { websocket_exec /bin/cat; websocket_origin host:* host:81; }');
    is(($origin->check_config)[0], 0, 'ports of origins');
};

done_testing();
