#!/usr/bin/perl
# broken-links.pl FOLDER: prints each link of a page (*.md, also *.md.gz) below the folder that leads to no file, and fails if there is one.
# What is compressed in a package counts by the name that it had before.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Find;
use lib dirname(__FILE__) . '/../t/lib';
use Ws::Markdown;

my $folder = abs_path($ARGV[0] // die "which folder?\n") // die "$ARGV[0] is not there\n";
my (@pages, @broken);
find(sub { push @pages, $File::Find::name if /\.md(?:\.gz)?$/ && -f }, $folder);
die "no pages are in $folder\n" if !@pages;
for my $page (sort @pages) {
    my $text = $page =~ /\.gz$/ ? do { open my $in, '-|', 'zcat', $page or die "zcat: $!\n"; local $/; scalar <$in> } : page($page);
    for (links($text)) {
        my ($line, $target) = @$_;
        next if $target =~ /^(?:[a-z][a-z+.-]*:|#)/i;
        my $file = dirname($page) . '/' . $target =~ s/#.*//r;
        push @broken, substr($page, 1 + length $folder) . ":$line: $target" if !-e $file && !-e "$file.gz";
    }
}
print map { "$_\n" } @broken;
exit(@broken ? 1 : 0);
