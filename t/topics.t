# The page of the example configuration for topics, in a browser: topics are taken up and left on one WebSocket, what is said is shown to
# those who have the topic, and after killed workers each topic goes on where it was.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Cwd qw(abs_path);
use Ws::Nginx;
use Ws::Chromium;
use Ws::Http;

plan skip_all => 'Chromium is not installed' if !Ws::Chromium::installed();

my $conf = abs_path('conf');
open my $in, '<', "$conf/topics.conf" or die "topics.conf: $!\n";
my $text = do { local $/; <$in> };
close $in;
$text =~ s/\@conf\@/$conf/g;
$text =~ s/\@port\@/%%PORT%%/g;

my $ngx = Ws::Nginx->start(whole => $text, workers => 2, noise => [qr/exited on signal 9/, qr/was locked by/]);
my $port = $ngx->port;

publish($port, '/topics/trains', "train $_") for 1 .. 4;
my $browser = Ws::Chromium->open("http://127.0.0.1:$port/");
my @shown;

sub shows {
    push @shown, @_;
    my $list = '[...document.querySelectorAll("#log li")].map(item => item.className + " " + item.firstChild.textContent + ": "'
        . ' + item.lastChild.textContent).reverse()';
    $browser->await_value("$list.length >= " . @shown);
    is($browser->evaluate("$list.join('|')"), join('|', @shown));
}

sub state_is { my ($state) = @_; return $browser->await_value("document.getElementById('state').textContent === '$state'") }

sub click { my ($topic) = @_; return $browser->evaluate("document.getElementById('$topic').click()") }

sub say {
    my ($topic, $line) = @_;

    $browser->evaluate("document.getElementById('topic').value = '$topic'; document.getElementById('line').value = '$line';"
        . " document.getElementById('say').requestSubmit()");
    $browser->await_value('document.getElementById("line").value === ""');
}

case 'what everybody gets' => sub {
    state_is('connected');
    # The subscription is on its way.
    my $tries = 0;
    await('a notice', sub { request($port, 'POST', '/topics/notices', body => 'closed on Sunday ' . ++$tries)->{status} == 201 });
    $browser->await_value("document.querySelector('#log li')?.lastChild.textContent === 'closed on Sunday $tries'");
    # Those before the subscription come too, as far as the page asks for them.
    my $count = $browser->evaluate('document.querySelectorAll("#log li").length');
    shows(map { "notice notice: closed on Sunday $_" } $tries - $count + 1 .. $tries);
};

case 'a topic begins with its last messages' => sub {
    click('trains');
    shows(map { "message trains: train $_" } 2 .. 4);
    publish($port, '/topics/weather', 'rain');
    publish($port, '/topics/trains', 'train 5');
    shows('message trains: train 5');
};

case 'the page says something' => sub {
    say('trains', 'platform 3');
    shows('message trains: platform 3');
    say('weather', 'sun');
    click('weather');
    shows('message weather: rain', 'message weather: sun');
};

case 'a topic that is left' => sub {
    click('trains');
    await('nobody to be there', sub { request($port, 'GET', '/topics/trains', Accept => 'text/json')->{body} =~ /"subscribers": 0/ });
    is(request($port, 'POST', '/topics/trains', body => 'too late')->{status}, 202);
    publish($port, '/topics/weather', 'snow');
    shows('message weather: snow');
};

case 'killed workers: each topic goes on' => sub {
    my %old = map { $_ => 1 } my @old = $ngx->workers;
    kill 'KILL', @old;
    await('new workers', sub { 2 == grep { !$old{$_} } $ngx->workers });
    await('an answer', sub { eval { publish($port, '/topics/weather', 'fog') } });
    publish($port, '/topics/notices', 'open again');
    state_is('connected');
    publish($port, '/topics/weather', 'wind');
    # What was published to several while nobody was there comes topic by topic.
    my $list = '[...document.querySelectorAll("#log li")].map(item => item.textContent).reverse()';
    $browser->await_value("$list.length >= " . (@shown + 3));
    my @more = splice @{[split /\|/, $browser->evaluate("$list.join('|')")]}, @shown;
    is_deeply([grep { /^weather/ } @more], ['weatherfog', 'weatherwind']);
    is_deeply([grep { /^notice/ } @more], ['noticeopen again']);
};

case 'what may not be named' => sub {
    $browser->evaluate('about("subscribe", "notices"); about("subscribe", "No Topic")');
    state_is('No Topic: 403 subscribing is not allowed');
    is(request($port, 'POST', '/topics/trains', body => 'x' x 5000)->{status}, 413);
};

$browser->evaluate('socket.onclose = null; socket.close()');
$browser->close;
$ngx->stop;
done_testing();
