# Beside filters that come as modules of their own: headers-more, lua-nginx-module and njs.

use strict;
use warnings;

use lib 't/lib';
use Cwd qw(abs_path);
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Http;

my $modules = 'usr/lib/nginx/modules';

# folder(variable, file): where a module that was unpacked for the tests is, or one that is installed.
sub folder {
    my ($variable, $file) = @_;

    my ($dir) = grep { -e "$_/$modules/$file" } grep { length } $ENV{$variable} // '', '/';
    return defined $dir && $dir ne '/' ? abs_path($dir) : $dir && '';
}

# Whether nginx takes a module, after others.
sub loads {
    my ($load, $http) = @_;

    my $ngx = Ws::Nginx->new(modules => $load . main_modules(), http => $http // '');
    my ($status) = $ngx->check_config;
    return $status == 0;
}

sub post {
    my ($ngx, $id, $text) = @_;

    return request($ngx->port, 'POST', "/pub?id=$id", 'Content-Type' => 'text/plain; charset=utf-8', body => $text)->{status};
}

# Three events reach a client, each as the filter has made it, and the stream goes on.
sub goes_on {
    my ($ngx, $path, $pattern) = @_;

    my $client = Ws::Client->connect(port => $ngx->port);
    $client->send(request_text('GET', "$path?id=stream", Accept => 'text/event-stream'));
    $client->wait_until(sub { $client->{in} =~ /\r\n\r\n/ }, 'the head');
    for my $nth (1 .. 3) {
        is(post($ngx, 'stream', "hello $nth"), 201);
        $client->wait_until(sub { $client->{in} =~ /$pattern $nth/ }, "message $nth");
    }
    ok(!$client->{end}, 'it is still there');
}

my $PUB = 'location = /pub { websocket_channel $arg_id mode=pub; }';
my $SUB = 'websocket_channel $arg_id; websocket_channel_start oldest;';

SKIP: {
    my $dir = folder('TEST_WS_NEIGHBOURS_DIR', 'ngx_http_headers_more_filter_module.so');
    skip 'headers-more is not installed', 1 if !defined $dir;
    my $load = "load_module $dir/$modules/ngx_http_headers_more_filter_module.so;\n";
    skip 'headers-more is not for this nginx', 1 if !loads($load);
    my $ngx = Ws::Nginx->start(modules => $load . main_modules(), server => <<"EOT");
        $PUB
        location = /set { $SUB more_set_headers 'Cache-Control: private'; }
        location = /typed { $SUB more_set_headers -t 'text/plain' 'X-Typed: yes'; }
        location = /clear { $SUB more_clear_headers Cache-Control; }
        location = /tag { $SUB more_set_headers 'ETag: "mine"'; }
EOT
    case 'headers-more' => sub {
        post($ngx, 'one', 'hello');
        my $of = sub { request($ngx->port, 'GET', "$_[0]?id=one")->{headers} };
        is_deeply($of->('/set')->{'cache-control'}, ['private']);
        is_deeply($of->('/typed')->{'x-typed'}, ['yes']);
        is($of->('/clear')->{'cache-control'}, undef);
        is_deeply($of->('/tag')->{etag}, ['"mine"']);
    };
    $ngx->stop;
}

SKIP: {
    my $dir = folder('TEST_WS_LUA_DIR', 'ngx_http_lua_module.so');
    skip 'lua-nginx-module is not installed', 1 if !defined $dir;
    my $load = join '', map { "load_module $dir/$modules/$_;\n" } qw(ndk_http_module.so ngx_http_lua_module.so);
    my $http = "lua_package_path '$dir/usr/share/lua/5.1/?.lua;$dir/usr/share/lua/5.1/?/init.lua;;';\n";
    skip 'lua-nginx-module is not for this nginx', 1 if !loads($load, $http);
    my $ngx = Ws::Nginx->start(modules => $load . main_modules(), http => $http, server => <<"EOT");
        $PUB
        location = /body {
            $SUB
            header_filter_by_lua_block { ngx.header['X-Cached'] = ngx.header['Cache-Control'] }
            body_filter_by_lua_block {
                if ngx.arg[1] then ngx.arg[1] = ngx.arg[1]:gsub('hello', 'bye') end
                if ngx.arg[2] then ngx.arg[1] = (ngx.arg[1] or '') .. ' the end' end
            }
        }
EOT
    case 'body_filter_by_lua of an EventSource' => sub { goes_on($ngx, '/body', 'bye') };
    case 'body_filter_by_lua of a long-poll' => sub {
        post($ngx, 'one', 'hello');
        my $response = request($ngx->port, 'GET', '/body?id=one');
        is($response->{headers}{'x-cached'}[0], 'no-store');
    };
    $ngx->stop;
}

SKIP: {
    my $dir = folder('TEST_WS_NEIGHBOURS_DIR', 'ngx_http_js_module.so');
    skip 'njs is not installed', 1 if !defined $dir;
    my $load = "load_module $dir/$modules/ngx_http_js_module.so;\n";
    skip 'njs is not for this nginx', 1 if !loads($load);
    my $ngx = Ws::Nginx->new(modules => $load . main_modules(), http => 'js_import f from %%PREFIX%%/f.js;', server => <<"EOT");
        $PUB
        location = /body { $SUB js_body_filter f.body; js_header_filter f.head; }
EOT
    $ngx->file('f.js', <<'EOT');
function head(r) { r.headersOut['X-Typed'] = r.headersOut['Content-Type']; delete r.headersOut['Content-Length']; }
function body(r, data, flags) { r.sendBuffer(data.replace('hello', 'bye') + (flags.last ? ' the end' : ''), flags); }
export default { head, body };
EOT
    $ngx->start;
    case 'js_body_filter of an EventSource' => sub { goes_on($ngx, '/body', 'bye') };
    case 'js_body_filter of a long-poll' => sub {
        post($ngx, 'one', 'hello');
        my $response = request($ngx->port, 'GET', '/body?id=one');
        is($response->{body}, 'bye the end');
        is($response->{headers}{'x-typed'}[0], 'text/plain; charset=utf-8');
    };
    $ngx->stop;
}

pass('beside all that there are');
done_testing();
