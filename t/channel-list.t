# The channels of a group as a list: forms, prefixes, pages, over all workers.

use strict;
use warnings;

use lib 't/lib';
use JSON::PP qw(decode_json);
use Test::More;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Nginx;

my $ngx = Ws::Nginx->start(workers => 2, http => 'websocket_channel_zone 4m;', server => <<'SERVER');
    websocket_channel_group $arg_group;
    location = /sub   { websocket_channel $arg_id; }
    location = /pub   { websocket_channel $arg_id mode=pub; }
    location = /group { websocket_channel_group_info; }
SERVER
my $port = $ngx->port;

# list(query): the list, as JSON says it.
sub list {
    my ($query) = @_;

    my $got = request($port, 'GET', "/group?$query", Accept => 'application/json');
    is($got->{status}, 200);
    is($got->{headers}{'cache-control'}[0], 'no-store');
    return decode_json($got->{body});
}

sub ids { my ($query) = @_; return [sort map { $_->{id} } @{list($query)->{channels}}] }

case 'counts' => sub {
    my @clients = map { Ws::Client->open($port, '/sub?group=a&id=room/1') } 1 .. 6;
    publish($port, '/pub?group=a&id=room/1', $_) for 1 .. 3;
    my ($id) = publish($port, '/pub?group=a&id=room/2', 'x')->{body} =~ /id: (\d+:\d+)/;
    publish($port, '/pub?group=b&id=other', 'x');
    my $list = list('group=a&channels');
    is($list->{next}, undef);
    my %of = map { $_->{id} => $_ } @{$list->{channels}};
    is_deeply([sort keys %of], ['room/1', 'room/2']);
    is_deeply([@{$of{'room/1'}}{qw(messages subscribers requested)}], [3, 6, 0], 'of all workers');
    is_deeply($of{'room/2'}, { id => 'room/2', messages => 1, subscribers => 0, requested => -1, last_message_id => $id });
    is_deeply(ids('group=none&channels'), []);
    is_deeply(ids('group=b&channels=1'), ['other']);
    request($port, 'DELETE', '/pub?group=a&id=room/1');
    is_deeply(ids('group=a&channels'), ['room/2'], 'one that is deleted is none');
};

case 'every form' => sub {
    publish($port, '/pub?group=f&id=<x>"', 'x');
    like(request($port, 'GET', '/group?group=f&channels')->{body},
        qr/^channels: 1\r\n\r\nchannel: <x>"\r\nqueued messages: 1\r\nlast requested: -1 sec\. ago\r\nactive subscribers: 0\r\nlast message id: \d+:1\r\n$/);
    like(request($port, 'GET', '/group?group=f&channels', Accept => 'text/xml')->{body}, qr{<id>&lt;x&gt;"</id>\r\n    <messages>1</messages>});
    like(request($port, 'GET', '/group?group=f&channels', Accept => 'text/yaml')->{body}, qr/^---\r\nchannels:\r\n- id: "\\u003cx\\u003e\\""\r\n  messages: 1\r\n/);
    like(request($port, 'GET', '/group?group=f')->{body}, qr/^channels: 1\r\nsubscribers: 0/, 'without the argument it is the group');
    is(request($port, 'HEAD', '/group?group=f&channels')->{status}, 200);
};

case 'pages and prefixes' => sub {
    publish($port, "/pub?group=p&id=" . ($_ % 2 ? 'odd/' : 'even/') . $_, 'x') for 1 .. 60;
    for my $limit (1, 7, 60, 1000) {
        for my $prefix ('', 'odd/', 'odd%2F', 'none') {
            my (@got, $next);
            my $pages = 0;
            do {
                my $list = list("group=p&channels&limit=$limit&prefix=$prefix" . (defined $next ? "&cursor=$next" : ''));
                cmp_ok(scalar @{$list->{channels}}, '<=', $limit) if @{$list->{channels}} > $limit;
                push @got, map { $_->{id} } @{$list->{channels}};
                $next = $list->{next};
                die "no end of pages\n" if ++$pages > 100;
            } while (defined $next);
            my @expected = $prefix eq '' ? map { ($_ % 2 ? 'odd/' : 'even/') . $_ } 1 .. 60 : $prefix eq 'none' ? () : map { 'odd/' . (2 * $_ - 1) } 1 .. 30;
            is_deeply([sort @got], [sort @expected], "limit=$limit prefix=$prefix: each one once, in $pages pages");
        }
    }
    my $first = list('group=p&channels&limit=20');
    publish($port, "/pub?group=p&id=new/$_", 'x') for 1 .. 100;
    my %seen = map { $_->{id} => 1 } @{$first->{channels}};
    for (my $next = $first->{next}; defined $next;) {
        my $list = list("group=p&channels&limit=20&cursor=$next");
        $next = $list->{next};
        $seen{$_->{id}}++ for @{$list->{channels}};
    }
    is(scalar(grep { !/^new/ && $seen{$_} == 1 } keys %seen), 60, 'those that were there all the time come once, whatever else comes');
    is(list('group=p&channels')->{channels} && scalar @{list('group=p&channels')->{channels}}, 100, 'a page has 100 if nobody says more');
};

case 'wrong values, and pages of other origins' => sub {
    is(request($port, 'GET', "/group?group=p&channels&$_")->{status}, 400, $_) for qw(limit=0 limit=1001 limit=x limit= cursor=x cursor=1-2-3 cursor=-);
    is(request($port, 'GET', '/group?group=p&channels&cursor=ffffffff')->{status}, 200, 'a page behind the last one is empty');
    is(request($port, 'GET', '/group?group=p&channels', Origin => 'http://elsewhere.example')->{status}, 403);
};

$ngx->stop;

# A list of so large a zone is made in several turns, between which nothing but the list keeps the worker.
case 'lists that are being made when their worker is told to go' => sub {
    my $large = Ws::Nginx->start(workers => 1, http => 'websocket_channel_zone 256m;', server => <<'EOT');
    websocket_channel_group g;
    location = /pub   { websocket_channel a mode=pub; }
    location = /group { websocket_channel_group_info; }
EOT
    publish($large->port, '/pub', 'x');
    my $list = "GET /group?channels&prefix=b HTTP/1.1\r\nHost: localhost\r\n\r\n";
    my @clients = map { Ws::Client->connect(port => $large->port) } 1 .. 8;
    for my $client (@clients) {
        $client->send($list);
        is($client->response->{status}, 200, 'before');
    }
    # The worker hears of the requests and of the reload at once.
    my ($worker) = $large->workers;
    kill 'STOP', $worker;
    for my $client (@clients) {
        $client->send($list);
        $client->flush;
    }
    $large->signal('HUP');
    await('a new worker', sub { $large->workers == 2 });
    # nginx tells the old one a tenth of a second after it has started that.
    select undef, undef, undef, 0.5;
    kill 'CONT', $worker;
    is($_->response->{status}, 200, 'while the worker goes') for @clients;
    await('the old worker to leave', sub { !kill 0, $worker });
    $large->stop;
};

done_testing();
