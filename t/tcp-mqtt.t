# MQTT over WebSocket, through conf/mqtt.conf to mosquitto: the package mqtt in Node.js and in a browser.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Cwd qw(abs_path);
use Ws::Chromium;
use Ws::Nginx;
use Ws::Service;

my $mosquitto = -x '/usr/sbin/mosquitto' ? '/usr/sbin/mosquitto' : undef;
my $package = abs_path('target') . '/mqtt/node_modules/mqtt';
plan skip_all => 'mosquitto is not installed' if !$mosquitto;
plan skip_all => 'the package mqtt is not in target/mqtt' if !-e "$package/package.json";

my $ngx = Ws::Nginx->new;
my $port = Ws::Service->refusing;
$ngx->file('mosquitto.conf', "listener $port 127.0.0.1\nallow_anonymous true\npersistence false\n"
    . ($> == 0 ? "user root\n" : ''));
defined(my $broker = fork) or die "fork: $!\n";
if (!$broker) {
    open STDIN, '<', '/dev/null';
    open STDOUT, '>', $ngx->prefix . '/mosquitto.log';
    open STDERR, '>&', \*STDOUT;
    exec $mosquitto, '-c', $ngx->prefix . '/mosquitto.conf' or POSIX::_exit(127);
}
await('the broker', sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) });

$ngx->example('mqtt', edit => sub { s/127\.0\.0\.1:1883/127.0.0.1:$port/ or die "mqtt.conf has another address\n" })->start;

case 'Node.js publishes and receives' => sub {
    my ($node) = grep { -x } map { "$_/node" } split /:/, $ENV{PATH};
    plan skip_all => 'Node.js is not installed' if !$node;
    my $script = $ngx->file('client.js', <<'EOT');
const mqtt = require(process.argv[2]);
const client = mqtt.connect(process.argv[3], { reconnectPeriod: 0 });
const big = Buffer.alloc(300000, 'x');
let received = 0;
client.on('error', error => { console.log('error', error.message); process.exit(1); });
client.on('connect', () => client.subscribe('room/#', { qos: 1 }, () => {
    client.publish('room/a', 'hello', { qos: 1 });
    client.publish('room/b', big, { qos: 2 });
}));
client.on('message', (topic, payload) => {
    console.log(topic, payload.length < 20 ? payload.toString() : payload.equals(big));
    if (++received === 2) client.end(false, () => console.log('ended'));
});
EOT
    my $url = 'ws://127.0.0.1:' . $ngx->port . '/mqtt';
    open my $said, '-|', 'timeout', 30, $node, $script, $package, $url or die "node: $!\n";
    my @lines = sort <$said>;
    close $said;
    is(join('', @lines), "ended\nroom/a hello\nroom/b true\n");
};

case 'so does a browser' => sub {
    plan skip_all => 'Chromium is not installed' if !Ws::Chromium::installed();
    my $browser = Ws::Chromium->open('http://127.0.0.1:' . $ngx->port . '/');
    $browser->await_value('document.getElementById("state").textContent === "subscribed"');
    $browser->evaluate('document.getElementById("line").value = "good \u20ac"; document.getElementById("say").requestSubmit()');
    is($browser->await_value('(document.querySelector("#messages li") || {}).textContent'), "good \x{20ac}");
    is(join("\n", grep { !/favicon|404/ } $browser->complaints), '', 'the browser has no complaint');
    $browser->close;
};

kill 'TERM', $broker;
waitpid $broker, 0;
$ngx->stop;
done_testing();
