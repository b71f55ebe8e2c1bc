# Beside lua-nginx-module, whose SIGCHLD handler reaps every child of the worker.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;

my @dirs = grep { -e "$_/usr/lib/nginx/modules/ngx_http_lua_module.so" } grep { defined && length } $ENV{TEST_WS_LUA_DIR}, '/';
plan skip_all => 'lua-nginx-module for this nginx is not installed' if !@dirs;
my $dir = $dirs[0] eq '/' ? '' : $dirs[0];

my $lua = "load_module $dir/usr/lib/nginx/modules/ndk_http_module.so;\n"
    . "load_module $dir/usr/lib/nginx/modules/ngx_http_lua_module.so;\n";

my $ngx = Ws::Nginx->new(
    modules => $lua . Ws::Nginx::main_modules(),
    http    => "    lua_package_path '$dir/usr/share/lua/5.1/?.lua;$dir/usr/share/lua/5.1/?/init.lua;;';\n",
    server  => <<'EOT');
    websocket_close_timeout 500ms;
    websocket_exec_stop 100ms 500ms;
    location = /exit { websocket_exec %%PREFIX%%/bin/exit; }
    location = /cat  { websocket_exec /bin/cat; }
    location = /gate {
        access_by_lua_block { if ngx.var.arg_key ~= "good" then return ngx.exit(403) end }
        websocket_exec /bin/cat;
    }
    # Starts a process of its own.
    location = /execute {
        content_by_lua_block { ngx.say(os.execute("exit 3")) }
    }
EOT
$ngx->program('exit', "#!/bin/sh\necho hello\nexit 3\n");
{
    my ($status, $said) = do { $ngx->{port} = 1; $ngx->check_config };
    plan skip_all => 'lua-nginx-module is not for this nginx' if $said =~ /is not binary compatible|version \d+ instead of|failed to load the 'resty|dlopen/;
}
$ngx->start;

case 'the exit status is not lost' => sub {
    for (1 .. 20) {
        my $client = Ws::Client->open($ngx->port, '/exit');
        is($client->text, 'hello');
        is($client->server_close, 'close 1011 exit 3');
    }
};

case 'an echo' => sub {
    my $client = Ws::Client->open($ngx->port, '/cat');
    $client->send(text('hello'));
    is($client->text, 'hello');
    is($client->close(1000), 'close 1000');
};

case 'access_by_lua refuses before anything is started' => sub {
    my $client = Ws::Client->connect(port => $ngx->port);
    is($client->handshake('/gate')->{status}, 403);
    $ngx->await_programs(0);
    is(Ws::Client->open($ngx->port, '/gate?key=good')->close(1000), 'close 1000');
};

case 'its own processes are left to it' => sub {
    my @sessions = map { Ws::Client->open($ngx->port, '/cat') } 1 .. 5;
    for (1 .. 5) {
        my $client = Ws::Client->connect(port => $ngx->port);
        $client->send("GET /execute HTTP/1.1\r\nHost: localhost\r\n\r\n");
        # Later versions of LuaJIT tell it as Lua 5.2 does.
        like($client->response->{body}, qr/\b768\b|^nilexit3$/m, 'its status, as wait(2) has it');
    }
    is($_->close(1000), 'close 1000') for @sessions;
    $ngx->await_programs(0);
    $ngx->no_zombies;
};

$ngx->stop;
done_testing();
