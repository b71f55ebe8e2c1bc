# The examples of conf/ are configurations that nginx takes; those without a test file of their own are tried. The directives
# that docs/migrating.md names exist.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Cwd qw(abs_path);
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;

my $conf = abs_path('conf');

sub slurp {
    my ($file) = @_;

    open my $in, '<', $file or die "$file: $!\n";
    local $/;
    return scalar <$in>;
}

case 'nginx takes them' => sub {
    for my $file (sort glob "$conf/*.conf") {
        my ($name) = $file =~ m{([^/]+)\.conf$};
        my ($status, $said) = Ws::Nginx->example($name)->check_config;
        is($status, 0, $name) or diag($said);
    }
};

case 'log' => sub {
    my $ngx = Ws::Nginx->example('log');
    $ngx->{noise} = [qr/worker process \d+ exited on signal 9/, qr/shared memory zone "ws_exec_\w+" was locked by/];
    $ngx->{workers} = 2;
    $ngx->{whole} =~ s/http \{\K/ add_header X-Worker \$pid always;/;
    $ngx->start;
    my $get = sub { Ws::Client->connect(port => $ngx->port)->handshake("/$_[0]") };
    $get->("first-$_") for 1 .. 3;
    $ngx->await_access_log(qr{GET /first-$_ }) for 1 .. 3;
    my @clients = Ws::Client->open($ngx->port, '/log');
    my @lines = map { $clients[0]->text } 1 .. 3;
    for my $nth (1 .. 3) {
        is(scalar(grep { m{"GET /first-$nth HTTP/1.1" 404} } @lines), 1, 'what was there');
    }
    push @clients, map { Ws::Client->open($ngx->port, '/log') } 1 .. 7;
    my $tail = ($ngx->await_programs(1))[0];
    $get->('later');
    like($_->text, qr{"GET /later HTTP/1.1" 404}, 'what came') for @clients;
    rename $ngx->prefix . '/access.log', $ngx->prefix . '/access.log.1' or die "rename: $!\n";
    $ngx->signal('USR1');
    # The master makes the new file, and the workers write to the old one until they have heard of it.
    await('a line in the new log', sub { $get->('rotated'); -s $ngx->prefix . '/access.log' });
    like($_->text, qr{"GET /rotated HTTP/1.1" 404}, 'what came after the log was rotated') for @clients;
    my $worker = sub { $_[0]->header('x-worker') };
    my $killed = $worker->($clients[0]);
    push @clients, await('a client of the other worker', sub {
        my $client = Ws::Client->open($ngx->port, '/log');
        return $client if $worker->($client) != $killed;
        $client->abandon;
        return;
    });
    kill 'KILL', $killed;
    await('both workers', sub { my @now = $ngx->workers; @now == 2 && !grep { $_ == $killed } @now });
    $get->('after');
    for my $client (grep { $worker->($_) != $killed } @clients) {
        my $line;
        do { $line = $client->text } until $line =~ m{"GET /after };
        pass('clients of the other worker go on');
    }
    $ngx->await_programs(1);
    isnt(($ngx->programs)[0], $tail, 'another tail');
    $_->abandon for @clients;
    $ngx->await_programs(0);
    is(Ws::Client->connect(port => $ngx->port)->handshake('/')->{status}, 200, 'its page');
    $ngx->stop;
};

case 'cgi' => sub {
    my $ngx = Ws::Nginx->example('cgi', workers => 2);
    $ngx->start;
    like(request($ngx->port, 'GET', '/clock')->{body}, qr{^<!DOCTYPE html>.*</script>$}s, 'the page');
    my $client = Ws::Client->open($ngx->port, '/clock');
    like($client->text, qr/^\d\d:\d\d:\d\d$/, 'its WebSocket');
    $client->abandon;
    ok($ngx->await_access_log(qr{"GET /clock HTTP/1\.1" 101, [1-9]\d* ticks\n}), 'how often it ticked is in the log');
    if (!under_valgrind()) {    # It does not know openat2(2).
        is(request($ngx->port, 'GET', '/cgi-bin/hello.sh/a%20b?c=d')->{body}, "GET /cgi-bin/hello.sh/a b?c=d of 127.0.0.1\n");
        like(request($ngx->port, 'POST', '/cgi-bin/hello.sh', body => 'body')->{body}, qr/\n4 octets: \d+ 4\n$/, 'a body');
        is(request($ngx->port, 'GET', '/cgi-bin/none')->{status}, 404);
    }
    $ngx->await_programs(0);
    $ngx->stop;
};

case 'answers' => sub {
    my $ngx = Ws::Nginx->example('answers', workers => 2);
    $ngx->start;
    my $port = $ngx->port;
    my $run = sub { sprintf '%08x-0000-4000-8000-000000000000', $_[0] };
    my $words = sub { join ' ', map { $_->{data} } @_ };
    my $posted = posted_events($port, '/answers/' . $run->(1), 'one two');
    my @events = await_events($posted, 4);
    is($words->(@events), 'You have said: one');
    $posted->{client}->abandon;
    my $back = events($port, '/answers/' . $run->(1), 'Last-Event-ID' => $events[-1]{id});
    my @rest = await_end($back);
    is($words->(@rest), 'two [end]', 'it goes on');
    is(events($port, '/answers/' . $run->(1), 'Last-Event-ID' => $rest[-1]{id})->{status}, 204, 'to its end');
    is($words->(await_end(events($port, '/answers/' . $run->(1)))), 'You have said: one two [end]', 'a page that is loaded again');
    is(events($port, '/answers/' . $run->(2))->{status}, 404);
    my $long = posted_events($port, '/answers/' . $run->(2), 'word ' x 100);
    await_events($long, 5);
    is(request($port, 'DELETE', '/cancel/' . $run->(2))->{status}, 200, 'cancelled');
    await_end($long);
    $ngx->await_programs(0);
    is(events($port, '/answers/' . $run->(2))->{status}, 404);
    is(request($port, 'GET', '/cancel/' . $run->(1))->{status}, 403);
    is(Ws::Client->connect(port => $port)->handshake('/')->{status}, 200, 'its page');
    $ngx->stop;
};

case 'who migrates is not led astray' => sub {
    my $text = slurp(abs_path('docs/migrating.md'));
    my %named = map { $_ => 1 } $text =~ /(?<![\$\w])(websocket_[a-z_]+)/g;
    delete $named{websocket_};
    my $directives = slurp(abs_path('docs/directives.md'));
    is(join(' ', grep { $directives !~ /^### $_$/m } sort keys %named), '', 'each directive is described');
    my @servers = $text =~ /^```nginx\n(.*?)^```$/msg;
    # Those of the peers are the only ones in which there is nothing of this module.
    for my $server (grep { /websocket_/ } @servers) {
        $server =~ s/listen \d+;/listen 127.0.0.1:1;/;
        $server = "server {\nlisten 127.0.0.1:1;\n$server}\n" if $server !~ /^server/;
        my ($status, $said) = Ws::Nginx->new(http => $server, server => '')->check_config;
        is($status, 0, 'nginx takes it') or diag("$server$said");
    }
    my $origin = Ws::Nginx->new(server => 'location / { websocket_exec /bin/cat; websocket_origin host:* host:81; }');
    is(($origin->check_config)[0], 0, 'ports of origins');
};

case 'the index of the directives names each' => sub {
    my $text = slurp(abs_path('docs/directives.md'));
    my ($index) = $text =~ /^(.*?)^## /ms;
    is(join(' ', grep { $index !~ /\[$_\]\(#$_\)/ } $text =~ /^### (websocket_\w+)$/mg), '');
};

done_testing();
