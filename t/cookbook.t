# The applications of docs/cookbook.md: what their users can do, and what they cannot.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Cwd qw(abs_path);
use IO::Socket::INET;
use JSON::PP;
use MIME::Base64 qw(encode_base64);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http qw(request events);

my $conf = abs_path('conf');
plan skip_all => 'nginx has no auth_request' if !nginx_has('--with-http_auth_request_module');
plan skip_all => 'python3 is not installed' if system('python3 -c "" 2>/dev/null') != 0;

# child(command ...): a process of the test's own.
sub child {
    my (@command) = @_;

    defined(my $pid = fork) or die "fork: $!\n";
    if (!$pid) {
        open STDIN, '<', '/dev/null';
        exec @command or POSIX::_exit(127);
    }
    return $pid;
}

sub end {
    my ($pid) = @_;

    kill 'TERM', $pid;
    waitpid $pid, 0;
}

sub basic { return (Authorization => 'Basic ' . encode_base64("$_[0]:$_[1]", '')) }

case 'rooms' => sub {
    my $port = Ws::Nginx::free_port();
    my $application = child("$conf/rooms/app.py", $port);
    await('the application', sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) });
    my $ngx = Ws::Nginx->example('rooms', edit => sub { s/127\.0\.0\.1:8000/127.0.0.1:$port/ });
    $ngx->{workers} = 2;
    $ngx->start;
    my $ask = sub { my ($method, $path, @more) = @_; request($ngx->port, $method, $path, @more) };
    my $login = sub {
        my ($name, $password) = @_;
        my $answer = $ask->('POST', '/login', 'Content-Type' => 'application/x-www-form-urlencoded', body => "name=$name&password=$password");
        my ($cookie) = ($answer->{headers}{'set-cookie'}[0] // '') =~ /^(session=[^;]+); .*HttpOnly/;
        return $answer->{status} if $answer->{status} == 403;
        is($answer->{status}, 204, "$name logs in");
        return (Cookie => $cookie);
    };
    my $enter = sub { my ($path, @who) = @_; Ws::Client->open($ngx->port, $path, headers => [@who, Origin => 'http://localhost']) };

    is($login->('anna', 'wrong'), 403, 'a wrong password');
    my (@anna) = $login->('anna', 'apple');
    my (@bob) = $login->('bob', 'banana');
    my (@mona) = $login->('mona', 'melon');
    is(scalar @anna, 2, 'a session');

    is($enter->('/room/lobby')->server_close, 'close 4401 unauthorized', 'nobody: a page can see why');
    is($enter->('/room/lobby', Cookie => 'session=forged')->server_close, 'close 4401 unauthorized', 'a forged session');
    is($ask->('POST', '/room/lobby', body => 'hi')->{status}, 401, 'nor can they publish');
    my ($anna, $bob) = ($enter->('/room/lobby', @anna), $enter->('/room/lobby', @bob));
    $anna->send(text('Good day'));
    for my $client ($anna, $bob) {
        my $said = decode_json($client->text);
        is_deeply([@$said{qw(user text)}], ['anna', 'Good day'], 'with the name of the session');
    }
    $anna->send(text('{"user": "mona", "text": "I am the moderator"}'));
    is(decode_json($_->text)->{user}, 'anna', 'a name that is claimed is text') for $anna, $bob;
    is($ask->('POST', '/room/lobby', @bob, 'X-User' => 'mona', body => 'X')->{status}, 201);
    is(decode_json($_->text)->{user}, 'bob', 'and so is one in a header') for $anna, $bob;
    is($ask->('POST', '/room/lobby', @bob, body => 'buy spam')->{status}, 403, 'what may not be said');
    is($ask->('POST', '/room/lobby', @bob, body => '  ')->{status}, 204, 'nothing');
    is($ask->('POST', '/room/LOBBY', @bob, body => 'x')->{status}, 404, 'no room');
    is($ask->('POST', '/moderate', @bob, body => 'x')->{status}, 404, 'the hook is not for clients');

    my $who = decode_json($ask->('GET', '/room/lobby/who?presence', @bob)->{body});
    is(join(' ', map { $_->{id} } @{$who->{present}}), 'anna bob', 'who is there');
    is($ask->('GET', '/room/lobby/who?presence')->{status}, 401);
    is($ask->('DELETE', '/room/lobby', @bob)->{status}, 405, 'who may enter may not close');
    is($ask->('DELETE', '/moderator/room/lobby', @bob)->{status}, 403, 'nor by the moderators\' way');
    is($ask->('DELETE', '/moderator/room/lobby')->{status}, 401);
    is($ask->('DELETE', '/moderator/room/lobby', @mona)->{status}, 200, 'a moderator may');
    is($_->server_close, 'close 1001 channel deleted', 'and the room is empty') for $anna, $bob;
    is($ask->('DELETE', '/login', @anna)->{status}, 204, 'logged out');
    is($ask->('POST', '/room/lobby', @anna, body => 'hi')->{status}, 401, 'the session is over');
    $ngx->{grace} = 20;
    end($application);
    $ngx->stop;
};

