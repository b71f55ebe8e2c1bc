# websocket_status: who was refused and why, who subscribes, how long it took to open and how long it was open.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use JSON::PP;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http qw(request publish events);

my $HOOKS = nginx_has('--with-http_auth_request_module');
my $ngx = Ws::Nginx->start(workers => 2, http => 'limit_conn_zone $server_name zone=all:1m;', server => <<'EOS');
    location = /json       { websocket_status; }
    location = /prometheus { websocket_status prometheus; }
    location = /cat        { websocket_exec /bin/cat; }
    location = /slow       { websocket_exec /bin/sleep 1; websocket_exec_env A=1; }
    location = /missing    { websocket_exec /nonexistent; error_page 500 /page; }
    location = /full       { websocket_exec /bin/cat; websocket_exec_max 1; }
    location = /closed     { websocket_exec /bin/cat; deny all; }
    location = /limited    { websocket_exec /bin/cat; limit_conn all 1; limit_conn_status 429; }
    location = /returned   { return 410; websocket_exec /bin/cat; }
    location = /nobody     { websocket_tcp 127.0.0.1:1; error_page 502 =200 /page; }
    location = /told       { websocket_exec /nonexistent; websocket_refuse_with_close 500=1011; }
    location = /sub        { websocket_channel $arg_id; websocket_channel_create off; websocket_channel_transports websocket eventsource longpoll; }
    location = /poll       { websocket_channel a; websocket_channel_transports poll; }
    location = /pub        { websocket_channel $arg_id mode=pub; }
    location = /hooked     { websocket_channel h mode=pubsub; websocket_channel_publish_request /no; websocket_channel_join_request /no; }
    location = /no         { internal; return 422; }
    location = /idle       { websocket_channel idle; websocket_idle_timeout 100ms; }
    location = /page       { return 200 page; }
    location = /other      { return 404; }
EOS

