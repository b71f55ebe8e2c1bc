# A terminal that is hung up and opened again, as login does: the program goes on on it.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;

plan skip_all => no_terminals() if no_terminals();

my $ngx = Ws::Nginx->new(server => <<'EOT');
    websocket_close_timeout 500ms;
    websocket_exec_format bytes;
    websocket_exec_pty on;
    location = /reopened { websocket_exec %%PREFIX%%/bin/reopen close; }
    location = /hangup   { websocket_exec %%PREFIX%%/bin/reopen hangup; }
    location = /closed   { websocket_exec %%PREFIX%%/bin/reopen leave; }
EOT
$ngx->program('reopen', <<'EOP');
#!/usr/bin/perl
# reopen close|hangup|leave: lets go of its terminal, waits, and takes it again, or not.
use POSIX;
$| = 1;
$SIG{HUP} = 'IGNORE';
my $name = POSIX::ttyname(0);
print "on $name\n";
<STDIN>;
if ($ARGV[0] eq 'hangup') { syscall(153) == 0 or exit 77 }    # vhangup(2) on x86-64
close $_ for *STDIN, *STDOUT, *STDERR;
POSIX::close($_) for 0 .. 9;
select undef, undef, undef, 1;
exit 5 if $ARGV[0] eq 'leave';
POSIX::setsid();
POSIX::open($name, O_RDWR) == 0 or exit 8;
POSIX::dup2(0, 1);
POSIX::write(1, "again\n", 6);
POSIX::read(0, my $line, 100);
POSIX::write(1, "got $line", 4 + length $line);
POSIX::_exit(3);
EOP
$ngx->start;

sub read_until {
    my ($client, $pattern) = @_;

    my $got = '';
    $got .= $client->message->{payload} while $got !~ $pattern;
    return $got;
}

for my $how (qw(reopened hangup)) {
    case "$how" => sub {
        plan skip_all => 'only root may hang up a terminal' if $how eq 'hangup' && ($> != 0 || `uname -m` !~ /x86_64/);
        my $client = Ws::Client->open($ngx->port, "/$how");
        read_until($client, qr/on \S+\r\n/);
        my ($pid) = $ngx->await_programs(1);
        $client->send(text("go\n"));
        my $got = read_until($client, qr/again\r\n/);
        # It costs nothing while nobody has it open.
        my ($worker) = $ngx->workers;
        cmp_ok(cpu($worker), '<', 0.7, 'the worker does not spin') if !instrumented();
        $client->send(text("input\n"));
        read_until($client, qr/got input\r\n/);
        is($client->server_close, 'close 1011 exit 3');
    };
}

case 'a program that lets go for good' => sub {
    my $client = Ws::Client->open($ngx->port, '/closed');
    read_until($client, qr/on \S+\r\n/);
    $client->send(text("go\n"));
    is($client->server_close, 'close 1011 exit 5');
};

# cpu(pid): seconds of processor time.
sub cpu {
    my ($pid) = @_;

    open my $in, '<', "/proc/$pid/stat" or die "$pid: $!";
    my @fields = split ' ', (<$in> =~ s/.*\) //r);
    return ($fields[11] + $fields[12]) / 100;
}

$ngx->stop;
done_testing;