case 'tokens' => sub {
    my $ngx = Ws::Nginx->example('tokens');
    $ngx->{workers} = 2;
    $ngx->start;
    my $open = sub { my (@who) = @_; Ws::Client->open($ngx->port, '/answer', headers => [@who, Origin => 'http://localhost']) };
    my $answer = sub {
        my ($client) = @_;
        my @tokens;
        while (1) {
            my $message = decode_json($client->text);
            return ($message, @tokens) if $message->{end};
            push @tokens, $message->{token};
        }
    };
    is(Ws::Client->connect(port => $ngx->port)->handshake('/answer')->{status}, 401, 'nobody');
    my @anna = basic('anna', 'apple');
    my $client = $open->(@anna);
    $client->send(text('{"prompt": "one two three"}'));
    my ($end, @tokens) = $answer->($client);
    is(join('', @tokens), 'You have said: one two three ', 'a token is a message');
    is_deeply($end, { end => 'complete', tokens => 6 });

    $client->send(text('{"prompt": "' . 'word ' x 500 . '"}'));
    $client->text for 1 .. 3;
    $client->send(text('{"cancel": true}'));
    ($end) = $answer->($client);
    is($end->{end}, 'cancelled', 'an answer is cancelled');
    cmp_ok($end->{tokens}, '<', 400, 'in the middle');
    $client->send(text('{"prompt": "again"}'));
    is(($answer->($client))[0]{end}, 'complete', 'and the next one comes');

    my $second = $open->(@anna);
    is($open->(@anna)->server_close, 'close 4429 too many requests', 'a third one of the same user');
    my $bob = $open->(basic('bob', 'banana'));
    $bob->send(text('{"prompt": "hi"}'));
    is(($answer->($bob))[0]{tokens}, 4, 'but not of another one');

    $second->send(text('{"prompt": "' . 'word ' x 500 . '"}'));
    $second->text;
    $second->abandon;
    $ngx->await_programs(2);
    pass('nothing is computed for who has gone');
    is($_->close(1000), 'close 1000') for $client, $bob;
    my %used;
    await('the log', sub {
        my @lines = map { decode_json($_) } split /\n/, $ngx->read_file('usage.log');
        %used = map { ("$_->{user} $_->{close}" => $_) } @lines;
        return $used{'anna 1000'} && $used{'bob 1000'} && $used{'anna 1006'};
    });
    is($used{'bob 1000'}{messages}, 5, 'what was used');
    is($used{'bob 1000'}{prompts}, 1);
    $ngx->stop;
};

