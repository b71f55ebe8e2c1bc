# Hooks that have not answered when their worker is told to go: they hold it no longer than clients may.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Time::HiRes qw(time);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Hook;
use Ws::Service;

my $app = Ws::Service->listen;

my %common = (
    http => 'websocket_channel_zone 4m; upstream app { server ' . $app->address . '; }',
    server => <<'EOT',
    lingering_timeout 50ms;
    location = /info  { websocket_channel $arg_id mode=pub; }
    location = /ask   { websocket_channel $arg_id mode=pub; websocket_channel_publish_request /app; }
    location = /chat  { websocket_channel $arg_id mode=pubsub; websocket_channel_publish_request /app; }
    location = /enter { websocket_channel $arg_id; websocket_channel_join_request /app; }
    location = /leave { websocket_channel $arg_id; websocket_channel_leave_request /app; }
    location = /app   { internal; proxy_pass http://app; }
    location = /nested { websocket_channel $arg_id mode=pub; websocket_channel_publish_request /again; }
    location = /again { internal; proxy_pass http://127.0.0.1:%%PORT%%/ask?id=nested; }
EOT
);

# Everybody who may wait for a hook, and what it is told of one that has let it in.
my %waiting = (
    'a publisher' => [
        sub { my $client = Ws::Client->connect(port => $_[0]); $client->send(request_text('POST', '/ask?id=a', body => 'm')); $client },
        sub { is($_[0]->response->{status}, 202) },
    ],
    'a publisher of two hooks' => [
        sub { my $client = Ws::Client->connect(port => $_[0]); $client->send(request_text('POST', '/nested?id=a', body => 'm')); $client },
        sub { is($_[0]->response->{status}, 403) },
    ],
    'a publisher by WebSocket' => [
        sub { my $client = Ws::Client->open($_[0], '/ask?id=b'); $client->send(text('m')); $client },
        sub { like($_[0]->text, qr/^queued messages: /); is($_[0]->close, 'close 1000') },
    ],
    'somebody who chats' => [
        sub { my $client = Ws::Client->open($_[0], '/chat?id=c'); $client->send(text('m')); $client },
        sub { is($_[0]->text, 'm'); is($_[0]->close, 'close 1000') },
    ],
    'a WebSocket' => [
        sub { my $client = Ws::Client->connect(port => $_[0]); $client->send(upgrade('/enter?id=d')); $client },
        sub { is($_[0]->response->{status}, 101); is($_[0]->close, 'close 1000') },
    ],
    'an EventSource' => [
        sub { my $client = Ws::Client->connect(port => $_[0]); $client->send(request_text('GET', '/enter?id=e', Accept => 'text/event-stream')); $client },
        sub { my ($client) = @_; $client->wait_until(sub { $client->{in} =~ m{^HTTP/1\.1 200 } }, 'a stream'); $client->abandon },
    ],
    'a long-poll' => [
        sub { my $client = Ws::Client->connect(port => $_[0]); $client->send(request_text('GET', '/enter?id=f')); $client },
        sub { $_[0]->abandon },
    ],
    'somebody who leaves' => [
        sub { my $client = Ws::Client->open($_[0], '/leave?id=g'); $client->reset; $client },
        sub { },
    ],
);
my $count = keys %waiting;

sub begin { my ($port) = @_; return map { $waiting{$_}[0]->($port) } sort keys %waiting }

# all_asked(): the hooks of all of them.
sub all_asked { return map { asked($app) } 1 .. $count }

for my $how (qw(reload QUIT)) {
    case "worker_shutdown_timeout, $how" => sub {
        my $ngx = Ws::Nginx->start(%common, main => 'worker_shutdown_timeout 1s;');
        my @clients = begin($ngx->port);
        my @asked = all_asked();
        my ($worker) = $ngx->workers;
        my $begun = time;
        $how eq 'reload' ? $ngx->reload : $ngx->signal('QUIT');
        await('the worker to leave', sub { !-e "/proc/$worker" || !grep { $_ == $worker } $ngx->old_workers }) if $how eq 'reload';
        is($_->{connection}->rest, '', 'a hook is given up') for @asked;
        for my $client (@clients) {
            $client->wait_until(sub { $client->{end} }, 'the end of a client') if !$client->{closed};
        }
        if ($how eq 'reload') {
            cmp_ok(time - $begun, '<', 9, 'in time');
            $ngx->stop;
        } else {
            $ngx->stop('gone');
            cmp_ok(time - $begun, '<', 9, 'in time');
        }
    };
}

case 'without worker_shutdown_timeout they are waited for' => sub {
    my $ngx = Ws::Nginx->start(%common);
    my @clients = begin($ngx->port);
    my @asked = all_asked();
    $ngx->reload;
    for my $asked (@asked) {
        answer($asked, $asked->{path} =~ /id=nested/ ? 403 : $asked->{method} eq 'POST' ? 304 : 204);
    }
    for my $who (sort keys %waiting) {
        $waiting{$who}[1]->(shift @clients);
    }
    # Those who were let in leave no hook behind.
    await('the old worker to leave', sub { !$ngx->old_workers });
    $ngx->stop;
};

case 'a stop' => sub {
    my $ngx = Ws::Nginx->start(%common);
    my @clients = begin($ngx->port);
    my @asked = all_asked();
    my $begun = time;
    $ngx->stop;
    cmp_ok(time - $begun, '<', 9, 'in time');
    is($_->{connection}->rest, '', 'a hook is given up') for @asked;
};

case 'who is asked after the time is over' => sub {
    my $ngx = Ws::Nginx->start(%common, main => 'worker_shutdown_timeout 1s;');
    my @clients = map { Ws::Client->open($ngx->port, "/leave?id=g$_") } 1 .. 5;
    $ngx->reload;
    my @asked = map { asked($app) } 1 .. 5;
    is(scalar @asked, 5, 'those who are ended leave');
    answer($_, 204) for @asked;
    await('the old worker to leave', sub { !$ngx->old_workers });
    # Under valgrind the second of `worker_shutdown_timeout` may be over before they have been asked.
    unlike($ngx->log, qr/given up/) if !under_valgrind();
    $ngx->stop;
};

done_testing();
