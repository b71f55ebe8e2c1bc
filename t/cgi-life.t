# What happens to CGI programs when nobody needs them any more: the client goes, nginx is reloaded or stopped, the program goes on.

use strict;
use warnings;

use lib 't/lib';
use JSON::PP ();
use Test::More;
use Time::HiRes qw(time);
use Ws::Nginx;
use Ws::Client;
use Ws::Http;
use Ws::Process qw(children command);

my $ngx = Ws::Nginx->new(
    workers => 2,
    noise   => [qr/(?:worker process|process) \d+ exited on signal 9/, qr/spawner.*(?:signal 9|gone|died|exited|ended)/i, qr/was locked by/],
    http    => 'log_format cgi "$request_uri|$status|$websocket_endpoint|$websocket_exec_status|$websocket_bytes_in|$websocket_bytes_out|$websocket_exec_pid|";'
        . ' access_log %%PREFIX%%/access.log cgi;',
    server => <<'EOT');
    websocket_exec_stop 200ms 700ms;
    location = /sleep    { websocket_cgi /bin/sleep 600; }
    location = /stream   { websocket_cgi %%PREFIX%%/bin/stream; }
    location = /family   { websocket_cgi %%PREFIX%%/bin/family; }
    location = /stubborn { websocket_cgi %%PREFIX%%/bin/stubborn; }
    location = /orphan   { websocket_cgi %%PREFIX%%/bin/orphan; }
    location = /closes   { websocket_cgi %%PREFIX%%/bin/closes; }
    location = /works-on { websocket_cgi %%PREFIX%%/bin/works-on; }
    location = /goes-on  { websocket_cgi %%PREFIX%%/bin/goes-on; }
    location = /leads-on { websocket_cgi %%PREFIX%%/bin/leads-on; }
    location = /exits    { websocket_cgi %%PREFIX%%/bin/exits; }
    location = /other    { return 200 "other\n"; }
    location = /slowly   { websocket_cgi %%PREFIX%%/bin/slowly; }
    location = /sum      { websocket_cgi %%PREFIX%%/bin/sum; }
    location = /limited  { websocket_cgi %%PREFIX%%/bin/files; websocket_exec_limit nofile=17; }
    location = /status   { websocket_status; }
EOT
# Only root can start programs as somebody else.
$ngx->{server} .= 'location = /user { websocket_cgi %%PREFIX%%/bin/who; websocket_exec_user nobody; websocket_exec_cwd %%PREFIX%%/html; }' if !$>;
$ngx->program('exits', "#!/bin/sh\nprintf 'Content-Type: text/plain\\nContent-Length: 4\\n\\nbody'\nsleep 0.2\nexit 3\n");
$ngx->program('stream', "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nready\\n'\nexec sleep 600\n");
$ngx->program('family', <<'EOT');
#!/bin/sh
sleep 600 &
(sleep 601 &)
(trap '' TERM; exec sleep 602) &
printf 'Content-Type: text/plain\n\nready\n'
sleep 603
EOT
$ngx->program('stubborn', "#!/usr/bin/perl\n\$SIG{\$_} = 'IGNORE' for qw(TERM HUP INT PIPE);\n\$| = 1; print qq{Content-Type: text/plain\\n\\nready\\n}; sleep 1 while 1;\n");
$ngx->program('orphan', "#!/bin/sh\nsleep 600 &\nprintf 'Content-Type: text/plain\\n\\nthe last line'\n");
$ngx->program('closes', "#!/usr/bin/perl\n\$| = 1; print qq{Content-Type: text/plain\\n\\nthe last line}; close STDOUT; sleep 600;\n");
# Both have said all that they had announced: one works on for a while, one for longer than it may.
$ngx->program('works-on', "#!/bin/sh\nprintf 'Content-Type: text/plain\\nContent-Length: 4\\n\\nbody'\nsleep 1.5\necho and more\necho done >" . $ngx->prefix . "/done\n");
$ngx->program('goes-on', "#!/bin/sh\nprintf 'Content-Type: text/plain\\nContent-Length: 4\\n\\nbody'\nexec sleep 600\n");
$ngx->program('leads-on', "#!/bin/sh\nprintf 'Location: /other\\n\\n'\nexec sleep 600\n");
$ngx->program('slowly', "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\nfor i in 1 2 3 4 5; do echo \$i; sleep 0.3; done\nprintf end\n");
$ngx->program('sum', "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\nwc -c\nexit 3\n");
$ngx->program('who', "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\necho \"\$(id -u) \$(pwd)\"\n");
$ngx->program('files', "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\nulimit -n\n");
$ngx->start;

