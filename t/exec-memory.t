# Programs run as the user of the worker. They cannot look into its memory, nor into that of the spawner.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;

plan skip_all => 'root may look at everything, and only root can become somebody else' if $> != 0;

my $group = getgrnam('nogroup') ? 'nogroup' : 'nobody';
my $ngx = Ws::Nginx->new(user => "nobody $group", server => <<'EOT');
    location = /peek { websocket_exec %%PREFIX%%/bin/peek $arg_pid; }
EOT
$ngx->program('peek', <<'EOP');
#!/usr/bin/perl
# peek PID: what may be read of a process.
my $pid = $ARGV[0] eq 'self' ? $$ : $ARGV[0];
for my $file (qw(mem maps environ)) {
    open my $in, '<', "/proc/$pid/$file" or next;
    print "$file\n" if $file eq 'mem' || sysread $in, my $octet, 1;
}
print "fd\n" if opendir my $dir, "/proc/$pid/fd";
print scalar getpwuid($>), "\n";
EOP
chmod 0755, $ngx->prefix;
$ngx->start;

sub peek {
    my ($pid) = @_;

    my $client = Ws::Client->open($ngx->port, "/peek?pid=$pid");
    my $close = $client->server_close;
    return join ' ', map { $_->{payload} } @{$client->{skipped}};
}

my ($worker) = $ngx->workers;
my ($spawner) = $ngx->spawners;
is(peek($worker), 'nobody', 'the worker');
is(peek($spawner), 'nobody', 'the spawner');
is(peek('self') =~ s/ nobody//r, 'mem maps environ fd', 'while nothing is wrong with the way of looking');

$ngx->stop;
done_testing;
