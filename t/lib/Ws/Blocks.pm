package Ws::Blocks;

# Glue for Test::Nginx::Socket. Use it before that module:
#
#     use Ws::Blocks;
#     use Test::Nginx::Socket 'no_plan';
#     Ws::Blocks::defaults(config => ...);
#
# nginx is restarted only when the configuration changes, the port is picked at random, and every block is checked for
# [alert], [crit] and [emerg] unless it has a no_error_log section of its own.
#
# Sections of a block, beside those of Test::Nginx:
#   path      of the handshake, "/" by default
#   headers   (eval) a list for Ws::Frame::upgrade
#   send      (eval) octets after the handshake: a string, or an array of packets
#   joined    the first packet goes out together with the handshake
#   frames    the frames that must come back, one a line, as Ws::Frame::describe writes them. A Close's reason is compared
#             where the line has one.
# With "send" or "headers" the request is an opening handshake and the expected status is 101.

use strict;
use warnings;

use File::Basename qw(dirname);
use Cwd qw(abs_path);
use Test::More;
use Time::HiRes qw(time);

use Ws::Frame;
use Ws::Nginx qw(module_file await);
use Ws::Process qw(descendants command);

our %DEFAULT;

BEGIN {
    $ENV{TEST_NGINX_RANDOMIZE} //= 1;
    $ENV{TEST_NGINX_FORCE_RESTART_ON_TEST} //= 0;
    $ENV{TEST_NGINX_LOAD_MODULES} = module_file() if !$ENV{TEST_NGINX_LOAD_MODULES} && !$ENV{TEST_WS_STATIC};
    $ENV{TEST_NGINX_LOG_LEVEL} //= $ENV{TEST_WS_LOG_LEVEL} || 'info';
    delete @ENV{qw(NGINX NGINX_BUILD_DIR NGINX_SOURCE_DIR)};
    # Where Test::Nginx makes its private directory is relative to the current one.
    chdir abs_path(dirname(__FILE__) . '/../../..') or die "chdir: $!\n";
}

sub import {
    Ws::Frame->export_to_level(1);
}

# defaults(section => value ...): what a block has when it does not say otherwise.
sub defaults {
    %DEFAULT = (no_error_log => qr/\[(?:alert|crit|emerg)\]|panicked/, timeout => 10, @_);

    # "eval" in a block is evaluated there.
    Ws::Frame->export('Test::Base::Filter');
    Test::Nginx::Util::add_block_preprocessor(\&complete);
    Test::Nginx::Socket::add_response_body_check(\&check_frames);
    Test::Nginx::Util::no_long_string();
    Test::Nginx::Util::worker_connections(256);
}

sub complete {
    my ($block) = @_;

    for my $section (keys %DEFAULT) {
        $block->set_value($section, $DEFAULT{$section}) if !defined $block->$section;
    }

    if (defined $block->send || defined $block->headers) {
        # A section "headers" of one value is a scalar, of several an array.
        my $headers = $block->headers;
        my @headers = ref $headers ? @$headers : defined $headers ? die $block->name . ": headers must be a list in brackets: $headers\n" : ();
        my $send = $block->send;
        my @packets = ref $send ? @$send : defined $send ? $send : ();
        my $head = upgrade($block->path // '/', @headers);
        $head .= shift @packets if defined $block->joined;
        $block->set_value(raw_request => [$head, @packets]);
        $block->set_value(error_code => 101) if !defined $block->error_code && !defined $block->error_code_like;
    }
}

sub check_frames {
    my ($block, $body) = @_;

    my $expected = $block->frames // return;
    my @expected = split /\n/, $expected =~ s/\n+\z//r;
    my @got;
    my $ok = eval {
        while (my $frame = parse_frame(\$body)) {
            push @got, $frame;
        }
        1;
    };
    my @text = map { describe($_) } @got;
    push @text, "but: $@" =~ s/\n//r if !$ok;
    push @text, length($body) . ' octets of an unfinished frame' if $ok && length $body;
    for my $i (0 .. $#got) {
        $text[$i] =~ s/^(close \d+).*/$1/ if ($expected[$i] // '') =~ /^close \d+$/;
    }
    is(join("\n", @text), join("\n", @expected), $block->name . ' - frames');
}

END {
    local $?;
    my $gone = eval { await('all processes to end', sub { Ws::Nginx::reap(); !descendants($$) }); 1 };
    ok($gone, 'no process is left') or do {
        diag("left: $_ " . command($_)) for descendants($$);
        kill 'KILL', descendants($$);
    };
}

1;
