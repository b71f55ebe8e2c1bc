#!/usr/bin/perl
# count.pl DIRECTORY MODULE...: how many instructions nginx executes with each of these modules for one unit of work, as a table in
# Markdown. scripts/count.sh calls it: TEST_NGINX_BINARY starts nginx under callgrind, which leaves its counts in DIRECTORY.
#
# A unit is done many times, one after the other, in two runs of different length. What the longer run takes more is divided by the
# units that it has more, so that starting, connecting and ending are not in it. The next unit begins when nginx sleeps: what is done in
# one turn of the event loop must not depend on which process is faster. nginx is one process, so that its worker alone is counted.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../t/lib";
use Test::More;
use Time::HiRes qw(sleep);
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Nginx;
use Ws::Process qw(state);
use Ws::Service;

# How many units the two runs have.
my ($SHORT, $LONG) = (500, 5500);
my $SUBSCRIBERS = 20;
my $TEXT = 'x' x 100;

my ($directory, @modules) = @ARGV;
die "usage: count.pl DIRECTORY MODULE...\n" if !@modules;
Test::More->builder->output(\*STDERR);

# How subscribers get a message, as what is called for each after a publication: its transport makes a client for a port.
my %transport = (
    websocket => sub {
        my $client = Ws::Client->open($_[0], '/sub');
        return sub { $client->text };
    },
    eventsource => sub {
        my $stream = events($_[0], '/sub');
        return sub { (await_events($stream, 1))[0]{data} };
    },
    longpoll => sub {
        my $client = Ws::Client->connect(port => $_[0]);
        my $ask = sub { $client->send(request_text('GET', '/sub', @_)) };
        $ask->();
        return sub {
            my $response = $client->response;
            $ask->('If-None-Match' => $client->header('etag'));
            return $response->{body};
        };
    },
);

# publication(subscribers, transport): the locations, and what makes the unit: one message by a connection that is kept, which all
# subscribers get. A long-poll asks again.
sub publication {
    my ($subscribers, $transport) = @_;

    my $unit = sub {
        my ($port) = @_;
        my $publisher = Ws::Client->connect(port => $port);
        my @clients = map { $transport{$transport}->($port) } 1 .. $subscribers;
        return sub {
            $publisher->send(request_text('POST', '/pub', body => $TEXT));
            my $status = $publisher->response->{status};
            die "publish: status $status\n" if $status != ($subscribers ? 201 : 202);
            for my $client (@clients) {
                die "another message came\n" if $client->() ne $TEXT;
            }
        };
    };
    return ("location = /pub { websocket_channel c mode=pub; } location = /sub { websocket_channel c mode=sub; }", $unit);
}

# The same request where nginx itself answers it.
sub answer {
    my $unit = sub {
        my ($port) = @_;
        my $client = Ws::Client->connect(port => $port);
        return sub {
            $client->send(request_text('POST', '/', body => $TEXT));
            die "another status\n" if $client->response->{status} != 202;
        };
    };
    return ("location / { return 202 '" . 'x' x 106 . "'; }", $unit);
}

sub echo {
    my $unit = sub {
        my ($port) = @_;
        my $client = Ws::Client->open($port, '/');
        my $message = frame(TEXT, $TEXT);
        return sub {
            $client->send($message);
            die "another message came back\n" if $client->text ne $TEXT;
        };
    };
    return ('location / { websocket_exec /bin/cat; }', $unit);
}

sub bridge {
    my $service = Ws::Service->listen;
    my $unit = sub {
        my ($port) = @_;
        my $client = Ws::Client->open($port, '/');
        my $connection = $service->accept;
        my $message = frame(BINARY, $TEXT);
        return sub {
            $client->send($message);
            $connection->send($connection->read(length $TEXT));
            die "another message came back\n" if $client->message->{payload} ne $TEXT;
        };
    };
    return ('location / { websocket_tcp ' . $service->address . '; }', $unit);
}

# instructions(module, units, locations, unit): what one nginx has executed from its start to its end.
sub instructions {
    my ($module, $units, $locations, $unit) = @_;

    my $ngx = Ws::Nginx->start(workers => 0, modules => "load_module $module;", whole => <<"EOT");
master_process off;
pid nginx.pid;
error_log error.log notice;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path temp/body;
    proxy_temp_path temp/proxy;
    fastcgi_temp_path temp/fastcgi;
    uwsgi_temp_path temp/uwsgi;
    scgi_temp_path temp/scgi;
    keepalive_requests 1000000;
    websocket_channel_zone 4m;
    websocket_ping_interval 0;
    server {
        listen 127.0.0.1:%%PORT%%;
        $locations
    }
}
EOT
    my $pid = $ngx->master;
    my $do = $unit->($ngx->port);
    for (1 .. $units) {
        sleep 0.0001 while state($pid) ne 'S';
        $do->();
    }
    $ngx->stop;
    open my $counts, '<', "$directory/$pid" or die "$directory/$pid: $!\n";
    while (my $line = <$counts>) {
        return $1 if $line =~ /^(?:summary|totals): (\d+)$/;
    }
    die "no total in $directory/$pid\n";
}

sub per_unit {
    my ($module, @figure) = @_;

    return (instructions($module, $LONG, @figure) - instructions($module, $SHORT, @figure)) / ($LONG - $SHORT);
}

sub thousands { return scalar reverse reverse(sprintf '%.0f', $_[0]) =~ s/(\d{3})(?=\d)/$1,/gr }

sub row {
    my ($name, @counts) = @_;

    my $first = shift @counts;
    my @rest = map { sprintf '%s (%+.2f %%)', thousands($_), 100 * ($_ / $first - 1) } @counts;
    print '| ' . join(' | ', $name, thousands($first), @rest) . " |\n";
}

$| = 1;
print '| instructions for | ' . join(' | ', map { s{.*/}{}r =~ s/\.so$//r } @modules) . " |\n";
print '| --- |' . ' --- |' x @modules . "\n";
row('a message through a program and back', map { per_unit($_, echo()) } @modules);
row('a message through a service and back', map { per_unit($_, bridge()) } @modules);
my @alone = map { per_unit($_, publication(0)) } @modules;
row('a publication', @alone);
row('a request that `return 202` answers', map { per_unit($_, answer()) } @modules);
my %name = (
    websocket   => 'a delivery',
    eventsource => 'a delivery by EventSource',
    longpoll    => 'a delivery by long-poll, and the next request',
);
for my $transport (qw(websocket eventsource longpoll)) {
    my @delivered = map { per_unit($_, publication($SUBSCRIBERS, $transport)) } @modules;
    row($name{$transport}, map { ($delivered[$_] - $alone[$_]) / $SUBSCRIBERS } 0 .. $#modules);
}
done_testing();
