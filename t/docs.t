# README and docs/: links lead somewhere, directives and variables that are named exist, and every snippet of a
# configuration is one that "nginx -t" takes. Nothing of it needs the network.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use Ws::Nginx;
use Ws::Markdown;

my $root = abs_path('.');
my @pages = (qw(README.md CONTRIBUTING.md SECURITY.md CHANGELOG.md client/README.md conf/README.md), map { s{^\Q$root/}{}r } sort glob "$root/docs/*.md");
my %text = map { $_ => page("$root/$_") } @pages;
my $reference = $text{'docs/directives.md'};

# Statements of a snippet by the context that they belong to. What is not there belongs into a location, or beside a "listen" or
# a "location" of the same snippet into the server.
my %context = map { my ($context, @names) = @$_; map { $_ => $context } @names } (
    [main => qw(user worker_processes worker_rlimit_nofile worker_rlimit_core worker_shutdown_timeout working_directory env events http pid
        daemon pcre_jit)],
    [http => qw(server map upstream geo split_clients log_format limit_req_zone limit_conn_zone proxy_cache_path websocket_channel_zone
        js_import js_path js_set lua_package_path)],
    [server => qw(location listen server_name ssl_certificate ssl_certificate_key ssl_client_certificate ssl_verify_client
        ssl_verify_depth ssl_protocols)],
);

