# CGI programs among nginx's other modules: filters, error pages, subrequests, redirects.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Time::HiRes qw(time);
use IO::Uncompress::Gunzip ();
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;

my $ngx = Ws::Nginx->new(workers => 2, server => <<'EOT');
    location = /print    { websocket_cgi %%PREFIX%%/bin/print; }
    location = /gzip     { gzip on; gzip_min_length 0; gzip_types text/plain; websocket_cgi %%PREFIX%%/bin/print; }
    location = /charset  { charset utf-8; charset_types text/plain; websocket_cgi %%PREFIX%%/bin/print; }
    location = /expires  { expires 1h; add_header X-Added $upstream_status$websocket_endpoint; websocket_cgi %%PREFIX%%/bin/print; }
    location = /sub      { sub_filter_types text/plain; sub_filter one two; websocket_cgi %%PREFIX%%/bin/print; }
    location = /if       { websocket_cgi %%PREFIX%%/bin/print; if ($arg_quiet) { set $x y; } limit_except GET HEAD { deny all; } }
    location = /limited  { websocket_cgi %%PREFIX%%/bin/method; limit_except GET { deny 10.0.0.0/8; } }
    location = /page     { ssi on; ssi_types text/html; default_type text/html; try_files /page.html =404; }
    location /pages/     { ssi on; default_type text/html; root %%PREFIX%%/html; }
    location = /huge     { websocket_cgi %%PREFIX%%/bin/huge; websocket_send_timeout 1s; }
    location = /late     { websocket_cgi %%PREFIX%%/bin/late; }
    location = /fails    { websocket_cgi /bin/true; error_page 502 = /print?Content-Type:%20text/plain%0a%0aan%20error%20page; }
    location = /named    { websocket_cgi /bin/true; error_page 502 = @named; }
    location @named      { websocket_cgi %%PREFIX%%/bin/method; }
    location = /refused  { deny all; error_page 403 /print?Status:%20200%0aContent-Type:%20text/plain%0a%0asorry; websocket_cgi /bin/true; }
    location = /proxied-page { websocket_cgi /bin/true; error_page 502 = /proxied; }
    location = /proxied  { proxy_pass http://127.0.0.1:%%PORT%%/hello; }
    location = /redirect { websocket_cgi %%PREFIX%%/bin/redirect /proxied; }
    location = /to-exec  { websocket_cgi %%PREFIX%%/bin/redirect /ws; }
    location = /ws       { websocket_exec /bin/cat; }
    location = /accel    { proxy_pass http://127.0.0.1:%%PORT%%/says-accel; }
    location = /says-accel { add_header X-Accel-Redirect /method; return 200; }
    location = /method   { websocket_cgi %%PREFIX%%/bin/method; }
    location = /asks     { auth_request /decides; try_files /static.txt =404; }
    location = /asks-ws  { auth_request /decides; websocket_exec /bin/cat; }
    location = /decides  { internal; websocket_cgi %%PREFIX%%/bin/decides; }
    location = /after    { websocket_cgi %%PREFIX%%/bin/wait; post_action /posted; }
    location = /posted   { websocket_cgi %%PREFIX%%/bin/posted; }
    location = /to-named { websocket_cgi /bin/true; error_page 502 = @proxied; }
    location @proxied    { rewrite ^ /method break; proxy_pass http://127.0.0.1:%%PORT%%; }
    location = /max      { websocket_cgi %%PREFIX%%/bin/wait; websocket_exec_max 1; error_page 503 = @proxied; }
    location = /parts    { ssi on; ssi_types text/plain; proxy_pass http://127.0.0.1:%%PORT%%/text; }
    location = /text     { return 200 '<!--# include virtual="/redirect" wait="yes" -->and <!--# include virtual="/method" -->'; }
    location = /hello    { return 200 "hello $request_method $content_length\n"; }
    location = /tried    { try_files /none @tried; }
    location @tried      { websocket_cgi %%PREFIX%%/bin/method; }
    location = /limit    { limit_conn cgi 1; websocket_cgi %%PREFIX%%/bin/wait; }
    location = /burst    { limit_rate 10k; websocket_send_timeout 1s; websocket_cgi %%PREFIX%%/bin/burst; }
    location = /rate     { limit_rate 50k; websocket_cgi %%PREFIX%%/bin/large; }
EOT
$ngx->{http} = 'limit_conn_zone $server_name zone=cgi:1m; log_not_found off;';
$ngx->program('print', "#!/usr/bin/perl\n\$_ = \$ENV{QUERY_STRING}; s/^quiet=1&//; s/%(..)/chr hex \$1/ge; print;\n");
$ngx->program('method', "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n%s %s ' \"\$REQUEST_METHOD\" \"\${CONTENT_LENGTH--}\"\ncat\n");
$ngx->program('redirect', "#!/bin/sh\nprintf 'Location: %s\\n\\n' \"\$1\"\n");
$ngx->program('decides', "#!/bin/sh\ncase \$HTTP_X_WHO in ann) printf 'Status: 204\\n\\n' ;; *) printf 'Status: 403\\n\\n' ;; esac\n");
$ngx->program('wait', "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nready\\n'\nexec sleep 600\n");
$ngx->program('posted', "#!/bin/sh\necho posted >>" . $ngx->prefix . "/posted\nprintf 'Content-Type: text/plain\\n\\n'\n");
$ngx->program('large', "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\nhead -c 100000 /dev/zero\n");
$ngx->program('burst', "#!/bin/sh\nsleep 3\nprintf 'Content-Type: text/plain\\n\\n'\nhead -c 60000 /dev/zero\nsleep 5\necho end\n");
$ngx->program('huge', "#!/usr/bin/perl\nprint qq{Content-Type: text/plain\\n\\n}, 'x' x 3_000_000, 'end';\n");
$ngx->program('late', "#!/bin/sh\nsleep 2.5\nprintf 'Content-Type: text/plain\\n\\nlate '\n");
$ngx->file('html/pages/huge', '<!--# include virtual="/huge" --> and <!--# include virtual="/huge" -->');
$ngx->file('html/pages/late', '<!--# include virtual="/late" --> and <!--# include virtual="/huge" -->');
$ngx->file('html/pages/empty', join ' and ', map { qq{<!--# include virtual="/print?Status:%20$_%0a%0abody" -->} } '204', '204%20No%20Content', '304');
$ngx->file('html/page.html', '<!--# include virtual="/print?Content-Type:%20text/plain%0a%0aone" --> and <!--# include virtual="/method" --> and <!--# include virtual="/hello" -->');
$ngx->file('html/static.txt', "let in\n");
$ngx->start;

my $port = $ngx->port;

sub encoded { return join '', map { sprintf '%%%02x', ord } split //, $_[0] }
sub header { return $_[0]{headers}{$_[1]}[0] }

case 'filters' => sub {
    my $response = request($port, 'GET', '/gzip?' . encoded("Content-Type: text/plain; charset=utf-8\nETag: \"x\"\n\n" . 'one ' x 300), 'Accept-Encoding' => 'gzip');
    is(header($response, 'content-encoding'), 'gzip');
    is(header($response, 'etag'), 'W/"x"', 'the ETag is a weak one');
    IO::Uncompress::Gunzip::gunzip(\$response->{body}, \my $text);
    is($text, 'one ' x 300);
    $response = request($port, 'GET', '/gzip?' . encoded("Content-Length: 400\nContent-Type: text/plain\n\n" . 'one ' x 100), 'Accept-Encoding' => 'gzip');
    IO::Uncompress::Gunzip::gunzip(\$response->{body}, \$text);
    is($text, 'one ' x 100, 'with a length');
    $response = request($port, 'GET', '/gzip?' . encoded("Content-Type: text/plain\nContent-Encoding: br\n\none"), 'Accept-Encoding' => 'gzip');
    is_deeply($response->{headers}{'content-encoding'}, ['br'], 'nothing is compressed twice');
    is(header(request($port, 'GET', '/charset?' . encoded("Content-Type: text/plain\n\none")), 'content-type'), 'text/plain; charset=utf-8');
    $response = request($port, 'GET', '/charset?' . encoded("Content-Type: text/plain; charset=iso-8859-1\n\none"));
    is(header($response, 'content-type'), 'text/plain; charset=iso-8859-1', 'one charset');
    $response = request($port, 'GET', '/expires?' . encoded("Content-Type: text/plain\nCache-Control: no-store\nExpires: 0\n\none"));
    is_deeply($response->{headers}{'cache-control'}, ['max-age=3600'], 'one Cache-Control');
    is(scalar @{$response->{headers}{expires}}, 1, 'one Expires');
    is(header($response, 'x-added'), 'cgi');
    is(request($port, 'GET', '/sub?' . encoded("Content-Type: text/plain; charset=utf-8\n\none"))->{body}, 'two');
};

case 'blocks' => sub {
    my $text = encoded("Content-Type: text/plain\n\none");
    is(request($port, 'GET', "/if?$text")->{body}, 'one');
    is(request($port, 'GET', "/if?quiet=1&$text")->{body}, 'one');
    is(request($port, 'POST', "/if?$text", body => 'x')->{status}, 403);
    is(request($port, 'POST', '/limited', body => 'x')->{body}, 'POST 1 x');
};

case 'error pages' => sub {
    is(request($port, 'GET', '/fails')->{body}, 'an error page', 'a program as one');
    is(request($port, 'POST', '/fails', body => 'x' x 100_000)->{body}, 'an error page', 'of a request with a body');
    is(request($port, 'POST', '/named', body => 'body')->{body} =~ /^POST/ ? 1 : 0, 1, 'a named location keeps the method');
    my $response = request($port, 'POST', '/refused', body => 'body');
    is($response->{status}, 403, 'without "=" the status is kept');
    is($response->{body}, 'sorry');
    is(Ws::Client->connect(port => $port)->handshake('/refused')->{status}, 403, 'of a handshake');
    is(request($port, 'GET', '/proxied-page')->{body}, "hello GET \n", 'a proxied one');
    for my $size (10, 300_000) {
        my $since = time;
        is(request($port, 'POST', '/proxied-page', body => 'x' x $size)->{body} =~ s/\d+//r, "hello GET \n", "of a request with a body of $size octets");
        like(request($port, 'POST', '/to-named', body => 'x' x $size)->{body}, qr/^POST (?:[-0] $|10 x{10}$)/, 'in a named location');
        cmp_ok(time - $since, '<', 10);
    }
    # Before anything was read.
    my $client = Ws::Client->connect(port => $port);
    $client->send(request_text('GET', '/max'));
    $client->wait_until(sub { $client->{in} =~ /ready/ }, 'the first line');
    is(request($port, 'POST', '/max', body => 'x' x 300_000)->{body}, 'POST 0 ', 'instead of one that is not started');
    $client->abandon;
    $ngx->await_programs(0);
};

case 'redirects' => sub {
    is(request($port, 'GET', '/redirect')->{body}, "hello GET \n", 'to a proxied location');
    is(request($port, 'POST', '/redirect', body => 'x' x 100_000)->{body}, "hello GET \n", 'without the body');
    is(request($port, 'GET', '/to-exec')->{status}, 426);
    is(request($port, 'GET', '/accel')->{body}, 'GET - ', 'X-Accel-Redirect');
    is(request($port, 'POST', '/tried', body => 'body')->{body}, 'POST 4 body', 'try_files');
};

case 'subrequests' => sub {
    is(request($port, 'GET', '/page')->{body}, "one and GET -  and hello GET \n", 'SSI');
    is(request($port, 'GET', '/pages/empty')->{body}, ' and  and ', 'parts without a body');
    for (1 .. 10) {
        is(request($port, 'GET', '/asks', 'X-Who' => 'ann')->{body}, "let in\n", 'auth_request');
        is(request($port, 'GET', '/asks', 'X-Who' => 'bob')->{status}, 403);
    }
    is(request($port, 'POST', '/asks', 'X-Who' => 'ann', body => 'x' x 10_000)->{status}, 405, 'it does not take the body');
    my $client = Ws::Client->connect(port => $port);
    is($client->handshake('/asks-ws', headers => ['X-Who' => 'ann'])->{status}, 101, 'before a WebSocket');
    $client->send(text('echo'));
    is($client->text, 'echo');
    $client->close(1000);
    is(Ws::Client->connect(port => $port)->handshake('/asks-ws', headers => ['X-Who' => 'bob'])->{status}, 403);
    $ngx->await_programs(0);
};

case 'a part of a page that the client cannot take at once' => sub {
    for my $row (['/pages/huge', 2 * 3_000_003 + 5], ['/pages/late', 5 + 5 + 3_000_003]) {
        my ($path, $length) = @$row;
        my $client = Ws::Client->connect(port => $port, rcvbuf => 8192);
        $client->send("GET $path HTTP/1.0\r\n\r\n");
        $client->wait_until(sub { $client->{end} }, 'the end of the response');
        $client->{in} =~ s/^HTTP.*?\r\n\r\n//s;
        is(length $client->{in}, $length, $path);
    }
    $ngx->await_programs(0);
    # One that takes nothing any more is not waited for.
    my $client = Ws::Client->connect(port => $port, rcvbuf => 8192);
    $client->send(request_text('GET', '/pages/huge'));
    $client->reading(0);
    $ngx->await_programs(0);
    $client->abandon;
};

case 'a part of a page that is redirected leaves the body to the others' => sub {
    for my $size (10, 300_000) {
        is(request($port, 'POST', '/parts', body => 'x' x $size)->{body}, "hello GET \nand GET $size " . 'x' x $size, "$size octets");
    }
};

case 'post_action' => sub {
    my $client = Ws::Client->connect(port => $port);
    $client->send(request_text('GET', '/after'));
    $client->wait_until(sub { $client->{in} =~ /ready/ }, 'the first line');
    $client->abandon;
    is(await('the post_action', sub { $ngx->read_file('posted') }), "posted\n");
    $ngx->await_programs(0);
};

case 'limits' => sub {
    my $client = Ws::Client->connect(port => $port);
    $client->send(request_text('GET', '/limit'));
    $client->wait_until(sub { $client->{in} =~ /ready/ }, 'the first line');
    is(request($port, 'GET', '/limit')->{status}, 503, 'limit_conn');
    $client->abandon;
    $ngx->await_programs(0);
    is(length request($port, 'GET', '/rate')->{body}, 100_000, 'limit_rate');
    # nginx sends what the time until now allows, and then nothing for as long.
    is(length request($port, 'GET', '/burst')->{body}, 60_004, 'a client that is kept waiting is not a slow one');
};

$ngx->stop;
done_testing();
