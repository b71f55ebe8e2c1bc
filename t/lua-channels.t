# Channels from Lua: ngx.location.capture publishes, polls, asks and deletes.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;

my @dirs = grep { -e "$_/usr/lib/nginx/modules/ngx_http_lua_module.so" } grep { defined && length } $ENV{TEST_WS_LUA_DIR}, '/';
plan skip_all => 'lua-nginx-module for this nginx is not installed' if !@dirs;
my $dir = $dirs[0] eq '/' ? '' : $dirs[0];

my $lua = "load_module $dir/usr/lib/nginx/modules/ndk_http_module.so;\n"
    . "load_module $dir/usr/lib/nginx/modules/ngx_http_lua_module.so;\n";

my $ngx = Ws::Nginx->new(
    workers => 2,
    modules => $lua . Ws::Nginx::main_modules(),
    http    => "    lua_package_path '$dir/usr/share/lua/5.1/?.lua;$dir/usr/share/lua/5.1/?/init.lua;;';\n",
    server  => <<'EOT');
    location = /pub  { internal; websocket_channel $arg_id mode=pub; }
    location = /hook { internal; websocket_channel $arg_id mode=pub; websocket_channel_publish_request /keep; }
    location = /keep { internal; return 304; }
    location = /sub  { websocket_channel $arg_id; }
    location = /lua/capture {
        content_by_lua_block {
            ngx.req.read_body()
            local method = ngx["HTTP_" .. ngx.req.get_headers()["X-Method"]]
            local options = { method = method, args = ngx.var.args }
            if ngx.req.get_headers()["X-Body"] then options.body = ngx.req.get_headers()["X-Body"] end
            local res = ngx.location.capture(ngx.var.http_x_to, options)
            ngx.header["X-Status"] = res.status
            ngx.header["X-Etag"] = res.header["ETag"]
            ngx.print(res.body)
        }
    }
    location = /lua/unread {
        content_by_lua_block {
            local res = ngx.location.capture("/pub", { method = ngx.HTTP_POST, args = ngx.var.args })
            ngx.header["X-Status"] = res.status
            ngx.print(res.status)
        }
    }
    location = /lua/multi {
        content_by_lua_block {
            local requests = {}
            for n = 1, 20 do
                requests[n] = { "/pub", { method = ngx.HTTP_POST, args = ngx.var.args, body = "multi " .. n } }
            end
            local all = { ngx.location.capture_multi(requests) }
            for _, res in ipairs(all) do ngx.say(res.status) end
        }
    }
    location = /lua/exec { content_by_lua_block { ngx.req.read_body(); ngx.exec("/pub", ngx.var.args) } }
EOT
{
    my ($status, $said) = do { $ngx->{port} = 1; $ngx->check_config };
    plan skip_all => 'lua-nginx-module is not for this nginx' if $said =~ /is not binary compatible|version \d+ instead of|failed to load the 'resty|dlopen/;
}
$ngx->start;
my $port = $ngx->port;

# captured(method of the client, method, location, id, ...): what the capture got.
sub captured {
    my ($client, $method, $to, $args, @rest) = @_;

    my $response = request($port, $client, "/lua/capture?$args", 'X-Method' => $method, 'X-To' => $to, @rest);
    return { status => $response->{headers}{'x-status'}[0], etag => $response->{headers}{'x-etag'}[0], body => $response->{body} };
}

case 'publish' => sub {
    my $here = Ws::Client->open($port, '/sub?id=a');
    for my $location (qw(/pub /hook)) {
        my $got = captured('GET', 'POST', $location, 'id=a', 'X-Body' => "a body of its own $location");
        is($got->{status}, 201, "POST to $location");
        like($got->{body}, qr/^queued messages: \d\r/);
        is($here->text, "a body of its own $location");
        is(captured('POST', 'POST', $location, 'id=a', body => 'the body of the client')->{status}, 201);
        is($here->text, 'the body of the client');
        my $large = 'x' x 100_000;
        is(captured('POST', 'PUT', $location, 'id=a', body => $large)->{status}, 201);
        ok($here->text eq $large);
    }
};

case 'many at once' => sub {
    my $here = Ws::Client->open($port, '/sub?id=many');
    is(request($port, 'GET', '/lua/multi?id=many')->{body}, "201\n" x 20);
    is(join(',', sort map { $here->text } 1 .. 20), join(',', sort map { "multi $_" } 1 .. 20));
};

case 'poll' => sub {
    is(captured('GET', 'GET', '/sub', 'id=none')->{status}, 204, 'nothing is there');
    captured('GET', 'POST', '/pub', 'id=p', 'X-Body' => $_) for qw(one two);
    my $newest = captured('GET', 'GET', '/sub', 'id=p');
    is($newest->{status}, 200);
    is($newest->{body}, 'two');
    my ($epoch) = $newest->{etag} =~ /(\d+):2/ or return fail('no position');
    is(captured('GET', 'GET', '/sub', "id=p&last_event_id=$epoch:1")->{body}, 'two');
    is(captured('GET', 'GET', '/sub', "id=p&last_event_id=$epoch:2")->{status}, 304, 'nothing new');
};

case 'info and DELETE' => sub {
    like(captured('GET', 'GET', '/pub', 'id=p', Accept => 'text/json')->{body}, qr/"messages": 2\b/);
    is(captured('GET', 'DELETE', '/pub', 'id=p')->{status}, 200);
    is(captured('GET', 'GET', '/pub', 'id=p')->{status}, 404);
};

case 'a body that nobody has read' => sub {
    is(request($port, 'POST', '/lua/unread?id=u', body => 'unread')->{body}, 500);
    $ngx->await_log(qr/nothing is published: the body of the request was passed on, dropped or never read/);
    is(captured('GET', 'GET', '/pub', 'id=u')->{status}, 404);
};

case 'ngx.exec keeps the method' => sub {
    is(request($port, 'POST', '/lua/exec?id=e', body => 'x')->{status}, 202);
};

$ngx->stop;
done_testing();
