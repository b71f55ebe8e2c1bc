# What a program notes for the access log: the record V, and lines on a descriptor of its own (websocket_exec_notes).

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Http;

my $ngx = Ws::Nginx->new(http => <<'EOT', server => <<'EOT2');
    log_format notes "$uri a=[$websocket_exec_note_a] b=[$websocket_exec_note_B] all=[$websocket_exec_note] none=[$websocket_exec_note_]";
    access_log %%PREFIX%%/access.log notes;
EOT
    websocket_close_timeout 500ms;
    location /records {
        websocket_exec %%PREFIX%%/bin/records $arg_hex;
        websocket_exec_format messages;
        location /records/small { websocket_exec %%PREFIX%%/bin/records $arg_hex; websocket_exec_notes_limit 2 16; }
        location /records/pool { websocket_exec %%PREFIX%%/bin/records; websocket_exec_pool 1; }
        location /records/shared { websocket_exec %%PREFIX%%/bin/records $arg_hex; websocket_channel shared; }
    }
    location /lines {
        websocket_exec_notes on;
        location /lines/plain { websocket_exec %%PREFIX%%/bin/lines $arg_what; }
        location /lines/messages { websocket_exec %%PREFIX%%/bin/lines $arg_what records; websocket_exec_format messages; }
        location /lines/pty { websocket_exec %%PREFIX%%/bin/lines $arg_what; websocket_exec_pty on; websocket_exec_format bytes; }
        location /lines/small { websocket_exec %%PREFIX%%/bin/lines $arg_what; websocket_exec_notes_limit 9 16; }
        location /lines/pool { websocket_exec %%PREFIX%%/bin/lines pool; websocket_exec_pool 1; }
        location /lines/dir/ { websocket_exec_dir %%PREFIX%%/bin; }
        location /lines/set { websocket_exec %%PREFIX%%/bin/lines; websocket_exec_env WEBSOCKET_NOTE_FD=9; }
        location /lines/cgi { websocket_cgi %%PREFIX%%/bin/answers $arg_what; }
    }
    location /off { websocket_exec %%PREFIX%%/bin/lines; }
    location /off/if { websocket_exec %%PREFIX%%/bin/lines; if ($arg_on) { websocket_exec_notes on; } }
    location /off/cgi { websocket_cgi %%PREFIX%%/bin/answers; }
EOT2

# Writes the octets of its argument. When its input ends it notes that, and what it was told last.
$ngx->program('records', <<'EOT');
#!/usr/bin/perl
$| = 1;
print pack 'H*', shift // '';
my $last = 'nothing';
while (defined(my $head = <STDIN>)) {
    my ($type, $length) = $head =~ /^([A-Z]) (\d+)\n$/ or die "head: $head";
    read STDIN, $last, $length;
    exit 3 if $last eq 'exit';
    if ($last eq 'long') { print 'V ', 'x' x 200_000, "\nT 4\nlong"; next }
    print "V a $last\nT 5\nnoted" if $type eq 'T';
}
print "T 4\nlost", "V b $last\n";
EOT

$ngx->program('lines', <<'EOT');
#!/usr/bin/perl
use strict;
use warnings;
$| = 1;
my $what = shift // '';
my $says = ($ARGV[0] // '') eq 'records' ? "T 5\nnoted" : "noted\n";
my $fd = $ENV{WEBSOCKET_NOTE_FD};
if (!defined $fd) { print "no descriptor\n"; exit }
open my $notes, '>&=', $fd or die "$fd: $!";
$notes->autoflush(1);
if ($what eq 'exits') { print {$notes} "a 1\nA 2\nb last line"; exit 3 }
if ($what eq 'flood') { print {$notes} "a $_\n" for 1 .. 200_000; exit }
if ($what eq 'odd') { print {$notes} "a \"\x1b\xff\n", "a-b 1\n", "b ", 'x' x 15, "\n", 'y' x 100_000, "\nB 1\n"; exit }
if ($what eq 'pool') { print {$notes} "a early\n" }
if ($what eq 'shut') { close STDOUT; print {$notes} "a late\n"; exit }
if ($what eq 'heir') { if (!fork) { setpgrp; sleep 60; exit } print {$notes} "a left\n"; exit }
while (defined(my $line = <STDIN>)) {
    chomp $line;
    print {$notes} "a $line\n";
    print $says;
}
print {$notes} "b bye\n";
EOT

$ngx->program('answers', <<'EOT');
#!/usr/bin/perl
my $fd = $ENV{WEBSOCKET_NOTE_FD} // 'none';
print "Content-Type: text/plain\n\n$fd\n";
exit if $fd eq 'none';
open my $notes, '>&=', $fd or die;
print {$notes} "a cgi\n";
EOT
$ngx->start;

# logged(uri): what the access log says of it.
sub logged {
    my ($uri) = @_;

    my $line = $ngx->await_access_log(qr/^\Q$uri\E a=.*\n/m);
    return { $line =~ /(\w+)=\[((?:[^\]])*)\]/g, line => $line };
}

