# CGI programs over HTTP/2: responses, bodies with and without a length, clients that go.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;

plan skip_all => 'this nginx has no HTTP/2' if !nginx_has('--with-http_v2_module');
my $curl = `curl --version 2>/dev/null` || '';
plan skip_all => 'curl with HTTP/2 is not installed' if $curl !~ /\bHTTP2\b/;

my $on = nginx_version() >= 1025001;
my $ngx = Ws::Nginx->new(
    workers    => 2,
    tls        => 1,
    tls_listen => $on ? 'ssl' : 'ssl http2',
    server     => ($on ? "http2 on;\n" : '') . <<'SERVER');
    client_max_body_size 4m;
    client_body_buffer_size 8k;
    location = /print  { websocket_cgi %%PREFIX%%/bin/print; }
    location = /body   { websocket_cgi %%PREFIX%%/bin/body; }
    location = /slow   { websocket_cgi %%PREFIX%%/bin/slow; }
    location = /lines  { websocket_cgi /bin/sh -c "printf 'Content-Type: text/plain\n\n'; seq 1 300000; printf end"; }
    location = /stream { websocket_cgi %%PREFIX%%/bin/stream; }
    location = /shut   { websocket_cgi %%PREFIX%%/bin/shut; }
    location = /refused { websocket_cgi %%PREFIX%%/bin/refuses; error_page 502 = @counts; }
    location @counts   { websocket_cgi %%PREFIX%%/bin/counts; }
    location = /beside { websocket_exec /bin/cat; websocket_cgi %%PREFIX%%/bin/print; }
    location = /hello  { return 200 "hello $request_method\n"; }
SERVER
$ngx->program('print', "#!/usr/bin/perl\n\$_ = \$ENV{QUERY_STRING}; s/%(..)/chr hex \$1/ge; print;\n");
$ngx->program('body', "#!/usr/bin/perl\nbinmode STDIN; local \$/; my \$body = <STDIN> // ''; use Digest::MD5; print qq{Content-Type: text/plain\\n\\n}, \$ENV{SERVER_PROTOCOL}, ' ', \$ENV{CONTENT_LENGTH} // '-', ' ', length \$body, ' ', Digest::MD5::md5_hex(\$body);\n");
$ngx->program('slow', "#!/usr/bin/perl\nmy \$n = 0; while (my \$got = sysread STDIN, my \$in, 65536) { \$n += \$got; select undef, undef, undef, 0.005 }\nprint qq{Content-Type: text/plain\\n\\n\$n};\n");
$ngx->program('stream', "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nready\\n'\nexec sleep 600\n");
$ngx->program('shut', "#!/bin/sh\nexec <&-\nprintf 'Content-Type: text/plain\\n\\n'\nseq 1 1000\n");
# Ends in the middle of a body; and says how often it was started.
$ngx->program('refuses', "#!/bin/sh\nhead -c 1000 >/dev/null\n");
$ngx->program('counts', "#!/bin/sh\necho x >>" . $ngx->prefix . "/started\nprintf 'Content-Type: text/plain\\n\\n%s %s ' \"\$REQUEST_METHOD\" \"\${CONTENT_LENGTH--}\"\nwc -c\nsleep 1\n");
$ngx->start;

sub encoded { return join '', map { sprintf '%%%02x', ord } split //, $_[0] }

# curl(path, arguments): what it says, head and body.
sub curl {
    my ($path, @arguments) = @_;

    open my $out, '-|', 'curl', '-s', '-k', '-i', '--max-time', $Ws::Nginx::TIMEOUT, '--http2', @arguments, 'https://127.0.0.1:' . $ngx->tls_port . $path
        or die "curl: $!\n";
    local $/;
    return scalar <$out> // '';
}

case 'responses' => sub {
    my $said = curl('/print?' . encoded("Status: 404 Not Found\nContent-Type: text/plain\nX-One: 1\nConnection: close\nTransfer-Encoding: chunked\n\nbody"));
    like($said, qr{^HTTP/2 404 ?\r\n.*x-one: 1\r\n(?:.*\r\n)?\r\nbody$}s);
    unlike($said, qr/^(?:connection|transfer-encoding):/m);
    like(curl('/print?' . encoded("Location: /hello\n\n")), qr{^HTTP/2 200.*hello GET\n$}s);
    like(curl('/print?' . encoded("Content-Type: text/plain\n\nbody"), '-I'), qr{^HTTP/2 200.*\r\n\r\n$}s, 'HEAD');
    like(curl('/print'), qr{^HTTP/2 502}, 'no response');
    my $said_all = curl('/lines');
    like($said_all, qr{\r\n\r\n1\n2\n.*\n300000\nend$}s);
    like(curl('/beside?' . encoded("Content-Type: text/plain\n\nbody")), qr{^HTTP/2 200.*\r\n\r\nbody$}s, 'beside an endpoint');
};

case 'bodies' => sub {
    require Digest::MD5;
    for my $count (0, 1, 1000, 8192, 70_000, 3_000_000) {
        my $octets = join '', map { chr($_ * 7 % 256) } 1 .. $count;
        my $file = $ngx->file('upload', $octets);
        my $sum = Digest::MD5::md5_hex($octets);
        like(curl('/body', '--data-binary', "\@$file"), qr{\r\n\r\nHTTP/2\.0 $count $count $sum$}, "$count octets");
        like(curl('/body', '-H', 'Content-Length:', '--data-binary', "\@$file"), qr{\r\n\r\nHTTP/2\.0 (?:$count|-) $count $sum$}, 'without a length');
    }
    my $file = $ngx->file('upload', 'x' x 3_000_000);
    like(curl('/slow', '--data-binary', "\@$file"), qr{\r\n\r\n3000000$}, 'to a slow program');
    like(curl('/shut', '--data-binary', "\@$file"), qr{\n1000\n$}, 'to one that does not read');
    $file = $ngx->file('upload', 'x' x 5_000_000);
    like(curl('/body', '--data-binary', "\@$file"), qr{^HTTP/2 413}, 'one that is too large');
    like(curl('/body', '-H', 'Content-Length:', '--data-binary', "\@$file"), qr{^HTTP/2 413});
    like(curl('/print?' . encoded("Location: /hello\n\n"), '--data-binary', "\@" . $ngx->file('upload', 'x' x 1_000_000)), qr{hello GET\n$}, 'a redirect');
};

case 'an error page in the middle of a body' => sub {
    my $file = $ngx->file('upload', 'x' x 3_000_000);
    like(curl('/refused', '--limit-rate', '3m', '--data-binary', "\@$file"), qr{^HTTP/2 200.*\r\n\r\nPOST - 0\n$}s, 'has no body');
    like(curl('/print?' . encoded("Content-Type: text/plain\n\nbody")), qr{\r\n\r\nbody$}, 'and the worker goes on');
    is($ngx->read_file('started'), "x\n", 'it is made once');
    $ngx->await_programs(0);
};

case 'the client goes' => sub {
    defined(my $pid = open my $out, '-|', 'curl', '-s', '-k', '-N', '--http2', 'https://127.0.0.1:' . $ngx->tls_port . '/stream') or die "curl: $!\n";
    is(scalar(<$out>), "ready\n", 'a response is sent as it comes');
    kill 'KILL', $pid;
    close $out;
    $ngx->await_programs(0);
};

$ngx->stop;
done_testing();
