# websocket_exec_format lines: a line is a text message, a text message is a line.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;

my $ngx = Ws::Nginx->start(server => <<'EOT');
    websocket_close_timeout 500ms;
    location = /echo   { websocket_exec /bin/cat; }
    location = /said   { websocket_exec /usr/bin/printf "$arg_format"; websocket_exec_format lines; }
    location = /pieces { websocket_exec %%PREFIX%%/bin/pieces; }
    location = /fed    { websocket_exec %%PREFIX%%/bin/fed; }
    location = /quoted { websocket_exec /usr/bin/printf "%s\n" "two words" 'single $uri' "a\"b" a\ b "" ; }
    location = /vars   { websocket_exec /usr/bin/printf "%s\n" "$arg_a" "x${arg_b}y" $arg_c; }
    location = /bad    { websocket_exec %%PREFIX%%/bin/bad; }
EOT

# Writes its lines in pieces that end anywhere.
$ngx->program('pieces', <<'EOT');
#!/usr/bin/perl
use Time::HiRes 'sleep';
$| = 1;
for my $piece ("ab", "c\r", "\nde\n\xe2", "\x82", "\xac\r", "x\r\n", "\n", "end") {
    print $piece;
    sleep 0.03;
}
EOT

# Prints each line that it reads between brackets.
$ngx->program('fed', <<'EOT');
#!/usr/bin/perl
$| = 1;
while (<STDIN>) { chomp; print "[$_]\n"; }
print "eof\n";
EOT

$ngx->program('bad', "#!/bin/sh\nprintf 'good\\nbad \\377\\nnever\\n'\nexec sleep 60\n");

sub said {
    my ($format) = @_;

    my $client = Ws::Client->open($ngx->port, "/said?format=$format");
    my @messages;
    while (1) {
        my $frame = $client->frame;
        last if $frame->{opcode} == CLOSE;
        push @messages, describe($frame);
    }
    $client->send(close_frame(1000));
    $client->end;
    return join ' ', @messages;
}

for my $row (
    ['one line',                    'a\n',            'text "a"'],
    ['CR LF',                       'a\r\nb\r\n',     'text "a" text "b"'],
    ['a CR elsewhere stays',        'a\rb\n\rc\n',    'text "a\x0db" text "\x0dc"'],
    ['only one CR goes',            'a\r\r\n',        'text "a\x0d"'],
    ['empty lines',                 '\n\n\r\na\n',    'text "" text "" text "" text "a"'],
    ['no newline at the end',       'a\nb',           'text "a" text "b"'],
    ['a CR at the end',             'a\r',            'text "a\x0d"'],
    ['nothing at all',              '',               ''],
    ['a NUL',                       'a\0b\n',         'text "a\x00b"'],
    ['UTF-8',                       '\342\202\254\n', 'text "\xe2\x82\xac"'],
) {
    my ($name, $format, $expected) = @$row;
    case $name => sub { is(said($format), $expected) };
}

case 'lines in several writes' => sub {
    my $client = Ws::Client->open($ngx->port, '/pieces');
    is($client->text, $_) for 'abc', 'de', "\xe2\x82\xac\rx", '', 'end';
    is($client->server_close, 'close 1000');
};

case 'a message is a line' => sub {
    my $client = Ws::Client->open($ngx->port, '/fed');
    for my $message ('hello', '', "caf\xc3\xa9", ' spaces ', 'x' x 100_000) {
        $client->send(text($message));
        is($client->text, "[$message]");
    }
    is($client->close(1000), 'close 1000');
};

case 'a fragmented message is a line' => sub {
    my $client = Ws::Client->open($ngx->port, '/fed');
    $client->send(text('a', fin => 0), cont('b', fin => 0), cont('c'), text('d'));
    is($client->text, '[abc]');
    is($client->text, '[d]');
    is($client->close(1000), 'close 1000');
};

case 'many small messages in one segment' => sub {
    my $client = Ws::Client->open($ngx->port, '/echo');
    $client->send(join '', map { text("message $_") } 1 .. 1000);
    my @wrong = grep { $client->text ne "message $_" } 1 .. 1000;
    is("@wrong", '');
    is($client->close(1000), 'close 1000');
};

case 'a binary message is refused with 1003' => sub {
    my $client = Ws::Client->open($ngx->port, '/echo');
    $client->send(text('a'), binary('b'));
    is(join(', ', map { describe($_) =~ s/(close 1003).*/$1/r } $client->frames), 'text "a", close 1003');
    $client->send(close_frame(1003));
    is($client->end, 'eof');
};

case 'output that is not UTF-8 ends with 1007 and a log line' => sub {
    my $client = Ws::Client->open($ngx->port, '/bad');
    is($client->text, 'good');
    like($client->server_close, qr/^close 1007/);
    is(scalar @{$client->{skipped}}, 0, 'nothing of the bad line was sent');
    like($ngx->await_log(qr/\[(?:warn|error)\].*UTF-8.*/), qr{bin/bad|/bad});
    $ngx->await_programs(0);
};

case 'quoting as in the rest of the configuration' => sub {
    my $client = Ws::Client->open($ngx->port, '/quoted');
    is($client->text, $_) for 'two words', 'single /quoted', 'a"b', 'a\ b', '';
    is($client->server_close, 'close 1000');
};

case 'variables are one argument each, whatever is in them' => sub {
    my $client = Ws::Client->open($ngx->port, q{/vars?a=$(id);`id`|x&b='*"&c=%20;});
    is($client->text, $_) for '$(id);`id`|x', q{x'*"y}, '%20;';
    is($client->server_close, 'close 1000');
};

case 'an empty variable is an empty argument' => sub {
    my $client = Ws::Client->open($ngx->port, '/vars?b=1');
    is($client->text, $_) for '', 'x1y', '';
    is($client->server_close, 'close 1000');
};

$ngx->stop;
done_testing();
