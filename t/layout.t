# A module that does not fit is refused, with a message that says why.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;

# The C part of this one was compiled with other structs than its Rust part was told of.
case 'the parts of the module do not fit each other' => sub {
    my $module = $ENV{TEST_WS_TORN_MODULE} or plan skip_all => 'TEST_WS_TORN_MODULE names no module';

    my ($status, $said) = Ws::Nginx->new(modules => "load_module $module;")->check_config;
    is($status, 1, 'refused');
    like($said, qr/\[emerg\].* ws_exec: \S+ is \d+ in nginx's headers but \d+ in the module's bindings: rebuild/,
        'by the guard, of a struct of another size');
    # The struct has its size, and what has moved is within one word.
    like($said, qr/\[emerg\].* ws_exec: the bits of ngx_buf_t\.in_file are others in nginx's headers than in .* bindings: rebuild/,
        'by the guard, of a bit field');
};

case 'the module was built for another nginx' => sub {
    my $module = $ENV{TEST_WS_OTHER_MODULE} or plan skip_all => 'TEST_WS_OTHER_MODULE names no module';

    my ($status, $said) = Ws::Nginx->new(modules => "load_module $module;")->check_config;
    is($status, 1, 'refused');
    like($said, qr/\[emerg\] module "\S+" version \d+ instead of \d+/, 'by nginx');
};

done_testing();
