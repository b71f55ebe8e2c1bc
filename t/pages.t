# The pages of conf/ and the console: readable at the width of a telephone and of a desk, light and dark. With SCREENSHOTS=folder
# they are left there to be looked at.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Cwd qw(abs_path);
use JSON::PP;
use MIME::Base64 qw(decode_base64);
use Ws::Nginx;
use Ws::Chromium;

plan skip_all => 'Chromium is not installed' if !Ws::Chromium->installed;

my $conf = abs_path('conf');
my $ngx = Ws::Nginx->start(http => 'types { text/html html; application/javascript js; }', server => <<"EOS");
    location /         { root $conf; }
    location = /line   { websocket_exec /bin/cat; websocket_console on; }
    location /client/  { alias $conf/client/; }
EOS

# What is wrong with a page, as text: run in the page.
my $LOOK = <<'EOJ';
(() => {
  const wrong = [];
  if (!document.querySelector('meta[name="viewport"][content*="width=device-width"]')) wrong.push("no viewport");
  if (!document.documentElement.lang) wrong.push("no language");
  if (document.documentElement.scrollWidth > innerWidth) wrong.push(`wider than the screen: ${document.documentElement.scrollWidth}`);
  const probe = document.createElement("i");
  probe.style.background = "Canvas";
  document.body.append(probe);
  const canvas = getComputedStyle(probe).backgroundColor;
  probe.remove();
  const numbers = color => color.match(/[\d.]+/g).map(Number);
  const luminance = color => {
    const [r, g, b] = numbers(color).map(part => part / 255).map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const background = element => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (numbers(color)[3] !== 0) return color;
    }
    return canvas;
  };
  for (const element of document.querySelectorAll("body *")) {
    const hasText = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (hasText && element.checkVisibility() && !element.matches("script, style, option, :disabled, :disabled *")) {
      const [one, two] = [getComputedStyle(element).color, background(element)].map(luminance);
      const contrast = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
      if (contrast < 4.5) wrong.push(`contrast of "${element.textContent.trim().slice(0, 30)}": ${contrast.toFixed(2)}`);
    }
    if (element.matches("input:not([type=hidden]), select, textarea") && !element.labels?.length && !element.ariaLabel) wrong.push(`no label: ${element.outerHTML}`);
    if (element.matches("button") && !element.textContent.trim() && !element.ariaLabel) wrong.push("a button without a name");
  }
  return wrong.join("; ");
})()
EOJ

my $browser = Ws::Chromium->open('about:blank');
for my $page (qw(html/index.html html/chat.html html/notifications.html html/topics.html log/index.html mqtt/index.html rooms/index.html tokens/index.html
    fleet/index.html line)) {
    case $page => sub {
        for my $width (390, 1200) {
            for my $scheme (qw(light dark)) {
                $browser->call('Emulation.setDeviceMetricsOverride', { width => $width, height => 800, deviceScaleFactor => 1, mobile => $width < 500 ? JSON::PP::true : JSON::PP::false });
                $browser->call('Emulation.setEmulatedMedia', { features => [{ name => 'prefers-color-scheme', value => $scheme }] });
                $browser->go("http://127.0.0.1:@{[$ngx->port]}/$page");
                # Something to wrap, where there is a place for it.
                $browser->evaluate('for (const place of document.querySelectorAll("pre, #answer")) place.append("a".repeat(400))');
                is($browser->evaluate($LOOK), '', "at $width, $scheme");
                next if !$ENV{SCREENSHOTS};
                my $png = $browser->call('Page.captureScreenshot', { format => 'png' })->{data};
                my $file = "$ENV{SCREENSHOTS}/" . ($page =~ s{/}{-}gr) . "-$width-$scheme.png";
                open my $out, '>:raw', $file or die "$file: $!\n";
                print $out decode_base64($png);
            }
        }
    };
}
$browser->close;
$ngx->stop;

done_testing();
