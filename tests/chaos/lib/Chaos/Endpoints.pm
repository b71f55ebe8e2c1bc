package Chaos::Endpoints;

# What the nodes serve, and who uses it.

use strict;
use warnings;

use Chaos::Peer;
use Chaos::Peer::Cgi;
use Chaos::Peer::Counting;
use Chaos::Peer::Echo;
use Chaos::Peer::Poll;
use Chaos::Peer::Shared;
use Chaos::Peer::Stream;
use Chaos::Peer::Subscriber;
use Chaos::Peer::Tcp;
use Chaos::Peer::Terminal;
use Chaos::Subscription;
use Ws::Nginx ();

# Records of the format "messages" that the program of /count-messages says.
use constant RECORDS => 3000;

our @CHANNELS = qw(a b c d);

# http(more): for the context http of a node.
sub http {
    my ($more) = @_;

    return <<"HTTP";
    add_header X-Worker \$pid always;
    websocket_channel_history length=500 time=1h;
    websocket_channel_split -;
    websocket_channel_presence \$connection;
    websocket_channel_group_limits subscribers=100000;
    websocket_ping_interval 4s;
    websocket_ping_timeout 4s;
    websocket_send_timeout 8s;
    websocket_exec_stop 100ms 1s;
    keepalive_requests 100000;
    client_body_buffer_size 64k;
    $more
HTTP
}

