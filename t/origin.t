# websocket_origin: which pages may connect (RFC 6455, sections 4.2.2 and 10.2; RFC 6454).

use strict;
use warnings;

use lib 't/lib';
use Ws::Blocks;
use Test::Nginx::Socket 'no_plan';

Ws::Blocks::defaults(
    path        => '/same',
    http_config => <<'EOT',
    map $arg_who $allowed {
        default https://nobody.example;
        friend  https://friend.example;
    }
EOT
    config => <<'EOT',
        keepalive_timeout 0;
        websocket_close_timeout 300ms;
        location = /same { websocket_exec /bin/cat; }
        location = /also { websocket_exec /bin/cat; websocket_origin same; }
        location = /any  { websocket_exec /bin/cat; websocket_origin any; }
        location = /list {
            websocket_exec /bin/cat;
            websocket_origin https://app.example.com http://dev.example.com:8080 *.example.net "~^https://[a-z]{3}\.test$";
        }
        location = /variable { websocket_exec /bin/cat; websocket_origin $allowed; }
EOT
);

run_tests();

__DATA__

=== no Origin passes
--- send eval: close_frame(1000)
--- frames: close 1000

=== same host
--- headers eval: [Origin => 'http://localhost']
--- send eval: close_frame(1000)
--- frames: close 1000

=== same host in another case
--- headers eval: [Host => 'LocalHost', Origin => 'HTTP://LOCALHOST']
--- send eval: close_frame(1000)
--- frames: close 1000

=== the authority of the request line counts, not the header
--- path: http://localhost:8080/same
--- headers eval: [Host => 'other.example', Origin => 'http://localhost:8080']
--- send eval: close_frame(1000)
--- frames: close 1000

=== the header does not, where the request line has an authority
--- path: http://localhost/same
--- headers eval: [Host => 'other.example', Origin => 'http://other.example']
--- error_code: 403

=== same host and port
--- headers eval: [Host => 'localhost:8080', Origin => 'http://localhost:8080']
--- send eval: close_frame(1000)
--- frames: close 1000

=== same host, the default port said once
--- headers eval: [Host => 'localhost:80', Origin => 'http://localhost']
--- send eval: close_frame(1000)
--- frames: close 1000

=== same address
--- headers eval: [Host => '127.0.0.1:8080', Origin => 'http://127.0.0.1:8080']
--- send eval: close_frame(1000)
--- frames: close 1000

=== same IPv6 address
--- headers eval: [Host => '[::1]:8080', Origin => 'http://[::1]:8080']
--- send eval: close_frame(1000)
--- frames: close 1000

=== same, said explicitly
--- path: /also
--- headers eval: [Origin => 'http://localhost']
--- send eval: close_frame(1000)
--- frames: close 1000

=== same, said explicitly, another host
--- path: /also
--- headers eval: [Origin => 'http://other']
--- error_code: 403

=== another host
--- headers eval: [Origin => 'http://evil.example']
--- error_code: 403

=== another port
--- headers eval: [Host => 'localhost:8080', Origin => 'http://localhost:8081']
--- error_code: 403

=== no port against a port
--- headers eval: [Host => 'localhost:8080', Origin => 'http://localhost']
--- error_code: 403

=== the host as a prefix
--- headers eval: [Origin => 'http://localhost.evil.example']
--- error_code: 403

=== the host as a suffix
--- headers eval: [Origin => 'http://evil.localhost']
--- error_code: 403

=== the host as user information
--- headers eval: [Origin => 'http://localhost@evil.example']
--- error_code: 403

=== the host in the path
--- headers eval: [Origin => 'http://evil.example/localhost']
--- error_code: 403

=== null
--- headers eval: [Origin => 'null']
--- error_code: 403

=== an empty Origin
--- headers eval: [Origin => '']
--- error_code: 403

=== not a URL
--- headers eval: [Origin => 'localhost']
--- error_code: 403

=== two Origins, the wrong one first
--- headers eval: [Origin => ['http://evil.example', 'http://localhost']]
--- error_code_like: ^40[03]$

=== two Origins, the wrong one last
--- headers eval: [Origin => ['http://localhost', 'http://evil.example']]
--- error_code_like: ^40[03]$

=== two Origins in one line
--- headers eval: [Origin => 'http://localhost http://evil.example']
--- error_code_like: ^40[03]$

=== any
--- path: /any
--- headers eval: [Origin => 'https://evil.example']
--- send eval: close_frame(1000)
--- frames: close 1000

=== any, null
--- path: /any
--- headers eval: [Origin => 'null']
--- send eval: close_frame(1000)
--- frames: close 1000

=== a listed origin
--- path: /list
--- headers eval: [Origin => 'https://app.example.com']
--- send eval: close_frame(1000)
--- frames: close 1000

=== a listed origin with its port
--- path: /list
--- headers eval: [Origin => 'http://dev.example.com:8080']
--- send eval: close_frame(1000)
--- frames: close 1000

=== a listed origin, host in another case
--- path: /list
--- headers eval: [Origin => 'https://App.Example.COM']
--- send eval: close_frame(1000)
--- frames: close 1000

=== a listed origin, another scheme
--- path: /list
--- headers eval: [Origin => 'http://app.example.com']
--- error_code: 403

=== a listed origin, another port
--- path: /list
--- headers eval: [Origin => 'https://app.example.com:8443']
--- error_code: 403

=== a listed origin and more
--- path: /list
--- headers eval: [Origin => 'https://app.example.com.evil.example']
--- error_code: 403

=== a list without "same": the host itself
--- path: /list
--- headers eval: [Origin => 'http://localhost']
--- error_code: 403

=== a subdomain
--- path: /list
--- headers eval: [Origin => 'https://a.example.net']
--- send eval: close_frame(1000)
--- frames: close 1000

=== a subdomain of a subdomain
--- path: /list
--- headers eval: [Origin => 'http://a.b.example.net']
--- send eval: close_frame(1000)
--- frames: close 1000

=== something that ends like the domain
--- path: /list
--- headers eval: [Origin => 'https://evilexample.net']
--- error_code: 403

=== the domain in the middle
--- path: /list
--- headers eval: [Origin => 'https://a.example.net.evil.example']
--- error_code: 403

=== the domain in a path
--- path: /list
--- headers eval: [Origin => 'https://evil.example/a.example.net']
--- error_code: 403

=== a regular expression
--- path: /list
--- headers eval: [Origin => 'https://abc.test']
--- send eval: close_frame(1000)
--- frames: close 1000

=== a regular expression that does not match
--- path: /list
--- headers eval: [Origin => 'https://abcd.test']
--- error_code: 403

=== a variable
--- path: /variable?who=friend
--- headers eval: [Origin => 'https://friend.example']
--- send eval: close_frame(1000)
--- frames: close 1000

=== a variable, another value
--- path: /variable
--- headers eval: [Origin => 'https://friend.example']
--- error_code: 403
