# What "nginx -t" says to the directives of channels.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;

my $ngx = Ws::Nginx->new;

sub check {
    my ($http, $location) = @_;

    @$ngx{qw(http server)} = ($http, "location / {\n$location\n}");
    return $ngx->check_config;
}

sub accepted {
    my ($line) = @_;

    my ($status, $said) = check($line =~ /^http: (.*)/ ? ($1, 'websocket_channel x;') : ('', $line =~ /websocket_channel / ? $line
        : "websocket_channel x;\n$line"));
    is($status, 0, $line) or diag($said);
}

sub refused {
    my ($line, @expected) = @_;

    my ($status, $said) = check($line =~ /^http: (.*)/ ? ($1, 'websocket_channel x;') : ('', $line =~ /websocket_channel / ? $line
        : "websocket_channel x;\n$line"));
    isnt($status, 0, $line);
    my ($emerg) = $said =~ /(\[emerg\].*)/;
    like($emerg // '', qr{ in \S+/conf/nginx\.conf:\d+$}, 'file and line');
    like($emerg // '', $_) for @expected;
}

accepted($_) for 'websocket_channel a;', 'websocket_channel a publish=b;', 'websocket_channel a $arg_b publish=$arg_c publish=d mode=pubsub;', 'websocket_channel $arg_id;', 'websocket_channel a b $uri mode=pubsub;',
    'websocket_channel mode=pub a;', 'websocket_channel a mode=info;', 'websocket_channel_delete on;',
    'websocket_channel_delete off;', 'http: websocket_channel_zone 1m;', 'http: websocket_channel_zone 2m;',
    'websocket_channel_group $host;', 'websocket_channel_history length=0 time=0;', 'websocket_channel_history time=1h;', 'websocket_channel_history off;',
    'websocket_channel_history length=$arg_n time=$arg_t;', 'websocket_channel_start newest;', 'websocket_channel_start oldest;',
    'websocket_channel_start 3;', 'websocket_channel_start -3;', 'websocket_channel_transports eventsource;',
    'websocket_channel_transports longpoll websocket eventsource;', 'websocket_channel_transports poll chunked multipart raw;',
    'websocket_channel_separator ";\n";', 'websocket_channel_separator "";', 'websocket_channel_lag skip;', 'websocket_channel_split ,;',
    'websocket_channel_create off;', 'websocket_channel_max_subscribers 5;', 'websocket_channel_max_id_length 10;',
    'websocket_channel_names news;', 'websocket_channel_names ~^room/ ~*^chat/ inbox-$remote_user mode=pubsub;',
    'websocket_channel_names "~^room/[a-z]{1,8}$" mode=$arg_mode;', 'websocket_channel_names ~^secret/ mode=off;',
    "websocket_channel_names ~^a;\nwebsocket_channel_names b mode=pub;", 'websocket_channel_names off;',
    'websocket_channel_rate 1/s;', 'websocket_channel_rate 1000000/s burst=1000000;', 'websocket_channel_rate burst=5 10/s;', 'websocket_channel_rate off;',
    q(websocket_channel_message_template '{"a":"$websocket_message"}';), q(websocket_channel_message_template '$websocket_message $arg_x' text;),
    q(websocket_channel_message_template '$arg_cb([$websocket_message]);';), q(websocket_channel_message_template '{' text;), 'websocket_channel_message_template off;',
    'websocket_channel_eventsource_event news;', 'websocket_channel_eventsource_event "";', 'websocket_channel_eventsource_ping_event ping;',
    'websocket_channel_eventsource_ping_data "";', 'websocket_channel_eventsource_ping_comment "still here";',
    'websocket_channel_longpoll single;', 'websocket_channel_longpoll multipart;', 'websocket_channel_longpoll raw;',
    'websocket_client_heartbeat ping pong;', 'websocket_client_heartbeat off;', 'websocket_channel_events a;', 'websocket_channel_events $arg_x leave join grace=30s;',
    'websocket_channel_tell_id on;', 'websocket_channel_tell_id event;', 'websocket_channel_tell_id off;',
    'websocket_channel_max_subscriptions 1;', 'websocket_channel_max_subscriptions 1024;';

refused('websocket_channel mode=sub;', qr/websocket_channel/, qr/id of a channel is missing/);
refused("websocket_channel $_;", qr/websocket_channel/, qr/publish=/) for 'a publish=', 'a publish=b mode=sub', 'a publish=b mode=info';
refused('websocket_channel publish=b;', qr/id of a channel is missing/);
refused("websocket_exec /bin/cat;\nwebsocket_channel a publish=b;", qr/cannot publish/);
refused('websocket_channel a mode=both;', qr/"both"/, qr/"sub", "pub", "pubsub" or "info"/);
refused('websocket_channel a mode=sub mode=pub;', qr/one "mode="/);
refused('websocket_channel_delete yes;', qr/"yes"/, qr/"on" or "off"/);
refused("websocket_exec /bin/cat;\nwebsocket_channel a mode=info;", qr/cannot publish/);
refused('websocket_channel_names mode=sub;', qr/websocket_channel_names/, qr/name of a channel, or a regular expression, is missing/);
refused("websocket_channel_names $_;", qr/websocket_channel_names/, qr/"[^"]*"/)
    for '""', '~', '~*', '~(', 'a mode=both', 'a mode=', 'a mode=sub mode=pub', 'a,', 'sub', 'mode:sub';
refused("websocket_channel_names $_", qr/websocket_channel_names/, qr/"off" stands alone|not a switch/)
    for 'off a;', 'a off;', "off;\nwebsocket_channel_names a;", "a;\nwebsocket_channel_names off;";
refused("websocket_channel_rate $_;", qr/websocket_channel_rate/, qr/"10\/s".*"off"/) for qw(10 0/s 1000001/s x/s 10/m -1/s on), '""';
refused("websocket_channel_rate $_;", qr/websocket_channel_rate/, qr/"burst="/) for '1/s burst=0', '1/s burst=x', '1/s burst=', 'burst=1 burst=2';
refused("websocket_channel_rate $_;", qr/websocket_channel_rate/, qr/one rate|is missing|stands alone/) for '1/s 2/s', 'burst=1', 'off 1/s', '1/s off';
refused("websocket_channel_message_template $_;", qr/websocket_channel_message_template/, qr/it is no JSON/) for q('{"a":"$websocket_message"'), q('{a:1}'), q('x' json);
refused("websocket_channel_message_template $_;", qr/websocket_channel_message_template/, qr/it is no function/) for q('f(x)' jsonp), q('f({a})'), q('a-b({})' jsonp);
refused("websocket_channel_message_template $_;", qr/websocket_channel_message_template/, qr/begins the name|closing brace|"json", "text" or "jsonp"|template such as|not a switch|stands alone|no part of a message/)
    for q('$'), q('a $ b'), q('${websocket_message'), q('x' xml), '""', 'on', 'off text', q('$websocket_message({})');
refused("websocket_channel_eventsource_$_;", qr/websocket_channel_eventsource/, qr/"gap" is how|one line|not a switch/) for 'event gap', 'ping_event gap', qq(event "a\nb"), 'event off', qq(ping_comment "a\nb");
refused("websocket_channel_longpoll $_;", qr/websocket_channel_longpoll/, qr/"single", "multipart" or "raw"/) for qw(on several);
refused("websocket_client_heartbeat $_;", qr/websocket_client_heartbeat/, qr/the message of the client and the answer|not empty/) for 'ping', '"" pong', 'ping ""';
refused("websocket_channel_tell_id $_;", qr/websocket_channel_tell_id/, qr/"$_"/, qr/"off", "on" or "event"/) for qw(yes field);
refused("websocket_channel_max_subscriptions $_;", qr/websocket_channel_max_subscriptions/, qr/"$_"/, qr/number from 1 to 1024/)
    for qw(0 1025 x -1);
refused('websocket_channel "";', qr/the id of a channel/);
refused("websocket_channel a;\nwebsocket_channel b;", qr/"websocket_channel" directive is duplicate/);
refused("websocket_exec_dir /srv;\nwebsocket_channel b;", qr/cannot stand beside "websocket_exec_dir"/);
refused("http: websocket_channel_zone $_;", qr/websocket_channel_zone/, qr/"$_"/, qr/size/) for qw(x 100k 1000g 0);
refused('websocket_channel_zone 2m;', qr/"websocket_channel_zone" directive is not allowed here/);
refused("websocket_channel_history $_;", qr/websocket_channel_history/, qr/"[^"]*"/)
    for qw(5 length= length=x length=-1 length=4294967296 time=x size=1), '"length=1" "length=2"';
refused("websocket_channel_history $_;", qr/websocket_channel_history/, qr/"off" stands alone/) for 'off length=1', 'time=1h off', 'off off';
refused('websocket_channel_history on;', qr/"on"/, qr/"length=number" or "time=time", or "off"/);
refused("websocket_channel_history off;\nwebsocket_channel_history length=1;", qr/duplicate/);
refused("websocket_channel_start $_;", qr/"$_"/, qr/"newest", "oldest"/) for qw(0 -0 first 1.5);
refused("websocket_channel_transports $_;", qr/websocket_channel_transports/, 
    qr/"websocket", "eventsource", "longpoll", "poll", "chunked", "multipart" or "raw"/) for qw(http Poll intervalpoll), '""';
refused('websocket_channel_transports longpoll longpoll;', qr/each transport once/);
refused('websocket_channel_separator a b;', qr/invalid number of arguments in "websocket_channel_separator"/);
refused("websocket_channel_separator a;\nwebsocket_channel_separator b;", qr/"websocket_channel_separator" directive is duplicate/);
refused("websocket_channel_lag $_;", qr/"close" or "skip"/) for qw(drop on);
refused('websocket_channel_split "";', qr/a delimiter/);
refused('websocket_channel_create maybe;', qr/"on" or "off"/);
refused("websocket_channel_max_subscribers $_;", qr/a number from 0/) for qw(x -1);
refused("websocket_channel_max_id_length $_;", qr/a number from 1 to 65536/) for qw(0 65537 x);

done_testing();
