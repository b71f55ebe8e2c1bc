package Chaos::Clients;

# A process of clients: an event loop, its peers, and a record of what they saw.

use strict;
use warnings;

use Chaos::Loop;
use Chaos::Record;
use POSIX ();
use Time::HiRes qw(time);

# start(seed => n, file => path, make => code): make->(loop => ..., record => ...) makes the peers. It ends by itself when all of them are over; with
# TERM they leave now.
sub start {
    my ($class, %opt) = @_;

    my $pid = fork // die "fork: $!\n";
    return $pid if $pid;
    srand $opt{seed};
    my $hurry = 0;
    $SIG{TERM} = sub { $hurry ||= time };
    $SIG{INT} = $SIG{PIPE} = 'IGNORE';
    my $done = eval {
        my $loop = Chaos::Loop->new;
        my $record = Chaos::Record->new($opt{file});
        $opt{make}->(loop => $loop, record => $record);
        my $told = 0;
        $loop->run(sub {
            if ($hurry && !$told++) {
                $_->hurry for $loop->peers;
            }
            return 1 if $hurry && time - $hurry > 2 * $Chaos::Peer::PATIENCE;
            return !grep { !$_->is_gone } $loop->peers;
        });
        $record->fault('hang', "$_->{kind} at $_->{port} does not end: $_->{state}") for grep { !$_->is_gone } $loop->peers;
        $record->close;
        1;
    };
    print STDERR "a client: $@" if !$done;
    POSIX::_exit($done ? 0 : 1);
}

1;
