# A module whose file is replaced while nginx runs: a reload goes on with the one in memory, and says so.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use File::Copy qw(copy);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;

plan skip_all => 'the module is linked in' if $ENV{TEST_WS_STATIC};

my $ngx = Ws::Nginx->new(server => 'location = /cat { websocket_exec /bin/cat; }');
my $own = $ngx->prefix . '/ngx_ws_exec.so';
copy(module_file(), $own) or die "$own: $!\n";
$ngx->{modules} = main_modules() =~ s/^load_module \K\S*ws_exec[^;]*/$own/mr;
$ngx->start;

sub warnings_of { return scalar(() = $ngx->log =~ /\[warn\].*the file of the module was replaced/g) }

sub echoes {
    my ($client) = @_;

    $client->send(text('hello'));
    return $client->text;
}

my $client = Ws::Client->open($ngx->port, '/cat');
case 'the same file' => sub {
    $ngx->reload;
    is(warnings_of(), 0, 'nothing is said');
};

case 'another file' => sub {
    copy($own, "$own.new") or die "$own.new: $!\n";
    rename "$own.new", $own or die "$own: $!\n";
    $ngx->reload;
    is(warnings_of(), 1, 'it is said once');
    is(echoes($client), 'hello', 'a session goes on');
    is(echoes(Ws::Client->open($ngx->port, '/cat')), 'hello', 'and others come');
};

$ngx->stop;
done_testing();
