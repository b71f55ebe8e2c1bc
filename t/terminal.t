# conf/terminal.conf in a browser: a shell on a pseudo-terminal, drawn by xterm.js.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use File::Temp qw(tempdir);
use Compress::Zlib qw(uncompress);
use MIME::Base64 qw(decode_base64);
use Ws::Nginx;
use Ws::Client;
use Ws::Chromium;
use Ws::Process;

plan skip_all => 'Chromium is not installed' if !Ws::Chromium::installed();
plan skip_all => no_terminals() if no_terminals();

# What the user's shells do first is the user's: a shell that is killed while it does that may leave a lock there for the next ones.
my $ngx = do {
    local $ENV{HOME} = tempdir(CLEANUP => 1);
    Ws::Nginx->example('terminal', workers => 1, noise => [qr/exited on signal 9/, qr/was locked by/])->start;
};

# colours(png): how many pixels of an image have which colour: { 'red,green,blue' => count }.
sub colours {
    my ($png) = @_;

    die "not a PNG\n" if substr($png, 0, 8, '') ne "\x89PNG\r\n\x1a\n";
    my ($width, $height, $channels, $data) = (0, 0, 0, '');
    while (length $png) {
        my ($length, $type) = unpack 'N a4', substr $png, 0, 8, '';
        my $chunk = substr $png, 0, $length, '';
        substr $png, 0, 4, '';
        if ($type eq 'IHDR') {
            my ($depth, $kind);
            ($width, $height, $depth, $kind) = unpack 'N N C C', $chunk;
            $channels = { 2 => 3, 6 => 4 }->{$kind};
            die "an image of another kind\n" if $depth != 8 || !$channels;
        }
        $data .= $chunk if $type eq 'IDAT';
    }
    $data = uncompress($data) // die "not compressed\n";
    my ($stride, %seen) = ($width * $channels);
    my @above = (0) x $stride;
    for my $row (0 .. $height - 1) {
        my ($filter, @line) = unpack 'C*', substr $data, $row * ($stride + 1), $stride + 1;
        for my $i (0 .. $stride - 1) {
            my $left = $i < $channels ? 0 : $line[$i - $channels];
            my ($up, $corner) = ($above[$i], $i < $channels ? 0 : $above[$i - $channels]);
            my $predicted = 0;
            if ($filter == 1) { $predicted = $left }
            elsif ($filter == 2) { $predicted = $up }
            elsif ($filter == 3) { $predicted = int(($left + $up) / 2) }
            elsif ($filter == 4) {
                my ($by_left, $by_up, $by_corner) = map { abs($left + $up - $corner - $_) } $left, $up, $corner;
                $predicted = $by_left <= $by_up && $by_left <= $by_corner ? $left : $by_up <= $by_corner ? $up : $corner;
            }
            $line[$i] = ($line[$i] + $predicted) & 255;
        }
        $seen{join ',', @line[$_ * $channels .. $_ * $channels + 2]}++ for 0 .. $width - 1;
        @above = @line;
    }
    return \%seen;
}

my $browser = Ws::Chromium->open('http://127.0.0.1:' . $ngx->port . '/');

# The lines on the screen, without the blanks at their ends.
my $SCREEN = '[...Array(terminal.rows).keys()].map(row => terminal.buffer.active.getLine(terminal.buffer.active.viewportY + row)'
    . '?.translateToString(true)).join("\n")';

# type(text): as if at the keyboard of the terminal.
sub type {
    my ($text) = @_;

    $browser->call('Input.insertText', { text => $text });
    for my $type (qw(keyDown keyUp)) {
        $browser->call('Input.dispatchKeyEvent',
            { type => $type, key => 'Enter', code => 'Enter', windowsVirtualKeyCode => 13, ($type eq 'keyDown' ? (text => "\r") : ()) });
    }
}

sub await_screen {
    my ($pattern) = @_;

    $browser->await_value("/$pattern/m.test($SCREEN)");
    return pass($pattern);
}

case 'a prompt, a command, its output' => sub {
    await_screen('[$#] ?$');
    type('echo $((6 * 7)) caf\u00e9' =~ s/\\u00e9/\x{e9}/r);
    await_screen('^42 caf\u00e9$');
    type('tty');
    await_screen('^\/dev\/pts\/\d+$');
};

case 'the size is that of the page, and follows it' => sub {
    my $size = sub { $browser->evaluate('`${terminal.rows} ${terminal.cols}`') };
    my $before = $size->();
    type('stty size');
    await_screen("^$before\$");
    $browser->call('Emulation.setDeviceMetricsOverride',
        { width => 500, height => 300, deviceScaleFactor => 1, mobile => JSON::PP::false });
    await('the terminal to follow', sub { $size->() ne $before });
    type('clear; stty size');
    await_screen('^' . $size->() . '$');
};

