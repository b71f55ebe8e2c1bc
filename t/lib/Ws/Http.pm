package Ws::Http;

# Requests to channels: publishers, and subscribers that are no WebSocket.

use strict;
use warnings;

use parent 'Exporter';

use Ws::Client;

our @EXPORT = qw(request publish request_text events posted_events await_events await_end);

# request_text(method, path, name => value ..., body => octets): a request as octets.
sub request_text {
    my ($method, $path, @headers) = @_;

    my $body;
    my $text = "$method $path HTTP/1.1\r\nHost: localhost\r\n";
    while (my ($name, $value) = splice @headers, 0, 2) {
        if ($name eq 'body') {
            $body = $value;
            next;
        }
        $text .= "$name: $value\r\n";
    }
    $text .= 'Content-Length: ' . length($body) . "\r\n" if defined $body;
    return "$text\r\n" . ($body // '');
}

# request(port, method, path, ...): the response, on a connection of its own: { status, headers, body }.
sub request {
    my ($port, $method, $path, @rest) = @_;

    my $client = Ws::Client->connect(port => $port);
    $client->send(request_text($method, $path, Connection => 'close', @rest));
    return head_only($client) if $method eq 'HEAD';
    my $response = $client->response;
    dechunk($response);
    return $response;
}

sub head_only {
    my ($client) = @_;

    $client->wait_until(sub { $client->{end} }, 'the end of the response');
    my ($status) = $client->{in} =~ m{^HTTP/1\.1 (\d+)} or die "not a response: $client->{in}\n";
    my ($head, $body) = split /\r\n\r\n/, $client->{in}, 2;
    my %headers;
    push @{$headers{lc $1}}, $2 while $head =~ /^([^:\s]+): (.*?)\r?$/mg;
    return { status => $status, headers => \%headers, body => $body };
}

sub dechunk {
    my ($response) = @_;

    return if ($response->{headers}{'transfer-encoding'}[0] // '') ne 'chunked';
    my $body = '';
    while ($response->{body} =~ s/^([0-9a-f]+)\r\n//) {
        my $length = hex $1 or last;
        $body .= substr $response->{body}, 0, $length, '';
        $response->{body} =~ s/^\r\n// or die "chunk without an end\n";
    }
    $response->{body} = $body;
}

# publish(port, path, message, name => value ...): its status must be 201 or 202; returns the response.
sub publish {
    my ($port, $path, $message, @headers) = @_;

    my $response = request($port, 'POST', $path, @headers, body => $message);
    die "publish: status $response->{status}\n" if $response->{status} !~ /^20[12]$/;
    return $response;
}

# events(port, path, name => value ...): an EventSource: { client, id, events => [{ id, event, data }], keepalives, end }.
# Its head has been read.
sub events {
    my ($port, $path, @headers) = @_;

    return event_stream($port, 'GET', $path, @headers);
}

# posted_events(port, path, body, name => value ...): the same as the answer to a POST.
sub posted_events {
    my ($port, $path, $body, @headers) = @_;

    return event_stream($port, 'POST', $path, @headers, body => $body);
}

sub event_stream {
    my ($port, $method, $path, @headers) = @_;

    my %client;
    while (@headers && $headers[0] =~ /^-(.*)/) {
        my (undef, $value) = splice @headers, 0, 2;
        $client{$1} = $value;
    }
    my $client = Ws::Client->connect(port => $port, %client);
    $client->send(request_text($method, $path, Accept => 'text/event-stream', @headers));
    $client->wait_until(sub { index($client->{in}, "\r\n\r\n") >= 0 }, 'response head');
    my $head = substr $client->{in}, 0, index($client->{in}, "\r\n\r\n") + 4, '';
    my ($status) = $head =~ m{^HTTP/1\.1 (\d+)};
    my %headers;
    push @{$headers{lc $1}}, $2 while $head =~ /^([^:\s]+): (.*?)\r?$/mg;
    my $self = {
        client => $client, status => $status, headers => \%headers,
        chunked => $head =~ /^transfer-encoding: chunked/mi ? 1 : 0,
        text => '', id => '', events => [], keepalives => 0, end => 0,
    };
    return bless $self;
}

# parse(): what has come, as events (WHATWG HTML, section 9.2.6).
sub parse {
    my ($self) = @_;

    my $in = \$self->{client}{in};
    if ($self->{chunked}) {
        while ($$in =~ /^([0-9a-fA-F]+)\r\n/) {
            my ($size, $head) = (hex $1, length($1) + 2);
            last if length $$in < $head + $size + 2;
            $self->{end} = 1 if !$size;
            $self->{text} .= substr $$in, $head, $size;
            substr($$in, 0, $head + $size + 2) = '';
        }
    } else {
        $self->{text} .= $$in;
        $$in = '';
    }
    while ($self->{text} =~ s/^(.*?)\n\n//s) {
        my ($event, @data, $seen);
        for my $line (split /\n/, $1) {
            if ($line =~ /^:/) { $self->{keepalives}++ }
            elsif ($line =~ /^id: ?(.*)/) { $self->{id} = $1 }
            elsif ($line =~ /^event: ?(.*)/) { $event = $1 }
            elsif ($line =~ /^data: ?(.*)/) { push @data, $1; $seen = 1 }
            else { die "not a line of an event: $line\n" }
        }
        push @{$self->{events}}, { id => $self->{id}, event => $event // 'message', data => join "\n", @data } if $seen;
    }
}

# await_events(stream, n): the next n events.
sub await_events {
    my ($self, $count, $timeout) = @_;

    $self->{client}->wait_until(sub { $self->parse; @{$self->{events}} >= $count }, "$count events", $timeout);
    return splice @{$self->{events}}, 0, $count;
}

# await_end(stream): what is left of the stream up to its end, which must be that of a whole response.
sub await_end {
    my ($self, $timeout) = @_;

    $self->{client}->wait_until(sub { $self->parse; $self->{end} }, 'the end of the stream', $timeout);
    return splice @{$self->{events}};
}

1;
