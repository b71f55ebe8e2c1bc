# Subscriptions to many channels: the position stays short, and every one of them leads back without loss and without repeats.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;

my $COUNT = 250;

my $ngx = Ws::Nginx->start(workers => 2, connections => 256, server => <<'EOT');
    location = /pub { websocket_channel $arg_id mode=pub; websocket_channel_history length=3; }
    location = /unkept { websocket_channel $arg_id mode=pub; websocket_channel_history off; }
    location = /del { websocket_channel $arg_id mode=pub; }
    location = /sub {
        websocket_protocols ws+meta.nchan;
        websocket_channel $arg_ids;
        websocket_channel_split ".";
        websocket_channel_transports eventsource websocket longpoll multipart;
    }
EOT

my %serial;

sub put {
    my ($id, $count) = @_;

    for (1 .. $count // 1) {
        my $text = "$id-" . ++$serial{$id};
        like(request($ngx->port, 'POST', "/pub?id=$id", body => $text)->{status}, qr/^20[12]$/) or die "not published\n";
    }
}

sub ids { my ($name, $count) = @_; return map { "$name$_" } 1 .. $count // $COUNT }

# An EventSource that comes back with the last id that it was given, in the way that "as" says.
sub listen_to {
    my ($ids, $last, $as) = @_;

    my $path = '/sub?ids=' . join '.', @$ids;
    my @headers = (Accept => 'text/event-stream');
    if (defined $last) {
        if ($as eq 'header') { push @headers, 'Last-Event-ID' => $last }
        else                 { $path .= "&last_event_id=$last" }
    }
    my $client = Ws::Client->connect(port => $ngx->port);
    $client->send(request_text('GET', $path, @headers));
    $client->wait_until(sub { $client->{in} =~ /\r\n\r\n.*?^id: (\S+)$/ms }, 'its first position');
    $client->{in} =~ m{^HTTP/1.1 200 } or die substr($client->{in}, 0, 100) . "\n";
    return $client;
}

# What it has got, { data, event, id, octets } each.
sub got {
    my ($client, $count) = @_;

    my @events;
    $client->wait_until(sub {
        my $body = $client->{in} =~ s/\A.*?\r\n\r\n//sr;
        # Chunks.
        my $text = '';
        while ($body =~ /\G([0-9a-f]+)\r\n/gc) {
            my $size = hex $1;
            last if length($body) < pos($body) + $size + 2;
            $text .= substr $body, pos $body, $size;
            pos($body) += $size + 2;
        }
        @events = ();
        while ($text =~ /\G(.*?\n)\n/gs) {
            my ($block, %event) = ($1);
            $event{$1} = $2 while $block =~ /^(id|event|data): (.*)$/mg;
            $event{octets} = length($block) + 1;
            push @events, \%event if exists $event{data};
            $client->{first} //= $event{id};
        }
        return @events >= $count;
    }, "$count events");
    return @events;
}

case 'positions are short, and lead back' => sub {
    my @ids = ids('a');
    my $client = listen_to(\@ids);
    put("a$_") for 1 .. 20;
    my @events = got($client, 20);
    is_deeply([map { $_->{data} } @events], [map { "a$_-1" } 1 .. 20], 'in order');
    my ($most) = sort { $b <=> $a } map { $_->{octets} } @events;
    cmp_ok($most, '<', 80, "an event takes $most octets");
    for my $as (qw(header url)) {
        my $back = listen_to(\@ids, $events[9]{id}, $as);
        is_deeply([map { $_->{data} } got($back, 10)], [map { "a$_-1" } 11 .. 20], $as);
        cmp_ok(length($back->{first}), '<', 200, 'its first position is short too');
    }
};

case 'at any worker, and after a reload' => sub {
    my @ids = ids('b');
    my $client = listen_to(\@ids);
    put('b1');
    my ($event) = got($client, 1);
    put("b$_", 2) for 2 .. 4;
    my @expected = map { my $nth = $_; map { "b$nth-$_" } 1 .. 2 } 2 .. 4;
    for my $round (1 .. 2) {
        for (1 .. 6) {
            my $back = listen_to(\@ids, $event->{id}, 'url');
            is_deeply([map { $_->{data} } got($back, 6)], \@expected);
        }
        $ngx->reload if $round == 1;
    }
};

case 'every loss is told, and what is left comes once' => sub {
    my @ids = ids('c', 60);
    my $client = listen_to(\@ids);
    put('c1');
    my ($event) = got($client, 1);
    put('c1', 5);
    put('c2', 5);
    put('c3', 2);
    my (@lost, @messages);
    my $last = $event->{id};
    # One event at a time: it goes after each of them.
    for (1 .. 10) {
        my $back = listen_to(\@ids, $last, 'header');
        my ($next) = got($back, 1);
        $last = $next->{id};
        if (($next->{event} // '') eq 'gap') { push @lost, $next->{data} }
        else                                 { push @messages, $next->{data} }
    }
    is(scalar @lost, 2, 'two gaps');
    is_deeply(\@messages, [qw(c1-4 c1-5 c1-6 c2-3 c2-4 c2-5 c3-1 c3-2)]);
};

case 'a channel that was deleted and made anew' => sub {
    my @ids = ids('d', 40);
    my $client = listen_to(\@ids);
    put('d1');
    my ($event) = got($client, 1);
    put('d2');
    is(request($ngx->port, 'DELETE', '/del?id=d2')->{status}, 200);
    put('d2');
    put('d3');
    my $back = listen_to(\@ids, $event->{id}, 'url');
    my @events = got($back, 3);
    is_deeply([map { $_->{event} // $_->{data} } @events], ['gap', 'd2-2', 'd3-1']);
};

case 'what nobody keeps is lost for who comes back, and told' => sub {
    my @ids = ids('g', 20);
    my $client = listen_to(\@ids);
    put('g1');
    my ($event) = got($client, 1);
    undef $client;
    await('it to be gone', sub { request($ngx->port, 'GET', '/pub?id=g2')->{body} =~ /subscribers: 0/ });
    is(request($ngx->port, 'POST', '/unkept?id=g2', body => 'lost')->{status}, 202);
    put('g3');
    my $back = listen_to(\@ids, $event->{id}, 'header');
    is_deeply([map { $_->{event} // $_->{data} } got($back, 2)], ['gap', 'g3-1']);
};

case 'long-polls' => sub {
    my @ids = ids('e');
    my $path = '/sub?ids=' . join '.', @ids;
    my $waiting = Ws::Client->connect(port => $ngx->port);
    $waiting->send(request_text('GET', $path));
    await('it to wait', sub { request($ngx->port, 'GET', '/pub?id=e250')->{body} =~ /subscribers: 1/ });
    put('e1');
    my $tag = $waiting->response->{headers}{etag}[0];
    put("e$_") for 2 .. 6;
    for my $nth (2 .. 6) {
        my $response = request($ngx->port, 'GET', $path, 'If-None-Match' => $tag);
        is($response->{body}, "e$nth-1");
        $tag = $response->{headers}{etag}[0];
        cmp_ok(length $tag, '<', 60);
    }
};

case 'ws+meta.nchan' => sub {
    my @ids = ids('f');
    my $path = '/sub?ids=' . join '.', @ids;
    my $client = Ws::Client->open($ngx->port, $path, headers => ['Sec-WebSocket-Protocol' => 'ws+meta.nchan']);
    put('f1');
    put('f2');
    my ($id) = $client->text =~ /^id: (\S+)\n.*f1-1\z/s;
    cmp_ok(length $id, '<', 60);
    my $back = Ws::Client->open($ngx->port, "$path&last_event_id=$id", headers => ['Sec-WebSocket-Protocol' => 'ws+meta.nchan']);
    like($back->text, qr/\n\nf2-1\z/);
};

$ngx->stop;
done_testing();
