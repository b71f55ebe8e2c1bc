package Chaos::Report;

# What was done, what was seen, and what should not have been.

use strict;
use warnings;

# show(head, model, faults, left, problems, recovered): prints the table. 1 if anything is in it that should not be, else 0.
sub show {
    my (%given) = @_;

    my $counts = $given{model}->counts;
    my $list = sub { my ($prefix, $of) = @_; return map { my $name = $_; $name =~ s/^\Q$prefix\E//r . " $of->{$_}" } grep { /^\Q$prefix\E/ } sort keys %$of };
    my $deliveries = 0;
    $deliveries += $counts->{$_} for grep { /^deliveries / } keys %$counts;
    my @problems = @{$given{problems}};
    my %of;
    push @{$of{/^(\w+): / ? $1 : 'other'}}, $_ for @problems;
    my $left = $given{left};
    my @crashes = grep { /exited on signal|panicked/ } @{$left->{alerts}};
    my @alerts = grep { !/exited on signal|panicked/ } @{$left->{alerts}};
    my @rows = (
        ['unexplained losses', scalar @{$of{loss} // []}],
        ['repeats', scalar @{$of{repeat} // []}],
        ['wrong orders', scalar @{$of{order} // []}],
        ['unexplained ends', scalar @{$of{end} // []}],
        ['other broken promises', scalar grep { !/^(?:loss|repeat|order|end): / } @problems],
        ['orphans', scalar @{$left->{orphans} // []}],
        ['leaked descriptors', scalar @{$left->{descriptors} // []}],
        ['sessions left', scalar @{$left->{sessions} // []}],
        ['zone cells left', scalar @{$left->{zone} // []}],
        ['alerts', scalar @alerts],
        ['crashes', scalar @crashes],
    );

    print "\n$given{head}\n";
    printf "%-22s %s\n", 'faults', join ', ', $list->('', $given{faults});
    printf "%-22s %d acknowledged, %d refused, %d of unknown fate\n", 'messages published', @$counts{qw(taken refused unknown)};
    printf "%-22s %.1f s of a publisher, %.1f s until all nodes published again\n", 'longest wait', $counts->{longest}, $given{recovered};
    printf "%-22s %s\n", 'sessions', join ', ', $list->('sessions ', $counts);
    printf "%-22s %s\n", 'ended by the server', join ', ', $list->('', $given{model}{ends});
    printf "%-22s %s\n", 'refused', join ', ', $list->('', $given{model}{refusals});
    printf "%-22s %s\n", 'deliveries of', join ', ', $list->('deliveries ', $counts);
    printf "%-22s %d\n", 'deliveries', $deliveries;
    printf "%-22s %d\n", 'gaps told', $counts->{gaps};
    my $failed = 0;
    for (@rows) {
        printf "%-22s %d\n", @$_;
        $failed = 1 if $_->[1];
    }
    my @all = (@problems, map { my $kind = $_; map { "$kind: $_" } @{$left->{$kind} // []} } sort keys %$left);
    print "\n" if @all;
    print map { "$_\n" } @all[0 .. ($#all > 39 ? 39 : $#all)];
    print @all - 40, " more\n" if @all > 40;
    return $failed;
}

1;
