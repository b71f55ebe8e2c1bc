# A request belongs to one location at a time: when its client goes, nginx may serve a "post_action" on the same request. Who
# waited with it, for messages or for a hook, is off its channels by then, and those are told who want to know.

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

my $POSTED = '';
for my $transport (@TRANSPORTS) {
    my $leave = "websocket_channel_leave_request /bye?who=\$arg_who; post_action /flight;";
    $POSTED .= "location = /open/$transport { websocket_channel \$arg_id; websocket_channel_transports $transport; $leave }\n";
    $POSTED .= "location = /named/$transport { websocket_channel \$arg_id; websocket_channel_transports $transport; "
        . ($leave =~ s{post_action /flight}{post_action \@flight}r) . " }\n";
}
$POSTED .= <<"EOT";
    location = /open/ws    { websocket_channel \$arg_id mode=pubsub; websocket_channel_leave_request /bye?who=\$arg_who; post_action /flight; }
    location = /open/exec  { websocket_exec /bin/cat; post_action /flight; }
    location = /open/tcp   { websocket_tcp @{[$app->address]}; post_action /flight; }
    location = /open/share { websocket_channel \$arg_id; websocket_exec /bin/cat; websocket_channel_leave_request /bye?who=\$arg_who; post_action /flight; }
    location = /open/both  { websocket_channel \$arg_id; websocket_exec /bin/cat; websocket_channel_transports eventsource;
                             websocket_channel_leave_request /bye?who=\$arg_who; post_action /flight; }
    location = /sub        { websocket_channel \$arg_id; }
EOT

my @WAITING = grep { $_ ne 'poll' } @TRANSPORTS;

for my $way (qw(open named)) {
    case "post_action ($way location): a subscriber that goes is off its channels, and told, before nginx goes on" => sub {
        my $ngx = server($POSTED);
        my $port = $ngx->port;
        for my $transport (@WAITING) {
            my @clients = map { Ws::Client->connect(port => $port) } 1 .. 5;
            my $number = 0;
            for my $client (@clients) {
                $number++;
                $client->send(request_text('GET', "/$way/$transport?id=$transport&who=$transport$number", @{$TRANSPORT{$transport}}));
            }
            is_subscribed($port, $transport, 5);
            $_->reset for @clients;
            my @held = in_flight(5);
            is(subscribers($port, $transport), 0, "$transport: none is left while the post_action is served");
            # A message that comes then is for nobody.
            publish($port, "/info?id=$transport", 'late');
            publish($port, "/info?id=$transport", 'later');
            await("$transport: leaves", sub { 5 == grep { told($ngx, "$transport$_") == 1 } 1 .. 5 });
            pass("$transport: each leave was told once");
            answer($_) for @held;
        }
        $ngx->stop;
    };
}

case 'post_action: FIN instead of RST, and TLS' => sub {
    my $ngx = server($POSTED, tls => 1);
    for my $tls (0, 1) {
        my $client = Ws::Client->connect(port => $tls ? $ngx->tls_port : $ngx->port, tls => $tls);
        $client->send(request_text('GET', "/open/longpoll?id=fin&who=fin$tls"));
        is_subscribed($ngx->port, 'fin', 1);
        $tls ? $client->abandon : $client->fin;
        my ($held) = in_flight(1);
        is(subscribers($ngx->port, 'fin'), 0);
        await('its leave', sub { told($ngx, "fin$tls") == 1 });
        answer($held);
    }
    $ngx->stop;
};

case 'post_action: after a poll, and after a long-poll that was answered' => sub {
    my $ngx = server($POSTED);
    my $port = $ngx->port;
    publish($port, '/info?id=p', 'first');
    is(request($port, 'GET', '/open/poll?id=p&who=poll')->{status}, 304);
    answer($_) for in_flight(1);
    await('its leave', sub { told($ngx, 'poll') == 1 });
    my $client = Ws::Client->connect(port => $port);
    $client->send(request_text('GET', '/open/longpoll?id=p&who=long'));
    is_subscribed($port, 'p', 1);
    publish($port, '/info?id=p', 'second');
    is($client->response->{body}, 'second');
    my ($held) = in_flight(1);
    is(subscribers($port, 'p'), 0);
    await('its leave', sub { told($ngx, 'long') == 1 });
    publish($port, '/info?id=p', 'third');
    answer($held);
    $client->abandon;
    $ngx->stop;
};

