# What a session takes of its worker, which gives back what it does not need once the connection is a WebSocket, and all of it when many
# have gone; and that nothing is lost of a request by that.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;
use Ws::Process qw(status_field);
use Ws::Service;

# What is freed is overwritten, so that whoever looks at it is seen to. What a thread keeps for its next allocations would not be.
my %OVERWRITTEN = (MALLOC_PERTURB_ => 90, GLIBC_TUNABLES => 'glibc.malloc.tcache_count=0');

my $ngx = Ws::Nginx->start(tls => 1, connections => 4096, nofile => 8192, env => \%OVERWRITTEN, http => <<'EOT', server => <<'EOT2');
    map $http_x_first $mapped { "~^(?<letter>.)(.*)$" "$letter/$2"; }
    map $arg_one $captured { "~(.)(.)$" $2$1; }
    log_format all escape=json '$args|$arg_one|$arg_two|$cookie_a|$cookie_b|$document_uri|$host|$http_user_agent|$http_host|'
        '$http_cookie|$http_x_first|$http_x_last|$http_x_empty|$http_authorization|$query_string|$remote_user|$request|$request_length|'
        '$request_method|$request_uri|$scheme|$server_name|$server_protocol|$uri|$copied|$mapped|$captured|$named|$sent_http_x_echo|'
        '$http_connection|$http_upgrade';
    log_format kept '$uid_got|$uid_set|$secure_link|$secure_link_expires|$realip_remote_addr|$remote_addr|$http_cookie';
    access_log %%PREFIX%%/access.log all;
    large_client_header_buffers 8 8k;
EOT
    server_name _ names.test;
    websocket_close_timeout 500ms;
    set_real_ip_from 127.0.0.1;
    location ~ ^/(?:ws|no)/(?<named>\w+)-(\w+)\.(\w+)$ {
        set $copied "$http_x_last,$2,$3";
        add_header X-Echo $http_x_first always;
        if ($uri ~ ^/no) { return 204; }
        websocket_exec /bin/cat;
        websocket_exec_format messages;
    }
    location /from/ { rewrite ^/from/(.*)$ /ws/$1 last; }
    location /auth/ { auth_request /ok; websocket_exec /bin/cat; websocket_exec_format messages; }
    location = /ok  { return 204; }
    location = /sub { websocket_channel news; }
    location ~ ^/kept/(?:ws|no)/ {
        access_log %%PREFIX%%/access.log kept;
        userid on;
        userid_mark M;
        secure_link $arg_md5,$arg_expires;
        secure_link_md5 "$arg_expires secret";
        if ($uri ~ /no/) { return 204; }
        websocket_exec /bin/cat;
    }
EOT2

my $AUTH = ['Authorization' => 'Basic dXNlcjpwYXNzd29yZA=='];

