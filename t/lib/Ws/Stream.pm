package Ws::Stream;

# Subscribers whose response goes on, other than EventSources: chunked, multipart, raw. And what holds for all of them.

use strict;
use warnings;

use parent 'Exporter';

use Test::More;
use Ws::Client;
use Ws::Http;
use Ws::Nginx;
use Ws::Process qw(status_field);

our @EXPORT = qw(stream stream_locations stream_cases subscribers);

my %ASKS = (chunked => [TE => 'chunked'], multipart => [Accept => 'multipart/mixed'], raw => []);

# stream(port, kind, path, name => value ...): a subscriber: { client, status, headers, messages => [{ data, ... }], end }. Its
# head has been read. Names with a dash in front are for Ws::Client->connect.
sub stream {
    my ($port, $kind, $path, @headers) = @_;

    my %client;
    while (@headers && $headers[0] =~ /^-(.*)/) {
        my (undef, $value) = splice @headers, 0, 2;
        $client{$1} = $value;
    }
    my $client = Ws::Client->connect(port => $port, %client);
    $client->send(request_text('GET', $path, @{$ASKS{$kind}}, @headers));
    $client->wait_until(sub { index($client->{in}, "\r\n\r\n") >= 0 }, 'response head');
    my $head = substr $client->{in}, 0, index($client->{in}, "\r\n\r\n") + 4, '';
    my ($status) = $head =~ m{^HTTP/1\.1 (\d+)};
    my %fields;
    push @{$fields{lc $1}}, $2 while $head =~ /^([^:\s]+): (.*?)\r?$/mg;
    my $self = bless {
        client => $client, kind => $kind, status => $status, headers => \%fields, text => '', messages => [], end => '',
        separator => "\n",
    };
    ($self->{boundary}) = $head =~ m{^content-type: multipart/mixed; boundary=(\S+)\r$}mi if $kind eq 'multipart';
    return $self;
}

# parse(): what has come, as messages.
sub parse {
    my ($self) = @_;

    my $in = \$self->{client}{in};
    while ($$in =~ /^([0-9a-f]+)\r\n/) {
        my ($size, $head) = (hex $1, length($1) + 2);
        last if length $$in < $head + $size + 2;
        my $chunk = substr $$in, $head, $size;
        die "a chunk has no end\n" if substr($$in, $head + $size, 2) ne "\r\n";
        substr($$in, 0, $head + $size + 2) = '';
        if (!$size) {
            $self->{end} = 'whole';
            last;
        }
        if ($self->{kind} eq 'chunked') {
            push @{$self->{messages}}, { data => $chunk };
        } else {
            $self->{text} .= $chunk;
        }
    }
    if ($self->{kind} eq 'raw') {
        while ($self->{text} =~ s/^(.*?)\Q$self->{separator}\E//s) {
            push @{$self->{messages}}, { data => $1 };
        }
    } elsif ($self->{kind} eq 'multipart') {
        my $boundary = quotemeta $self->{boundary};
        $self->{begun} ||= $self->{text} =~ s/^--$boundary//;
        while ($self->{begun} && $self->{text} =~ s/^\r\n(.*?)\r\n\r\n(.*?)\r\n--$boundary//s) {
            my ($fields, $data) = ($1, $2);
            my %fields = map { my ($name, $value) = /^(\S+): (.*)$/ or die "not a field: $_\n"; (lc $name => $value) }
                split /\r\n/, $fields;
            push @{$self->{messages}}, { data => $data, fields => \%fields };
        }
    }
}

# next(n): the next n messages.
sub next {
    my ($self, $count, $timeout) = @_;

    $self->{client}->wait_until(sub { $self->parse; @{$self->{messages}} >= $count }, "$count messages", $timeout);
    return splice @{$self->{messages}}, 0, $count;
}

# data(n): what they say.
sub data {
    my ($self, $count, $timeout) = @_;

    return [map { $_->{data} } $self->next($count, $timeout)];
}

