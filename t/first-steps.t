# docs/first-steps.md: the files of the page, put where they belong, do what it says.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Cwd qw(abs_path);
use Ws::Chromium;
use Ws::Client;
use Ws::Frame;
use Ws::Markdown;
use Ws::Nginx;

my %file = %{marked(page(abs_path('docs/first-steps.md')), 'file')};
is(join(' ', sort keys %file), '/etc/nginx/conf.d/hello.conf /srv/hello/index.html /usr/local/bin/hello', 'the files of the page');

my $ngx = Ws::Nginx->new;
my $prefix = $ngx->prefix;
my ($server) = $file{'/etc/nginx/conf.d/hello.conf'} =~ /^server \{\n(.*)^\}\n\z/ms or die "no server\n";
$server =~ s/^\s*(?:listen|server_name)\s.*\n//mg;
$server =~ s{/usr/local/bin/hello}{$prefix/bin/hello}g;
$server =~ s{/srv/hello}{$prefix/hello}g;
$ngx->{http} = 'types { text/html html; }';
$ngx->{server} = $server;

case 'nginx warns of a program that is not there' => sub {
    my ($status, $said) = $ngx->check_config;
    is($status, 0);
    like($said, qr/\[warn\].*bin\/hello.*there is no such file/);
};

$ngx->program('hello', $file{'/usr/local/bin/hello'});
$ngx->file('hello/index.html', $file{'/srv/hello/index.html'});
$ngx->start;

case 'the program' => sub {
    my $client = Ws::Client->open($ngx->port, '/ws/hello');
    like($client->text, qr/^Hello from \S+\. Who are you\?$/);
    $client->send(text('Ada'));
    is($client->text, 'Good day, Ada');
    is($client->close(1000), 'close 1000');
    is(Ws::Client->connect(port => $ngx->port)->handshake('/ws/hello', headers => [Upgrade => undef, Connection => 'close'])->{status},
        200, 'a page to try it by hand');
};

case 'the page' => sub {
    plan skip_all => 'Chromium is not installed' if !Ws::Chromium->installed;
    my $browser = Ws::Chromium->open("http://127.0.0.1:@{[$ngx->port]}/");
    $browser->await_value('document.getElementById("log").textContent.includes("Who are you?")');
    $browser->evaluate('{ const name = document.getElementById("name"); name.value = "Ada"; name.onchange({ target: name }) }');
    $browser->await_value('document.getElementById("log").textContent.endsWith("Good day, Ada\n")');
    is(join('', $browser->complaints), '', 'nothing to complain of');
    $browser->close;
};

$ngx->stop;

done_testing();
