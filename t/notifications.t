# The page of the example configuration for notifications, in a browser: what curl and the form publish is shown to whom it is
# for; the browser moves to the new worker processes after a reload, comes back after a kill, and misses nothing.

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
open my $in, '<', "$conf/notifications.conf" or die "notifications.conf: $!\n";
my $text = do { local $/; <$in> };
close $in;
$text =~ s/\@conf\@/$conf/g;
$text =~ s/\@port\@/%%PORT%%/g;
# Nobody waits for that here.
$text =~ s/(websocket_drain +)10s;/${1}500ms;/ or die "no websocket_drain\n";

my $ngx = Ws::Nginx->start(whole => $text, workers => 2, noise => [qr/exited on signal 9/, qr/was locked by/]);
my $port = $ngx->port;

publish($port, '/notify', "before $_") for 1 .. 7;
my $browser = Ws::Chromium->open("http://127.0.0.1:$port/#bob");
my @shown = map { "message before $_" } 3 .. 7;

sub shows {
    my (@more) = @_;

    push @shown, @more;
    my $list = '[...document.querySelectorAll("#log li")].map(item => item.className + " " + item.textContent).reverse()';
    $browser->await_value("$list.length >= " . @shown);
    is($browser->evaluate("$list.join('|')"), join('|', @shown));
}

case 'the last five' => sub {
    is($browser->await_value('document.getElementById("user").textContent'), 'bob');
    shows();
};

case 'curl notifies' => sub {
    like(`curl -s -d 'The backup is done' http://127.0.0.1:$port/notify`, qr/^queued messages: 8/);
    shows('message The backup is done');
    system(qw(curl -s -o /dev/null -d), 'for anna', "http://127.0.0.1:$port/notify?to=anna");
    system(qw(curl -s -o /dev/null -d), 'Your report is ready', '-H', 'X-EventSource-Event: success', "http://127.0.0.1:$port/notify?to=bob");
    shows('success Your report is ready');
};

sub submit {
    my ($line, $to, $kind) = @_;

    $browser->evaluate("for (const [id, value] of Object.entries({ line: '$line', to: '$to', kind: '$kind' }))"
        . ' document.getElementById(id).value = value; document.getElementById("notify").requestSubmit()');
    $browser->await_value('document.getElementById("line").value === ""');
}

case 'the form notifies' => sub {
    submit('to all', '', '');
    shows('message to all');
    submit('to anna', 'anna', 'warning');
    submit('to bob', 'bob', 'warning');
    shows('warning to bob');
};

case 'a reload: the browser goes over to the new workers' => sub {
    $ngx->reload;
    publish($port, '/notify', 'during the reload');
    await('the old workers to leave', sub { !$ngx->old_workers });
    publish($port, '/notify?to=bob', 'after the reload', 'X-EventSource-Event' => 'success');
    shows('message during the reload', 'success after the reload');
};

sub kill_workers {
    my %old = map { $_ => 1 } my @old = $ngx->workers;
    kill 'KILL', @old;
    await('new workers', sub { 2 == grep { !$old{$_} } $ngx->workers });
}

case 'killed workers' => sub {
    kill_workers();
    await('an answer', sub { eval { publish($port, '/notify', 'while it was away') } });
    shows('message while it was away');
};

case 'too much to come back to is told' => sub {
    # The browser tries again after some seconds, in which more is published than is kept, if the machine is not too busy.
    await('a line', sub {
        kill_workers();
        await('an answer', sub { eval { publish($port, '/notify', 'first') } });
        publish($port, '/notify', $_) for 2 .. 23;
        # Whatever it came back to, the last of these is the last line.
        $browser->await_value('document.querySelector("#log li").textContent === "23"');
        return $browser->evaluate('document.querySelector("#log li.lost") !== null');
    });
    like($browser->evaluate('document.querySelector("#log li.lost").textContent'), qr/^[1-9]\d* notifications came too long ago$/);
};

case 'who may notify, and how much' => sub {
    is(request($port, 'POST', '/notify', body => 'x' x 5000)->{status}, 413);
    is(request($port, 'POST', '/notify', Origin => 'https://elsewhere.example', body => 'x')->{status}, 403);
    is(request($port, 'POST', '/notifications?user=bob', body => 'x')->{status}, 405);
    is(request($port, 'GET', '/notifications?user=bob')->{status}, 406);
};

$browser->evaluate('source.close()');
$browser->close;
$ngx->stop;
done_testing();
