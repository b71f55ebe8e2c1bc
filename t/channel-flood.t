# Who only subscribes costs nobody a message: whatever subscribers do, with ids and groups that nobody else uses, the messages
# of others stay.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use JSON::PP;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;

my $SERVER = <<'EOT';
    location = /status { websocket_status; }
    location = /sub    { websocket_channel $arg_id; websocket_channel_start oldest; }
    location = /all    { websocket_channel $arg_id; websocket_channel_group $arg_group; websocket_channel_presence $arg_who;
                         websocket_channel_transports websocket eventsource longpoll; }
    location = /poll   { websocket_channel $arg_id; websocket_channel_transports poll; websocket_channel_start oldest; }
    location = /pub    { websocket_channel $arg_id mode=pub; websocket_channel_history length=20 time=1h; }
EOT

sub channels {
    my ($ngx) = @_;

    return decode_json(request($ngx->port, 'GET', '/status')->{body})->{channels};
}

# pipelined(nginx, count, request of a number): all of them on a few connections, answered.
sub pipelined {
    my ($ngx, $count, $text) = @_;

    my $n = 0;
    while ($n < $count) {
        my $client = Ws::Client->connect(port => $ngx->port);
        my $some = $count - $n < 200 ? $count - $n : 200;
        $client->send(join '', map { $text->($n++) } 1 .. $some);
        $client->wait_until(sub { (() = $client->{in} =~ m{^HTTP/1\.1 \d}mg) >= $some || $client->{end} }, 'the responses');
        $client->abandon;
    }
    return;
}

sub all_there {
    my ($ngx, $name) = @_;

    my @lost = grep { request($ngx->port, 'GET', "/pub?id=kept$_", Accept => 'text/json')->{body} !~ /"messages": 20,/ } 1 .. 20;
    is("@lost", '', "$name: no channel has lost a message");
    is(channels($ngx)->{evicted}, 0, "$name: nothing was evicted");
    return;
}

case 'floods of subscribers' => sub {
    # 4096 cells of 256 octets, less what the zone takes for itself.
    my $ngx = Ws::Nginx->start(workers => 2, connections => 4096, level => 'emerg', http => 'websocket_channel_zone 1m;', server => $SERVER);
    for my $channel (1 .. 20) {
        publish($ngx->port, "/pub?id=kept$channel", "message $_ " . 'x' x 900) for 1 .. 20;
    }
    all_there($ngx, 'before');
    my $before = channels($ngx)->{channels};

    pipelined($ngx, 6000, sub { "HEAD /sub?id=head$_[0] HTTP/1.1\r\nHost: localhost\r\n\r\n" });
    is(channels($ngx)->{channels}, $before, 'HEAD creates no channel');
    all_there($ngx, 'HEAD');
    my $head = request($ngx->port, 'HEAD', '/sub?id=nobody');
    ok($head->{status} == 304 || $head->{status} == 200, "HEAD: $head->{status}");

    pipelined($ngx, 6000, sub { "GET /poll?id=poll$_[0] HTTP/1.1\r\nHost: localhost\r\n\r\n" });
    all_there($ngx, 'polls');

    for my $round (1 .. 6) {
        my @clients = map { my $client = Ws::Client->connect(port => $ngx->port);
            $client->send("GET /all?id=long$round.$_&group=g$_&who=w$_ HTTP/1.1\r\nHost: localhost\r\n\r\n"); $client } 1 .. 200;
        await('them to be there', sub { channels($ngx)->{channels} > $before });
        $_->abandon for @clients;
    }
    all_there($ngx, 'long-polls that went');

    my @held;
    my %status;
    for my $n (1 .. 1500) {
        my $client = Ws::Client->connect(port => $ngx->port);
        my $status = $client->handshake("/all?id=ws$n&group=h$n&who=x$n")->{status};
        $status{$status}++;
        push @held, $client if $status == 101;
    }
    cmp_ok($status{101} // 0, '>', 100, 'some were taken');
    cmp_ok($status{507} // 0, '>', 100, 'they have a bounded share');
    is(($status{101} // 0) + ($status{507} // 0), 1500, 'nothing else') or diag(explain(\%status));
    all_there($ngx, 'WebSockets that stay');

    # Whoever publishes has the room of before, and subscribers of channels that have messages are taken.
    my $client = Ws::Client->open($ngx->port, '/sub?id=kept3');
    like($client->text, qr/^message \d+ x/);
    publish($ngx->port, '/pub?id=kept3', 'and one more');
    await('it', sub { $client->text eq 'and one more' });
    all_there($ngx, 'one more');
    $_->abandon for @held, $client;
    $ngx->stop;
};

done_testing();