my $port = $ngx->port;

sub ready {
    my ($path, @headers) = @_;

    my $client = Ws::Client->connect(port => $port);
    $client->send(request_text('GET', $path, @headers));
    $client->wait_until(sub { $client->{in} =~ /ready/ }, 'the first line');
    return $client;
}

case 'the client goes, and with it everything that came of the program' => sub {
    for my $path ('/stream', '/family', '/stubborn') {
        for my $how (qw(abandon reset)) {
            my $client = ready($path);
            my $since = time;
            $client->$how;
            $ngx->await_programs(0);
            cmp_ok(time - $since, '<', 5, "$path: $how");
        }
    }
    # Before there is any answer.
    my $client = Ws::Client->connect(port => $port);
    $client->send(request_text('GET', '/sleep'));
    $ngx->await_programs(1);
    $client->abandon;
    $ngx->await_programs(0);
    $client = Ws::Client->connect(port => $port);
    $client->send(request_text('POST', '/sleep', body => 'x' x 100_000));
    $ngx->await_programs(1);
    $client->abandon;
    $ngx->await_programs(0);
    $ngx->no_zombies;
    $ngx->await_access_log(qr{/sleep\|499\|cgi\|});
};

case 'who goes with the whole response has not gone early' => sub {
    my $before = length $ngx->log;
    my $client = Ws::Client->connect(port => $port);
    $client->send(request_text('GET', '/exits', Connection => 'close'));
    $client->wait_until(sub { $client->{in} =~ /\r\n\r\nbody$/ }, 'the response');
    $client->abandon;
    $ngx->await_access_log(qr{/exits\|200\|cgi\|3\|0\|4\|\d+\|});
    unlike(substr($ngx->log, $before), qr/prematurely/);
    $ngx->await_programs(0);
};

case 'another user' => sub {
    plan skip_all => 'programs run as another user only where nginx is started by root' if $>;
    is(request($port, 'GET', '/user')->{body}, (getpwnam 'nobody')[2] . ' ' . $ngx->prefix . "/html\n", 'and another directory');
    # Valgrind does not let a process change its limit of descriptors.
    is(request($port, 'GET', '/limited')->{body}, "17\n", 'resource limits') if !under_valgrind();
    $ngx->await_programs(0);
};

case 'many clients that come and go' => sub {
    for my $round (1 .. 5) {
        my @clients = map { my $client = Ws::Client->connect(port => $port); $client->send(request_text('GET', '/stream')); $client } 1 .. 10;
        $clients[$_]->wait_until(sub { $clients[$_]{in} =~ /ready/ }, 'ready') for 0 .. 4;
        $_->abandon for @clients;
    }
    $ngx->await_programs(0);
    is(request($port, 'GET', '/orphan')->{body}, 'the last line');
};

case 'what a program leaves behind is not waited for' => sub {
    for my $path ('/orphan', '/closes') {
        my $since = time;
        is(request($port, 'GET', $path)->{body}, 'the last line', $path);
        cmp_ok(time - $since, '<', 10);
        $ngx->await_programs(0);
    }
};

