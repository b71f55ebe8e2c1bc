# Events: a channel that is told who joins and leaves, and what is published and deleted.

use strict;
use warnings;

use lib 't/lib';
use JSON::PP;
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Hook;
use Ws::Service;

my $app = Ws::Service->listen;
my $SERVER = <<'SERVER';
    websocket_channel_group $arg_group;
    websocket_channel_history length=1000;
    location = /sub   { websocket_channel $arg_id; websocket_channel_events watch; websocket_channel_presence $arg_me; }
    location = /pub   { websocket_channel $arg_id mode=pub; websocket_channel_events watch; websocket_channel_presence $arg_me; }
    location = /both  { websocket_channel $arg_a $arg_b mode=pubsub; websocket_channel_events watch; }
    location = /watch { websocket_channel watch; websocket_channel_start oldest; }
    location = /info  { websocket_channel $arg_id mode=pub; }
    location = /self  { websocket_channel watch mode=pubsub; websocket_channel_events watch; }
    location = /full  { websocket_channel $arg_id; websocket_channel_events watch; websocket_channel_max_subscribers 1; }
    location = /named { websocket_channel $arg_id; websocket_channel_events $arg_watch; }
    location = /quiet { websocket_channel $arg_id mode=pubsub; websocket_channel_events off; }
    location = /ask   { websocket_channel $arg_id; websocket_channel_events watch;
                        websocket_channel_join_request /app; websocket_channel_leave_request /app; }
    location = /app   { proxy_pass http://%%APP%%; }
    location = /grace { websocket_channel $arg_id; websocket_channel_events watch grace=5s; websocket_channel_presence $arg_me; }
    location = /long  { websocket_channel $arg_id; websocket_channel_events watch leave join grace=50m; websocket_channel_presence $arg_me; }
    location = /audit { websocket_channel $arg_id; websocket_channel_events audit grace=50m; websocket_channel_presence $arg_me; }
    location = /audits { websocket_channel audit; }
    location = /zero  { websocket_channel $arg_id; websocket_channel_events watch; websocket_channel_presence $arg_me; }
    location = /comes { websocket_channel $arg_id; websocket_channel_events watch join; websocket_channel_presence $arg_me; }
    location = /deletes { websocket_channel $arg_id; websocket_channel_events watch delete; websocket_channel_presence $arg_me; }
    location = /said  { websocket_channel $arg_id mode=pub; websocket_channel_events watch delete; }
    websocket_channel_events all;
    location = /inherits { websocket_channel $arg_id; }
    location = /all      { websocket_channel all; }
SERVER
$SERVER =~ s/%%APP%%/$app->address/e;

my %common = (workers => 2, http => 'websocket_channel_zone 8m;', server => $SERVER);
my $ngx = Ws::Nginx->start(%common);
my $port = $ngx->port;

# event(watcher): the next event, in short; its time must be about now.
sub event {
    my ($watcher) = @_;

    my $event = decode_json($watcher->text);
    my $time = delete $event->{time};
    cmp_ok(abs(time - $time), '<', 60, 'a time') if !$time || abs(time - $time) >= 60;
    return join ' ', map { "$_=$event->{$_}" } sort keys %$event;
}

sub silent {
    my ($watcher, $port, $group) = @_;

    # The next thing that it hears of is this.
    request($port, 'POST', "/pub?group=$group&id=marker", body => 'x');
    return like(event($watcher), qr/^channel=marker event=publish/, 'nothing else');
}

case 'join, publish, leave, delete' => sub {
    my $watcher = Ws::Client->open($port, '/watch?group=a');
    my $client = Ws::Client->open($port, '/sub?group=a&id=room&me=ann');
    is(event($watcher), 'channel=room event=join who=ann');
    my ($id) = publish($port, '/pub?group=a&id=room&me=bob', 'm')->{body} =~ /id: (\d+:\d+)/;
    is(event($watcher), "channel=room event=publish message_id=$id who=bob");
    my $publisher = Ws::Client->open($port, '/pub?group=a&id=room');
    $publisher->send(text('n'));
    ($id) = $publisher->text =~ /id: (\d+:\d+)/;
    is(event($watcher), "channel=room event=publish message_id=$id");
    is($publisher->close, 'close 1000');
    is($client->text, $_) for qw(m n);
    is($client->close, 'close 1000');
    is(event($watcher), 'channel=room event=leave who=ann');
    $client = Ws::Client->open($port, '/sub?group=a&id=room&me=ann');
    is(event($watcher), 'channel=room event=join who=ann');
    is(request($port, 'DELETE', '/pub?group=a&id=room')->{status}, 200);
    # The worker that has the subscriber may have told of it before the one that was asked tells of the channel.
    my @events = sort map { event($watcher) } 1, 2;
    is($events[0], 'channel=room event=delete');
    is($events[1], 'channel=room event=leave who=ann', 'a deleted channel has no subscribers');
    is(request($port, 'DELETE', '/pub?group=a&id=room')->{status}, 404);
    $client->reset;
    silent($watcher, $port, 'a');
    publish($port, '/pub?group=other&id=room', 'm');
    silent($watcher, $port, 'a');
    $watcher->abandon;
};

case 'the other transports' => sub {
    my $watcher = Ws::Client->open($port, '/watch?group=b');
    my $stream = events($port, '/sub?group=b&id=x&me=sse');
    is(event($watcher), 'channel=x event=join who=sse');
    $stream->{client}->reset;
    is(event($watcher), 'channel=x event=leave who=sse');
    my $poll = Ws::Client->connect(port => $port);
    $poll->send(request_text('GET', '/sub?group=b&id=x&me=poll'));
    is(event($watcher), 'channel=x event=join who=poll');
    publish($port, '/info?group=b&id=x', 'm');
    is($poll->response->{status}, 200);
    is(event($watcher), 'channel=x event=leave who=poll');
    silent($watcher, $port, 'b');
    $watcher->abandon;
};

case 'several channels, and names that JSON escapes' => sub {
    my $watcher = Ws::Client->open($port, '/watch?group=c');
    my $client = Ws::Client->open($port, '/both?group=c&a=1&b=2');
    is(event($watcher), "channel=$_ event=join") for 1, 2;
    $client->send(text('x'));
    # Behind the channels may be engines, of which any may answer first.
    my @published = sort map { event($watcher) } 1, 2;
    like($published[$_ - 1], qr/^channel=$_ event=publish message_id=\d+:1$/) for 1, 2;
    $client->reset;
    is(event($watcher), "channel=$_ event=leave") for 1, 2;
    $client = Ws::Client->open($port, '/sub?group=c&id="\\&me="{}');
    is(event($watcher), 'channel="\\ event=join who="{}');
    $client->reset;
    is(event($watcher), 'channel="\\ event=leave who="{}');
    silent($watcher, $port, 'c');
    $watcher->abandon;
};

case 'no circles' => sub {
    my $watcher = Ws::Client->open($port, '/self?group=d');
    publish($port, '/self?group=d', 'by hand');
    is($watcher->text, 'by hand', 'what happens to the channel of events is no event');
    $watcher->send(text('again'));
    is($watcher->text, 'again');
    silent($watcher, $port, 'd');
    my $other = Ws::Client->open($port, '/quiet?group=d&id=q');
    $other->send(text('x'));
    is($other->text, 'x');
    silent($watcher, $port, 'd');
    my $all = Ws::Client->open($port, '/all?group=d');
    my $client = Ws::Client->open($port, '/inherits?group=d&id=i');
    is(event($all), 'channel=i event=join');
    my $unnamed = Ws::Client->open($port, '/named?group=d&id=i');
    is(request($port, 'GET', '/info?group=d&id=i', Accept => 'text/json')->{body} =~ /"subscribers": (\d+)/ ? $1 : -1, 2,
        'an empty id is no channel');
    $_->abandon for $client, $unnamed, $other;
    is(event($all), 'channel=i event=leave');
    $_->abandon for $all, $watcher;
};

case 'who does not get in makes no event' => sub {
    my $watcher = Ws::Client->open($port, '/watch?group=e');
    my $client = Ws::Client->open($port, '/full?group=e&id=full');
    is(event($watcher), 'channel=full event=join');
    is(Ws::Client->connect(port => $port)->handshake('/full?group=e&id=full')->{status}, 503);
    is(request($port, 'GET', '/full?group=e&id=full')->{status}, 503);
    silent($watcher, $port, 'e');
    my $refused = Ws::Client->connect(port => $port);
    $refused->send(upgrade('/ask?group=e&id=asked'));
    answer(asked($app), 403);
    is($refused->response->{status}, 403);
    silent($watcher, $port, 'e');
    my $gone = Ws::Client->connect(port => $port);
    $gone->send(upgrade('/ask?group=e&id=asked'));
    my $asked = asked($app);
    $gone->reset;
    $ngx->await_access_log(qr{/ask.* 499 });
    answer($asked, 200);
    answer(asked($app), 200);
    silent($watcher, $port, 'e');
    $_->abandon for $client, $watcher;
};

case 'as many leaves as joins, over both workers' => sub {
    my $watcher = Ws::Client->open($port, '/watch?group=f');
    my $count = 200;
    my @clients;
    for my $n (1 .. $count) {
        push @clients, $n % 3 ? Ws::Client->open($port, "/sub?group=f&id=many&me=$n")
            : events($port, "/sub?group=f&id=many&me=$n")->{client};
    }
    $_->reset for @clients;
    my (%joined, %left);
    for (1 .. 2 * $count) {
        my ($what, $who) = event($watcher) =~ /^channel=many event=(join|leave) who=(\d+)$/ or die "another event\n";
        my $seen = $what eq 'join' ? \%joined : \%left;
        $seen->{$who}++;
        die "$who left before it joined\n" if $what eq 'leave' && !$joined{$who};
    }
    is(scalar keys %$_, $count) for \%joined, \%left;
    silent($watcher, $port, 'f');
    $watcher->abandon;
};

case 'only what is chosen' => sub {
    my $watcher = Ws::Client->open($port, '/watch?group=k');
    my $client = Ws::Client->open($port, '/comes?group=k&id=x&me=ann');
    is(event($watcher), 'channel=x event=join who=ann');
    publish($port, '/said?group=k&id=x', 'm');
    is($client->text, 'm');
    is($client->close, 'close 1000');
    request($port, 'DELETE', '/said?group=k&id=x');
    is(event($watcher), 'channel=x event=delete', 'neither publish nor leave');
    silent($watcher, $port, 'k');
    $watcher->abandon;
};

case 'who comes back in time has never been away, at whichever worker' => sub {
    my $watcher = Ws::Client->open($port, '/watch?group=h');
    my $client = Ws::Client->open($port, '/long?group=h&id=x&me=ann');
    is(event($watcher), 'channel=x event=join who=ann');
    for my $n (1 .. 12) {
        $client->reset;
        await('nobody', sub { request($port, 'GET', '/info?group=h&id=x', Accept => 'text/json')->{body} =~ /"subscribers": 0/ });
        is(request($port, 'GET', '/info?group=h&id=x&presence')->{body}, '{"subscribers": 0, "present": []}', 'who is gone is not there')
            if $n == 1;
        $client = $n % 3 ? Ws::Client->open($port, '/long?group=h&id=x&me=ann') : events($port, '/long?group=h&id=x&me=ann')->{client};
    }
    my $other = Ws::Client->open($port, '/long?group=h&id=x&me=bob');
    is(event($watcher), 'channel=x event=join who=bob', 'somebody else is somebody else');
    my $elsewhere = Ws::Client->open($port, '/long?group=h&id=y&me=ann');
    is(event($watcher), 'channel=y event=join who=ann', 'and another channel is another one');
    my $second = Ws::Client->open($port, '/long?group=h&id=x&me=ann');
    is(event($watcher), 'channel=x event=join who=ann', 'one more of the name has come');
    my @unnamed = (Ws::Client->open($port, '/long?group=h&id=z'));
    is(event($watcher), 'channel=z event=join');
    $unnamed[0]->reset;
    is(event($watcher), 'channel=z event=leave', 'who has no name goes at once');
    silent($watcher, $port, 'h');
    $_->abandon for $client, $other, $elsewhere, $second, $watcher;
};

# nobody(group, id): the channel has no subscribers.
sub nobody {
    my ($group, $id) = @_;

    return await('nobody', sub { request($port, 'GET', "/info?group=$group&id=$id", Accept => 'text/json')->{body} !~ /"subscribers": [1-9]/ });
}

case 'a channel that is deleted and created again while somebody is away' => sub {
    my $watcher = Ws::Client->open($port, '/watch?group=l');
    my $client = Ws::Client->open($port, '/long?group=l&id=x&me=ann');
    is(event($watcher), 'channel=x event=join who=ann');
    $client->reset;
    nobody('l', 'x');
    request($port, 'DELETE', '/info?group=l&id=x');
    $client = Ws::Client->open($port, '/long?group=l&id=x&me=ann');
    silent($watcher, $port, 'l');
    # The same with a subscriber that the DELETE itself has disconnected.
    request($port, 'DELETE', '/info?group=l&id=x');
    is($client->server_close, 'close 1001 channel deleted');
    $client = Ws::Client->open($port, '/long?group=l&id=x&me=ann');
    silent($watcher, $port, 'l');
    $_->abandon for $client, $watcher;
};

case 'who comes back to a location without a grace time, or with another channel of events' => sub {
    my $watcher = Ws::Client->open($port, '/watch?group=m');
    my $auditor = Ws::Client->open($port, '/audits?group=m');
    my $client = Ws::Client->open($port, '/long?group=m&id=x&me=ann');
    is(event($watcher), 'channel=x event=join who=ann');
    $client->reset;
    nobody('m', 'x');
    $client = Ws::Client->open($port, '/audit?group=m&id=x&me=ann');
    is(event($auditor), 'channel=x event=join who=ann', 'whom it has not been told of');
    silent($watcher, $port, 'm');
    my $back = Ws::Client->open($port, '/zero?group=m&id=x&me=ann');
    silent($watcher, $port, 'm');
    $back->reset;
    is(event($watcher), 'channel=x event=leave who=ann', 'without grace at once');
    $_->abandon for $client, $auditor, $watcher;
};

case 'a location that tells neither who comes nor who goes does not end the wait' => sub {
    my $watcher = Ws::Client->open($port, '/watch?group=n');
    my $client = Ws::Client->open($port, '/grace?group=n&id=x&me=ann');
    is(event($watcher), 'channel=x event=join who=ann');
    $client->reset;
    nobody('n', 'x');
    my $other = Ws::Client->open($port, '/deletes?group=n&id=x&me=ann');
    is(event($watcher), 'channel=x event=leave who=ann');
    $_->abandon for $other, $watcher;
};

case 'who does not come back has left' => sub {
    my $watcher = Ws::Client->open($port, '/watch?group=i');
    my @clients = map { Ws::Client->open($port, "/grace?group=i&id=x&me=$_") } 1 .. 8;
    # Which of two workers is the first one to tell of its client is not said.
    is_deeply([sort map { event($watcher) } 1 .. 8], [map { "channel=x event=join who=$_" } 1 .. 8]);
    my $begin = time;
    $_->reset for @clients;
    # Who comes back to another worker before the first one has seen the end is there twice, and joins.
    nobody('i', 'x');
    my @back = map { Ws::Client->open($port, "/grace?group=i&id=x&me=$_") } 1 .. 4;
    is_deeply([sort map { event($watcher) } 5 .. 8], [map { "channel=x event=leave who=$_" } 5 .. 8]);
    cmp_ok(time - $begin, '>=', 2, 'not at once');
    my $late = Ws::Client->open($port, '/grace?group=i&id=x&me=5');
    is(event($watcher), 'channel=x event=join who=5', 'too late');
    silent($watcher, $port, 'i');
    $_->abandon for @back, $late, $watcher;
};

case 'a channel that is deleted, and a worker that goes, meanwhile' => sub {
    my $watcher = Ws::Client->open($port, '/watch?group=j');
    my $client = Ws::Client->open($port, '/grace?group=j&id=x&me=ann');
    is(event($watcher), 'channel=x event=join who=ann');
    $client->reset;
    await('nobody', sub { request($port, 'GET', '/info?group=j&id=x', Accept => 'text/json')->{body} =~ /"subscribers": 0/ });
    is(request($port, 'DELETE', '/info?group=j&id=x')->{status}, 200);
    is(event($watcher), 'channel=x event=leave who=ann', 'is told all the same');
    $client = Ws::Client->open($port, '/grace?group=j&id=y&me=bob');
    is(event($watcher), 'channel=y event=join who=bob');
    my $stays = Ws::Client->open($port, '/sub?group=j&id=y');
    is(event($watcher), 'channel=y event=join');
    $client->reset;
    $ngx->reload;
    is(event($watcher), 'channel=y event=leave who=bob', 'of a worker that was told to go');
    $_->abandon for $stays, $watcher;
    await('the old workers to leave', sub { !$ngx->old_workers });
};

case 'reload, and a worker that is stopped' => sub {
    my $watcher = Ws::Client->open($port, '/watch?group=g');
    my $client = Ws::Client->open($port, '/sub?group=g&id=x&me=old');
    is(event($watcher), 'channel=x event=join who=old');
    my @old = $ngx->workers;
    $ngx->reload;
    my $new = Ws::Client->open($port, '/sub?group=g&id=x&me=new');
    is(event($watcher), 'channel=x event=join who=new');
    $client->reset;
    is(event($watcher), 'channel=x event=leave who=old');
    $watcher->abandon;
    await('the old workers to leave', sub { !$ngx->old_workers });
    $watcher = Ws::Client->open($port, '/watch?group=g');
    event($watcher) for 1 .. 3;
    my $stream = events($port, '/sub?group=g&id=x&me=stream');
    is(event($watcher), 'channel=x event=join who=stream');
    # A worker that is told to stop leaves in order; the master starts another one.
    my @workers = $ngx->workers;
    kill 'TERM', @workers;
    await('others', sub { my %old = map { $_ => 1 } @workers; 2 == grep { !$old{$_} } $ngx->workers });
    $_->abandon for $watcher, $new, $stream->{client};
    $watcher = Ws::Client->open($port, '/watch?group=g');
    event($watcher) for 1 .. 4;
    is(join(', ', sort map { event($watcher) } 1, 2),
        'channel=x event=leave who=new, channel=x event=leave who=stream');
    silent($watcher, $port, 'g');
    $watcher->abandon;
};

$ngx->stop;

case 'wrong values' => sub {
    for my $row (
        ['websocket_channel_events "";', 'the id of a channel, or "off"'],
        ['websocket_channel_events a b;', '"join", "leave", "publish" or "delete"'],
        ['websocket_channel_events a join join;', 'each kind once'],
        ['websocket_channel_events join leave;', 'comes first'],
        ['websocket_channel_events a grace=x;', 'a time'],
        ['websocket_channel_events a grace=1s grace=2s;', 'one "grace="'],
        ['websocket_channel_events a publish grace=1s;', 'is for "join" and "leave"'],
        ['websocket_channel_events a grace=2h;', 'at most one hour'],
        ['websocket_channel_events off join;', '"off" stands alone'],
        ['websocket_channel_events;', 'number of arguments'],
        ['websocket_channel_events a; websocket_channel_events b;', 'is duplicate'],
        map { my $name = "websocket_channel_${_}_request";
            ["$name hook;", 'a URI that begins with "/", or "off"'], ["$name \"\";", 'a URI that begins'],
            ["$name \@named;", 'a URI that begins'], ["$name;", 'number of arguments'],
            ["$name /a; $name /b;", 'is duplicate'] } qw(publish join leave)
    ) {
        my ($line, $expected) = @$row;
        my ($status, $said) = Ws::Nginx->new(server => "location / { websocket_channel a; $line }")->check_config;
        is($status, 1, $line);
        like($said, qr/\Q$expected\E/);
    }
    for my $line ('websocket_channel_events off;', 'websocket_channel_join_request off;', 'websocket_channel_publish_request $arg_x;') {
        my ($status) = Ws::Nginx->new(server => "location / { websocket_channel a; $line }")->check_config;
        is($status, 0, $line);
    }
};

done_testing();
