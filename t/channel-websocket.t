# A channel behind a WebSocket: subscribing, publishing, positions, closing.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Stream qw(subscribers);

my $ngx = Ws::Nginx->start(workers => 2, http => <<'HTTP', server => <<'SERVER');
    log_format channel '$uri $websocket_endpoint $websocket_channel_id $websocket_message_id '
                       '$websocket_messages_in $websocket_messages_out $websocket_bytes_in $websocket_bytes_out '
                       '$websocket_close_code';
    access_log %%PREFIX%%/access.log channel;
    websocket_channel_zone 8m;
    websocket_close_timeout 500ms;
HTTP
    location = /sub     { websocket_channel $arg_id; }
    location = /oldest  { websocket_channel $arg_id; websocket_channel_start oldest; }
    location = /pub     { websocket_channel $arg_id mode=pub; }
    location = /pubsub  { websocket_channel $arg_id mode=pubsub; }
    location = /many    { websocket_channel $arg_a $arg_b; websocket_channel_start oldest; }
    location = /split   { websocket_channel $arg_id; websocket_channel_split ,; websocket_channel_start oldest; }
    location = /group   { websocket_channel $arg_id mode=pubsub; websocket_channel_group $arg_group; }
    location = /nocreate { websocket_channel $arg_id; websocket_channel_create off; }
    location = /two     { websocket_channel $arg_id; websocket_channel_max_subscribers 2; }
    location = /short   { websocket_channel $arg_id mode=pubsub; websocket_channel_max_id_length 8; }
    location = /keep3   { websocket_channel $arg_id mode=pub; websocket_channel_history length=3; }
    location = /skip    { websocket_channel $arg_id; websocket_channel_lag skip; }
    location = /deflate { websocket_channel $arg_id; websocket_deflate on; websocket_deflate_min_size 10; }
    location = /pieces  { websocket_channel $arg_id; websocket_fragment_size 4; }
SERVER

my $port = $ngx->port;
my $meta = ['Sec-WebSocket-Protocol' => 'ws+meta.nchan'];

# meta(message): { id, type, gap, data }.
sub meta {
    my ($text) = @_;

    my ($head, $data) = split /\n\n/, $text, 2;
    my %lines = map { split /: /, $_, 2 } split /\n/, $head;
    return { id => $lines{id}, type => $lines{'content-type'}, gap => $lines{gap}, data => $data };
}

case 'published by HTTP, delivered to every subscriber in every worker' => sub {
    my @clients = map { Ws::Client->open($port, '/sub?id=first') } 1 .. 12;
    my $said = publish($port, '/pub?id=first', 'hello');
    is($said->{status}, 201);
    is($_->text, 'hello') for @clients;
    publish($port, '/pub?id=first', "\x00\xff", 'Content-Type' => 'application/octet-stream');
    for my $client (@clients) {
        my $message = $client->message;
        is($message->{opcode}, BINARY, 'an octet stream is binary');
        is($message->{payload}, "\x00\xff");
    }
    is($_->close(1000), 'close 1000') for @clients;
};

case 'nobody there: 202, and a later subscriber gets nothing' => sub {
    is(publish($port, '/pub?id=later', 'early')->{status}, 202);
    my $client = Ws::Client->open($port, '/sub?id=later');
    is($client->maybe_frame(0.2), undef);
    publish($port, '/pub?id=later', 'now');
    is($client->text, 'now');
};

case 'the history' => sub {
    publish($port, '/pub?id=old', $_) for 1 .. 12;
    my $client = Ws::Client->open($port, '/oldest?id=old');
    is($client->text, $_) for 3 .. 12;
    is($client->close(1000), 'close 1000');
};

case 'pubsub: what one sends everybody gets, text as text and binary as binary' => sub {
    my @clients = map { Ws::Client->open($port, '/pubsub?id=chat') } 1 .. 4;
    $clients[0]->send(text('one'), binary("\x01"), frame(TEXT, 'tw', fin => 0), cont('o'));
    for my $client (@clients) {
        is($client->text, 'one');
        my $binary = $client->message;
        is_deeply([@$binary{qw(opcode payload)}], [BINARY, "\x01"]);
        is($client->text, 'two', 'a message in pieces');
    }
};