case 'a program that goes on does not keep the connection' => sub {
    for my $row (['GET', '/works-on', 'body'], ['HEAD', '/works-on', ''], ['GET', '/goes-on', 'body'], ['HEAD', '/goes-on', '']) {
        my ($method, $path, $body) = @$row;
        unlink $ngx->prefix . '/done';
        my $client = Ws::Client->connect(port => $port);
        $client->send(request_text($method, $path));
        $client->wait_until(sub { $client->{in} =~ s/^HTTP.*?\r\n\r\n$body//s }, "$method $path");
        my $since = time;
        $client->send(request_text('GET', '/other'));
        is($client->response->{body}, "other\n", "$method $path");
        cmp_ok(time - $since, '<', 1.4);
        is(await('the rest of the work', sub { $ngx->read_file('done') }), "done\n", 'it has its time') if $path eq '/works-on';
        $ngx->await_programs(0);
    }
};

case 'a local redirect does not wait without end' => sub {
    my $since = time;
    is(request($port, 'GET', '/leads-on')->{body}, "other\n");
    cmp_ok(time - $since, '<', 15);
    is(request($port, 'POST', '/leads-on', body => 'x' x 100_000)->{body}, "other\n", 'with a body');
    $ngx->await_programs(0);
};

case 'the access log' => sub {
    # A status that comes late, on a busy machine, is not waited for.
    my $line = await('a line with a status', sub {
        is(request($port, 'POST', '/sum', body => 'x' x 1000)->{body}, "1000\n");
        return await('a line', sub { $ngx->access_log =~ /.*^(\/sum\|.*)/ms ? $1 : undef }) =~ /(.*\|3\|.*)/ ? $1 : undef;
    });
    like($line, qr{^/sum\|200\|cgi\|3\|1000\|5\|\d+\|});
};

case 'the status' => sub {
    my $client = ready('/stream');
    my $status = JSON::PP::decode_json(request($port, 'GET', '/status')->{body});
    my ($location) = grep { $_->{location} eq '/stream' } @{$status->{locations}};
    is($location->{endpoint}, 'cgi');
    is($location->{programs}{running}, 1);
    is($location->{connections}{current}, 1);
    my ($failed) = grep { $_->{location} eq '/orphan' } @{$status->{locations}};
    is($failed->{connections}{current}, 0);
    cmp_ok($failed->{connections}{total}, '>', 0);
    $client->abandon;
    $ngx->await_programs(0);
};

case 'a reload waits for requests' => sub {
    my @clients = map { my $client = Ws::Client->connect(port => $port); $client->send(request_text('GET', '/slowly', Connection => 'close')); $client } 1 .. 4;
    for my $client (@clients) {
        $client->wait_until(sub { $client->{in} =~ /\r\n1\n/ }, 'the first line');
    }
    $ngx->reload;
    for my $client (@clients) {
        my $response = $client->response;
        Ws::Http::dechunk($response);
        is($response->{body}, "1\n2\n3\n4\n5\nend");
    }
    is(request($port, 'POST', '/sum', body => 'x')->{body}, "1\n", 'and new ones are served');
    await('the old workers to go', sub { !$ngx->old_workers });
};

case 'worker_shutdown_timeout' => sub {
    $ngx->{main} = 'worker_shutdown_timeout 1s;';
    $ngx->write_config;
    $ngx->reload;
    my $client = ready('/stream');
    my $since = time;
    $ngx->reload;
    $client->wait_until(sub { $client->{end} }, 'the end');
    await('the old workers to go', sub { !$ngx->old_workers });
    cmp_ok(time - $since, '<', 12);
    $ngx->await_programs(0);
};

case 'a worker that is killed takes its programs along' => sub {
    my $client = ready('/stream');
    my ($program) = $ngx->await_programs(1);
    kill 'KILL', $_ for $ngx->workers;
    $client->wait_until(sub { $client->{end} }, 'the end');
    $ngx->await_programs(0);
    await('new workers', sub { $ngx->workers == 2 });
    is(await('an answer', sub { my $response = eval { request($port, 'GET', '/orphan') }; $response && $response->{body} }), 'the last line');
};

case 'the process that starts programs is killed' => sub {
    my $client = ready('/stream');
    kill 'KILL', $ngx->spawners;
    $client->wait_until(sub { $client->{end} }, 'the end');
    unlike($client->{in}, qr/\r\n0\r\n\r\n$/, 'it does not look whole');
    $ngx->await_programs(0);
    is(await('an answer', sub { my $response = request($port, 'GET', '/orphan'); $response->{status} == 200 && $response->{body} }), 'the last line');
};

case 'SIGTERM' => sub {
    my @clients = (ready('/stream'), ready('/family'), ready('/stubborn'));
    $ngx->stop;
    for my $client (@clients) {
        $client->wait_until(sub { $client->{end} }, 'the end');
    }
};

done_testing();