case 'Ctrl-C' => sub {
    type('sleep 1000');
    $ngx->await_command(qr/^sleep 1000/);
    $browser->evaluate('terminal.input("\x03")');
    await('its end', sub { !grep { Ws::Process::command($_) =~ /^sleep 1000/ } $ngx->programs });
    pass('the program is interrupted');
};

case 'a screenshot is not blank' => sub {
    type('clear; printf "\033[31mred\033[32mgreen\033[44mblue\033[0m\n"');
    await_screen('^redgreenblue');
    # Drawn in the frame after the one that is under way.
    $browser->evaluate('new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))');
    my $colours = colours(decode_base64($browser->call('Page.captureScreenshot', { format => 'png' })->{data}));
    cmp_ok($colours->{'0,0,0'} // 0, '>', 100 * 200, 'the ground is black');
    cmp_ok(keys %$colours, '>', 20, 'letters have many shades');
    my %hue = (red => sub { $_[0] > 2 * $_[1] }, green => sub { $_[1] > 2 * $_[0] }, blue => sub { $_[2] > 2 * $_[0] });
    for my $name (sort keys %hue) {
        ok((grep { my @c = split /,/; $c[0] + $c[1] + $c[2] > 100 && $hue{$name}->(@c) } keys %$colours), $name);
    }
};

case 'the title is that which the program sets' => sub {
    type('printf "\033]0;what it is about\007"');
    $browser->await_value('document.title === "what it is about"');
    pass('the title of the page');
};

case 'a paste of any size arrives whole' => sub {
    type('stty -icanon -echo; head -c 3000000 | md5sum; stty icanon echo');
    await('the program', sub { grep { Ws::Process::command($_) =~ /^head/ } $ngx->programs });
    # A character of two units of UTF-16 and four octets stands at every place where a piece may end.
    $browser->evaluate('terminal.input("x" + "\u{1F600}".repeat(749999) + "yyy")');
    require Digest::MD5;
    await_screen('^' . Digest::MD5::md5_hex('x' . "\xf0\x9f\x98\x80" x 749_999 . 'yyy'));
};

case 'a lost connection is made again' => sub {
    kill 'KILL', $ngx->workers;
    await_screen('^\[connection lost, connecting again\]');
    $browser->await_value('shell.state === "open"');
    await_screen('[$#] ?$');
    type('echo here $((6 * 7)) again');
    await_screen('^here 42 again$');
};

case 'the shell ends, and the page says so' => sub {
    type('exit 3');
    await_screen('^\[closed: 1011 exit 3\]');
};

case 'a key starts another one' => sub {
    type('');
    await_screen('[$#] ?$');
    type('echo and $((6 * 7)) again');
    await_screen('^and 42 again$');
};

case 'read-only: what is typed goes nowhere' => sub {
    $browser->evaluate('shell.close(); terminal.reset(); window.watching = WsTerminal.attach(terminal, "shell", { readOnly: true })');
    $browser->await_value('watching.state === "open"');
    await_screen('[$#] ?$');
    type('echo $((6 * 7))');
    $browser->evaluate('terminal.input("echo $((6 * 7))\r", true)');
    $browser->evaluate('new Promise(done => setTimeout(done, 500))');
    unlike($browser->evaluate($SCREEN), qr/42|echo/);
    $browser->evaluate('watching.close()');
};

case 'a terminal that stays: the page is loaded again, and its screen is there' => sub {
    my $page = sub {
        $browser->call('Page.navigate', { url => 'http://127.0.0.1:' . $ngx->port . "/?$_[0]" });
        $browser->await_value('typeof shell === "object" && shell.state === "open" && location.search === "?' . $_[0] . '"');
    };
    $page->('shared');
    await_screen('[$#] ?$');
    type('kept=yes; echo here $((6 * 7))');
    await_screen('^here 42$');
    $page->('watch');
    await_screen('^here 42$');
    is($browser->evaluate('document.getElementById("state").textContent'), 'watching');
    is($browser->evaluate('terminal.options.disableStdin'), JSON::PP::true);
    $page->('shared');
    await_screen('^here 42$');
    type('clear; echo $kept $((6 * 7))');
    await_screen('^yes 42$');
    # What is shown of a lost connection goes when it is there again.
    kill 'KILL', $ngx->workers;
    await_screen('^\\[connection lost, connecting again\\]');
    $browser->await_value('shell.state === "open"');
    await_screen('[$#] ?$');
    ok(!$browser->evaluate("/connection lost/.test($SCREEN)"));
    $browser->evaluate('shell.close()');
};

is(join("\n", $browser->complaints), '', 'the browser has no complaint');

case 'a name that a foreign page may have is refused' => sub {
    my $client = Ws::Client->connect(port => $ngx->port);
    is($client->handshake('/shell', headers => [Host => 'attacker.example', Origin => 'http://attacker.example'])->{status}, 421);
    $client = Ws::Client->connect(port => $ngx->port);
    is($client->handshake('/shell', headers => [Origin => 'http://attacker.example'])->{status}, 403);
};

$browser->close;
$ngx->stop;
done_testing();
