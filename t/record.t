# websocket_record: what is written down of a session, and what becomes of the session when that cannot be.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use JSON::PP;
use MIME::Base64 qw(decode_base64);
use Ws::Nginx;
use Ws::Client;
use Ws::Deflate;
use Ws::Frame;
use Ws::Process qw(command descendants state);
use Ws::Service;

my $service = Ws::Service->listen;
my $ngx = Ws::Nginx->new;
my $prefix = $ngx->prefix;
mkdir "$prefix/$_" or die "$prefix/$_: $!\n" for qw(rec rec/sub outside gone logs);
chmod 0777, map { "$prefix/$_" } qw(rec rec/sub outside gone);
my $half = $ngx->program('half', "#!/bin/sh\nstty -echo\nprintf '\\342\\202'\nread x\nprintf '\\254\\377.'\nread x\n");

$ngx->{http} = "map \$arg_f \$file { default \$arg_f; none ''; }\n";
$ngx->{server} = <<"EOT";
    websocket_close_timeout 500ms;
    websocket_record $prefix/rec/\$arg_f;
    location = /lines    { websocket_exec /bin/cat; }
    location = /messages { websocket_exec /bin/cat; websocket_exec_format messages; websocket_deflate on; websocket_deflate_min_size 1; }
    location = /small    { websocket_exec /bin/cat; websocket_exec_format bytes; websocket_record $prefix/rec/\$arg_f buffer=4k; }
    location = /tcp      { websocket_tcp @{[$service->address]}; }
    location = /vnc      { websocket_tcp @{[$service->address]}; websocket_record $prefix/rec/\$arg_f format=novnc; }
    location = /room     { websocket_channel \$arg_room mode=pubsub; websocket_deflate on; websocket_deflate_min_size 1; websocket_fragment_size 100; }
    location = /shared   { websocket_exec /bin/cat; websocket_channel \$arg_room; }
    location = /sh       { websocket_exec /bin/sh; websocket_exec_env PS1=ready: TERM=dumb; websocket_exec_pty on; websocket_exec_format bytes; }
    location = /half     { websocket_exec $half; websocket_exec_pty on; websocket_exec_format bytes; }
    location = /pty-json { websocket_exec /bin/sh; websocket_exec_pty on; websocket_record $prefix/rec/\$arg_f format=json; }
    location = /off      { websocket_exec /bin/cat; websocket_record off; }
    location = /whole    { websocket_exec /bin/cat; websocket_record \$file; }
    location = /deep     { websocket_exec /bin/cat; websocket_record $prefix/rec/\$arg_d/\$arg_f; }
    location = /gone     { websocket_exec /bin/cat; websocket_record $prefix/gone/\$arg_f; }
    location = /refused  { websocket_exec /no/such/program; websocket_refuse_with_close 500=4500; }
    location = /status   { websocket_status; }
EOT
$ngx->start;

sub recorders { return grep { command($_) =~ /^nginx: websocket recorder/ && state($_) ne 'Z' } descendants($$) }

# whole(name): what is in a recording. A file has whole lines, whatever became of its session.
sub whole {
    my ($name) = @_;

    my $text = $ngx->read_file("rec/$name");
    return $text if $text =~ /\n\z/ || $text eq '';
    die "$name does not end with a line: " . substr($text, -50) . "\n";
}

# lines(name): a recording of JSON in lines, once the session has ended.
sub lines {
    my ($name) = @_;

    await("the end of $name", sub { $ngx->read_file("rec/$name") =~ /"type":"end"[^\n]*\n\z/ });
    return map { decode_json($_) } split /\n/, whole($name);
}