# What a request of each size has in common.
sub head {
    my (%opt) = @_;

    return (
        'User-Agent' => 'Mozilla/5.0 (a browser)', 'X-Empty' => '', 'X-First' => 'first',
        Cookie => "a=1; long=" . ('c' x ($opt{cookie} // 0)) . '; b=2', @{$opt{more} // []}, @$AUTH, 'X-Last' => 'last');
}

# A long line may be seen before all of it is written.
sub lines { my @lines = $ngx->access_log =~ /^(.*)\n/mg; return @lines }

# The line of the next request that ends.
sub logged {
    my ($code) = @_;

    my $before = lines();
    $code->();
    Ws::Nginx::await('a line of the log', sub { lines() > $before });
    return (lines())[-1];
}

my @SIZES = (
    ['small' => {}],
    ['with cookies' => { cookie => 1200 }],
    ['in several buffers' => { cookie => 7000, more => [map { ("X-Part-$_" => $_ x 7000) } 1 .. 3] }],
    ['with a long line' => { line => 6000 }],
);

for my $tls (0, 1) {
    for my $row (@SIZES) {
        my ($name, $opt) = @$row;
        case "what is logged, $name, " . ($tls ? 'TLS' : 'plain') => sub {
            my $path = 'one-two.txt?one=' . ('1' x ($opt->{line} // 3)) . 'ab&two=2';
            my @where = (tls => $tls, port => $tls ? $ngx->tls_port : $ngx->port);
            my %seen;
            for my $way (qw(ws no)) {
                my $client = Ws::Client->connect(@where);
                $seen{$way} = logged(sub {
                    $client->handshake("/$way/$path", headers => [head(%$opt)]);
                    return $client->abandon if $way eq 'no';
                    is($client->send(text('there'))->text, 'there');
                    is($client->close(1000), 'close 1000');
                });
            }
            # Where it differs the request did.
            s{/(?:ws|no)/}{/../}g for values %seen;
            ok($seen{ws} eq $seen{no}, 'the same as of a request without a session') or diag(map { substr($_, 0, 1000) . "\n" } @seen{qw(ws no)});
            ok($seen{ws} =~ /\|first\|last\|.*\|last,two,txt\|f\/irst\|ba\|one\|/, 'with all values');
        };
    }
}

case 'what modules of nginx itself remember of a request' => sub {
    my $md5 = '8Y0_l0Ql2vSGKAW8S1_iPw';
    my %seen;
    for my $way (qw(ws no)) {
        my $client = Ws::Client->connect(port => $ngx->port);
        # The mark behind the identifier says that it is as it is to be: no other one is set.
        my $cookie = 'uid=fwAAAWUBpCkAAAVgAwMCAgM=; long=' . 'c' x 1200;
        $seen{$way} = logged(sub {
            $client->handshake("/kept/$way/?md5=$md5&expires=2147483647", headers => ['X-Real-IP' => '192.0.2.7', Cookie => $cookie]);
            $client->abandon;
        });
    }
    is($seen{ws}, $seen{no}, 'the same as of a request without a session');
    like($seen{ws}, qr/^uid=[0-9A-F]{32}\|-\|1\|2147483647\|127\.0\.0\.1\|192\.0\.2\.7\|/, 'and no other identifier');
};

case 'after redirects and subrequests, and with frames behind the head' => sub {
    for my $path ('/from/one-two.txt', '/auth/x') {
        my $line = logged(sub {
            my $client = Ws::Client->connect(port => $ngx->port);
            $client->handshake("$path?one=1ab&two=2", headers => [head(cookie => 1200)], after => text('early') . text('next'));
            is($client->text, $_) for qw(early next);
            is($client->close(1000), 'close 1000');
        });
        like($line, qr/^one=1ab&two=2\|1ab\|2\|.*\|GET \Q$path\E\?one=1ab&two=2 HTTP/);
        like($line, qr/\|user\|/);
    }
};

# taken(count, options): the kB that so many sessions take, one of them.
sub taken {
    my ($count, %opt) = @_;

    my ($worker) = $ngx->workers;
    my $open = sub {
        my $client = Ws::Client->open($opt{tls} ? $ngx->tls_port : $ngx->port, '/sub', tls => $opt{tls}, headers => [head(%opt)]);
        return $client;
    };
    # What a worker sets up once, and holes that others have left, are not counted.
    my @first = map { $open->() } 1 .. 50;
    my $before = status_field($worker, 'VmRSS');
    my @clients = map { $open->() } 1 .. $count;
    my $each = (status_field($worker, 'VmRSS') - $before) / $count;
    $_->abandon for @first, @clients;
    return $each;
}

case 'the memory of a session' => sub {
    # ASan keeps what is freed.
    plan skip_all => 'memory is not measured with instruments' if Ws::Nginx::instrumented();
    # OpenSSL 3.5 takes some 13 kB more for a session than 3.0.
    for my $row (['small', 10.7], ['with cookies, plain', 13.5, cookie => 1200], ['with cookies, TLS', 42, cookie => 1200, tls => 1]) {
        my ($name, $most, %opt) = @$row;
        my $each = taken(150, %opt);
        cmp_ok($each, '<', $most, sprintf '%s: %.1f kB', $name, $each);
    }
};

case 'the memory of many sessions comes back' => sub {
    plan skip_all => 'memory is not measured with instruments' if Ws::Nginx::instrumented();
    my ($worker) = $ngx->workers;
    my $before = status_field($worker, 'VmRSS');
    my @clients = map { Ws::Client->open($ngx->port, '/sub') } 1 .. 1500;
    my $with = status_field($worker, 'VmRSS');
    cmp_ok($with, '>', $before + 5000, "$before kB became $with");
    $_->abandon for @clients;
    Ws::Nginx::await('memory', sub { status_field($worker, 'VmRSS') < ($before + $with) / 2 }, 20);
    pass('most of it is given back');
};

$ngx->stop;

case 'what a balancer remembers of a request until its session ends' => sub {
    plan skip_all => 'this nginx has no "sticky"' if nginx_version() < 1_029_006;
    my @services = map { Ws::Service->listen } 1, 2;
    my $sticky = Ws::Nginx->start(env => \%OVERWRITTEN, http => <<"EOT", server => 'location = /tcp { websocket_tcp group; }');
        upstream group {
            zone group 64k;
            @{[map { "server ${\ $_->address};" } @services]}
            sticky learn zone=sessions:64k create=\$arg_new lookup=\$cookie_session;
        }
EOT
    # Opens a session; which of the services it has got, and what ends it.
    my $open = sub {
        my ($path, @headers) = @_;

        my $client = Ws::Client->connect(port => $sticky->port);
        is($client->handshake($path, headers => \@headers)->{status}, 101);
        my ($nth) = grep { $services[$_]->waiting } 0, 1;
        my $connection = $services[$nth]->accept;
        return ($nth, sub {
            my $before = () = $sticky->access_log =~ /\n/g;
            $client->close(1000);
            $connection->close;
            await('the end of the session', sub { my $lines = () = $sticky->access_log =~ /\n/g; $lines > $before });
        });
    };
    my @cookie = (Cookie => 'session=abc');
    my ($one, $end_one) = $open->('/tcp', @cookie);
    my ($two, $end_two) = $open->('/tcp?new=abc');
    isnt($two, $one, 'they are at different services');
    # Each teaches the balancer at its end which service the client of this cookie belongs to.
    $end_two->();
    $end_one->();
    for my $nth (1, 2) {
        my ($again, $end) = $open->('/tcp', @cookie);
        is($again, $one, 'the cookie was looked for as it was');
        $end->();
    }
    $sticky->stop;
};

done_testing();