case 'pub: every message is answered in order' => sub {
    my $client = Ws::Client->open($port, '/pub?id=answers', headers => [Accept => 'text/json']);
    $client->send(map { text("m$_") } 1 .. 500);
    for (1 .. 500) {
        my ($messages, $offset) = $client->text =~ /^\{"messages": (\d+),.*"last_message_id": "\d+:(\d+)" \}$/;
        is("$messages $offset", ($_ > 10 ? 10 : $_) . " $_") or last;
    }
    is($client->maybe_frame(0.1), undef, 'nothing is delivered to a publisher');
    is($client->close(1000), 'close 1000');
};

case 'a subscriber may not publish' => sub {
    my $client = Ws::Client->open($port, '/sub?id=mute');
    $client->send(text('hello'));
    like($client->server_close, qr/^close 1008/);
};

case 'ws+meta.nchan' => sub {
    my $client = Ws::Client->open($port, '/sub?id=meta', headers => $meta);
    is($client->header('sec-websocket-protocol'), 'ws+meta.nchan');
    publish($port, '/pub?id=meta', "a\nb", 'Content-Type' => 'text/plain');
    my $message = meta($client->text);
    like($message->{id}, qr/^\d+:1$/);
    is($message->{type}, 'text/plain');
    is($message->{data}, "a\nb");
};

case 'resuming without loss and without repeats' => sub {
    my $client = Ws::Client->open($port, '/oldest?id=resume', headers => $meta);
    publish($port, '/pub?id=resume', $_) for 1 .. 5;
    my @ids = map { meta($client->text)->{id} } 1 .. 5;
    for my $how (['Last-Event-ID' => $ids[2]], ['If-None-Match' => qq("$ids[2]")]) {
        my $again = Ws::Client->open($port, '/sub?id=resume', headers => $how);
        is($again->text, $_, $how->[0]) for 4 .. 5;
        is($again->maybe_frame(0.05), undef);
    }
    my $again = Ws::Client->open($port, '/sub?id=resume&last_event_id=' . $ids[3] =~ s/:/%3A/r);
    is($again->text, 5);
    # Anything else is nobody's position.
    for my $id ('x', '1', ':', "$ids[0]:1", '99999999999999999999:1', "\xff\xfe", 'a' x 3000) {
        my $new = Ws::Client->open($port, '/oldest?id=resume', headers => ['Last-Event-ID' => $id]);
        is($new->text, 1, 'like a new one');
    }
};

case 'a gap' => sub {
    my $client = Ws::Client->open($port, '/sub?id=gap', headers => $meta);
    publish($port, '/keep3?id=gap', 1);
    my $id = meta($client->text)->{id};
    $client->close(1000);
    # What a worker with a subscriber has still to copy is kept longer.
    await('it to be gone', sub { subscribers($port, 'gap') == 0 });
    publish($port, '/keep3?id=gap', $_) for 2 .. 8;
    my $told = Ws::Client->open($port, '/sub?id=gap', headers => [@$meta, 'Last-Event-ID' => $id]);
    my $gap = meta($told->text);
    is($gap->{gap}, 4, 'ws+meta.nchan is told how many');
    is($gap->{data}, '');
    is(meta($told->text)->{data}, $_) for 6 .. 8;
    my $closed = Ws::Client->open($port, '/sub?id=gap', headers => ['Last-Event-ID' => $id]);
    like($closed->server_close, qr/^close 1013/, 'lag close');
    my $skips = Ws::Client->open($port, '/skip?id=gap', headers => ['Last-Event-ID' => $id]);
    is($skips->text, $_, 'lag skip') for 6 .. 8;
};

