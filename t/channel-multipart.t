# A channel as multipart/mixed: one message is one part, with its position, its time and its type.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Stream;

my $ngx = Ws::Nginx->start(workers => 2, http => 'websocket_channel_zone 8m; add_header X-Worker $pid;', server => stream_locations('multipart') . <<'SERVER');
    location = /beside { websocket_channel $arg_id; websocket_channel_transports websocket eventsource longpoll multipart; }
SERVER

my $port = $ngx->port;

stream_cases($ngx, 'multipart');

case 'fields of a part' => sub {
    my $stream = stream($port, 'multipart', '/sub?id=fields');
    like($stream->{boundary}, qr/^[0-9a-f]{32}$/);
    publish($port, '/pub?id=fields', '{}', 'Content-Type' => 'application/json');
    publish($port, '/pub?id=fields', '');
    my @parts = $stream->next(2);
    my $date = qr/^\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT$/;
    like($_->{fields}{'last-modified'}, $date) for @parts;
    like($parts[$_]{fields}{etag}, qr/^"\d+:${\ ($_ + 1)}"$/) for 0, 1;
    is_deeply([map { $_->{fields}{'content-type'} } @parts], ['application/json', undef]);
    is_deeply([map { $_->{data} } @parts], ['{}', '']);
};

case 'a part is whole before the next one comes' => sub {
    my $stream = stream($port, 'multipart', '/sub?id=whole');
    publish($port, '/pub?id=whole', 'x');
    is_deeply($stream->data(1), ['x']);
    is($stream->{text}, '', 'its boundary is the last thing that came');
};

case 'the id of a part is a position' => sub {
    my $stream = stream($port, 'multipart', '/many?a=p1&b=p2');
    publish($port, "/pub?id=p$_->[0]", $_->[1]) for [1, 'a'], [2, 'b'], [2, 'c'], [1, 'd'], [2, 'e'];
    my @parts = $stream->next(5);
    for my $n (0 .. 4) {
        my $again = stream($port, 'multipart', '/many?a=p1&b=p2', 'If-None-Match' => $parts[$n]{fields}{etag});
        is(join('', @{$again->data(4 - $n)}), substr('abcde', $n + 1));
    }
};

case 'nobody can make parts of other messages' => sub {
    my ($one, $two) = map { stream($port, 'multipart', '/sub?id=forged') } 1, 2;
    isnt($one->{boundary}, $two->{boundary}, 'each has a boundary of its own');
    # Somebody who subscribes knows one, and it works on nobody else.
    my $forged = "x\r\n--$one->{boundary}\r\nEtag: \"1:1\"\r\n\r\nforged";
    publish($port, '/pub?id=forged', $forged);
    publish($port, '/pub?id=forged', 'next');
    is_deeply($two->data(2), [$forged, 'next']);
    publish($port, '/pub?id=forged', 'x', 'Content-Type' => "text/x;\tEtag: 9");
    is(($two->next(1))[0]{fields}{etag} =~ /:3"$/ ? 1 : 0, 1);
};

case 'nor learn them from another worker' => sub {
    # Both workers have come of one master, and each hands out its first ones now.
    $ngx->reload;
    my (%of, %seen);
    await('streams of both workers', sub {
        my $stream = stream($port, 'multipart', '/sub?id=workers');
        $of{$stream->{headers}{'x-worker'}[0]}++;
        $seen{$stream->{boundary}}++;
        return keys %of == 2 && !grep { $_ < 20 } values %of;
    });
    is_deeply([grep { $seen{$_} > 1 } keys %seen], [], 'none comes twice');
};

case 'the request chooses' => sub {
    my $stream = stream($port, 'multipart', '/beside?id=choose', Accept => 'text/html');
    is($stream->{status}, 200);
    my $events = events($port, '/beside?id=choose');
    like($events->{headers}{'content-type'}[0], qr{^text/event-stream});
    publish($port, '/pub?id=choose', 'x');
    is_deeply($stream->data(1), ['x']);
    is(request($port, 'GET', '/beside?id=choose&last_event_id=1:0')->{headers}{'content-length'}[0], 1, 'a long-poll');
    is(request($port, 'GET', '/sub?id=choose')->{status}, 406);
    is(request($port, 'GET', '/sub?id=choose', Accept => 'multipart/mixed;q=0')->{status}, 406);
};

$ngx->stop;
done_testing();
