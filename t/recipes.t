# The recipes of docs/security.md and docs/operating.md do what the pages say: each is run as it stands there, with names of
# files and addresses put in.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Cwd qw(abs_path);
use Digest::MD5 qw(md5);
use Digest::SHA qw(hmac_sha256);
use IO::Socket::SSL::Utils;
use JSON::PP;
use MIME::Base64 qw(encode_base64url);
use Ws::Markdown;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;

my %recipe = map { %{marked(page(abs_path($_)), 'recipe')} } 'docs/security.md', 'docs/operating.md';
my %file = map { %{marked(page(abs_path($_)), 'file')} } 'docs/security.md', 'docs/operating.md';
my %tried;

# What the recipes call /usr/local/bin/app: it says what it was called with.
my $APP = "#!/bin/bash\nprintf '[%s]' \"\$@\"\necho\nexec cat\n";

# The application of the recipes, in nginx's own words.
my $APPLICATION = <<'EOT';
    server {
        listen unix:%%PREFIX%%/application.sock;
        location = /session {
            if ($cookie_session = anna-1) { set $who anna; }
            if ($cookie_session = bob-2)  { set $who bob; }
            if ($who = "") { return 401; }
            add_header X-User $who;
            return 204;
        }
    }
EOT

# run(name, name => value ...): an nginx with the recipe, whose server is that of the test.
sub run {
    my ($name, %opt) = @_;

    my $text = $recipe{$name} // die "no recipe $name\n";
    $tried{$name} = 1;
    my $ngx = Ws::Nginx->new(%opt);
    my $prefix = $ngx->prefix;
    $ngx->program('app', $APP);
    $text =~ s{/usr/local/bin/[\w-]+}{$prefix/bin/app}g;
    $text =~ s{/etc/nginx/|/var/log/nginx/}{$prefix/}g;
    $text =~ s{http://127\.0\.0\.1:8000}{http://unix:$prefix/application.sock:}g;
    my ($http, $server) = $text =~ /^(.*?)^server \{\n(.*)^\}\n/ms or die "no server in $name\n";
    $server =~ s/^\s*(listen|ssl_certificate|ssl_certificate_key)\s.*\n//mg if $opt{tls};
    $ngx->{http} = ($text =~ m{/application\.sock} ? $APPLICATION : '') . $http;
    $ngx->{server} = $server;
    return $ngx;
}

# lacks(argument): what to say where nginx was configured without it.
sub lacks {
    my ($argument) = @_;

    return nginx_has($argument) ? () : "nginx has no $argument";
}

# status(nginx, path, headers): of a handshake.
sub status {
    my ($ngx, $path, @headers) = @_;

    my $client = Ws::Client->connect(port => $ngx->port);
    return $client->handshake($path, headers => \@headers)->{status};
}

# called(nginx, path, headers): what the program was called with.
sub called {
    my ($ngx, $path, @headers) = @_;

    my $client = Ws::Client->open($ngx->port, $path, headers => \@headers);
    my $text = $client->text;
    $client->close(1000);
    return $text;
}

case 'options' => sub {
    my $ngx = run('options')->start;
    is(called($ngx, '/log?branch=topic/x&path=a'), '[--branch=topic/x][--][a]');
    is(called($ngx, '/log?branch=--output=/tmp/x&path=--output=/tmp/x'), '[--branch=main][--][--output=/tmp/x]');
    is(called($ngx, '/log?branch=a;b&path='), '[--branch=main][--][]');
    $ngx->stop;
};

case 'address' => sub {
    my ($status, $said) = run('address')->check_config;
    is($status, 0, 'is taken') or diag($said);
};

case 'cookies' => sub {
    plan skip_all => $_ for lacks('--with-http_auth_request_module');
    my $ngx = run('cookies')->start;
    my @page = (Origin => 'https://app.example.com');
    is(called($ngx, '/ws', @page, Cookie => 'session=anna-1'), '[--user=anna]');
    is(status($ngx, '/ws', @page), 401, 'no session');
    is(status($ngx, '/ws', @page, Cookie => 'session=x'), 401, 'another one');
    is(status($ngx, '/ws', Origin => 'https://evil.example', Cookie => 'session=anna-1'), 403, 'a foreign page');
    $ngx->stop;
};

case 'jwt' => sub {
    my $module = ($ENV{TEST_WS_NEIGHBOURS_DIR} // '') . '/usr/lib/nginx/modules/ngx_http_js_module.so';
    $tried{jwt} = 1;
    plan skip_all => 'no njs for this nginx' if !-e $module;
    my $ngx = run('jwt', modules => main_modules() . "load_module $module;\n");
    $ngx->file('jwt.js', $file{'/etc/nginx/jwt.js'});
    $ngx->file('jwt.secret', 'a secret');
    my $token = sub {
        my ($claims, %opt) = @_;
        my $head = $opt{head} // { alg => 'HS256', typ => 'JWT' };
        my $text = join '.', map { encode_base64url(encode_json($_)) } $head, $claims;
        return "$text." . encode_base64url(hmac_sha256($text, $opt{secret} // 'a secret'));
    };
    $ngx->start;
    my %good = (sub => 'anna', exp => time + 60);
    is(called($ngx, '/ws?access_token=' . $token->({%good})), '[--user=anna]');
    for my $wrong ([{%good}, secret => 'another'], [{%good, exp => time - 1}], [{sub => 'anna'}], [{%good}, head => { alg => 'none' }]) {
        is(status($ngx, '/ws?access_token=' . $token->(@$wrong)), 401, 'not ' . encode_json($wrong));
    }
    is(status($ngx, "/ws?access_token=$_"), 401, "not \"$_\"") for '', 'a', 'a.b.c', '..', $token->({%good}) . '.x';
    $ngx->stop;
};

case 'certificates' => sub {
    my $ngx = run('certificates', tls => 1);
    my $key = KEY_create_ec('prime256v1');
    my ($ca, $other) = map { (CERT_create(subject => { commonName => $_ }, CA => 1, key => $key))[0] } 'devices', 'others';
    $ngx->file('devices-ca.pem', PEM_cert2string($ca));
    my $client = sub {
        my ($name, $issuer) = @_;
        my ($cert, $own) = CERT_create(subject => { commonName => $name }, issuer => [$issuer, $key], purpose => 'client',
            key => KEY_create_ec('prime256v1'));
        my $at = $ngx->file("$name.pem", PEM_cert2string($cert));
        return (certificate => $at, key => $ngx->file("$name.key", PEM_key2string($own), 0600));
    };
    $ngx->start;
    my $answer = sub { Ws::Client->connect(port => $ngx->tls_port, tls => 1, @_)->handshake('/ws')->{status} };
    my $device = Ws::Client->open($ngx->tls_port, '/ws', tls => 1, $client->('device-17', $ca));
    is($device->text, '[--user=device-17]');
    $device->close(1000);
    is($answer->(), 400, 'without a certificate');
    is($answer->($client->('toaster', $ca)), 403, 'of another name');
    is($answer->($client->('device-18', $other)), 400, 'of another authority');
    $ngx->stop;
};

case 'one-time' => sub {
    $tried{'one-time'} = 1;
    plan skip_all => $_ for lacks('--with-http_secure_link_module');
    my $ngx = run('one-time')->start;
    my $url = sub {
        my ($expires, $address, $secret) = @_;
        return "/ws?expires=$expires&token=" . encode_base64url(md5("$expires $address $secret"));
    };
    my $soon = time + 60;
    my $good = $url->($soon, '127.0.0.1', 'secret');
    is(called($ngx, $good), '[--user=127.0.0.1]');
    is(status($ngx, $good), 403, 'a second time');
    is(called($ngx, $url->($soon + 1, '127.0.0.1', 'secret')), '[--user=127.0.0.1]', 'another one');
    is(status($ngx, $url->(time - 1, '127.0.0.1', 'secret')), 403, 'expired');
    is(status($ngx, $url->($soon, '127.0.0.2', 'secret')), 403, 'of another address');
    is(status($ngx, $url->($soon, '127.0.0.1', 'guess')), 403, 'a wrong secret');
    is(status($ngx, '/ws'), 403, 'none');
    $ngx->stop;
};

case 'per-token' => sub {
    plan skip_all => $_ for lacks('--with-http_auth_request_module');
    my $ngx = run('per-token')->start;
    my $anna = sub { Ws::Client->open($ngx->port, '/ws', headers => [Cookie => 'session=anna-1']) };
    my @open = map { $anna->() } 1 .. 2;
    is(status($ngx, '/ws', Cookie => 'session=anna-1'), 429, 'a third one');
    is(called($ngx, '/ws', Cookie => 'session=bob-2'), '[--user=bob]', 'of somebody else');
    is($open[0]->text, '[--user=anna]');
    $open[0]->close(1000);
    my $again = await('room for another', sub { eval { $anna->() } });
    is($again->text, '[--user=anna]', 'when one has gone');
    $_->abandon for $again, $open[1];
    $ngx->stop;
};

case 'rates' => sub {
    my $ngx = run('rates')->start;
    my @open = map { Ws::Client->open($ngx->port, '/ws') } 1 .. 10;
    is(status($ngx, '/ws'), 429, 'one more');
    $_->abandon for @open;
    my $count = 0;
    await('too many handshakes at once', sub { die "never\n" if $count++ > 1000; status($ngx, '/ws') == 429 });
    pass('too many handshakes');
    $ngx->stop;
};

case 'log' => sub {
    my $ngx = run('log')->start;
    my $client = Ws::Client->open($ngx->port, '/ws/hello?token=secret');
    $client->text;
    $client->send(text('x' x 10));
    $client->text;
    $client->close(1000);
    my @evil = (Origin => 'http://evil.example', 'X-Request-Id' => '"\\');
    is(status($ngx, '/ws/hello', @evil), 403, 'a foreign page');
    my @lines;
    await('two lines', sub { (@lines = split /\n/, $ngx->read_file('sessions.log')) == 2 });
    my ($session, $refused) = map { decode_json($_) } @lines;
    is_deeply([@$session{qw(uri status endpoint)}, $session->{in}, $session->{close}],
        ['/ws/hello', 101, 'exec', { messages => '1', bytes => '10' }, { code => '1000', by => 'client' }], 'a session');
    like($session->{program}{pid}, qr/^\d+$/);
    is($refused->{status}, 403, 'and a refusal');
    unlike("@lines", qr/secret/, 'no arguments');
    is(Ws::Client->connect(port => $ngx->port)->handshake('/nothing')->{status}, 404, 'what is no session');
    is(scalar(() = $ngx->read_file('sessions.log') =~ /\n/g), 2, 'is not in it');
    $ngx->stop;
};

is(join(' ', sort keys %tried), join(' ', sort keys %recipe), 'each recipe was tried');

done_testing();
