package Ws::Markdown;

# What a page of documentation in Markdown has: its links, the anchors of its headings, and its blocks of code.

use strict;
use warnings;

use Exporter 'import';

our @EXPORT = qw(page anchors links blocks prose marked);

# page(file): the text of a page.
sub page {
    my ($file) = @_;

    open my $in, '<:encoding(UTF-8)', $file or die "$file: $!\n";
    local $/;
    return scalar <$in>;
}

# blocks(text, language): each fenced block of code in this language, or of all, as { line, language, text }. "line" is that of
# its first line. Blocks may be indented, as those of a list are.
sub blocks {
    my ($text, $language) = @_;

    my (@blocks, $open);
    my $number = 0;
    for my $line (split /\n/, $text) {
        $number++;
        if ($open) {
            if ($line =~ /^\s*```\s*$/) {
                push @blocks, $open;
                undef $open;
                next;
            }
            $open->{text} .= ($line =~ s/^$open->{indent}//r) . "\n";
        } elsif ($line =~ /^(\s*)```([\w-]*)/) {
            $open = { line => $number + 1, language => $2, indent => $1, text => '' };
        }
    }
    die "a block of code that begins in line $open->{line} does not end\n" if $open;
    return grep { !defined $language || $_->{language} eq $language } @blocks;
}

# marked(text, mark): the blocks behind a comment <!-- MARK: name -->, as { name => text }.
sub marked {
    my ($text, $mark) = @_;

    my @lines = split /\n/, $text, -1;
    my %marked;
    for my $block (blocks($text)) {
        my ($name) = ($lines[$block->{line} - 3] // '') =~ /^<!-- $mark: (\S+) -->$/ or next;
        die "$name is there twice\n" if exists $marked{$name};
        $marked{$name} = $block->{text};
    }
    return \%marked;
}

# prose(text): the text without blocks of code and comments, line for line.
sub prose {
    my ($text) = @_;

    my $inside = 0;
    my @lines = map {
        my $fence = /^\s*```/;
        my $hidden = $inside || $fence;
        $inside = !$inside if $fence;
        $hidden ? '' : $_;
    } split /\n/, $text;
    return join("\n", @lines) =~ s/<!--.*?-->/'' =~ s{[^\n]}{}gr/gser;
}

# anchors(text): what a link can lead to on the page, as GitHub and mdBook make it from the headings.
sub anchors {
    my ($text) = @_;

    my (%anchors, %seen);
    for my $heading (prose($text) =~ /^#{1,6}\s+(.*?)\s*$/mg) {
        my $anchor = lc $heading =~ s/\[([^\]]*)\]\([^)]*\)/$1/gr;
        $anchor =~ s/[^\w\- ]//g;
        $anchor =~ s/ /-/g;
        $anchor .= '-' . $seen{$anchor} if $seen{$anchor}++;
        $anchors{$anchor} = 1;
    }
    return \%anchors;
}

# links(text): the targets of all links, as [line, target].
sub links {
    my ($text) = @_;

    my @links;
    my $prose = prose($text) =~ s/`[^`\n]*`/'x'/ger;
    while ($prose =~ /\]\(\s*<?([^)\s>]*)>?(?:\s+"[^"]*")?\s*\)/g) {
        push @links, [1 + (substr($prose, 0, $-[0]) =~ tr/\n//), $1];
    }
    return @links;
}

1;