# said(name): the messages and what else was said, in short.
sub said {
    my ($name) = @_;

    return [map {
        my $data = $_->{type} eq 'close' ? join ' ', grep { length } $_->{code}, $_->{reason}
            : ($_->{encoding} // '') eq 'base64' ? decode_base64($_->{data}) : $_->{data};
        "$_->{direction} $_->{type} $data" . ($_->{more} ? ' ...' : '');
    } grep { $_->{direction} } lines($name)];
}

# events(name): a recording of a terminal: its header, and its events. Each line is looked at.
sub events {
    my ($name) = @_;

    my ($header, @events) = map { decode_json($_) } split /\n/, whole($name);
    my $last = 0;
    for (@events) {
        die "an event with " . @$_ . " parts\n" if @$_ != 3;
        my ($time, $what, $text) = @$_;
        die "the time goes back: $time\n" if $time < $last;
        die "an event $what\n" if $what !~ /^[oirm]$/;
        $last = $time;
    }
    return ($header, @events);
}

# shown(what, events): the texts of all events of this kind.
sub shown {
    my ($what, @events) = @_;

    return join '', map { $_->[2] } grep { $_->[1] eq $what } @events;
}

# cast(name, text): the same as events(), once all of this has been shown.
sub cast {
    my ($name, $text) = @_;

    my @found;
    eval {
        await("what $name has shown", sub {
            return $ngx->read_file("rec/$name") =~ /\n\z/ && (@found = events($name)) && shown('o', @found[1 .. $#found]) eq $text;
        });
    };
    is(shown('o', @found[1 .. $#found]), $text, 'what it has shown');
    return @found;
}

case 'lines of a program' => sub {
    my $began = time;
    my $client = Ws::Client->open($ngx->port, '/lines?f=lines.json');
    $client->send(text('one "line"'));
    is($client->text, 'one "line"');
    # A message is one line, however many frames it comes in.
    $client->send(frame(TEXT, "\xe2", fin => 0), cont("\x82", fin => 0), ping('x'), cont("\xac"));
    is($client->frame->{opcode}, PONG);
    is($client->text, "\xe2\x82\xac");
    $client->close(4000, 'bye');
    my ($header, @lines) = lines('lines.json');
    is_deeply([@$header{qw(version type endpoint)}], [1, 'header', 'exec']);
    cmp_ok(abs($header->{timestamp} - $began), '<', 60, 'when it began');
    is_deeply(said('lines.json'), ['in text one "line"', 'out text one "line"', "in text \x{20ac}", "out text \x{20ac}", 'in close 4000 bye']);
    is_deeply([map { $_->{type} } grep { !$_->{direction} } @lines], ['end'], 'and nothing else');
    is($lines[-1]{code}, 4000);
    my @times = map { $_->{time} } @lines;
    is_deeply(\@times, [sort { $a <=> $b } @times], 'times go up');
    is(sprintf('%04o', (stat "$prefix/rec/lines.json")[2] & 07777), '0600', 'nobody else can read it');
};

case 'binary messages, before compression and after' => sub {
    my $client = Ws::Client->open($ngx->port, '/messages?f=binary.json', headers => ['Sec-WebSocket-Extensions' => 'permessage-deflate; server_no_context_takeover']);
    my $octets = join '', map { chr } 0 .. 255;
    $client->send(frame(BINARY, Ws::Deflate->new->deflate($octets x 3), rsv1 => 1), text('plain'));
    ok($client->message->{rsv1}, 'compressed');
    $client->message;
    $client->close(1000);
    my @said = @{said('binary.json')};
    is_deeply([sort @said[0 .. 3]], [sort "in binary @{[$octets x 3]}", 'in text plain', "out binary @{[$octets x 3]}", 'out text plain']);
    is($said[4], 'in close 1000');
};

case 'a channel: shared frames, in fragments and compressed' => sub {
    my $plain = Ws::Client->open($ngx->port, '/room?room=r&f=plain.json');
    my $deflate = Ws::Client->open($ngx->port, '/room?room=r&f=deflate.json', headers => ['Sec-WebSocket-Extensions' => 'permessage-deflate']);
    my $long = join ' ', 1 .. 500;
    $plain->send(text($long), binary("\x00\x01"));
    is($plain->message->{payload}, $long);
    is($plain->message->{payload}, "\x00\x01");
    $deflate->message for 1 .. 2;
    $_->close(1000) for $plain, $deflate;
    is_deeply([grep { /^in/ } @{said('plain.json')}], ["in text $long", "in binary \x00\x01", 'in close 1000']);
    is_deeply([grep { /^out/ } @{said($_)}], ["out text $long", "out binary \x00\x01"], $_) for qw(plain.json deflate.json);
    is((lines('plain.json'))[0]{endpoint}, 'channel');
};

case 'a program that clients share' => sub {
    my @clients = map { Ws::Client->open($ngx->port, "/shared?room=s&f=shared-$_.json") } 1, 2;
    $clients[0]->send(text('hello'));
    is($_->text, 'hello') for @clients;
    $_->close(1000) for @clients;
    is_deeply(said('shared-1.json'), ['in text hello', 'out text hello', 'in close 1000']);
    is_deeply(said('shared-2.json'), ['out text hello', 'in close 1000']);
};

case 'a service' => sub {
    my $client = Ws::Client->open($ngx->port, '/tcp?f=tcp.json', headers => ['Sec-WebSocket-Protocol' => 'binary']);
    my $peer = $service->accept;
    $client->send(binary("\xff\x00"));
    $peer->read(2);
    $peer->send("answer\x00");
    is($client->message->{payload}, "answer\x00");
    $peer->close;
    is($client->server_close, 'close 1000');
    is_deeply(said('tcp.json'), ["in binary \xff\x00", "out binary answer\x00", 'out close 1000', 'in close 1000']);
    is_deeply([@{(lines('tcp.json'))[0]}{qw(endpoint protocol)}], ['tcp', 'binary']);
};

case 'a terminal' => sub {
    plan skip_all => no_terminals() if no_terminals();
    my $client = Ws::Client->open($ngx->port, '/sh?f=sh.cast');
    my $got = '';
    my $until = sub { $got .= $client->message->{payload} while $got !~ $_[0] };
    $until->(qr/ready:/);
    $client->send(text("\e[8;50;132t"), binary("stty size\n"));
    $until->(qr/50 132\r\n/);
    $client->send(binary("exit\n"));
    $client->server_close;
    $got .= $_->{payload} for grep { $_->{opcode} == BINARY } @{$client->{skipped}};
    my ($header, @events) = cast('sh.cast', $got);
    is_deeply([@$header{qw(version width height)}, $header->{env}{TERM}], [2, 80, 24, 'dumb']);
    like($header->{timestamp}, qr/^\d{10}$/);
    is(shown('i', @events), "stty size\nexit\n", 'what was typed');
    is(shown('r', @events), '132x50', 'and its new size');
    SKIP: {
        my ($asciinema) = grep { -x } map { "$_/asciinema" } split /:/, $ENV{PATH};
        my ($script) = grep { -x } map { "$_/script" } split /:/, $ENV{PATH};
        skip 'asciinema is not installed', 2 if !$asciinema || !$script;
        local @ENV{qw(HOME LC_ALL)} = ($prefix, 'C.UTF-8');
        # From version 3 on, "cat" makes a recording of several; before that it wants a terminal.
        my $is_old = `$asciinema --version` =~ / 2\./;
        my $played = $is_old ? `$script -qec '$asciinema cat $prefix/rec/sh.cast' /dev/null 2>&1 </dev/null`
            : `$asciinema convert -f txt $prefix/rec/sh.cast - 2>&1`;
        is($?, 0, 'asciinema takes it') or diag($played);
        skip 'this version shows it in another form', 1 if !$is_old;
        is($played =~ s/\r//gr, $got =~ s/\r//gr, 'and shows the same');
    }
};

case 'a character that is cut' => sub {
    plan skip_all => no_terminals() if no_terminals();
    my $client = Ws::Client->open($ngx->port, '/half?f=half.cast');
    is($client->message->{payload}, "\xe2\x82");
    $client->send(binary("\n"));
    my $got = '';
    $got .= $client->message->{payload} while $got !~ /\.$/;
    $client->close(1000);
    my ($header, @events) = cast('half.cast', "\x{20ac}\x{fffd}.");
    is(shown('i', @events), "\n");
};

case 'a terminal in lines of JSON' => sub {
    plan skip_all => no_terminals() if no_terminals();
    my $client = Ws::Client->open($ngx->port, '/pty-json?f=pty.json');
    $client->send(text('exit'));
    $client->server_close;
    is(said('pty.json')->[-1], 'in close 1000');
};

case 'for the playback of noVNC' => sub {
    my $client = Ws::Client->open($ngx->port, '/vnc?f=vnc.js');
    my $peer = $service->accept;
    $peer->send("RFB 003.008\n");
    is($client->message->{payload}, "RFB 003.008\n");
    $client->send(binary("RFB 003.003\n"));
    $peer->read(12);
    $peer->close;
    $client->server_close;
    await('the end', sub { whole('vnc.js') =~ /EOF/ });
    my ($first, @lines) = split /\n/, whole('vnc.js');
    is($first, 'var VNC_frame_encoding = "base64", VNC_frame_data = [];');
    like($lines[0], qr/^VNC_frame_data\.push\("\{\d+\{UkZCIDAwMy4wMDgK"\);$/);
    like($lines[1], qr/^VNC_frame_data\.push\("\}\d+\{UkZCIDAwMy4wMDMK"\);$/);
    is_deeply([@lines[2 .. $#lines]], ['VNC_frame_data.push("EOF");']);
};

case 'where nothing is recorded' => sub {
    my @before = glob "$prefix/rec/*";
    for my $uri ('/off?f=off.json', '/lines?f=', '/whole?f=none') {
        my $client = Ws::Client->open($ngx->port, $uri);
        $client->send(text('x'));
        is($client->text, 'x', $uri);
        $client->close(1000);
    }
    my $refused = Ws::Client->open($ngx->port, '/refused?f=refused.json');
    like($refused->server_close, qr/^close 4500/);
    is_deeply([glob "$prefix/rec/*"], \@before);
    unlike($ngx->log, qr/is not recorded/, 'which is no fault');
};

case 'nothing is overwritten' => sub {
    my $client;
    for my $n (0 .. 2) {
        $client = Ws::Client->open($ngx->port, '/lines?f=same.json');
        $client->send(text("session $n"));
        $client->text;
        $client->close(1000);
        my $name = $n ? "same.json.$n" : 'same.json';
        is(said($name)->[0], "in text session $n", $name);
    }
};

case 'no name leads out of the directory' => sub {
    symlink '../outside', "$prefix/rec/link" or die "symlink: $!\n";
    symlink '../outside/new', "$prefix/rec/file.json" or die "symlink: $!\n";
    my %refused = (
        '/lines?f=../outside/x'         => qr/leads out/,
        '/lines?f=sub/../../outside/x'  => qr/leads out/,
        '/lines?f=..'                   => qr/leads out/,
        '/lines?f=/etc/x'               => qr/begins with/,
        '/lines?f=sub//x'               => qr/is empty/,
        '/lines?f=./x'                  => qr/is empty/,
        '/lines?f=x/'                   => qr/is empty/,
        '/deep?f=x'                     => qr/begins with/,
        '/deep?d=..&f=x'                => qr/leads out/,
        "/whole?f=/etc/x"               => qr/begins with/,
        '/lines?f=link/x'               => qr/cannot be made/,
        '/lines?f=none/x'               => qr/cannot be made/,
        '/lines?f=' . 'x' x 300         => qr/cannot be made/,
        '/lines?f=' . 'x/' x 2500 . 'x' => qr/too long/,
    );
    for my $uri (sort keys %refused) {
        my $before = length $ngx->log;
        my $client = Ws::Client->open($ngx->port, $uri);
        $client->send(text('x'));
        is($client->text, 'x', 'the session goes on');
        $client->close(1000);
        my $shown = substr $uri, 0, 40;
        ok(eval { await($shown, sub { substr($ngx->log, $before) =~ $refused{$uri} }) }, $shown);
    }
    my $client = Ws::Client->open($ngx->port, '/lines?f=file.json');
    $client->close(1000);
    is_deeply(said('file.json.1'), ['in close 1000'], 'a link has a name, which is taken');
    is_deeply([glob "$prefix/outside/*"], [], 'nothing is outside');
    ok(!-e "$prefix/x", 'nor above');
    $client = Ws::Client->open($ngx->port, "/whole?f=$prefix/rec/sub/whole.json");
    $client->close(1000);
    is_deeply(said('sub/whole.json'), ['in close 1000'], 'what begins with the directory is below it');
};

case 'a directory that was removed' => sub {
    rmdir "$prefix/gone" or die "rmdir: $!\n";
    my $client = Ws::Client->open($ngx->port, '/gone?f=x.json');
    $client->send(text('x'));
    is($client->text, 'x');
    $ngx->await_log(qr/\[error\].*the recording "[^"]*gone\/x\.json" is not written: the file cannot be made \(No such file/);
    pass('which is in the log');
    $client->close(1000);
    mkdir "$prefix/gone" or die "mkdir: $!\n";
};

case 'a writer that hangs holds up nobody, and what is lost is told' => sub {
    my ($recorder) = recorders();
    my $slow = Ws::Client->open($ngx->port, '/small?f=slow.json');
    await('the file', sub { -e "$prefix/rec/slow.json" });
    kill 'STOP', $recorder or die "kill: $!\n";
    my ($sent, $piece) = (0, 'x' x 1000);
    while ($sent < 3000) {
        $slow->send(map { binary($piece) } 1 .. 50);
        my $got = 0;
        $got += length $slow->message->{payload} while $got < 50_000;
        $sent += 50;
    }
    pass('3 MB went both ways');
    # Programs are started by somebody else.
    my $other = Ws::Client->open($ngx->port, '/lines?f=other.json');
    $other->send(text('meanwhile'));
    is($other->text, 'meanwhile', 'programs start');
    kill 'CONT', $recorder or die "kill: $!\n";
    my $said = await('what was lost', sub {
        $slow->send(binary('later'));
        $slow->message;
        # A file that is being written may have a piece of a line at its end.
        $ngx->read_file('rec/slow.json') =~ /^(\{[^\n]*"type":"lost"[^\n]*\})\n/m ? decode_json($1) : undef;
    });
    cmp_ok($said->{messages}, '>', 100, 'many messages');
    cmp_ok($said->{octets}, '>', 100_000, 'and their octets');
    $_->close(1000) for $slow, $other;
    like(join('|', @{said('slow.json')}), qr/in binary later\|.*in close 1000$/, 'what follows is there');
    $ngx->await_log(qr/\[error\].*the recording "[^"]*slow\.json" lacks \d+ messages with \d+ octets/);
    is(scalar(() = $ngx->log =~ /slow\.json" lacks/g), 1, 'said once');
    is_deeply(said('other.json'), ['in text meanwhile', 'out text meanwhile', 'in close 1000'], 'others lack nothing');
};

case 'after it has hung, a writer needs no more files than there are sessions' => sub {
    my ($recorder) = recorders();
    my $full = Ws::Client->open($ngx->port, '/small?f=fills.json');
    await('the file', sub { -e "$prefix/rec/fills.json" });
    kill 'STOP', $recorder or die "kill: $!\n";
    system('prlimit', "--pid=$recorder", '--nofile=40:40') == 0 or die "prlimit: $?\n";
    # Its socket is full, so that what follows waits in the worker.
    my $sent = 0;
    while ($sent < 1_000) {
        $full->send(map { binary('x' x 1000) } 1 .. 50);
        my $got = 0;
        $got += length $full->message->{payload} while $got < 50_000;
        $sent += 50;
    }
    my @names = map { "many-$_.json" } 1 .. 100;
    for my $name (@names) {
        my $client = Ws::Client->open($ngx->port, "/room?room=none&f=$name");
        $client->send(text($name));
        is($client->text, $name) or last;
        $client->close(1000);
    }
    kill 'CONT', $recorder or die "kill: $!\n";
    $full->close(1000);
    my $whole = eval { is_deeply([said($_)], [["in text $_", "out text $_", 'in close 1000']], $_) or die "$_\n" for @names; 1 };
    ok($whole, 'all of them are whole') or diag($@);
    unlike($ngx->log, qr/Too many open files/);
};

case 'a writer that is killed' => sub {
    my ($recorder) = recorders();
    my $client = Ws::Client->open($ngx->port, '/lines?f=killed.json');
    $client->send(text('before'));
    $client->text;
    await('the line', sub { whole('killed.json') =~ /before/ });
    kill 'KILL', $recorder or die "kill: $!\n";
    $ngx->await_log(qr/\[error\].*the recording "[^"]*killed\.json" is not written any further/);
    $client->send(text('after'));
    is($client->text, 'after', 'the session goes on');
    $client->close(1000);
    unlike(whole('killed.json'), qr/after/);
    $client = Ws::Client->open($ngx->port, '/lines?f=next.json');
    $client->close(1000);
    is_deeply(said('next.json'), ['in close 1000'], 'the next one is recorded');
    $ngx->no_zombies;
};

case 'a reload' => sub {
    my ($old) = recorders();
    my $client = Ws::Client->open($ngx->port, '/lines?f=reload.json');
    $client->send(text('before'));
    $client->text;
    $ngx->reload;
    await('a new writer', sub { recorders() == 2 });
    $client->send(text('after'));
    is($client->text, 'after');
    $client->close(1000);
    is_deeply(said('reload.json'), ['in text before', 'out text before', 'in text after', 'out text after', 'in close 1000']);
    await('the old writer to end', sub { !grep { $_ == $old } recorders() });
    my $new = Ws::Client->open($ngx->port, '/lines?f=reloaded.json');
    $new->close(1000);
    is_deeply(said('reloaded.json'), ['in close 1000']);
};

case 'a worker that is killed' => sub {
    my $client = Ws::Client->open($ngx->port, '/lines?f=worker.json');
    $client->send(map { text("message $_") } 1 .. 200);
    $client->text for 1 .. 200;
    my ($worker) = $ngx->workers;
    my ($recorder) = recorders();
    kill 'KILL', $worker or die "kill: $!\n";
    push @{$ngx->{noise}}, qr/worker process \d+ exited on signal 9/;
    await('its writer to end', sub { !grep { $_ == $recorder } recorders() });
    my @lines = map { decode_json($_) } split /\n/, whole('worker.json');
    is($lines[0]{type}, 'header');
    is_deeply([map { $_->{data} } grep { ($_->{direction} // '') eq 'out' } @lines], [map { "message $_" } 1 .. 200], 'what was said is there');
    isnt($lines[-1]{type}, 'end', 'and that it lacks its end can be seen');
    await('a new worker', sub { my ($now) = $ngx->workers; $now && $now != $worker });
};

case 'a worker that exits' => sub {
    my $client = Ws::Client->open($ngx->port, '/lines?f=exit.json');
    $client->send(text('last words'));
    $client->text;
    $ngx->stop;
    my @lines = map { decode_json($_) } split /\n/, whole('exit.json');
    is_deeply([map { $_->{type} } @lines], [qw(header text text close end)]);
    is($lines[-2]{code}, 1001);
};

case 'a disk that is full' => sub {
    my $full = Ws::Nginx->new(level => 'error', through => ['prlimit', '--fsize=100000']);
    my $there = $full->prefix;
    $full->{server} = "location / { websocket_exec /bin/cat; websocket_record $there/\$arg_f.json; }\n";
    $full->start;
    my $client = Ws::Client->open($full->port, '/?f=full');
    my $line = 'x' x 1000;
    for (1 .. 200) {
        $client->send(text($line));
        $client->text;
    }
    $full->await_log(qr/\[error\].*the recording "[^"]*full\.json" ends after \d+ octets: the file cannot be written \(File too large/);
    $client->send(text('still here'));
    is($client->text, 'still here', 'the session goes on');
    $client->close(1000);
    my $text = $full->read_file('full.json');
    cmp_ok(length $text, '<=', 100_000);
    cmp_ok(length $text, '>', 90_000);
    like($text, qr/\n\z/, 'it ends with a line');
    ok((grep { decode_json($_) } split /\n/, $text) > 90, 'all lines of it are whole');
    is(scalar(() = $full->log =~ /full\.json"/g), 1, 'said once');
    $client = Ws::Client->open($full->port, '/?f=small');
    $client->close(1000);
    await('another one', sub { $full->read_file('small.json') =~ /"type":"end"/ });
    $full->stop;
};

case 'what waits of all recordings together is bounded' => sub {
    my $few = Ws::Nginx->new(level => 'error', http => "websocket_record_queue 64k;\n");
    my $there = $few->prefix;
    $few->{server} = "location / { websocket_channel \$arg_f mode=pubsub; websocket_record $there/\$arg_f; }\n";
    $few->start;
    my ($recorder) = recorders();
    my $open = Ws::Client->open($few->port, '/?f=open.json');
    await('the file', sub { -e "$there/open.json" });
    kill 'STOP', $recorder or die "kill: $!\n";
    for (1 .. 20) {
        $open->send(map { binary('x' x 1000) } 1 .. 50);
        $open->message for 1 .. 50;
    }
    my @names = map { "many-$_.json" } 1 .. 100;
    for my $name (@names) {
        my $client = Ws::Client->open($few->port, "/?f=$name");
        $client->send(text($name));
        is($client->text, $name) or last;
        $client->close(1000);
    }
    $few->await_log(qr/\[error\].*many-100\.json" is not written: others wait to be written, and "websocket_record_queue" has no room/);
    kill 'CONT', $recorder or die "kill: $!\n";
    await('what was lost', sub {
        $open->send(binary('later'));
        $open->message;
        $few->read_file('open.json') =~ /^\{[^\n]*"type":"lost"[^\n]*\}\n/m;
    });
    pass('is told in the file');
    $open->close(1000);
    $few->await_log(qr/\[error\].*open\.json" lacks \d+ messages with \d+ octets: they came faster .* "websocket_record_queue" had no room/);
    await('the end', sub { $few->read_file('open.json') =~ /"type":"end"/ });
    my $log = $few->log;
    my ($told, $whole) = (0, 0);
    for my $name (@names) {
        if ($log =~ /\Q$name\E" is not written/) { $told++ }
        elsif ($few->read_file($name) =~ /"type":"end"/) { $whole++ }
    }
    is($told + $whole, 100, 'of the others each has its end, or the log says that there is none');
    my $client = Ws::Client->open($few->port, '/?f=later.json');
    $client->close(1000);
    await('the end of a later one', sub { $few->read_file('later.json') =~ /"type":"end"/ });
    $few->stop;
};

case 'a worker that exits with many sessions' => sub {
    my $many = Ws::Nginx->new(level => 'error');
    my $there = $many->prefix;
    $many->{server} = "location / { websocket_channel r mode=sub; websocket_record $there/\$arg_f; }\n";
    $many->start;
    my @clients = map { Ws::Client->open($many->port, "/?f=$_.json") } 1 .. 700;
    $many->stop('TERM');
    my @lack = grep { $many->read_file("$_.json") !~ /"type":"end"/ } 1 .. 700;
    is(scalar @lack, 0, 'each has its end');
};

case 'what nginx -t says' => sub {
    my $location = sub { "location / { websocket_exec /bin/cat; $_[0] }\n" };
    for (
        [$location->('websocket_record on;'), qr/it is not a switch/],
        [$location->('websocket_record "";'), qr/expected the name of a file, or "off"/],
        [$location->('websocket_record off buffer=4k;'), qr/nothing behind "off"/],
        [$location->("websocket_record $prefix/rec/;"), qr/it is a directory/],
        [$location->("websocket_record $prefix/none/\$arg_f;"), qr/the directory "\Q$prefix\E\/none\/" cannot be used: No such file/],
        [$location->("websocket_record $prefix/conf/nginx.conf/\$arg_f;"), qr/cannot be used|is no directory/],
        [$location->('websocket_record no/such/$arg_f;'), qr/the directory "[^"]*\/no\/such\/" cannot be used/],
        [$location->("websocket_record $prefix/rec/\$arg_f/../x;"), qr/is empty, "." or ".."/],
        [$location->("websocket_record $prefix/rec/\$nosuch;"), qr/unknown "nosuch" variable/],
        [$location->("websocket_record $prefix/rec/x buffer=4095;"), qr/a size from 4096 to 1073741824/],
        [$location->("websocket_record $prefix/rec/x buffer=1025m;"), qr/a size from 4096 to 1073741824/],
        [$location->("websocket_record $prefix/rec/x format=cast;"), qr/"auto", "json" or "novnc"/],
        [$location->("websocket_record $prefix/rec/x x;"), qr/format=auto\|json\|novnc or buffer=size/],
        [$location->("websocket_record $prefix/rec/x; websocket_record off;"), qr/is duplicate/],
        [$location->("websocket_exec_pty on; websocket_record $prefix/rec/x format=novnc;"), qr/here is a terminal/],
        [$location->("websocket_record $prefix/rec/\$arg_f buffer=4k format=json;"), undef],
        [$location->("websocket_record $prefix/rec/x buffer=1g;"), undef],
        [$location->('websocket_record logs/$arg_f;'), undef],
        [$location->('websocket_record $arg_f;'), undef],
        [$location->('websocket_record_queue 64k;'), qr/"websocket_record_queue" directive is not allowed here/],
    ) {
        my ($server, $pattern) = @$_;
        my $checked = Ws::Nginx->new(server => $server);
        mkdir $checked->prefix . '/logs';
        my ($status, $text) = $checked->check_config;
        is($status, defined $pattern ? 1 : 0, $server =~ s/\s+\z//r);
        like($text, $pattern // qr/successful/);
    }
    SKIP: {
        skip 'only root has other users', 1 if $> != 0;
        mkdir "$prefix/private", 0700;
        my $checked = Ws::Nginx->new(user => 'nobody nogroup', server => $location->("websocket_record $prefix/private/\$arg_f;"));
        my ($status, $text) = $checked->check_config;
        like($text, qr/\[warn\].*"\Q$prefix\E\/private\/" in "websocket_record" directive cannot be used: Permission denied/);
    }
};

done_testing();