# server(more, service): for the server of a node, with the Chaos::Service behind it.
sub server {
    my ($more, $service) = @_;

    my ($tcp, $hooks) = ($service->port, $service->hooks);
    return <<"SERVER";
    location = /pub { websocket_channel \$arg_id mode=pub; }
    location = /sub { websocket_channel \$arg_id; websocket_channel_transports websocket eventsource multipart longpoll; websocket_channel_lag skip; }
    location = /poll { websocket_channel \$arg_id; websocket_channel_transports poll; }
    location = /stream { websocket_channel \$arg_id; websocket_channel_transports chunked raw; }
    location = /asked { websocket_channel \$arg_id; websocket_channel_join_request /hook; websocket_channel_leave_request /hook; websocket_channel_lag skip; }
    location = /ask { websocket_channel \$arg_id mode=pub; websocket_channel_publish_request /hook; }
    location = /hook { internal; proxy_pass http://127.0.0.1:$hooks; proxy_read_timeout 4s; proxy_connect_timeout 4s; }
    location = /tcp { websocket_tcp 127.0.0.1:$tcp; }
    location = /group { websocket_channel_group_info; }
    location = /status { websocket_status; }
    location = /lines { websocket_exec cat; }
    location = /octets { websocket_exec cat; websocket_exec_format bytes; }
    location = /messages { websocket_exec cat; websocket_exec_format messages; }
    location = /pooled { websocket_exec cat; websocket_exec_pool 2; }
    location = /count { websocket_exec seq \$arg_n; }
    location = /count-octets { websocket_exec seq \$arg_n; websocket_exec_format bytes; }
    location = /count-messages { websocket_exec cat %%PREFIX%%/records; websocket_exec_format messages; }
    location = /terminal { websocket_exec %%PREFIX%%/bin/terminal; websocket_exec_pty on; websocket_exec_format bytes; }
    location = /count-terminal { websocket_exec %%PREFIX%%/bin/count-terminal \$arg_n; websocket_exec_pty on; websocket_exec_format bytes; }
    location = /cgi { websocket_cgi %%PREFIX%%/bin/cgi; }
    location = /cgi-count { websocket_cgi %%PREFIX%%/bin/cgi-count \$arg_n; }
    $more
SERVER
}

# prepare(node): its programs, and the files that they read.
sub prepare {
    my ($node) = @_;

    # A terminal changes nothing of what these read and write, once the word has come.
    $node->program('terminal', "#!/bin/sh\nstty raw -echo\necho ready\nexec cat\n");
    $node->program('count-terminal', "#!/bin/sh\nstty -opost\nexec seq \"\$1\"\n");
    # One response has a length, the other one has chunks.
    $node->program('cgi', "#!/bin/sh\nprintf 'Content-Length: %s\\n\\n' \"\$CONTENT_LENGTH\"\nexec cat\n");
    $node->program('cgi-count', "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\nexec seq \"\$1\"\n");
    $node->file('records', join '', map { 'T ' . length($_) . "\n$_" } 1 .. RECORDS);
    return;
}

# programs(given, nodes, times): clients of programs of their own.
sub programs {
    my ($given, $ports, $times) = @_;

    my $has_terminals = !Ws::Nginx::no_terminals();
    for (1 .. $times) {
        for my $port (@$ports) {
            Chaos::Peer::Echo->new(%$given, kind => "echo $_->[1]", form => $_->[0], path => "/$_->[1]", ports => [$port])
                for ['lines', 'lines'], ['octets', 'octets'], ['messages', 'messages'], ['lines', 'pooled'];
            Chaos::Peer::Counting->new(%$given, kind => "$_->[1]", form => $_->[0], path => "/$_->[1]", fixed => $_->[2], ports => [$port])
                for ['lines', 'count'], ['octets', 'count-octets'], ['lines', 'count-messages', RECORDS], $has_terminals ? ['octets', 'count-terminal'] : ();
            Chaos::Peer::Terminal->new(%$given, kind => 'terminal', form => 'octets', path => '/terminal', ports => [$port]) if $has_terminals;
            Chaos::Peer::Cgi->new(%$given, kind => $_->[0], path => $_->[1], has_body => $_->[2], ports => [$port])
                for ['cgi', '/cgi', 1], ['cgi count', '/cgi-count', 0];
        }
    }
    return;
}

# services(given, ports): clients of a TCP service.
sub services {
    my ($given, $ports) = @_;

    Chaos::Peer::Tcp->new(%$given, kind => 'tcp', form => 'octets', path => '/tcp', ports => [$_]) for @$ports;
    return;
}

# asked(given, scopes, times): subscribers that a hook lets in.
sub asked {
    my ($given, $scopes, $times) = @_;

    for (1 .. $times) {
        for my $scope (@$scopes) {
            my %common = (%$given, scope => $scope->[0], ports => $scope->[1], path => '/asked');
            for my $channel (@CHANNELS) {
                Chaos::Peer::Subscriber->new(%common, channels => [$channel], kind => 'asked websocket');
                Chaos::Peer::Stream->new(%common, channels => [$channel], kind => 'asked eventsource', transport => 'eventsource');
                Chaos::Peer::Poll->new(%common, channels => [$channel], kind => 'asked longpoll', transport => 'longpoll');
            }
        }
    }
    return;
}

# SHARED: for the server of a node without an engine.
use constant SHARED => 'location = /shared { websocket_exec cat; websocket_channel $arg_id; websocket_channel_lag skip; websocket_exec_linger 500ms; }';

our @SHARED = qw(s1 s2);

# shared(given, scopes, times): clients that share programs.
sub shared {
    my ($given, $scopes, $times) = @_;

    for my $scope (@$scopes) {
        for my $channel (@SHARED) {
            Chaos::Peer::Shared->new(%$given, scope => $scope->[0], ports => $scope->[1], channels => [$channel], kind => 'shared', path => '/shared')
                for 1 .. 6 * $times;
        }
    }
    return;
}

# subscribers(given, scopes, times): scopes are [prefix of the names of channels, ports] of nodes that have the same channels.
sub subscribers {
    my ($given, $scopes, $times) = @_;

    for my $scope (@$scopes) {
        for my $nth (0 .. $times * @CHANNELS - 1) {
            my $one = $CHANNELS[$nth % @CHANNELS];
            my @several = @CHANNELS[grep { $_ != $nth % @CHANNELS } 0 .. $#CHANNELS];
            my %common = (%$given, scope => $scope->[0], ports => $scope->[1]);
            for my $channels ([$one], \@several) {
                my $kind = @$channels > 1 ? ' of several' : '';
                Chaos::Peer::Subscriber->new(%common, channels => $channels, kind => "websocket$kind", path => '/sub') for 1 .. 2;
                Chaos::Peer::Stream->new(%common, channels => $channels, transport => $_->[0], kind => "$_->[0]$kind", path => "/$_->[1]")
                    for ['eventsource', 'sub'], ['multipart', 'sub'], ['chunked', 'stream'], ['raw', 'stream'];
                Chaos::Peer::Poll->new(%common, channels => $channels, transport => $_->[0], kind => "$_->[0]$kind", path => "/$_->[1]")
                    for ['longpoll', 'sub'], ['poll', 'poll'];
            }
        }
    }
    return;
}

1;