case 'fleet' => sub {
    my $ngx = Ws::Nginx->example('fleet');
    $ngx->{workers} = 2;
    $ngx->start;
    my $ask = sub { my ($method, $path, @more) = @_; request($ngx->port, $method, $path, @more) };
    my @op = basic('op', 'sesame');
    my @lamp = ('X-Device-Key' => 'lamp-key');
    is($ask->('GET', '/device/commands', 'X-Device-Key' => 'guess')->{status}, 401, 'an unknown device');
    is($ask->('POST', '/command?device=lamp', body => 'x')->{status}, 401, 'an unknown operator');
    is($ask->('POST', '/command?device=lamp', @op, body => 'on')->{status}, 202, 'a command for a device that is away');
    my $lamp = Ws::Client->open($ngx->port, '/device/commands', headers => [@lamp, 'Sec-WebSocket-Protocol' => 'ws+meta.nchan']);
    like($lamp->text, qr/^id: (\S+)\n(?:.*\n)*\non$/, 'waits for it');
    is($ask->('POST', '/command?device=lamp', @op, body => 'off')->{status}, 201, 'one for a device that is there');
    my ($id) = $lamp->text =~ /^id: (\S+)\n/;
    is($ask->('POST', '/command?device=!events', @op, body => 'x')->{status}, 404, 'only devices have names');
    is($ask->('DELETE', '/command?device=lamp', @op)->{status}, 405, 'commands are not deleted');
    is($ask->('GET', '/online?device=lamp&presence', @op)->{body}, q({"subscribers": 1, "present": [{"id": "lamp", "connections": 1}]}), 'who is online');
    $lamp->close(1000);
    is($ask->('POST', '/command?device=lamp', @op, body => 'blink')->{status}, 202, 'one while it is away');
    my $again = events($ngx->port, '/device/commands', @lamp, 'Last-Event-ID' => $id);
    is(($again->await_events(1))[0]{data}, 'blink', 'it goes on behind the last one');

    my $page = events($ngx->port, '/values?devices=lamp,door', @op);
    is($ask->('POST', '/device/values', @lamp, body => '21 degrees')->{status}, 201);
    is($ask->('POST', '/device/values', 'X-Device-Key' => 'door-key', body => 'lamp open')->{status}, 201);
    is(join('|', map { $_->{data} } $page->await_events(2)), 'lamp 21 degrees|door lamp open', 'no device speaks for another one');
    my $later = events($ngx->port, '/values?devices=lamp,door', @op);
    is(join('|', sort map { $_->{data} } $later->await_events(2)), 'door lamp open|lamp 21 degrees', 'the last values, for who comes later');
    is($ask->('GET', '/values?devices=../x', @op)->{status}, 404);
    is($ask->('POST', '/device/values', @lamp, body => 'x' x 2000)->{status}, 413, 'a long value');
    my $coming = events($ngx->port, '/events', @op);
    is(join(' ', map { my $event = decode_json($_->{data}); "$event->{event} $event->{who}" } $coming->await_events(3)),
        'join lamp leave lamp join lamp', 'who comes and goes');
    $_->{client}->abandon for $again, $page, $later, $coming;

    local $ENV{EVERY} = 1;
    local $ENV{LAST} = $ngx->prefix . '/last';
    my $said = $ngx->prefix . '/said';
    my $device = child('setsid', 'sh', '-c', "exec $conf/fleet/device.sh door-key http://127.0.0.1:@{[$ngx->port]} >$said 2>&1");
    $ask->('POST', '/command?device=door', @op, body => 'knock');
    await('a command', sub { $ngx->read_file('said') =~ /^command: knock$/m });
    my $values = events($ngx->port, '/values?devices=door', @op);
    my $value = '';
    await('a value', sub { $value = ($values->await_events(1))[0]{data}; $value =~ /degrees/ });
    like($value, qr/^door \d+ degrees$/, 'a device with nothing but curl');
    $values->{client}->abandon;
    kill 'TERM', -$device;
    waitpid $device, 0;
    $ngx->stop;
};

done_testing();
