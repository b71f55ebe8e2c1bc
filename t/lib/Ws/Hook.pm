package Ws::Hook;

# A server behind a hook's location, which a test plays itself: each request is looked at and answered when the test says.

use strict;
use warnings;

use parent 'Exporter';

use Ws::Service;

our @EXPORT = qw(asked answer);

# asked(service): the next request: { connection, method, path, headers => { name in lower case => [values] }, body }.
sub asked {
    my ($service, $timeout) = @_;

    my $connection = $service->accept($timeout);
    my $head = '';
    $head .= $connection->line until $head =~ /\r\n\r\n$/;
    my ($method, $path) = $head =~ m{^(\S+) (\S+) HTTP/1\.[01]\r\n} or die "not a request: $head\n";
    my %headers;
    push @{$headers{lc $1}}, $2 while $head =~ /^([^:\s]+): (.*?)\r$/mg;
    my $body = $connection->read($headers{'content-length'} ? $headers{'content-length'}[0] : 0);
    return { connection => $connection, method => $method, path => $path, headers => \%headers, body => $body };
}

# answer(request, status, body, name => value ...): with a Content-Length, if there may be a body.
sub answer {
    my ($request, $status, $body, @headers) = @_;

    my $text = "HTTP/1.1 $status Said\r\nConnection: close\r\n";
    while (my ($name, $value) = splice @headers, 0, 2) {
        $text .= "$name: $value\r\n";
    }
    $text .= 'Content-Length: ' . length($body // '') . "\r\n" if $status != 204 && $status != 304;
    eval { $request->{connection}->send("$text\r\n" . ($body // '')) };
    $request->{connection}->close;
    return;
}

1;