# ended(timeout): how the response ended: "whole", or "cut" if the connection did before.
sub ended {
    my ($self, $timeout) = @_;

    eval { $self->{client}->wait_until(sub { $self->parse; $self->{end} }, 'the end of the response', $timeout) };
    return $self->{end} if $self->{end};
    return $self->{client}{end} ? 'cut' : "none: $@";
}

# position(): what the head says.
sub position {
    my ($self) = @_;

    return $self->{headers}{etag}[0] =~ /^"(\d+:\d+(?:,\d+:\d+)*)"$/ ? $1 : die "no position: $self->{headers}{etag}[0]\n";
}

# subscribers(port, id): of a channel.
sub subscribers {
    my ($port, $id) = @_;

    return request($port, 'GET', "/pub?id=$id", Accept => 'text/json')->{body} =~ /"subscribers": (\d+)/ ? $1 : 0;
}

# stream_locations(kind): for the server that stream_cases is called with.
sub stream_locations {
    my ($kind) = @_;

    my $sub = "websocket_channel \$arg_id; websocket_channel_transports $kind";
    return <<"EOT";
    location = /sub    { $sub; }
    location = /oldest { $sub; websocket_channel_start oldest; }
    location = /last2  { $sub; websocket_channel_start -2; }
    location = /skip   { $sub; websocket_channel_lag skip; }
    location = /many   { websocket_channel \$arg_a \$arg_b; websocket_channel_transports $kind; websocket_channel_start oldest; }
    location = /one    { $sub; websocket_channel_max_subscribers 1; }
    location = /known  { $sub; websocket_channel_create off; }
    location = /impatient { $sub; websocket_channel_lag skip; websocket_send_timeout 500ms; }
    location = /pub    { websocket_channel \$arg_id mode=pub; }
    location = /keep3  { websocket_channel \$arg_id mode=pub; websocket_channel_history length=3; }
    location = /keep20 { websocket_channel \$arg_id mode=pub; websocket_channel_history length=20; }
    location = /deep   { websocket_channel \$arg_id mode=pub; websocket_channel_history length=100000; }
EOT
}

