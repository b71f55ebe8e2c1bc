# REMOTE_HOST: the name of the client's address, by nginx's resolver, where that is asked for.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Dns;

my $dns = Ws::Dns->new;
my $address = $dns->address;
my $ngx = Ws::Nginx->new(server => <<"EOT");
    websocket_exec_remote_host on;
    resolver         $address ipv6=off;
    resolver_timeout 60s;
    location = /name   { websocket_exec %%PREFIX%%/bin/host; }
    location = /other  { websocket_exec %%PREFIX%%/bin/host; }
    location /dir/     { websocket_exec_dir %%PREFIX%%/bin; }
    location = /short  { websocket_exec %%PREFIX%%/bin/host; resolver_timeout 1s; }
    location = /off    { websocket_exec %%PREFIX%%/bin/host; websocket_exec_remote_host off; }
    location = /pool   { websocket_exec %%PREFIX%%/bin/cat; websocket_exec_pool 1; websocket_exec_format messages; }
    location = /shared { websocket_exec %%PREFIX%%/bin/host; websocket_channel shared; }
EOT
$ngx->program('host', qq{#!/bin/sh\necho "\$REMOTE_HOST \$REMOTE_ADDR"\n});
$ngx->program('cat', <<'EOP');
#!/usr/bin/perl
$| = 1;
<STDIN>;
while (<STDIN>) { print "T ", length($1), "\n$1" if /^(REMOTE_HOST=.*)$/ }
EOP
$ngx->start;
my $port = $ngx->port;

# asking(path, address): a client at this address, which waits for its answer.
sub asking {
    my ($path, $from) = @_;

    my $client = Ws::Client->connect(port => $port, source => $from);
    $client->send(upgrade($path));
    return $client;
}

sub answered {
    my ($client) = @_;

    is($client->response->{status}, 101);
    return $client->text;
}

case 'the name' => sub {
    my $client = asking('/name', '127.0.0.2');
    is($dns->answer_name('client.example.com'), '2.0.0.127.in-addr.arpa');
    is(answered($client), 'client.example.com 127.0.0.2');
    is(answered(asking('/other', '127.0.0.2')), 'client.example.com 127.0.0.2', 'nginx has it by now');
    # Valgrind does not know openat2(2).
    is(answered(asking('/dir/host', '127.0.0.2')), 'client.example.com 127.0.0.2', 'for programs of a directory too') if !under_valgrind();
    is(answered(asking('/pool', '127.0.0.2')), 'REMOTE_HOST=client.example.com', 'and for one that was started ahead');
};

case 'nothing is started before the answer' => sub {
    my $client = asking('/name', '127.0.0.3');
    my $other = Ws::Client->open($port, '/off');
    is($other->text, '127.0.0.1 127.0.0.1', 'others are served meanwhile');
    is($dns->answer_name('late.example.com'), '3.0.0.127.in-addr.arpa');
    is(answered($client), 'late.example.com 127.0.0.3');
};

case 'an address without a name' => sub {
    my $client = asking('/name', '127.0.0.4');
    $dns->answer_name(undef);
    is(answered($client), '127.0.0.4 127.0.0.4');
};

case 'a name that is none' => sub {
    my $client = asking('/name', '127.0.0.5');
    $dns->answer_name("a b;c.example");
    is(answered($client), '127.0.0.5 127.0.0.5');
};

case 'no answer in time' => sub {
    my $client = asking('/short', '127.0.0.6');
    is(answered($client), '127.0.0.6 127.0.0.6');
    $dns->drop;
};

case 'a client that goes meanwhile' => sub {
    my $client = asking('/name', '127.0.0.7');
    await('the question', sub { IO::Select->new($dns->{socket})->can_read(0) });
    $client->reset;
    $dns->answer_name('gone.example.com');
    my $next = asking('/name', '127.0.0.8');
    is($dns->answer_name('next.example.com'), '8.0.0.127.in-addr.arpa');
    is(answered($next), 'next.example.com 127.0.0.8');
};

case 'a worker that is told to go while it waits' => sub {
    my $client = asking('/name', '127.0.0.9');
    await('the question', sub { IO::Select->new($dns->{socket})->can_read(0) });
    $ngx->signal('QUIT');
    $dns->answer_name('last.example.com');
    is(answered($client), 'last.example.com 127.0.0.9');
};

$ngx->stop('QUIT');

case 'without a resolver it is refused' => sub {
    for my $server (
        'location / { websocket_exec /bin/cat; websocket_exec_remote_host on; }',
        'websocket_exec_remote_host on; location / { websocket_exec_dir /bin; }',
    ) {
        my $other = Ws::Nginx->new(server => $server);
        my ($status, $said) = $other->check_config;
        isnt($status, 0, $server);
        like($said, qr/"websocket_exec_remote_host" directive: .*"resolver"/);
    }
    my $other = Ws::Nginx->new(server => 'websocket_exec_remote_host on; location / { websocket_tcp 127.0.0.1:1; }');
    my ($status, $said) = $other->check_config;
    is($status, 0) or diag($said);
};

done_testing;
