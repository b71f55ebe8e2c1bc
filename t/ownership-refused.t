# A request belongs to one location at a time: one that was refused becomes whatever its error page says, another WebSocket or
# a proxied request, and the endpoint that it was for has nothing to do with it any more.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Time::HiRes qw(sleep);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Ownership;

# Each endpoint that refuses: in the content handler or later.
my %REFUSING = (
    exec      => 'websocket_exec %%PREFIX%%/none;',
    exec_dir  => 'websocket_exec_dir %%PREFIX%%/html;',
    tcp       => "websocket_tcp 127.0.0.1:$nobody;",
    channel   => 'websocket_channel none$arg_id; websocket_channel_create off;',
    joining   => 'websocket_channel $arg_id; websocket_channel_join_request /no; websocket_channel_leave_request /bye;',
    shared    => 'websocket_channel shared$arg_id; websocket_exec %%PREFIX%%/none;',
    origin    => 'websocket_exec /bin/cat; websocket_origin https://nobody.example;',
);

# What may be behind an error page.
my %PAGE = (
    websocket => '= /cat',
    proxied   => '= @flight',
    passed    => '= /flight',
    stream    => '= /stream',
    static    => '= /hi',
    kept      => '/hi',
    moved     => '=302 http://localhost/elsewhere',
    again     => '= /again',
);

sub refusing {
    my ($page) = @_;

    my $text = '';
    for my $name (sort keys %REFUSING) {
        $text .= "location /$name { $REFUSING{$name} error_page 403 404 500 502 503 $PAGE{$page}; }\n";
        next if $name !~ /channel|joining|shared/;
        $text .= "location /$name/$_ { $REFUSING{$name} websocket_channel_transports $_; error_page 403 404 500 502 503 $PAGE{$page}; }\n"
            for @TRANSPORTS;
    }
    return $text;
}

# refused(port): the clients that the endpoints refuse, by name.
sub refused {
    my ($port) = @_;

    my %client;
    for my $name (sort keys %REFUSING) {
        my @header = $name eq 'origin' ? (Origin => 'https://other.example') : ();
        $client{$name} = Ws::Client->connect(port => $port);
        $client{$name}->send(upgrade("/$name?id=of", @header));
        next if $name !~ /channel|joining|shared/;
        for my $transport (@TRANSPORTS) {
            my $client = $client{"$name/$transport"} = Ws::Client->connect(port => $port);
            $client->send(request_text('GET', "/$name/$transport?id=of", @{$TRANSPORT{$transport}}));
        }
    }
    return %client;
}

for my $going (sort keys %GOING) {
    for my $page (qw(websocket proxied passed stream again)) {
        case "refused, then \"error_page $PAGE{$page}\", then $going" => sub {
            my $ngx = server(refusing($page), main => 'worker_shutdown_timeout 1s;');
            my %client = refused($ngx->port);
            my $flying = 0;
            for my $name (sort keys %client) {
                my $client = $client{$name};
                my $upgrades = $name !~ m{/};
                if ($page eq 'again' && !$upgrades) {
                    is($client->response->{status}, 426, "$name: not without an upgrade");
                } elsif ($page eq 'websocket' && $upgrades) {
                    is($client->response->{status}, 101, "$name: another WebSocket");
                    $client->send(text("of $name"));
                    is($client->text, "of $name");
                } elsif ($page eq 'websocket') {
                    is($client->response->{status}, 426, "$name: not without an upgrade");
                } elsif ($page ne 'stream') {
                    $flying++;
                }
            }
            is_subscribed($ngx->port, 'stream', scalar keys %client) if $page eq 'stream';
            my @held = in_flight($flying);
            is(scalar @held, $flying, "$flying are served by another location");
            $GOING{$going}->($ngx, [values %client]);
            $_->close for @held;
        };
    }
}

case 'what is behind an error page is answered as it says' => sub {
    for my $page (qw(static kept moved proxied)) {
        my $ngx = server(refusing($page));
        my %client = refused($ngx->port);
        my $status = { static => 200, kept => qr/^(?:403|404|500|502)$/, moved => 302, proxied => 200 }->{$page};
        if ($page eq 'proxied') {
            answer($_) for in_flight(scalar keys %client);
        }
        for my $name (sort keys %client) {
            like($client{$name}->response->{status}, qr/^$status$/, "$page: $name");
        }
        $ngx->stop;
    }
};

case 'an error page that keeps its status is no WebSocket' => sub {
    my $ngx = server(<<"EOT");
        location = /refused { websocket_tcp 127.0.0.1:$nobody; error_page 502 /cat; }
EOT
    my $client = Ws::Client->connect(port => $ngx->port);
    is($client->handshake('/refused')->{status}, 502);
    is(scalar $ngx->programs, 0, 'no program was started');
    $ngx->stop;
};

case 'an upgrade that arrives by X-Accel-Redirect, is refused, and goes on' => sub {
    my $ngx = server(<<"EOT");
        location = /front   { $flight proxy_http_version 1.1; }
        location = /inner   { internal; websocket_tcp 127.0.0.1:$nobody; error_page 502 = /cat; }
        location = /subs    { internal; websocket_channel x; }
EOT
    my $client = Ws::Client->connect(port => $ngx->port);
    $client->send(upgrade('/front'));
    my $stream = Ws::Client->connect(port => $ngx->port);
    my ($first) = in_flight(1);
    $stream->send(request_text('GET', '/front', Accept => 'text/event-stream'));
    my ($second) = in_flight(1);
    $first->send("HTTP/1.1 200 OK\r\nX-Accel-Redirect: /inner\r\nContent-Length: 0\r\n\r\n");
    $second->send("HTTP/1.1 200 OK\r\nX-Accel-Redirect: /subs\r\nContent-Length: 0\r\n\r\n");
    is($client->response->{status}, 101);
    $client->send(text('x'));
    is($client->text, 'x');
    is_subscribed($ngx->port, 'x', 1);
    $stream->reset;
    is_subscribed($ngx->port, 'x', 0);
    is($client->close(1000), 'close 1000');
    $ngx->stop;
};

done_testing();
