# Channels in subrequests: SSI, auth_request, mirror, post_action and hooks poll, publish, inform and delete.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;

my $ngx = Ws::Nginx->new(workers => 2, server => <<'SERVER');
    client_body_buffer_size 1k;
    websocket_close_timeout 500ms;
    location = /pub      { websocket_channel $arg_id mode=pub; }
    location = /pubsub   { websocket_channel $arg_id mode=pubsub; }
    location = /info     { websocket_channel $arg_id mode=info; }
    location = /sub      { websocket_channel $arg_id $arg_other; websocket_channel_split ,; }
    location = /present  { websocket_channel $arg_id; websocket_channel_presence $arg_name; }
    location = /start    { websocket_channel $arg_id; websocket_channel_start oldest; }
    location = /one      { websocket_channel $arg_id; }
    location = /poll     { websocket_channel $arg_id; websocket_channel_transports poll; }
    location = /events   { websocket_channel $arg_id; websocket_channel_transports websocket eventsource; }
    location = /cat      { websocket_exec /bin/cat; }
    location = /shared   { websocket_exec /bin/cat; websocket_channel $arg_id; }
    location = /group    { websocket_channel_group_info; }
    location = /joined   {
        websocket_channel $arg_id;
        websocket_channel_join_request /ask;
        websocket_channel_leave_request /ask;
    }
    location = /ask      { return 204; }
    location = /asking   { websocket_channel $arg_id mode=pub; websocket_channel_publish_request /ask200; }
    location = /ask200   { return 202; }

    location ~ ^/sub/(?<id>.+)  { websocket_channel $id; }
    location ~ ^/pub/(?<id>.+)  { websocket_channel $id mode=pub; }
    location ~ ^/info/(?<id>.+) { websocket_channel $id mode=info; }

    location /pages/     { root %%PREFIX%%/html; ssi on; ssi_types *; }

    location = /by-sub   { auth_request /sub/auth; root %%PREFIX%%/html; try_files /plain.txt =404; }
    location = /by-info  { auth_request /info/auth; root %%PREFIX%%/html; try_files /plain.txt =404; }
    location = /by-ws    { auth_request /info/auth; websocket_exec /bin/cat; }

    location = /mirrored { mirror /pub/mirror; proxy_pass http://127.0.0.1:%%PORT%%/nothing; }
    location = /bodiless { mirror /pub/bodiless; mirror_request_body off; proxy_pass http://127.0.0.1:%%PORT%%/nothing; }
    location = /nothing  { return 200 ok; }
    location = /after    { post_action /pub/after; proxy_pass http://127.0.0.1:%%PORT%%/nothing; }
    location = /after-sub { post_action /sub/after; proxy_pass http://127.0.0.1:%%PORT%%/nothing; }

    location = /admitted { websocket_channel $arg_id; websocket_channel_join_request /info?id=admits; }
    location = /hooked   { websocket_channel $arg_id mode=pub; websocket_channel_publish_request /pub?id=copy; }
SERVER

my %page = (
    newest   => '<!--#include virtual="/one?id=ssi" -->',
    oldest   => '<!--#include virtual="/start?id=ssi" -->',
    poll     => '<!--#include virtual="/poll?id=ssi" -->',
    after    => '<!--#include virtual="/one?id=ssi&last_event_id=$arg_after" -->',
    none     => '<!--#include virtual="/one?id=never" -->',
    empty    => '<!--#include virtual="/one?id=empty" -->',
    both     => '<!--#include virtual="/sub?id=ssi,ssi&other=ssi2" -->',
    info     => '<!--#include virtual="/info?id=ssi" -->',
    presence => '<!--#include virtual="/info?id=present&presence" -->',
    group    => '<!--#include virtual="/group" -->',
    events   => '<!--#include virtual="/events?id=ssi" -->',
    cat      => '<!--#include virtual="/cat" -->',
    shared   => '<!--#include virtual="/shared?id=sh" -->',
    joined   => '<!--#include virtual="/joined?id=ssi" -->',
    large    => '<!--#include virtual="/one?id=large" -->',
    many     => join('', map { "<!--#include virtual=\"/one?id=m$_\" -->" } 1 .. 40),
);
mkdir "$ngx->{prefix}/html/pages";
for my $name (keys %page) {
    open my $out, '>', "$ngx->{prefix}/html/pages/$name.txt" or die "page: $!\n";
    print $out "[$page{$name}]";
    close $out;
}
open my $plain, '>', "$ngx->{prefix}/html/plain.txt" or die "page: $!\n";
print $plain 'plain';
close $plain;
$ngx->start;
my $port = $ngx->port;

sub page { my ($name, @headers) = @_; return request($port, 'GET', "/pages/$name.txt", @headers) }

sub newest {
    my ($id) = @_;

    my $response = request($port, 'GET', "/start?id=$id");
    return $response->{body};
}

sub last_id { my ($id) = @_; return request($port, 'GET', "/info?id=$id", Accept => 'text/json')->{body} =~ /"(\d+:\d+)"/ ? $1 : '' }

case 'SSI includes messages' => sub {
    publish($port, '/pub?id=ssi', $_) for qw(first second third);
    publish($port, '/pub?id=ssi2', 'other');
    publish($port, '/pub?id=empty', '');
    my ($epoch) = last_id('ssi') =~ /^(\d+):3$/ or die "no id\n";
    is(page('newest')->{body}, '[third]', 'the newest one without a position');
    is(page('oldest')->{body}, '[first]', 'or where the location begins');
    is(page('poll')->{body}, '[third]');
    is(request($port, 'GET', "/pages/after.txt?after=$epoch:1")->{body}, '[second]', 'the one after a position');
    is(request($port, 'GET', "/pages/after.txt?after=$epoch:3")->{body}, '[]', 'nothing after it');
    is(page('none')->{body}, '[]');
    is(page('empty')->{body}, '[]', 'a message of no octets');
    is(page('both')->{body}, '[other]', 'the newest of several channels');
    is(page('newest', 'Last-Event-ID' => "$epoch:3")->{body}, '[third]', 'headers are those of the page');
    is(page('newest', 'If-None-Match' => "\"$epoch:3\"")->{body}, '[third]');
    is(page('newest', Accept => 'text/event-stream')->{body}, '[third]');
    is(page('newest', Origin => 'https://evil.example')->{body}, '[third]');
    my $page = page('newest');
    is($page->{status}, 200);
    ok(!$page->{headers}{$_}, "no $_ of a message in the page") for qw(etag vary access-control-allow-origin);
    is(page('joined')->{body}, '[third]', 'after a hook was asked');
};

case 'SSI includes large messages, and many' => sub {
    my $large = join '', map { chr(33 + $_ % 90) } 1 .. 300_000;
    publish($port, '/pub?id=large', $large);
    ok(page('large')->{body} eq "[$large]", '300 kB');
    publish($port, "/pub?id=m$_", "<$_>") for 1 .. 40;
    is(page('many')->{body}, '[' . join('', map { "<$_>" } 1 .. 40) . ']');
    my $client = Ws::Client->connect(port => $port);
    for (1 .. 3) {
        $client->send(request_text('GET', '/pages/newest.txt'));
        my $response = $client->response;
        Ws::Http::dechunk($response);
        is($response->{body}, '[third]', 'the connection goes on');
    }
};

case 'SSI includes what is known' => sub {
    like(page('info')->{body}, qr/^\[queued messages: 3\r\n.*last message id: \d+:3\]$/s);
    my $here = Ws::Client->open($port, '/present?id=present&name=alice');
    like(page('presence')->{body}, qr/alice/);
    like(page('group')->{body}, qr/channels/);
    like(page('group', Origin => 'https://evil.example')->{body}, qr/channels/);
};

case 'what needs the connection says so' => sub {
    like(page('cat')->{body}, qr/500/);
    $ngx->await_log(qr{"websocket_exec" needs the connection of a client, which the subrequest "/cat" cannot give it});
    like(page('events')->{body}, qr/406/);
    $ngx->await_log(qr/a subrequest cannot wait for messages, and "websocket_channel_transports" offers neither/);
    is(page('newest')->{status}, 200);
};

case 'auth_request' => sub {
    is(request($port, 'GET', '/by-sub')->{body}, 'plain', 'nothing is there: 204');
    publish($port, '/pub?id=auth', 'x');
    is(request($port, 'GET', '/by-sub')->{body}, 'plain', 'a message: 200');
    is(request($port, 'GET', '/by-info')->{body}, 'plain');
    is(request($port, 'POST', '/by-info', body => 'x' x 5000)->{status}, 405, 'of the static file');
    like(request($port, 'GET', '/info?id=auth')->{body}, qr/messages: 1\r/, 'a POST is not published by its auth_request');
    my $client = Ws::Client->open($port, '/by-ws');
    $client->send(text('hello'));
    is($client->text, 'hello', 'before a handshake');
    is($client->close(1000), 'close 1000');
};

case 'mirror' => sub {
    my $here = Ws::Client->open($port, '/one?id=mirror');
    is(request($port, 'POST', '/mirrored', body => 'copied')->{body}, 'ok');
    is($here->text, 'copied');
    my $large = 'y' x 50_000;
    is(request($port, 'PUT', '/mirrored', body => $large)->{body}, 'ok', 'a body in a file');
    ok($here->text eq $large);
    is(request($port, 'POST', '/mirrored', Origin => 'https://evil.example', body => 'third')->{body}, 'ok');
    is($here->text, 'third');
    is(request($port, 'GET', '/mirrored')->{body}, 'ok');
    like(request($port, 'GET', '/info?id=mirror')->{body}, qr/messages: 3\r/, 'a GET publishes nothing');
    is(request($port, 'DELETE', '/mirrored')->{body}, 'ok');
    is($here->server_close, "close 1001 channel deleted", "DELETE deletes");
    is(request($port, 'POST', '/bodiless', body => 'unread')->{body}, 'ok');
    $ngx->await_log(qr/nothing is published: the body of the request was passed on, dropped or never read/);
    is(request($port, 'GET', '/info?id=bodiless')->{status}, 404);
};

case 'post_action' => sub {
    my $here = Ws::Client->open($port, '/one?id=after');
    is(request($port, 'POST', '/after', body => 'done')->{body}, 'ok');
    is($here->text, 'done');
    is(request($port, 'GET', '/after-sub')->{body}, 'ok', 'it does not wait for a message');
    await('the connection to be logged', sub { $ngx->access_log =~ m{GET /after-sub} });
};

case 'a hook that publishes' => sub {
    my $copies = Ws::Client->open($port, '/one?id=copy');
    my $here = Ws::Client->open($port, '/one?id=hooked');
    my $response = request($port, 'POST', '/hooked?id=hooked', body => 'moderated');
    is($copies->text, 'moderated');
    is($response->{status}, 403, 'a 201 does not let the message pass');
    is(request($port, 'GET', '/admitted?id=hooked&last_event_id=x')->{status}, 404, 'a hook that asks for what is not there');
    publish($port, '/pub?id=admits', 'x');
    is(Ws::Client->open($port, '/admitted?id=hooked')->close(1000), 'close 1000', 'and for what is there');
};

case 'everything is let go' => sub {
    for my $id (qw(ssi ssi2 large copy)) {
        like(request($port, 'GET', "/info?id=$id")->{body}, qr/active subscribers: 0\r/, "nobody is left on $id");
    }
};

$ngx->stop;
done_testing();
