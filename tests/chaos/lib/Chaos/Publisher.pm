package Chaos::Publisher;

# Publishes messages that no one else publishes, one after the other, at any node that answers, and writes down what it is told of each.

use strict;
use warnings;

use JSON::PP qw(decode_json);
use POSIX ();
use Time::HiRes qw(time sleep);
use Ws::Client;
use Ws::Http;

# start(number, seed, ports, path, scope, channels, file, refusals, pause): a process that publishes until it gets TERM. The file has a line for each message: payload,
# channel, what became of it, seconds that took, id.
sub start {
    my ($class, %opt) = @_;

    my $pid = fork // die "fork: $!\n";
    return $pid if $pid;
    srand $opt{seed};
    my $over = 0;
    $SIG{TERM} = sub { $over = 1 };
    open my $out, '>', $opt{file} or POSIX::_exit(1);
    my ($client, $port) = ();
    for (my $n = 1; !$over; $n++) {
        my $channel = $opt{channels}[rand @{$opt{channels}}];
        my $payload = "$channel.$opt{number}.$n.";
        $payload .= 'x' x (rand() < 0.005 ? 1000 + rand 30_000 : rand 60);
        if (!$client || rand() < 0.02) {
            $port = $opt{ports}[rand @{$opt{ports}}];
            $client = eval { Ws::Client->connect(port => $port, timeout => 8) };
            if (!$client) {
                sleep 0.02;
                redo if !$over;
                last;
            }
        }
        my $begun = time;
        my $response = eval {
            $client->send(request_text('POST', "$opt{path}?id=$channel", Accept => 'text/json', body => $payload));
            $client->response;
        };
        my $took = time - $begun;
        # Whose connection is lost knows nothing.
        my ($unanswered, $id) = ('unknown', '');
        if ($response && $response->{status} =~ /^20[12]$/) {
            ($unanswered, $id) = ('taken', decode_json($response->{body})->{last_message_id});
        } elsif ($response && $response->{status} =~ $opt{refusals}) {
            $unanswered = 'refused';
        } elsif ($response && $response->{status} != 504) {
            $unanswered = "status $response->{status}";
        }
        undef $client if !$response;
        print $out join("\t", $payload =~ s/x+$//r, "$opt{scope}$channel", $unanswered, sprintf('%.3f', $took), $id), "\n";
        sleep($unanswered eq 'taken' ? $opt{pause} : 0.02);
    }
    close $out;
    POSIX::_exit(0);
}

1;