sub get { return Ws::Client->connect(port => $ngx->port)->handshake($_[0], headers => [@_[1 .. $#_]])->{status} }

sub figures {
    my ($location) = @_;

    my $status = decode_json(request($ngx->port, 'GET', '/json')->{body});
    my ($found) = grep { $_->{location} eq $location } @{$status->{locations}};
    return $found // die "no $location\n";
}

sub refused { return figures($_[0])->{refused} }

# counts(location, what => number, name): soon; the one worker may answer before the other one has counted.
sub counts {
    my ($location, $expected, $name) = @_;

    my $got;
    eval { await('figures', sub { $got = refused($location); return join(' ', map { "$_ $got->{$_}" } sort keys %$got) eq join(' ', map { "$_ $expected->{$_}" } sort keys %$expected) }) };
    return is_deeply($got, $expected, $name);
}

case 'by this module' => sub {
    is(get('/cat', Origin => 'http://evil.example'), 403);
    is(get('/cat', Origin => 'http://evil.example'), 403);
    is(get('/cat', 'Sec-WebSocket-Version' => 8), 426);
    is(get('/cat', 'Sec-WebSocket-Key' => 'x'), 400);
    counts('/cat', { '403 origin' => 2, '426 request' => 1, '400 request' => 1 }, 'handshakes');
    is(get('/missing'), 500);
    counts('/missing', { '500 failed' => 1 }, 'with an error page of another location');
    is(get('/nobody'), 200);
    counts('/nobody', { '502 unreachable' => 1 }, 'and of another status');
    is(Ws::Client->open($ngx->port, '/told')->server_close, 'close 1011 internal error');
    counts('/told', { '500 failed' => 1 }, 'told by a Close');
    my $one = Ws::Client->open($ngx->port, '/full');
    is(get('/full'), 503);
    counts('/full', { '503 limit' => 1 }, 'a limit');
    $one->close(1000);
};

case 'by others, before' => sub {
    is(get('/closed'), 403);
    counts('/closed', { '403 nginx' => 1 }, 'a rule for access');
    my $one = Ws::Client->open($ngx->port, '/limited');
    is(get('/limited'), 429);
    counts('/limited', { '429 nginx' => 1 }, 'a limit');
    $one->close(1000);
    is(get('/returned'), 410);
    counts('/returned', { '410 nginx' => 1 }, 'return');
    is(get('/other'), 404, 'a location without an endpoint counts nothing');
};

case 'channels' => sub {
    is(get('/sub?id=none'), 403, 'a channel that is not there');
    is(get('/sub?id='), 404, 'no id');
    is(request($ngx->port, 'GET', '/sub?id=none', Origin => 'http://evil.example')->{status}, 403, 'an origin');
    is(request($ngx->port, 'POST', '/sub?id=none', body => 'x')->{status}, 405, 'a method');
    counts('/sub', { '403 denied' => 1, '404 missing' => 1, '403 origin' => 1, '405 request' => 1 });
    is(request($ngx->port, 'POST', '/hooked', body => 'x')->{status}, 422, 'a hook that refuses a message');
    is(get('/hooked'), 422, 'and one that refuses a subscriber');
    await('both to be counted', sub { (refused('/hooked')->{'4xx other'} // 0) == 2 });
    is(request($ngx->port, 'GET', '/idle')->{status}, 408);
    counts('/idle', {}, 'a long-poll that has waited is not refused');
};

case 'subscribers' => sub {
    publish($ngx->port, '/pub?id=a', 'x');
    my @open = (Ws::Client->open($ngx->port, '/sub?id=a'), Ws::Client->open($ngx->port, '/pub?id=a'));
    my $stream = events($ngx->port, '/sub?id=a');
    my $counts = sub { join ' ', map { my $now = figures($_); "$now->{connections}{current}/$now->{subscribers}" } '/sub', '/pub', '/cat' };
    ok(await('figures', sub { $counts->() eq '2/2 1/0 0/0' }), 'those who publish are none');
    is(request($ngx->port, 'GET', '/poll')->{status}, 304);
    is(figures('/poll')->{connections}{total}, 1, 'a poll is a connection');
    is(figures('/poll')->{subscribers}, 0);
    $_->close(1000) for @open;
    $stream->{client}->abandon;
    ok(await('them to go', sub { $counts->() eq '0/0 0/0 0/0' }), 'when they have gone');
};

case 'times' => sub {
    my $slow = Ws::Client->open($ngx->port, '/slow');
    my $now = figures('/slow');
    is($now->{start}{count}, 1, 'opened');
    is($now->{duration}{count}, 0, 'and still open');
    is($slow->server_close, 'close 1000');
    await('its end to be counted', sub { figures('/slow')->{duration}{count} });
    my $times = figures('/slow')->{duration};
    is($times->{at_most}{100}, 0, 'longer than a tenth of a second');
    is($times->{at_most}{86400000}, 1, 'and less than a day');
    cmp_ok($times->{milliseconds}, '>=', 900, 'the sum');
    my $text = request($ngx->port, 'GET', '/prometheus')->{body};
    for my $line ('session_seconds_bucket{endpoint="exec",server="localhost",location="/slow",le="+Inf"} 1',
        'session_seconds_count{endpoint="exec",server="localhost",location="/slow"} 1',
        'refused_total{endpoint="exec",server="localhost",location="/cat",status="403",reason="origin"} 2',
        'subscribers{endpoint="channel",server="localhost",location="/sub"} 0') {
        ok(index($text, "nginx_websocket_$line\n") >= 0, $line) or diag($text);
    }
    my $promtool = 'target/prometheus/usr/bin/promtool';
    if (-x $promtool) {
        my $file = $ngx->file('metrics', $text);
        is(`$promtool check metrics <$file 2>&1`, '', 'promtool has nothing to say');
    }
};

case 'a reload' => sub {
    my $before = refused('/cat');
    $ngx->reload;
    await('the old workers to leave', sub { !$ngx->old_workers });
    is_deeply(refused('/cat'), $before, 'takes nothing away');
    is(get('/cat', Origin => 'http://evil.example'), 403);
    is(refused('/cat')->{'403 origin'}, 3, 'and it goes on');
};

$ngx->stop;

done_testing();
