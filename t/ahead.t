# Clients that do not wait for the 101: what they send ahead belongs to the endpoint, also where they are gone when it is there.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Hook;
use Ws::Http;
use Ws::Service;

my $service = Ws::Service->listen;
my $backend = Ws::Service->listen;

my $ngx = Ws::Nginx->start(tls => 1, http => <<'EOT', server => <<"EOT2");
    log_format ahead "$request_uri $status";
    access_log %%PREFIX%%/access.log ahead;
    client_header_buffer_size 1k;
    large_client_header_buffers 2 2k;
EOT
    location /program { websocket_exec %%PREFIX%%/bin/keep; }
    location /news    { websocket_channel \$arg_id mode=pubsub; }
    location /service { websocket_tcp @{[$service->address]}; }
    location /asked   { websocket_channel \$arg_id mode=pubsub; websocket_channel_join_request /hook; }
    location = /hook  { internal; proxy_pass http://@{[$backend->address]}; }
    location /inside  { websocket_channel \$arg_id mode=pub; }
EOT2

$ngx->program('keep', <<"EOT");
#!/bin/sh
exec cat >>@{[$ngx->prefix]}/kept
EOT

my $message = text('ahead');

# The worker finds all that was sent, and the end of it, when it looks for the first time. The other half of the connection is open as
# long as the client that is returned is there.
sub at_once {
    my ($tls, $path, $after, $headers) = @_;

    my $client = Ws::Client->connect(port => $tls ? $ngx->tls_port : $ngx->port, tls => $tls);
    my @workers = $ngx->workers;
    kill 'STOP', @workers;
    $client->send(upgrade($path, @{$headers // []}) . $after)->flush;
    $client->fin;
    kill 'CONT', @workers;
    return $client;
}

sub messages {
    my ($id) = @_;

    my $info = request($ngx->port, 'GET', "/inside?id=$id", Accept => 'application/json');
    return $info->{status} == 404 ? 0 : $info->{body} =~ /"messages":\s*(\d+)/ ? $1 : die $info->{body};
}

for my $tls (0, 1) {
    my $how = $tls ? 'TLS' : 'plain';

    case "$how: a program" => sub {
        my $client = at_once($tls, "/program?$how", $message);
        await('the message', sub { -e $ngx->prefix . '/kept' && $ngx->read_file('kept') eq "ahead\n" });
        $ngx->await_access_log(qr{^/program\?$how 101$}m);
        $ngx->await_programs(0);
        ok(unlink $ngx->prefix . '/kept');
    };

    case "$how: a channel" => sub {
        my $client = at_once($tls, "/news?id=$how", $message);
        await('the message', sub { messages($how) == 1 });
        $ngx->await_access_log(qr{^/news\?id=$how 101$}m);
        pass;
    };

    case "$how: a service" => sub {
        my $client = at_once($tls, "/service?$how", binary('ahead'));
        my $connection = $service->accept;
        is($connection->rest, 'ahead');
        $connection->close;
        $ngx->await_access_log(qr{^/service\?$how 101$}m);
    };

    for my $length (5, 20_000) {
        # A message that does not fit behind the head is still in the socket when the end is seen.
        case "$how: the end is there while a hook is asked about a client that has sent $length octets" => sub {
            my $id = "$how-$length";
            my $client = at_once($tls, "/asked?id=$id", text('x' x $length));
            my $asked = asked($backend);
            # The end is seen before what comes later.
            is(messages('other'), 0);
            answer($asked, 204);
            await('the message', sub { messages($id) == 1 });
            $ngx->await_access_log(qr{^/asked\?id=$id 101$}m);
        };
    }

    case "$how: who has sent nothing is gone while a hook is asked" => sub {
        my $client = at_once($tls, "/asked?id=$how-nothing", '');
        my $asked = asked($backend);
        $ngx->await_access_log(qr{^/asked\?id=$how-nothing 499$}m);
        answer($asked, 204);
        pass;
    };

    case "$how: a head that fills its buffer to the last octet" => sub {
        my $id = "$how-full";
        my $rest = 1024 - length upgrade("/asked?id=$id", 'X-Rest' => '');
        my $client = at_once($tls, "/asked?id=$id", $message, ['X-Rest' => 'x' x $rest]);
        answer(asked($backend), 204);
        await('the message', sub { messages($id) == 1 });
        pass;
    };
}

case 'the end comes later than the message, while a hook is asked' => sub {
    my $client = Ws::Client->connect(port => $ngx->port);
    $client->send(upgrade('/asked?id=later') . $message)->flush;
    my $asked = asked($backend);
    $client->fin;
    is(messages('other'), 0);
    answer($asked, 204);
    await('the message', sub { messages('later') == 1 });
};

case 'a client that resets its connection is gone while a hook is asked' => sub {
    my $client = Ws::Client->connect(port => $ngx->port);
    $client->send(upgrade('/asked?id=reset'))->flush;
    my $asked = asked($backend);
    $client->reset;
    $ngx->await_access_log(qr{^/asked\?id=reset 499$}m);
    answer($asked, 204);
    pass;
};

$ngx->stop;
done_testing();
