package Ws::Ownership;

# What the tests of ownership share: locations that refuse, hooks and proxied locations that answer when a test says, and the
# ways in which workers and clients go. Under AddressSanitizer these tests tell of every pointer to a request that was kept.

use strict;
use warnings;

use parent 'Exporter';

use Test::More;
use Time::HiRes qw(sleep);

use Ws::Client;
use Ws::Http;
use Ws::Nginx;
use Ws::Service;

our @EXPORT = qw($app $flight $nobody @TRANSPORTS %TRANSPORT %GOING server told subscribers is_subscribed in_flight answer);

# Passed on to, and never answered unless a test does.
our $app = Ws::Service->listen;
our $flight = 'proxy_pass http://' . $app->address . ';';
our $nobody = Ws::Service->refusing;

# The headers that choose a transport.
our %TRANSPORT = (
    eventsource => [Accept => 'text/event-stream'],
    longpoll    => [],
    multipart   => [Accept => 'multipart/mixed'],
    chunked     => [TE => 'chunked'],
    raw         => [],
    poll        => [],
);
our @TRANSPORTS = sort keys %TRANSPORT;

# Ways in which a worker, or a client, may go: each is called with the nginx, its clients, and what is to be done when those that
# are held have been given up. nginx has ended when it returns.
our %GOING = (
    'TERM'             => sub { $_[0]->stop('TERM') },
    'QUIT'             => sub {
        my ($ngx, undef, $then) = @_;
        $ngx->signal('QUIT');
        given_up($then);
        $ngx->stop('gone');
    },
    'HUP'              => sub {
        my ($ngx, undef, $then) = @_;
        my ($old) = $ngx->workers;
        $ngx->reload;
        given_up($then);
        await('the old worker to leave', sub { !kill 0, $old });
        $ngx->stop;
    },
    'the client first' => sub { my ($ngx, $clients) = @_; $_->reset for @$clients; sleep 0.2; $ngx->stop },
);

# "worker_shutdown_timeout" is 1s where there is something to be given up.
sub given_up {
    my ($then) = @_;

    return if !$then;
    sleep 1.5;
    $then->();
}

my $SERVER = <<"EOT";
    websocket_close_timeout 500ms;
    websocket_exec_stop 100ms 500ms;
    websocket_channel_history length=20;
    recursive_error_pages on;
    websocket_origin any;
    location = /cat    { websocket_exec /bin/cat; }
    location = /again  { websocket_exec %%PREFIX%%/none; error_page 500 502 = \@flight; }
    location = /hi     { return 200 "hi"; }
    location = /stream { websocket_channel stream; websocket_channel_transports eventsource longpoll multipart chunked websocket; }
    location \@flight  { $flight }
    location = /flight { $flight }
    location = /no     { return 403; }
    location = /info   { websocket_channel \$arg_id mode=pub; }
    location = /bye    { proxy_pass http://127.0.0.1:%%PORT%%/told?who=\$arg_who; }
    location = /told   { access_log %%PREFIX%%/told.log; return 204; }
EOT

# server(locations, name => value ...): an nginx with these locations besides.
sub server {
    my ($locations, %opt) = @_;

    # What other cases have left.
    while ($app->waiting) {
        $app->accept->close;
    }
    my $ngx = Ws::Nginx->new(http => 'websocket_channel_zone 16m;', server => $SERVER . $locations, %opt);
    $ngx->program('silent', "#!/bin/sh\nexec sleep 600\n");
    $ngx->file('html/readable', 'not a program');
    return $ngx->start;
}

# told(ngx, who): how often the leave of somebody was told.
sub told {
    my ($ngx, $who) = @_;

    return scalar(() = $ngx->read_file('told.log') =~ m{GET /told\?who=\Q$who\E HTTP}g);
}

# subscribers(port, id)
sub subscribers {
    my ($port, $id) = @_;

    my $info = request($port, 'GET', "/info?id=$id", Accept => 'text/json');
    return $info->{status} == 404 ? 0 : $info->{body} =~ /"subscribers": (\d+)/ ? $1 : die "no info\n";
}

sub is_subscribed {
    my ($port, $id, $count) = @_;

    return await("$count subscribers of $id", sub { subscribers($port, $id) == $count });
}

# in_flight(n): the next n requests that were passed on.
sub in_flight {
    my ($count) = @_;

    return map {
        my $connection = $app->accept;
        my $head = '';
        $head .= $connection->line until $head =~ /\r\n\r\n$/;
        $connection;
    } 1 .. $count;
}

sub answer {
    my ($connection) = @_;

    eval { $connection->send("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok") };
    $connection->close;
}

1;
