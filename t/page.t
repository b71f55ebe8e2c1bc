# The page of the example configuration, in a browser: it counts to ten, and cat answers.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Chromium;

plan skip_all => 'Chromium is not installed' if !Ws::Chromium::installed();

my $ngx = Ws::Nginx->example('run', workers => 2)->start;

my $browser = Ws::Chromium->open('http://127.0.0.1:' . $ngx->port . '/');

case 'it counts to ten' => sub {
    $browser->await_value('document.querySelectorAll("#numbers li").length >= 10');
    is($browser->evaluate('[...document.querySelectorAll("#numbers li")].map(item => item.textContent).join(" ")'),
        '1 2 3 4 5 6 7 8 9 10');
    is($browser->await_value('document.getElementById("count-state").textContent.startsWith("closed") '
        . '&& document.getElementById("count-state").textContent'), 'closed with code 1000');
};

case 'once more' => sub {
    is($browser->evaluate('(document.getElementById("again").click(), document.querySelectorAll("#numbers li").length)'), 0,
        'from the beginning');
    $browser->await_value('document.querySelectorAll("#numbers li").length === 10');
    pass('ten again');
};

case 'cat answers' => sub {
    for my $line ('hello', 'caf\u00e9 \ud83d\ude00') {
        $browser->evaluate("document.getElementById('line').value = '$line'; document.getElementById('say').requestSubmit()");
        $browser->await_value("document.getElementById('echo').textContent.endsWith('$line\\n')");
        pass($line);
    }
};

is(join("\n", $browser->complaints), '', 'the browser has no complaint');

$browser->close;
$ngx->stop;
done_testing();
