# What t/ahead.t says, where an event does not tell of the end of a connection, and comes again as long as something can be read.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;

plan skip_all => 'this nginx has no "use poll"' if !nginx_has('--with-poll_module');

$ENV{TEST_WS_EVENTS} = 'use poll;';
do './t/ahead.t' or die $@ || $!;