# stream_cases(nginx, kind): what holds for each of these transports.
sub stream_cases {
    my ($ngx, $kind) = @_;

    my $port = $ngx->port;
    my $tells = $kind eq 'multipart';

    case 'messages, at once, on any worker' => sub {
        my @streams = map { stream($port, $kind, '/sub?id=plain') } 1 .. 6;
        for my $stream (@streams) {
            is($stream->{status}, 200);
            is($stream->{headers}{'cache-control'}[0], 'no-store');
            is($stream->{headers}{'transfer-encoding'}[0], 'chunked');
            is($stream->{headers}{'content-length'}, undef);
            like($stream->position, qr/^\d+:0$/);
        }
        for my $n (1 .. 20) {
            is(publish($port, '/pub?id=plain', "message $n")->{status}, 201);
            my @got = map { @{$_->data(1)} } @streams;
            is_deeply(\@got, [("message $n") x 6]) or last;
        }
    };

    case 'where a new one begins' => sub {
        publish($port, '/pub?id=begin', $_) for 1 .. 4;
        is_deeply(stream($port, $kind, '/oldest?id=begin')->data(4), [1 .. 4]);
        is_deeply(stream($port, $kind, '/last2?id=begin')->data(2), [3, 4]);
        my $newest = stream($port, $kind, '/sub?id=begin');
        like($newest->position, qr/:4$/);
        publish($port, '/pub?id=begin', 5);
        is_deeply($newest->data(1), [5]);
    };

    case 'coming back' => sub {
        my $stream = stream($port, $kind, '/sub?id=back');
        my $first = $stream->position;
        publish($port, '/pub?id=back', $_) for 1 .. 5;
        is_deeply($stream->data(5), [1 .. 5]);
        my ($epoch) = $first =~ /^(\d+)/;
        for my $n (0, 2, 4) {
            my $id = "$epoch:$n";
            for my $how (['/sub?id=back', 'Last-Event-ID' => $id], ['/sub?id=back', 'If-None-Match' => "\"$id\""],
                ["/sub?id=back&last_event_id=$id"])
            {
                my $again = stream($port, $kind, @$how);
                is($again->position, $id);
                is($again->{headers}{'x-channel-gap'}, undef);
                is_deeply($again->data(5 - $n), [$n + 1 .. 5], "@$how");
            }
        }
        is_deeply(stream($port, $kind, '/oldest?id=back', 'Last-Event-ID' => 'nonsense')->data(5), [1 .. 5]);
    };

    case 'what is lost on coming back is told' => sub {
        my $stream = stream($port, $kind, '/sub?id=gap');
        publish($port, '/keep3?id=gap', 1);
        $stream->next(1);
        my ($epoch) = $stream->position =~ /^(\d+)/;
        $stream->{client}->abandon;
        # What a worker with a subscriber has still to copy is kept longer.
        await('it to be gone', sub { subscribers($port, 'gap') == 0 });
        publish($port, '/keep3?id=gap', $_) for 2 .. 8;
        my $again = stream($port, $kind, '/sub?id=gap', 'Last-Event-ID' => "$epoch:1");
        my @messages = $again->next(3);
        is_deeply([map { $_->{data} } @messages], [6 .. 8]);
        if ($tells) {
            is_deeply([map { $_->{fields}{'x-channel-gap'} } @messages], [4, undef, undef]);
            is($again->position, "$epoch:1", 'the head is before the gap');
        } else {
            is($again->{headers}{'x-channel-gap'}[0], 4);
            is($again->position, "$epoch:5", 'the head is after the gap');
        }
        publish($port, '/keep3?id=gap', 9);
        is_deeply($again->data(1), [9]);
    };

    case 'several channels: one order' => sub {
        my $stream = stream($port, $kind, '/many?a=s1&b=s2');
        publish($port, "/pub?id=s$_->[0]", $_->[1]) for [1, 'a'], [2, 'b'], [2, 'c'], [1, 'd'], [2, 'e'];
        is(join('', @{$stream->data(5)}), 'abcde');
        my $again = stream($port, $kind, '/many?a=s1&b=s2', 'Last-Event-ID' => $stream->position);
        is(join('', @{$again->data(5)}), 'abcde', 'from the position of the head');
    };

    case 'deletion ends it, after what was there' => sub {
        my $stream = stream($port, $kind, '/sub?id=gone');
        publish($port, '/pub?id=gone', 'last words');
        is(request($port, 'DELETE', '/pub?id=gone')->{status}, 200);
        is_deeply($stream->data(1), ['last words']);
        is($stream->ended, 'whole');
        is($stream->{text}, $kind eq 'multipart' ? "--\r\n" : '', 'and as it should');
    };

    case 'who goes is not counted' => sub {
        my @streams = map { stream($port, $kind, '/sub?id=count') } 1 .. 5;
        await('five subscribers', sub { subscribers($port, 'count') == 5 });
        $_->{client}->abandon for @streams[0 .. 2];
        $streams[3]{client}->reset;
        await('one subscriber', sub { subscribers($port, 'count') == 1 });
        publish($port, '/pub?id=count', 'x');
        is_deeply($streams[4]->data(1), ['x']);
    };

    case 'limits' => sub {
        my $stream = stream($port, $kind, '/one?id=limit');
        my $refused = stream($port, $kind, '/one?id=limit');
        is($refused->{status}, 503);
        ok($refused->{headers}{'retry-after'}[0]);
        $stream->{client}->abandon;
        await('nobody', sub { subscribers($port, 'limit') == 0 });
        is(stream($port, $kind, '/one?id=limit')->{status}, 200);
        is(stream($port, $kind, '/known?id=unknown')->{status}, 403);
    };

    case 'HEAD' => sub {
        my @asks = @{$ASKS{$kind}};
        my $response = request($port, 'HEAD', '/sub?id=head', @asks);
        is($response->{status}, 200);
        is($response->{body}, '');
        ok(await('nobody to be left', sub { subscribers($port, 'head') == 0 }));
    };

    case 'many messages at once, and large ones' => sub {
        my $stream = stream($port, $kind, '/sub?id=burst');
        my $publisher = Ws::Client->open($port, '/deep?id=burst');
        $publisher->send(map { Ws::Frame::text("message $_ " . 'x' x 200) } 1 .. 2000);
        $publisher->flush;
        for my $n (1 .. 200) {
            my @got = @{$stream->data(10)};
            is($got[9] =~ /^message (\d+) x{200}$/ ? $1 : '', $n * 10) or last;
        }
        publish($port, '/pub?id=burst', 'y' x 800_000);
        is(length $stream->data(1)->[0], 800_000);
    };

    case 'one that does not read costs bounded memory, and the others nothing' => sub {
        my @deaf = map { stream($port, $kind, "/$_?id=slow", -rcvbuf => 4096) } qw(sub skip) x 5;
        $_->{client}->reading(0) for @deaf;
        my $reader = stream($port, $kind, '/sub?id=slow');
        my $before = 0;
        $before += status_field($_, 'VmRSS') for $ngx->workers;
        my $publisher = Ws::Client->open($port, '/keep20?id=slow');
        for my $n (1 .. 1500) {
            $publisher->send(Ws::Frame::text("$n " . 'x' x 10_000));
            $publisher->text;
            my ($got) = $reader->data(1)->[0] =~ /^(\d+)/;
            is($got, $n) or last if $got ne $n;
        }
        my $after = 0;
        $after += status_field($_, 'VmRSS') for $ngx->workers;
        cmp_ok($after - $before, '<', 16_000, 'kB that the workers grew') if !Ws::Nginx::instrumented();
        $publisher->close(1000);
        $_->{client}->reading(1) for @deaf;
        my ($close, $skip) = @deaf;
        # Whoever is behind gets what was on its way, and then is told, or cut, or goes on.
        my ($got, $lost) = (0, 0);
        while ($got + $lost < 1500) {
            my ($message) = $skip->next(1);
            my ($n) = $message->{data} =~ /^(\d+)/;
            $lost += $n - 1 - $got - $lost;
            is($message->{fields}{'x-channel-gap'} // 0, $lost, 'told') if $tells && $n != $got + 1 && !$skip->{told}++;
            $got++;
        }
        cmp_ok($lost, '>', 0, 'some were lost');
        if ($tells) {
            my $seen = 0;
            while ($seen < 1500) {
                my ($message) = $close->next(1);
                $seen += 1 + ($message->{fields}{'x-channel-gap'} // 0);
                is($message->{data} =~ /^(\d+)/ ? $1 : '', $seen) or last if $message->{data} !~ /^$seen /;
            }
            is($seen, 1500);
        } else {
            is($close->ended, 'cut', 'not as if it was all');
            my @seen = map { $_->{data} =~ /^(\d+)/ ? $1 : '' } @{$close->{messages}};
            is_deeply(\@seen, [1 .. @seen], 'what came before is whole and in order');
        }
    };

    case 'one that accepts nothing for the send timeout is dropped' => sub {
        my $stream = stream($port, $kind, '/impatient?id=drop', -rcvbuf => 4096);
        $stream->{client}->reading(0);
        my $publisher = Ws::Client->open($port, '/keep20?id=drop');
        $publisher->send(Ws::Frame::text('x' x 100_000));
        $publisher->text;
        for (1 .. 40) {
            $publisher->send(Ws::Frame::text('x' x 100_000));
            $publisher->text;
        }
        ok(await('nobody to be left', sub { subscribers($port, 'drop') == 0 }));
        $ngx->await_log(qr/the client accepted nothing in time/);
    };
}

1;
