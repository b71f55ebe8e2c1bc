#!/usr/bin/perl
# syntax.pl [--check]: writes the syntax files for vim and VS Code (packaging/syntax), from the tables of directives and variables in src/.
# With --check nothing is written; it fails where a file is not what it would write, and where docs/directives.md differs from the table.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Path qw(make_path);
use JSON::PP;

my $root = abs_path(dirname(__FILE__) . '/..');
my $check = @ARGV && $ARGV[0] eq '--check';
my @wrong;

sub slurp {
    my ($file) = @_;

    open my $in, '<:encoding(UTF-8)', "$root/$file" or return '';
    local $/;
    return scalar <$in>;
}

# The table of directives.
my %context = (Http => 'http', Location => 'location, if in location', Anywhere => 'http, server, location, if in location');
my $table = join '', map { slurp(s{^\Q$root/}{}r) } sort glob "$root/src/conf/*.rs";
my %directive;
while ($table =~ /\brow\(\s*c"(\w+)",\s*Place::(\w+),\s*Arguments::(\w+)(?:\((\d+)\))?,/g) {
    $directive{$1} = { context => $context{$2} // die("a place that is not known: $2\n"), arguments => $3, count => $4 };
}
my $rows = () = $table =~ /\brow\(\s*c"/g;
die "the table of directives is not understood\n" if !$rows || $rows != keys %directive;

my %variable = map { $_ => 1 } slurp('src/nginx/variables.rs') =~ /"(websocket_\w+)"/g;
die "the table of variables is not understood\n" if keys %variable < 5;

# The documentation: the syntax of each directive, its context, and its first sentence.
my $reference = slurp('docs/directives.md');
my %section = $reference =~ /^### (websocket_\w+)\n(.*?)(?=^###? |\z)/msg;
for my $name (sort keys %directive) {
    my $section = $section{$name};
    if (!defined $section) {
        push @wrong, "docs/directives.md: nothing about $name";
        next;
    }
    my ($syntax) = $section =~ /^Syntax: +(.*);$/m;
    my ($context) = $section =~ /^Context: +(.*)$/m;
    my ($first) = $section =~ /^```\n.*?^```\n+(.*?(?:[.:](?=\s)|\n\n))/ms;
    if (!$syntax || $syntax !~ /^$name\b/ || !$first) {
        push @wrong, "docs/directives.md: $name has no syntax or no text";
        next;
    }
    push @wrong, "docs/directives.md: the context of $name is $directive{$name}{context}" if ($context // '') ne $directive{$name}{context};
    my $wanted = $directive{$name}{arguments};
    my $shown = $syntax eq $name ? 0 : 1;
    push @wrong, "docs/directives.md: $name and its arguments" if $shown == ($wanted eq 'None');
    $first =~ s/\[([^\]]*)\]\([^)]*\)/$1/g;
    $first =~ s/\s+/ /g;
    @{$directive{$name}}{qw(syntax text)} = ($syntax, $first =~ s/[:\s]+$/./r);
}
push @wrong, map { "docs/directives.md: there is no directive $_" } grep { !$directive{$_} } sort keys %section;
my ($variables) = $reference =~ /^## Variables\n(.*?)(?=^## |\z)/ms;
my %described = map { $_ => 1 } $variables =~ /\$(websocket_\w+)/g;
push @wrong, map { "docs/directives.md: nothing about \$$_" } grep { !$described{$_} } sort keys %variable;
push @wrong, map { "docs/directives.md: there is no \$$_" } grep { !$variable{$_} } sort keys %described;

# placed(file, text): writes it, or looks whether it is there.
sub placed {
    my ($file, $text) = @_;

    if ($check) {
        push @wrong, "$file is not what scripts/syntax.pl writes" if slurp($file) ne $text;
        return;
    }
    make_path(dirname("$root/$file"));
    open my $out, '>:encoding(UTF-8)', "$root/$file" or die "$file: $!\n";
    print {$out} $text or die "$file: $!\n";
    close $out or die "$file: $!\n";
}

my @directives = sort keys %directive;
# A variable whose name ends with "_" is the beginning of many.
my @names = map { /_\z/ ? "$_\\w+" : $_ } sort keys %variable;

placed('packaging/syntax/vim/after/syntax/nginx.vim', join('',
    "\" Directives of ngx_ws_exec, beside what vim knows of nginx. Copy after/ to ~/.vim/.\n",
    "\" Written by scripts/syntax.pl.\n\n",
    "\" The syntax file of nginx itself has directives inside of a match, that of vim has them by themselves.\n",
    "let s:how = hlexists('ngxName') ? ' contained ' : ' '\n",
    (map { "execute 'syn keyword ngxDirectiveThirdParty' . s:how . '$_'\n" } @directives)));

my $json = JSON::PP->new->canonical->pretty->indent_length(2)->space_before(0);
my $either = sub { join '|', @_ };
placed('packaging/syntax/vscode/syntaxes/ngx-ws-exec.tmLanguage.json', $json->encode({
    scopeName         => 'ngx-ws-exec.injection',
    injectionSelector => 'L:source.nginx -comment -string, L:source.nginx.conf -comment -string',
    patterns          => [
        { name => 'keyword.directive.module.nginx', match => '(?<![\\w$])(?:' . $either->(@directives) . ')(?=[\\s;])' },
        { name => 'variable.language.nginx', match => '\\$(?:\\{(?:' . $either->(@names) . ')\\}|(?:' . $either->(@names) . ')\\b)' },
    ],
}));
placed('packaging/syntax/vscode/snippets/ngx-ws-exec.json', $json->encode({ map {
    my $entry = $directive{$_};
    my ($rest) = ($entry->{syntax} // $_) =~ /^\w+ ?(.*)$/;
    my $body = $rest eq '' ? "$_;" : "$_ \${1:" . ($rest =~ s/([\$}\\])/\\$1/gr) . '};';
    ($_ => { prefix => $_, body => [$body], description => join ' ', grep { defined } $entry->{text}, "Context: $entry->{context}." });
} @directives }));
placed('packaging/syntax/vscode/package.json', $json->encode({
    name        => 'ngx-ws-exec',
    displayName => 'ngx_ws_exec for nginx',
    description => 'Directives and variables of ngx_ws_exec in configurations of nginx, beside an extension that knows nginx',
    version     => slurp('Cargo.toml') =~ /^version = "([\d.]+)"/m ? $1 : die("no version\n"),
    license     => 'Apache-2.0',
    publisher   => 'ngx-ws-exec',
    engines     => { vscode => '^1.60.0' },
    categories  => ['Programming Languages', 'Snippets'],
    contributes => {
        grammars => [{ path => './syntaxes/ngx-ws-exec.tmLanguage.json', scopeName => 'ngx-ws-exec.injection', injectTo => ['source.nginx', 'source.nginx.conf'] }],
        snippets => [{ language => 'nginx', path => './snippets/ngx-ws-exec.json' }],
    },
}));

if (@wrong) {
    print STDERR "$_\n" for @wrong;
    exit 1;
}