case 'post_action: sessions of each endpoint' => sub {
    my $ngx = server($POSTED);
    my $port = $ngx->port;
    for my $name (qw(ws exec tcp share)) {
        my $client = Ws::Client->open($port, "/open/$name?id=$name&who=$name");
        my @service = $name eq 'tcp' ? $app->accept : ();
        $client->reset;
        my ($held) = in_flight(1);
        await('its program to go', sub { !$ngx->programs });
        is(subscribers($port, $name), 0, "$name: not on its channel") if $name =~ /ws|share/;
        await("$name: its leave", sub { told($ngx, $name) == 1 }) if $name =~ /ws|share/;
        is($service[0]->rest, '', 'its service sees the end') if @service;
        answer($held);

        # The other way: in order.
        $client = Ws::Client->open($port, "/open/$name?id=$name&who=again$name");
        @service = $name eq 'tcp' ? $app->accept : ();
        $client->send(close_frame(1000));
        is(describe($client->frame), 'close 1000', "$name: a clean end");
        ($held) = in_flight(1);
        await("$name: its leave", sub { told($ngx, "again$name") == 1 }) if $name =~ /ws|share/;
        answer($held);
        $client->abandon;
    }
    my $stream = Ws::Client->connect(port => $port);
    $stream->send(request_text('GET', '/open/both?id=both&who=both', Accept => 'text/event-stream'));
    is_subscribed($port, 'both', 1);
    $stream->reset;
    my ($held) = in_flight(1);
    await('its program to go', sub { !$ngx->programs });
    await('its leave', sub { told($ngx, 'both') == 1 });
    answer($held);
    $ngx->stop;
};

# Hooks that do not answer: the request waits for them.

my $JOINING = <<"EOT";
    location = /ask { $flight }
    location = /say { return 204; }
    location = /join { websocket_channel \$arg_id; websocket_channel_transports websocket eventsource longpoll;
                       websocket_channel_join_request /ask; websocket_channel_leave_request /bye?who=\$arg_who; post_action /flight; }
    location = /share { websocket_channel \$arg_id; websocket_exec /bin/cat; websocket_channel_transports websocket eventsource;
                       websocket_channel_join_request /ask; websocket_channel_leave_request /bye?who=\$arg_who; post_action \@flight; }
    location = /pub  { websocket_channel \$arg_id mode=pub; websocket_channel_publish_request /ask; post_action /flight; }
    location = /refuse { websocket_channel \$arg_id; websocket_channel_transports websocket eventsource longpoll;
                       websocket_channel_join_request /ask; websocket_channel_leave_request /bye?who=\$arg_who; error_page 403 = \@flight; }
EOT

# joiners(port, path): a WebSocket, an EventSource and, unless it shares a program, a long-poll that ask.
sub joiners {
    my ($port, $path) = @_;

    my %client;
    my @kinds = ('ws', 'eventsource', $path eq '/share' ? () : 'longpoll');
    for my $kind (@kinds) {
        my $client = $client{$kind} = Ws::Client->connect(port => $port);
        my $target = "$path?id=j&who=$kind" . ($path =~ tr{/}{}dr);
        $client->send($kind eq 'ws' ? upgrade($target) : request_text('GET', $target, @{$TRANSPORT{$kind}}));
    }
    return %client;
}

for my $path (qw(/join /share)) {
    case "post_action: clients that go while $path asks whether they may" => sub {
        my $ngx = server($JOINING);
        my $port = $ngx->port;
        my %client = joiners($port, $path);
        my @asked = in_flight(scalar keys %client);
        $_->reset for values %client;
        my @held = in_flight(scalar keys %client);
        # They are let in when they have gone.
        answer($_) for @asked;
        my $name = $path =~ tr{/}{}dr;
        await('their leaves', sub { !grep { told($ngx, "$_$name") != 1 } keys %client });
        pass('each leave was told once');
        is(subscribers($port, 'j'), 0, 'nobody is on the channel');
        publish($port, '/info?id=j', 'for nobody');
        is(scalar $ngx->programs, 0, 'no program');
        answer($_) for @held;
        $ngx->stop;
    };
}

case 'post_action: a publisher that goes while a hook is asked about its message' => sub {
    my $ngx = server($JOINING);
    my $port = $ngx->port;
    my $client = Ws::Client->connect(port => $port);
    $client->send(request_text('POST', '/pub?id=p', body => 'mine'));
    my ($asked) = in_flight(1);
    $client->reset;
    my ($held) = in_flight(1);
    $asked->send("HTTP/1.0 304 Not Modified\r\n\r\n");
    $asked->close;
    await('the message', sub { request($port, 'GET', '/info?id=p', Accept => 'text/json')->{body} =~ /"messages": 1/ });
    answer($held);
    $ngx->stop;
};

for my $going (sort keys %GOING) {
    for my $path (qw(/join /share /refuse)) {
        case "asked at $path, then $going" => sub {
            my $ngx = server($JOINING, main => 'worker_shutdown_timeout 1s;');
            my %client = joiners($ngx->port, $path);
            my @asked = in_flight(scalar keys %client);
            my @held;
            if ($path eq '/refuse') {
                for my $connection (@asked) {
                    $connection->send("HTTP/1.0 403 No\r\nContent-Length: 0\r\n\r\n");
                    $connection->close;
                }
                @held = in_flight(scalar keys %client);
            }
            $GOING{$going}->($ngx, [values %client], sub { $_->close for @asked, @held });
        };
    }
}

done_testing();
