# noVNC, as Debian has it, in a browser shows the desktop of a VNC server through conf/vnc.conf.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Cwd qw(abs_path);
use MIME::Base64 qw(decode_base64);
use Ws::Chromium;
use Ws::Nginx;
use Ws::Service;

plan skip_all => 'Chromium is not installed' if !Ws::Chromium::installed();
plan skip_all => 'novnc or tigervnc-standalone-server is not installed'
    if !-e '/usr/share/novnc/vnc_lite.html' || !-x '/usr/bin/Xtigervnc';

my $ngx = Ws::Nginx->new(workers => 1);

# A desktop that picks its display; the port is one that was free a moment ago.
my $rfb = Ws::Service->refusing;
pipe(my $number, my $tell) or die "pipe: $!\n";
defined(my $desktop = fork) or die "fork: $!\n";
if (!$desktop) {
    POSIX::dup2(fileno $tell, 3);
    open STDIN, '<', '/dev/null';
    open STDOUT, '>', $ngx->prefix . '/desktop.log';
    open STDERR, '>&', \*STDOUT;
    $ENV{HOME} = $ngx->prefix;
    exec qw(Xtigervnc -displayfd 3 -SecurityTypes None -localhost yes -geometry 640x480 -depth 24 -nolisten tcp),
        -rfbport => $rfb or POSIX::_exit(127);
}
close $tell;
chomp(my $display = <$number> // die "no desktop:\n" . $ngx->read_file('desktop.log'));

sub paint {
    local $ENV{DISPLAY} = ":$display";
    system('xsetroot', @_) == 0 or die "xsetroot: $?\n";
}

paint('-mod', 40, 40, '-bg', '#204080', '-fg', '#ff8000');

$ngx->example('vnc', edit => sub { s/127\.0\.0\.1:5901/127.0.0.1:$rfb/ or die "vnc.conf has another address\n" })->start;

my $browser = Ws::Chromium->open(
    'http://127.0.0.1:' . $ngx->port . '/vnc_lite.html?path=websockify%3Ftoken%3Ddesktop');

# screenshot(): { colour => pixels } of what the browser shows, and the picture itself.
sub screenshot {
    my $picture = $browser->call('Page.captureScreenshot', { format => 'png' })->{data};
    my $colours = $browser->evaluate(<<"EOT");
(async () => {
    const image = new Image();
    image.src = 'data:image/png;base64,$picture';
    await image.decode();
    const canvas = new OffscreenCanvas(image.width, image.height);
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0);
    const pixels = context.getImageData(0, 0, image.width, image.height).data;
    const count = {};
    for (let at = 0; at < pixels.length; at += 4) {
        const colour = '#' + [0, 1, 2].map(i => pixels[at + i].toString(16).padStart(2, '0')).join('');
        count[colour] = (count[colour] || 0) + 1;
    }
    return count;
})()
EOT
    return ($colours, decode_base64($picture));
}

case 'the desktop is seen' => sub {
    my ($colours, $picture);
    await('the colours of the desktop', sub {
        ($colours, $picture) = screenshot();
        return ($colours->{'#204080'} // 0) > 10_000;
    }, $Ws::Chromium::TIMEOUT);
    cmp_ok($colours->{'#ff8000'} // 0, '>', 1_000, 'the lines of its pattern');
    my $path = abs_path('target') . '/novnc.png';
    if (open my $out, '>:raw', $path) {
        print $out $picture;
        close $out;
        note("the screenshot is in $path");
    }
};

case 'what changes on it is seen' => sub {
    paint('-solid', '#00a060');
    await('the new colour', sub { (screenshot())[0]{'#00a060'} // 0 > 100_000 }, $Ws::Chromium::TIMEOUT);
    cmp_ok((screenshot())[0]{'#204080'} // 0, '<', 1_000, 'nothing of the old one');
};

case 'a token that is unknown' => sub {
    require Ws::Client;
    my $client = Ws::Client->connect(port => $ngx->port);
    is($client->handshake('/websockify?token=other')->{status}, 404);
};

$browser->close;
kill 'TERM', $desktop;
waitpid $desktop, 0;
$ngx->stop;
done_testing();