# statements(snippet): each as [name, text], comments left out.
sub statements {
    my ($snippet) = @_;

    my (@statements, $current);
    my $depth = 0;
    $current = '';
    while ($snippet =~ /\G(?:(#[^\n]*)|("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(\\.)|([{};])|(\s+)|([^\s{};"'\\#]+|\#))/gcs) {
        my ($comment, $mark) = ($1, $4);
        next if defined $comment && $current !~ /\S$/;
        $current .= $&;
        # A brace in a variable's name or in a regular expression is none.
        next if !defined $mark || ($mark ne ';' && $current =~ /\$\{\w*\}?$/);
        $depth++ if $mark eq '{';
        $depth-- if $mark eq '}';
        if ($depth == 0 && ($mark eq ';' || $mark eq '}')) {
            my ($name) = $current =~ /(\w+)/;
            push @statements, [$name, $current =~ s/^\s+//r];
            $current = '';
        }
    }
    die "a statement does not end: $current\n" if $current =~ /\S/ || $depth;
    return @statements;
}

# There is an njs for the machine's own nginx only.
my $neighbours = $ENV{TEST_WS_NEIGHBOURS_DIR};

# configuration(nginx, snippet): the whole configuration around a snippet.
my $sockets = 0;
sub configuration {
    my ($ngx, $snippet) = @_;

    my $prefix = $ngx->prefix;
    my %parts = map { $_ => '' } qw(main http server location);
    my @statements = grep { $_->[0] ne 'load_module' } statements($snippet);
    my $in_server = grep { ($context{$_->[0]} // '') eq 'server' } @statements;
    for (@statements) {
        my ($name, $text) = @$_;
        my $context = $context{$name} // ($in_server ? 'server' : 'location');
        $parts{$context} .= "$text\n";
    }
    # What a snippet says of this machine is about another one: its sockets, files and names of hosts.
    for (values %parts) {
        s{\blisten\s+[^\s;]+}{"listen unix:$prefix/" . $sockets++ . '.sock'}ge;
        s{\b(ssl_certificate)\s+[^\s;]+}{$1 $prefix/cert.pem}g;
        s{\b(ssl_certificate_key)\s+[^\s;]+}{$1 $prefix/key.pem}g;
        s{\b(ssl_client_certificate|ssl_trusted_certificate|websocket_tcp_ssl_trusted_certificate)\s+[^\s;]+}{$1 $prefix/cert.pem}g;
        s{\b(websocket_channel_redis_password_file)\s+[^\s;]+}{$1 $prefix/secret}g;
        s{/var/log/nginx/}{logs/}g;
        s{\bwebsocket_record\s+/\S*/}{websocket_record $prefix/}g;
        s{^\s*user\s+[^;]+;}{}mg;
        s{\bwebsocket_exec_user\s+[^;]+;}{$> == 0 ? 'websocket_exec_user nobody;' : ''}ge;
        s{\b[a-z0-9-]+\.internal\b}{127.0.0.1}g;
        s{\bjs_import\s+(\S+)\s+from\s+[^\s;]+}{js_import $1 from $prefix/$1.js}g;
    }
    my $modules = $snippet =~ /\bjs_/ ? "load_module $neighbours/usr/lib/nginx/modules/ngx_http_js_module.so;\n" : '';
    my ($before) = $parts{main} =~ /^(?!.*\bhttp\s*\{)/s ? '' : $parts{main};
    my $events = $parts{main} =~ /\bevents\b/ ? '' : "events {}\n";
    my $start = "pid $prefix/nginx.pid;\nerror_log $prefix/error.log;\n$modules$events";
    if ($before) {
        return "$start$parts{main}";
    }
    my $server = '';
    if ($parts{server} || $parts{location}) {
        my $listen = $parts{server} =~ /\blisten\b/ ? '' : "listen unix:$prefix/" . $sockets++ . ".sock;\n";
        my $location = $parts{location} ? "location /snippet-of-a-location {\n$parts{location}}\n" : '';
        $server = "server {\n$listen$parts{server}$location}\n";
    }
    return "$start$parts{main}http {\n$parts{http}$server}\n";
}

case 'links lead somewhere' => sub {
    my $links = 0;
    for my $page (@pages) {
        my @broken;
        for (links($text{$page})) {
            my ($line, $target) = @$_;
            next if $target =~ /^[a-z][a-z+.-]*:/i;
            $links++;
            my ($path, $anchor) = $target =~ /^([^#]*)(?:#(.*))?$/;
            my $file = $path eq '' ? "$root/$page" : dirname("$root/$page") . "/$path";
            if (!-e $file) {
                push @broken, "$page:$line: $target is not there";
            } elsif (defined $anchor && !anchors($text{$page} && $path eq '' ? $text{$page} : page($file))->{$anchor}) {
                push @broken, "$page:$line: $target has no such heading";
            }
        }
        is(join("\n", @broken), '', $page);
    }
    cmp_ok($links, '>', 100, 'links were found');
};

case 'they do so where the documentation is installed' => sub {
    my $folder = tempdir(CLEANUP => 1);
    is(system("$root/scripts/install-documentation.sh", "$folder/doc"), 0, 'installed');
    is(`$root/scripts/broken-links.pl $folder/doc 2>&1`, '', 'and whole');
    is(page("$folder/doc/README.md"), $text{'README.md'}, 'README is that of the repository');
};

case 'each example is in their list' => sub {
    my $list = $text{'conf/README.md'};
    my %listed = map { $_ => 1 } map { /`(\w+)`/g } $list =~ /^\| (`[^|]*) \|/mg;
    is(join(' ', sort keys %listed), join(' ', sort map { m{(\w+)\.conf$} } glob "$root/conf/*.conf"));
};

case 'each page is in the book' => sub {
    my %linked = map { $_->[1] => 1 } links($text{'docs/SUMMARY.md'});
    is(join(' ', grep { !$linked{s{^docs/}{}r} } grep { m{^docs/} && $_ ne 'docs/SUMMARY.md' } @pages), '');
    my %indexed = map { s/#.*//r => 1 } map { $_->[1] } links($text{'docs/README.md'});
    is(join(' ', grep { !$indexed{$_} && $_ ne 'README.md' } sort keys %linked), '', 'and in its index');
};

case 'directives and variables that are named exist' => sub {
    my %directive = map { $_ => 1 } $reference =~ /^### (websocket_\w+)$/mg;
    my ($variables) = $reference =~ /^## Variables\n(.*?)(?=^## |\z)/ms;
    my %variable = map { $_ => 1 } $variables =~ /\$(websocket_\w+)/g;
    # There is one only in templates of messages.
    $variable{websocket_message} = 1;
    for my $page (grep { $_ ne 'CHANGELOG.md' } @pages) {
        # Names of metrics begin with nginx_; a name that ends with _ or * stands for several.
        my @named = $text{$page} =~ /(?<![\w\$])(websocket_[a-z_]+)(?![\w*])/g;
        my @unknown = grep { !$directive{$_} && !/_$/ } @named;
        # A variable whose name ends with _ is the beginning of many.
        my ($many) = map { qr/^(?:$_)/ } join '|', grep { /_$/ } sort keys %variable;
        push @unknown, map { "\$$_" } grep { !$variable{$_} && !/$many/ } $text{$page} =~ /\$(websocket_[a-z_]+)/g;
        is(join(' ', @unknown), '', $page);
    }
};

case 'the reference, the table of directives and the syntax files of editors say the same' => sub {
    my $said = `$root/scripts/syntax.pl --check 2>&1`;
    is($?, 0, 'scripts/syntax.pl --check') or diag($said);
    my ($vim) = grep { -x } '/usr/bin/vim';
    return if !$vim;
    my $ngx = Ws::Nginx->new;
    my $conf = $ngx->file('sites/nginx.conf', "location / {\n    websocket_exec /bin/cat;\n    websocket_nonsense on;\n}\n");
    my $out = $ngx->prefix . '/said';
    my $group = sub { qq{synIDattr(synID($_[0], 8, 1), "name")} };
    system($vim, '-N', '-u', 'NONE', '-i', 'NONE', '-es', '-c', "set rtp+=$root/packaging/syntax/vim/after | filetype on | syntax on", '-c', "edit $conf",
        '-c', 'set filetype=nginx', '-c', "call writefile([\&syntax, @{[$group->(2)]}, @{[$group->(3)]}], '$out')", '-c', 'qa!');
    my ($syntax, @groups) = split /\n/, $ngx->read_file('said');
    # A small vim has no syntax files.
    return if ($syntax // '') ne 'nginx';
    is($groups[0], 'ngxDirectiveThirdParty', 'vim knows a directive');
    isnt($groups[1] // '', 'ngxDirectiveThirdParty', 'and not what is none');
};

case 'nginx takes every snippet' => sub {
    my $ngx = Ws::Nginx->new;
    $ngx->certificate;
    $ngx->file('secret', "secret\n");
    $ngx->file("$_.js", 'export default {' . 'user, check, decide' =~ s/(\w+)/$1() {}/gr . '}') for qw(jwt token main);
    make_path($ngx->prefix . '/logs');
    my $count = 0;
    for my $page (grep { !m{^client/|CHANGELOG} } @pages) {
        for my $block (blocks($text{$page}, 'nginx')) {
            # Of the peers' own configurations nginx knows nothing.
            next if $block->{text} =~ /\bnchan_/;
            next if $block->{text} =~ /\bjs_/ && !$neighbours;
            $count++;
            my $name = "$page:$block->{line}";
            $ngx->{whole} = eval { configuration($ngx, $block->{text}) } // do { fail("$name: $@"); next };
            my ($status, $said) = $ngx->check_config;
            is($status, 0, $name) or diag($ngx->{whole}, $said);
        }
    }
    cmp_ok($count, '>', 30, "$count snippets");
};

done_testing();