case 'several ids are one subscription, resumed by one position' => sub {
    my $client = Ws::Client->open($port, '/many?a=m1&b=m2', headers => $meta);
    publish($port, "/pub?id=m$_->[0]", $_->[1]) for [1, 'a'], [2, 'b'], [2, 'c'], [1, 'd'];
    my @got = map { meta($client->text) } 1 .. 4;
    is(join('', map { $_->{data} } @got), 'abcd', 'one order');
    my $again = Ws::Client->open($port, '/many?a=m1&b=m2', headers => ['Last-Event-ID' => $got[1]{id}]);
    is($again->text, $_) for qw(c d);
    my $split = Ws::Client->open($port, '/split?id=m1,m2');
    is($split->text, $_, 'split') for qw(a b c d);
};

case 'groups keep channels apart' => sub {
    my @clients = map { Ws::Client->open($port, "/group?id=x&group=$_") } qw(a b);
    $clients[0]->send(text('for a'));
    is($clients[0]->text, 'for a');
    is($clients[1]->maybe_frame(0.2), undef);
};

case 'limits' => sub {
    my $status = sub { Ws::Client->connect(port => $port)->handshake($_[0])->{status} };
    is($status->('/nocreate?id=nobody'), 403, 'create off');
    publish($port, '/pub?id=somebody', 1);
    is($status->('/nocreate?id=somebody'), 101);
    my @two = map { Ws::Client->open($port, '/two?id=full') } 1 .. 2;
    my $third = Ws::Client->connect(port => $port);
    is($third->handshake('/two?id=full')->{status}, 503, 'max_subscribers');
    ok($third->header('retry-after'));
    $two[0]->close(1000);
    await('a place', sub { $status->('/two?id=full') == 101 });
    is($status->('/short?id=12345678'), 101);
    is($status->('/short?id=123456789'), 403, 'max_id_length');
    is($status->('/sub?id='), 404, 'no id');
};

case 'deletion' => sub {
    my @clients = map { Ws::Client->open($port, '/sub?id=gone') } 1 .. 4;
    publish($port, '/pub?id=gone', 'last words');
    is(request($port, 'DELETE', '/pub?id=gone')->{status}, 200);
    for my $client (@clients) {
        is($client->text, 'last words');
        like($client->server_close, qr/^close 1001/);
    }
    is(request($port, 'GET', '/pub?id=gone')->{status}, 404);
    my $new = Ws::Client->open($port, '/sub?id=gone');
    publish($port, '/pub?id=gone', 'another one');
    is($new->text, 'another one');
};

case 'fragments' => sub {
    my $client = Ws::Client->open($port, '/pieces?id=pieces');
    publish($port, '/pub?id=pieces', 'abcdefghij');
    my $message = $client->message;
    is_deeply([@$message{qw(payload fragments)}], ['abcdefghij', 3]);
};

case 'frames that come with the head' => sub {
    my $client = Ws::Client->open($port, '/pubsub?id=early', after => text('at once') . close_frame(1000));
    my @frames = $client->frames;
    is(describe($frames[-1]), 'close 1000');
    is($client->end, 'eof');
    my $late = Ws::Client->open($port, '/oldest?id=early');
    is($late->text, 'at once');
};

case 'large messages' => sub {
    my @clients = map { Ws::Client->open($port, '/sub?id=large') } 1 .. 3;
    my $large = 'x' x 900_000;
    publish($port, '/pub?id=large', $large);
    publish($port, '/pub?id=large', 'small');
    for my $client (@clients) {
        ok($client->text eq $large);
        is($client->text, 'small');
    }
};

case 'variables' => sub {
    my $client = Ws::Client->open($port, '/pubsub?id=logged');
    $client->send(text('hello'));
    $client->text;
    $client->close(1000);
    like($ngx->await_access_log(qr{^/pubsub channel logged .*}m), qr{^/pubsub channel logged \d+:1 1 1 5 5 1000$});
    # Of another publication there is a line as well, and each is written by a worker in its own time.
    like($ngx->await_access_log(qr{^/pub channel first \d+:1 .*}m), qr{^/pub channel first \d+:1 1 0 5 0 -$});
};

$ngx->stop;
done_testing();
