# The page of the example with two nodes and a Redis, in a browser: the node that it is connected to is killed, and it goes on at the other
# one without loss; and back again.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Chromium;
use Ws::Client;
use Ws::Http;
use Ws::Nginx;
use Ws::Process qw(descendants);
use Ws::Redis;

plan skip_all => 'Chromium is not installed' if !Ws::Chromium::installed();

my $redis = Ws::Redis->start;

sub node {
    my ($other) = @_;

    my $edit = sub { s/\@redis\@/$redis->socket/ge; s/\@other\@/$other/g };
    return Ws::Nginx->example('cluster', workers => 2, edit => $edit, noise => [qr/channels: /])->start;
}

# Each has to know the port of the other one.
my @nodes = (node(1));
push @nodes, node($nodes[0]->port);
$nodes[0]->example('cluster', edit => sub { s/\@redis\@/$redis->socket/ge; my $port = $nodes[1]->port; s/\@other\@/$port/g });
$nodes[0]->write_config;
$nodes[0]->reload;

my ($one, $two) = map { $_->port } @nodes;
my @said;

sub say_at {
    my ($port, $line) = @_;

    await("a publication at $port", sub { request($port, 'POST', '/room/test', body => $line)->{status} =~ /^20[12]$/ });
    push @said, $line;
    return;
}

say_at($one, 'before anybody came');
my $browser = Ws::Chromium->open("http://127.0.0.1:$one/#test");

sub shows_all {
    $browser->await_value('document.querySelectorAll("#log li").length >= ' . @said);
    is($browser->evaluate('[...document.querySelectorAll("#log li")].map(item => item.textContent).join("|")'), join('|', @said));
    return;
}

sub is_at {
    my ($port) = @_;

    $browser->await_value("document.getElementById('node').textContent === 'http://127.0.0.1:$port'");
    pass("it shows that it is connected to $port");
    return;
}

case 'messages of both nodes' => sub {
    is_at($one);
    shows_all();
    say_at($_, "said at $_") for $two, $one;
    shows_all();
};

case 'the other node by hand, and back' => sub {
    for my $port ($two, $one) {
        $browser->evaluate('document.getElementById("change").click()');
        is_at($port);
        say_at($one, "while at $port");
        shows_all();
    }
};

case 'who is there at both nodes' => sub {
    my $client = Ws::Client->open($two, '/room/test');
    $browser->await_value('/ 2 in the room/.test(document.getElementById("count").textContent)');
    pass('two');
    $client->close;
};

case 'its node is killed' => sub {
    my @processes = ($nodes[0]->master, descendants($nodes[0]->master));
    kill 'STOP', @processes;
    # Nobody has noticed yet.
    say_at($two, 'while nobody knows');
    kill 'KILL', @processes;
    waitpid $nodes[0]->master, 0;
    delete $nodes[0]{master};
    say_at($two, 'while it is away');
    is_at($two);
    shows_all();
    $browser->evaluate("document.getElementById('line').value = 'said in the page'; document.getElementById('form').requestSubmit()");
    push @said, 'said in the page';
    shows_all();
};

$browser->evaluate('channel.close()');
$browser->close;
$redis->kill;
$nodes[1]->stop;
done_testing();
