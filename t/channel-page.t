# The chat page of the example configuration, in a browser: WebSocket and EventSource are in one room, and come back without loss.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Chromium;
use Ws::Http;

plan skip_all => 'Chromium is not installed' if !Ws::Chromium::installed();

my $ngx = Ws::Nginx->example('chat', workers => 2, noise => [qr/exited on signal 9/, qr/was locked by/])->start;
my $url = 'http://127.0.0.1:' . $ngx->port . '/#test';
publish($ngx->port, '/room/test', 'before anybody came');

my $browser = Ws::Chromium->open($url);
my @said = ('before anybody came');

sub lines {
    my ($side) = @_;

    return '[...document.querySelectorAll("#' . $side . '-log li")].map(item => item.textContent).join("|")';
}

sub both_show {
    my $expected = join '|', @said;
    for my $side (qw(socket events)) {
        $browser->await_value("document.querySelectorAll('#$side-log li').length >= " . @said);
        is($browser->evaluate(lines($side)), $expected, $side);
    }
}

sub say_by {
    my ($side, $line) = @_;

    $browser->await_value("document.getElementById('$side-state').textContent === 'connected'");
    $browser->evaluate("document.getElementById('$side-line').value = '$line'; document.getElementById('$side-form').requestSubmit()");
    push @said, $line;
    both_show();
}

case 'the history' => \&both_show;

case 'what one side says both show' => sub {
    say_by('socket', 'by WebSocket');
    say_by('events', 'by EventSource');
    publish($ngx->port, '/room/test', 'from elsewhere');
    push @said, 'from elsewhere';
    both_show();
};

case 'both come back where they were' => sub {
    for my $worker ($ngx->workers) {
        kill 'KILL', $worker;
    }
    await('new workers', sub { $ngx->workers == 2 });
    await('an answer', sub { eval { publish($ngx->port, '/room/test', 'while they were away') } });
    push @said, 'while they were away';
    both_show();
    say_by('socket', 'here again');
};

$browser->evaluate('events.close(); socket.close()');
$browser->close;
$ngx->stop;
done_testing();
