# What a client holds it gives back when its WebSocket has ended, however long it keeps its own side of the connection open.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Time::HiRes qw(time);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;

my $ngx = Ws::Nginx->start(tls => 1, http => <<'EOT', server => <<'EOT2');
    limit_conn_zone $arg_who zone=places:1m;
    log_format ends "$arg_who $status completion=[$request_completion]";
    access_log %%PREFIX%%/access.log ends;
EOT
    limit_conn places 1;
    limit_conn_log_level info;
    lingering_timeout 30s;
    lingering_time 30s;
    websocket_close_timeout 15s;
    location = /cat     { websocket_exec /bin/cat; }
    location = /once    { websocket_exec /usr/bin/head -n 1; }
    location = /small   { websocket_exec /bin/cat; websocket_max_message_size 10; }
    location = /channel { websocket_channel x; websocket_channel_transports websocket longpoll; }
    location = /patient { websocket_exec /bin/cat; websocket_close_timeout 300ms; websocket_idle_timeout 3s; }
EOT2

my $number = 0;

# ended(name, path, talk, completion): "talk" is called with a client and leaves it with its own side open.
sub ended {
    my ($name, $path, $talk, $completion) = @_;

    for my $tls (0, 1) {
        case $name . ($tls ? ', TLS' : '') => sub {
            my $who = 'who' . $number++;
            my $port = $tls ? $ngx->tls_port : $ngx->port;
            my $client = Ws::Client->open($port, "$path?who=$who", tls => $tls);
            my $second = Ws::Client->connect(port => $port, tls => $tls);
            is($second->handshake("$path?who=$who")->{status}, 503, 'it holds its place');
            my $since = time;
            $talk->($client);
            await('its place to be free', sub {
                my $next = Ws::Client->connect(port => $port, tls => $tls);
                my $status = $next->handshake("$path?who=$who")->{status};
                $next->abandon;
                return $status == 101;
            });
            cmp_ok(time - $since, '<', 12, 'and gives it back at once');
            like($ngx->await_access_log(qr/^\Q$who\E 101 completion=\[(?:OK)?\](?=\n)/m), qr/\[$completion\]/) if defined $completion;
            $client->wait_until(sub { $client->{end} }, 'the end');
            is($client->{end}, 'eof', 'without a reset');
            $client->abandon;
        };
    }
}

sub closes {
    my ($expected) = @_;

    return sub {
        my ($client) = @_;
        my @frames = $client->frames;
        like(describe($frames[-1]), qr/^close $expected\b/);
    };
}

ended('the client closes', '/cat', sub { $_[0]->send(close_frame(1000)); closes(1000)->($_[0]) }, 'OK');
ended('the client closes and talks on', '/cat', sub { $_[0]->send(close_frame(1000) . text('x' x 1000)); closes(1000)->($_[0]) }, 'OK');
ended('the program ends', '/once', sub { $_[0]->send(text('x')); closes(1000)->($_[0]); $_[0]->send(close_frame(1000)) });
ended('the client breaks a rule', '/cat', sub { $_[0]->send(text('x', rsv3 => 1)); closes(1002)->($_[0]) });
ended('the client breaks a rule and talks on', '/cat', sub {
    my ($client) = @_;
    $client->send(text('x', rsv3 => 1) . text('y' x 300_000));
    closes(1002)->($client);
});
ended('a message is too big', '/small', sub { $_[0]->send(text('x' x 100)); closes(1009)->($_[0]) });
ended('a channel: the client closes', '/channel', sub { $_[0]->send(close_frame(1000)); closes(1000)->($_[0]) }, 'OK');
ended('the client does not answer a Close', '/patient', sub { closes(1001)->($_[0]) }, '');

case 'octets that come after the end are read and dropped for a while' => sub {
    my $client = Ws::Client->open($ngx->port, '/cat?who=late');
    $client->send(text('x', rsv3 => 1));
    closes(1002)->($client);
    $client->wait_until(sub { $client->{end} }, 'the end');
    is($client->{end}, 'eof');
    $ngx->await_access_log(qr/^late /m);
    local $SIG{PIPE} = 'IGNORE';
    for (1 .. 50) {
        defined syswrite($client->{socket}, 'z' x 1000) or !$!{EPIPE} && !$!{ECONNRESET} or die "reset: $!\n";
        Time::HiRes::sleep(0.01);
    }
    pass('no reset');
    $client->abandon;
};

$ngx->stop;
done_testing();
