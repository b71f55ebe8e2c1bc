# Subscribers that get so many messages in a time: websocket_channel_rate, on every transport that streams.

use strict;
use warnings;

use lib 't/lib';
use JSON::PP qw(decode_json);
use List::Util qw(sum0);
use Test::More;
use Time::HiRes qw(time);
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Nginx;
use Ws::Stream;

my $ngx = Ws::Nginx->start(workers => 2, http => 'websocket_channel_zone 4m;', server => <<'SERVER');
    websocket_channel_rate 1/s burst=3;
    location = /rate  { websocket_channel $arg_id; websocket_channel_start oldest; }
    location = /multipart   { websocket_channel $arg_id; websocket_channel_start oldest; websocket_channel_transports multipart; }
    location = /chunked     { websocket_channel $arg_id; websocket_channel_start oldest; websocket_channel_transports chunked; }
    location = /raw         { websocket_channel $arg_id; websocket_channel_start oldest; websocket_channel_transports raw; }
    location = /eventsource { websocket_channel $arg_id; websocket_channel_start oldest; }
    location = /many  { websocket_channel $arg_id-a $arg_id-b; websocket_channel_start oldest; }
    location = /all   { websocket_channel $arg_id; websocket_channel_start oldest; websocket_channel_rate off; }
    location = /short { websocket_channel $arg_id mode=pub; websocket_channel_history length=2; }
    location = /pub   { websocket_channel $arg_id mode=pub; websocket_channel_history length=100; }
SERVER
my $port = $ngx->port;

# flood(path, from, to): publishes these numbers, as fast as it can.
sub flood {
    my ($path, $from, $to) = @_;

    my $publisher = Ws::Client->open($port, $path);
    $publisher->send(map { text($_) } $from .. $to);
    $publisher->text for $from .. $to;
    $publisher->close(1000);
}

# within(since, got, lost): of twenty messages the first three came at once and the last one in the end; no more than the rate lets come;
# and all others were told as lost. `lost` is undef where nobody tells of them.
sub within {
    my ($since, $got, $lost) = @_;

    is_deeply([@$got[0 .. 2]], [1, 2, 3], 'the burst is whole');
    is($got->[-1], 20, 'the newest one comes');
    is_deeply($got, [sort { $a <=> $b } @$got], 'in order');
    cmp_ok(scalar @$got, '<=', 3 + int(time - $since) + 1, 'not more than that');
    cmp_ok(scalar @$got, '<', 20, 'not all of them');
    is(@$got + $lost, 20, 'the others are told as lost') if defined $lost;
}

case 'a busy channel does not starve another one' => sub {
    my $client = Ws::Client->open($port, '/many?id=turns');
    my @publishers = map { Ws::Client->open($port, "/pub?id=turns-$_") } qw(a b);
    my %got = (a => 0, b => 0);
    my $sent = 0;
    my $until = time + 8;
    # Each round is published to a first.
    while (time < $until) {
        $sent++;
        for my $n (0, 1) {
            $publishers[$n]->send(text(('a', 'b')[$n] . " $sent"));
            $publishers[$n]->text;
        }
        while (my $frame = $client->maybe_frame(0.05)) {
            $got{$1}++ if $frame->{payload} =~ /^([ab]) /;
        }
    }
    cmp_ok(abs($got{a} - $got{b}), '<=', 2, "$got{a} of the one, $got{b} of the other");
    cmp_ok($got{b}, '>=', 3);
    $_->abandon for $client, @publishers;
};

case 'up to the limit everything comes at once' => sub {
    my $client = Ws::Client->open($port, '/rate?id=below');
    flood('/pub?id=below', 1, 3);
    is($client->text, $_) for 1 .. 3;
    flood('/pub?id=below', 4, 4);
    is($client->text, 4, 'and what comes in its time too');
};

case 'WebSocket: the newest wins, however little is kept' => sub {
    my ($all, $client) = map { Ws::Client->open($port, "$_?id=ws") } '/all', '/rate';
    my $since = time;
    flood('/short?id=ws', 1, 20);
    is_deeply([map { $all->text } 1 .. 20], [1 .. 20], 'without a rate all of them');
    my @got;
    push @got, $client->text until @got && $got[-1] == 20;
    within($since, \@got);
};

