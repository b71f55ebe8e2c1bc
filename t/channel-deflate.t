# Compressed subscribers of a channel share one compressed copy: each can inflate it, whatever was agreed on.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Deflate;
use Ws::Frame;
use Ws::Http;

my $ngx = Ws::Nginx->start(workers => 2, http => 'websocket_channel_zone 8m;', server => <<'SERVER');
    websocket_deflate on;
    websocket_deflate_min_size 100;
    websocket_close_timeout 500ms;
    location = /sub    { websocket_channel $arg_id; }
    location = /pub    { websocket_channel $arg_id mode=pub; }
    location = /pubsub { websocket_channel $arg_id mode=pubsub; }
    location = /pieces { websocket_channel $arg_id; websocket_fragment_size 20; }
    location = /plain  { websocket_channel $arg_id; websocket_deflate off; }
SERVER

my $port = $ngx->port;

# subscriber(path, offer, deflate options): its client and its inflater.
sub subscriber {
    my ($path, $offer, @options) = @_;

    my $client = Ws::Client->open($port, $path, headers => ['Sec-WebSocket-Extensions' => $offer]);
    like($client->header('sec-websocket-extensions') // '', qr/^permessage-deflate/, $offer);
    return [$client, Ws::Deflate->new(@options)];
}

sub next_of {
    my ($subscriber) = @_;

    my ($client, $deflate) = @$subscriber;
    my $message = $client->message;
    return ($message->{rsv1} ? $deflate->inflate($message->{payload}) : $message->{payload}, $message->{rsv1});
}

my @words = map { "word$_" } 1 .. 50;
my $text = sub { join ' ', map { $words[($_ * $_[0]) % 50] } 1 .. 200 };

case 'every kind of agreement' => sub {
    my @subscribers = (
        subscriber('/sub?id=a', 'permessage-deflate'),
        subscriber('/sub?id=a', 'permessage-deflate; server_no_context_takeover', takeover => 0),
        subscriber('/sub?id=a', 'permessage-deflate; server_max_window_bits=10', window => 10),
        subscriber('/sub?id=a', 'permessage-deflate; server_max_window_bits=9; server_no_context_takeover',
            window => 9, takeover => 0),
        subscriber('/pieces?id=a', 'permessage-deflate; client_max_window_bits'),
        subscriber('/sub?id=a', 'permessage-deflate'),
    );
    my $plain = Ws::Client->open($port, '/plain?id=a');
    for my $n (1 .. 10) {
        my $message = $text->($n);
        publish($port, '/pub?id=a', $message);
        for my $subscriber (@subscribers) {
            my ($got, $compressed) = next_of($subscriber);
            ok($got eq $message && $compressed, "message $n") or return;
        }
        is($plain->text, $message);
    }
    publish($port, '/pub?id=a', 'short');
    is_deeply([next_of($_)], ['short', 0], 'below the smallest size') for @subscribers;
};

case 'between them messages of their own' => sub {
    my $subscriber = subscriber('/pubsub?id=b', 'permessage-deflate');
    my $deflate = Ws::Deflate->new;
    for my $n (1 .. 10) {
        my $message = $text->($n + 10);
        $subscriber->[0]->send(frame(TEXT, $deflate->deflate($message), rsv1 => 1));
        is((next_of($subscriber))[0], $message) or return;
        publish($port, '/pub?id=b', $text->($n));
        is((next_of($subscriber))[0], $text->($n)) or return;
    }
};

case 'the answers to a publisher are its own' => sub {
    my ($client, $inflater) = @{subscriber('/pub?id=c', 'permessage-deflate')};
    for my $n (1 .. 5) {
        $client->send(text("m$n"));
        my $message = $client->message;
        my $said = $message->{rsv1} ? $inflater->inflate($message->{payload}) : $message->{payload};
        like($said, qr/^queued messages: $n\r\n.*:$n$/s);
    }
};

case 'ws+meta.nchan, compressed' => sub {
    my $client = Ws::Client->open($port, '/sub?id=d',
        headers => ['Sec-WebSocket-Extensions' => 'permessage-deflate', 'Sec-WebSocket-Protocol' => 'ws+meta.nchan']);
    my $inflater = Ws::Deflate->new;
    publish($port, '/pub?id=d', $text->(3), 'Content-Type' => 'text/plain');
    my $message = $client->message;
    is($message->{rsv1}, 1);
    like($inflater->inflate($message->{payload}), qr{^id: \d+:1\ncontent-type: text/plain\n\n\Q${\ $text->(3)}\E$});
};

$ngx->stop;
done_testing();