sub hex_of { return unpack 'H*', $_[0] }

# open_records(name, octets): a session whose program has written them.
sub open_records {
    my ($uri, $octets) = @_;

    return Ws::Client->open($ngx->port, "$uri?hex=" . hex_of($octets));
}

case 'a record is no message' => sub {
    my $client = open_records('/records/one', "V a 12\nT 2\nhiV b x y\nV A 13\nC 4000 done\nV a 14\n");
    is($client->text, 'hi');
    is($client->server_close, 'close 4000 done');
    my $log = logged('/records/one');
    is($log->{a}, '13', 'the last one counts, whatever its case');
    is($log->{b}, 'x y');
    is($log->{all}, 'a=13 b=x y');
    is($log->{none}, '-');
};

case 'without notes there is nothing' => sub {
    my $client = open_records('/records/silent', "T 2\nhi");
    is($client->text, 'hi');
    $client->send(text('exit'));
    is($client->server_close, 'close 1011 exit 3');
    is(logged('/records/silent')->{line}, "/records/silent a=[-] b=[-] all=[-] none=[-]\n");
};

case 'a program that sees the end of its input notes something' => sub {
    my $client = open_records('/records/last', '');
    $client->send(text('tokens'));
    is($client->text, 'noted');
    is($client->close(1000), 'close 1000');
    my $log = logged('/records/last');
    is($log->{a}, 'tokens');
    is($log->{b}, 'tokens', 'also when its client has gone');
};

case 'a record that is none' => sub {
    my $client = open_records('/records/none', "Vx\n");
    like($client->server_close, qr/^close 1011 a note without a space/);
};