case 'ws+meta.nchan and channels.v1 tell of the others' => sub {
    my $meta = Ws::Client->open($port, '/rate?id=meta', headers => ['Sec-WebSocket-Protocol' => 'ws+meta.nchan']);
    my $v1 = Ws::Client->open($port, '/rate?id=meta', headers => ['Sec-WebSocket-Protocol' => 'channels.v1']);
    $v1->send(text('{"op":"subscribe"}'));
    $v1->text;
    my $since = time;
    flood('/pub?id=meta', 1, 20);
    my (@got, @lost, $third);
    until (@got && $got[-1] == 20) {
        my $text = $meta->text;
        if ($text =~ /^gap: (\d+)\nid: \d+:(\d+)\n/) {
            push @lost, $1;
            is($2, $got[-1] + $1, 'the position of the gap is behind what is left out');
            next;
        }
        $text =~ /^id: (\d+:(\d+))\n\n(\d+)$/ or die "not a message: $text";
        is($2, $3, 'its own position');
        push @got, $3;
        $third = $1 if @got == 3;
    }
    within($since, \@got, sum0(@lost));
    (@got, @lost) = ();
    until (@got && $got[-1] == 20) {
        my $said = decode_json($v1->text);
        push @got, $said->{data} if $said->{op} eq 'message';
        push @lost, $said->{lost} if $said->{op} eq 'gap';
    }
    within($since, \@got, sum0(@lost));
    my $later = Ws::Client->open($port, "/all?id=meta&last_event_id=$third");
    is($later->text, 4, 'who comes back in the meantime goes on where it was');
};

case 'streams: EventSource and multipart tell of the others, chunked and raw cannot' => sub {
    my %streams = map { $_ => stream($port, $_, "/$_?id=http") } qw(multipart chunked raw);
    my $events = events($port, '/eventsource?id=http');
    my $since = time;
    flood('/pub?id=http', 1, 20);
    my (@got, @lost);
    until (@got && $got[-1] == 20) {
        my ($event) = await_events($events, 1);
        push @{$event->{event} eq 'gap' ? \@lost : \@got}, $event->{data};
    }
    within($since, \@got, sum0(@lost));
    for my $kind (sort keys %streams) {
        @got = ();
        push @got, @{$streams{$kind}->data(1)} until @got && $got[-1] == 20;
        within($since, \@got);
    }
};

case 'a part after a gap says so' => sub {
    my $parts = stream($port, 'multipart', '/multipart?id=parts');
    flood('/pub?id=parts', 1, 20);
    my (@got, $lost);
    until (@got && $got[-1] == 20) {
        my ($part) = $parts->next(1);
        push @got, $part->{data};
        $lost += $part->{fields}{'x-channel-gap'} // 0;
    }
    is(@got + $lost, 20);
};

case 'each of several channels has its newest message' => sub {
    my $client = Ws::Client->open($port, '/many?id=many', headers => ['Sec-WebSocket-Protocol' => 'channels.v1']);
    $client->send(text('{"op":"subscribe"}'));
    $client->text;
    flood('/pub?id=many-a', 1, 10);
    flood('/pub?id=many-b', 11, 20);
    my (@got, $lost);
    until (grep({ $_ == 10 } @got) && grep({ $_ == 20 } @got)) {
        my $said = decode_json($client->text);
        push @got, $said->{data} if $said->{op} eq 'message';
        $lost += $said->{lost} if $said->{op} eq 'gap';
    }
    is(@got + $lost, 20, 'the others are told as lost');
};

case 'a channel that is deleted' => sub {
    my $client = Ws::Client->open($port, '/rate?id=gone');
    flood('/pub?id=gone', 1, 20);
    is(request($port, 'DELETE', '/pub?id=gone')->{status}, 200);
    my @got = map { $client->text } 1 .. 3;
    is("@got", '1 2 3');
    like($client->server_close, qr/^close 1001 /, 'says so');
};

case 'a long-poll is not what the rate is about' => sub {
    flood('/pub?id=poll', 1, 10);
    my $tag;
    for my $n (1 .. 10) {
        my $got = request($port, 'GET', '/rate?id=poll', $tag ? ('If-None-Match' => $tag) : ());
        is($got->{body}, $n);
        $tag = $got->{headers}{etag}[0];
    }
};

case 'a worker that is told to go does not wait for it' => sub {
    my $client = Ws::Client->open($port, '/rate?id=reload');
    flood('/pub?id=reload', 1, 10);
    is($client->text, $_) for 1 .. 3;
    $ngx->reload;
    is($client->text, 10, 'what is held comes from the old worker');
    $client->close(1000);
};

done_testing();