case 'what is too much is dropped, and told once' => sub {
    my $client = open_records('/records/small',
        "V a 345678\nV b 3456789\nV b 3456\nV c 1\nV a \nV c 1\nV c-d 1\nT 2\nhi");
    is($client->text, 'hi');
    $client->send(text('long'));
    is($client->text, 'long');
    $client->send(text('exit'));
    $client->server_close;
    my $log = logged('/records/small');
    is($log->{all}, 'a= b=3456');
    my @told = $ngx->log =~ /^(.*a note of the program is dropped.*)$/mg;
    is(@told, 1, 'one line') or diag(@told);
    like($told[0], qr/\[warn\].*bin\/records": .*"b": all of them are more than 16 octets \(websocket_exec_notes_limit\)/);
};

case 'octets that are no text' => sub {
    my $client = open_records('/records/odd', "V a \"\x07\xff\nT 2\nhi");
    is($client->text, 'hi');
    $client->send(text('exit'));
    $client->server_close;
    is(logged('/records/odd')->{a}, '\x22\x07\xFF', 'are escaped as those of every variable');
};

case 'a shared program: nobody\'s' => sub {
    my $client = open_records('/records/shared', "V a 1\nT 2\nhi");
    is($client->text, 'hi');
    is($client->close(1000), 'close 1000');
    is(logged('/records/shared')->{all}, '-');
};

case 'a pool: notes of the client that has the program' => sub {
    for my $n (1, 2) {
        my $client = Ws::Client->open($ngx->port, "/records/pool/$n");
        $client->send(text("tokens$n"));
        is($client->text, 'noted');
        is($client->close(1000), 'close 1000');
        my $log = logged("/records/pool/$n");
        is($log->{all}, "a=tokens$n b=tokens$n");
    }
    # What was written before there was a client is the first of its notes.
    # One waits in each of the two pools.
    $ngx->await_programs(2);
    my $client = Ws::Client->open($ngx->port, '/lines/pool');
    is($client->close(1000), 'close 1000');
    is(logged('/lines/pool')->{all}, 'a=early b=bye');
};

for my $format (qw(plain pty messages)) {
    case "a descriptor: $format" => sub {
        my $client = Ws::Client->open($ngx->port, "/lines/$format/input");
        $client->send($format eq 'messages' ? text("one\n") : $format eq 'pty' ? binary("one\n") : text('one'));
        my $got = '';
        $got .= $client->message->{payload} while $got !~ /noted/;
        is($client->close(1000), 'close 1000');
        my $log = logged("/lines/$format/input");
        # What is given in records is one for the program: T, its length, and a line.
        is($log->{a}, 'one');
        is($log->{b}, 'bye') if $format ne 'pty';

        $client = Ws::Client->open($ngx->port, "/lines/$format/exits?what=exits");
        is($client->server_close, 'close 1011 exit 3');
        is(logged("/lines/$format/exits")->{all}, 'a=2 b=last line', 'also what was written just before the end');
    };
}

case 'a descriptor: many notes hold nobody up' => sub {
    my $client = Ws::Client->open($ngx->port, '/lines/plain/flood?what=flood');
    is($client->server_close, 'close 1000');
    is(logged('/lines/plain/flood')->{a}, '200000');
};

case 'a descriptor: what is odd' => sub {
    my $before = length $ngx->log;
    my $client = Ws::Client->open($ngx->port, '/lines/small?what=odd');
    is($client->server_close, 'close 1000');
    is(logged('/lines/small')->{all}, 'a=\x22\x1B\xFF b=1');
    my @told = substr($ngx->log, $before) =~ /^(.*a note of the program is dropped.*)$/mg;
    is(@told, 1, 'one line') or diag(@told);
    like($told[0], qr/\[warn\].*"a-b": a name is 1 to 64 letters, digits or "_"/);
};

case 'a descriptor: standard output is closed before' => sub {
    my $client = Ws::Client->open($ngx->port, '/lines/plain/shut?what=shut');
    is($client->server_close, 'close 1000');
    is(logged('/lines/plain/shut')->{a}, 'late');
};

case 'a descriptor: somebody else has it open' => sub {
    my $client = Ws::Client->open($ngx->port, '/lines/plain/heir?what=heir');
    is($client->server_close, 'close 1000');
    is(logged('/lines/plain/heir')->{a}, 'left');
};

case 'a descriptor: programs in a directory, and another value in the configuration' => sub {
    for my $path (under_valgrind() ? () : '/lines/dir/lines', '/lines/set') {    # It does not know openat2(2).
        my $client = Ws::Client->open($ngx->port, $path);
        $client->send(text('x'));
        $client->text;
        is($client->close(1000), 'close 1000');
        is(logged($path)->{a}, 'x', $path);
    }
};

case 'a CGI program' => sub {
    is(request($ngx->port, 'GET', '/lines/cgi')->{body}, "3\n");
    is(logged('/lines/cgi')->{a}, 'cgi');
    is(request($ngx->port, 'GET', '/off/cgi')->{body}, "none\n");
};

case 'nothing changes for others' => sub {
    my $client = Ws::Client->open($ngx->port, '/off');
    is($client->text, 'no descriptor');
    is($client->server_close, 'close 1000');
    $client = Ws::Client->open($ngx->port, '/off/if');
    is($client->text, 'no descriptor');
    is($client->server_close, 'close 1000');
    $client = Ws::Client->open($ngx->port, '/off/if?on=1');
    $client->send(text('x'));
    is($client->text, 'noted', 'but for a block with "if" that says so');
    is($client->close(1000), 'close 1000');
};

case 'what is noted after a reload' => sub {
    my $client = Ws::Client->open($ngx->port, '/lines/plain/reload');
    my $records = Ws::Client->open($ngx->port, '/records/reload');
    $ngx->reload;
    $_->send(text('new')) for $client, $records;
    is($_->text, 'noted') for $client, $records;
    is($_->close(1000), 'close 1000') for $client, $records;
    is(logged('/lines/plain/reload')->{all}, 'a=new b=bye');
    is(logged('/records/reload')->{all}, 'a=new b=new');
};

case 'no place for it' => sub {
    $ngx->{server} = "location / { websocket_exec /bin/cat; websocket_channel a; websocket_exec_notes on; }\n";
    my ($status, $said) = $ngx->check_config;
    isnt($status, 0);
    like($said, qr/\[emerg\].*"websocket_exec_notes" directive: a program that the clients/);
};

done_testing();
