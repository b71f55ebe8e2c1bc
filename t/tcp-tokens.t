# websocket_tcp_tokens: addresses by tokens, from files that change while nginx runs.

use strict;
use warnings;

use lib 't/lib';
use Test::More;
use Ws::Nginx;
use Ws::Client;
use Ws::Frame;
use Ws::Service;

my $one = Ws::Service->listen;
my $two = Ws::Service->listen;

my $ngx = Ws::Nginx->new;
my $prefix = $ngx->prefix;
mkdir "$prefix/dir" or die "$prefix/dir: $!\n";
chmod 0755, "$prefix/dir";
my $unix = Ws::Service->listen(unix => "$prefix/service.sock");
my $inside = Ws::Service->listen(unix => "$prefix/dir/vm");
my $outside = Ws::Service->listen(unix => "$prefix/docker");
chmod 0666, "$prefix/service.sock", "$prefix/dir/vm", "$prefix/docker";

# save(name, text): replaces a file as a whole.
sub save {
    my ($name, $text) = @_;

    overwrite("$name.new", $text);
    rename "$prefix/$name.new", "$prefix/$name" or die "$name: $!\n";
}

# overwrite(name, text): writes a file where it is.
sub overwrite {
    my ($name, $text) = @_;

    open my $file, '>', "$prefix/$name" or die "$name: $!\n";
    print {$file} $text;
    close $file or die "$name: $!\n";
    chmod 0644, "$prefix/$name";
}

my $first = "# who and where\nalpha: @{[$one->address]}\nby name: localhost:@{[$one->port]}\n"
    . "a/b+c: @{[$two->address]}\npath: unix_socket:$prefix/service.sock\nnear: unix_socket:service.sock\n";
save('tokens', $first);
save('dir/1', "beta: @{[$two->address]}\n");
save('secret', "deep: @{[$two->address]}\n");

$ngx->{server} = <<"EOT";
    websocket_close_timeout 500ms;
    location = /file {
        websocket_tcp_tokens  $prefix/tokens;
        websocket_tcp         \$websocket_tcp_target;
    }
    location = /directory {
        websocket_tcp_tokens  $prefix/dir/;
        websocket_tcp         \$websocket_tcp_target;
    }
    location = /later {
        websocket_tcp_tokens  $prefix/later;
        websocket_tcp         \$websocket_tcp_target;
    }
    location = /without { websocket_tcp \$websocket_tcp_target; }
    location = /shown {
        websocket_tcp_tokens  $prefix/tokens;
        return 200 "[\$websocket_tcp_target]";
    }
EOT
$ngx->start;

# status(uri): what the handshake is answered. Whoever gets a service leaves it.
sub status {
    my ($uri) = @_;

    my $client = Ws::Client->connect(port => $ngx->port);
    my $status = $client->handshake($uri)->{status};
    $client->abandon;
    # The kernel has completed the connection of a service before the client is answered.
    for my $service ($one, $two, $unix, $inside, $outside) {
        $service->accept while IO::Select->new($service->{socket})->can_read(0);
    }
    return $status;
}

# reaches(uri, service): whether the token leads to a service.
sub reaches {
    my ($uri, $service, $name) = @_;

    my $client = Ws::Client->open($ngx->port, $uri);
    my $peer = $service->accept;
    $client->send(binary('hello'));
    is($peer->read(5), 'hello', $name // $uri);
    is($client->close(1000), 'close 1000');
}

case 'a token leads to its service' => sub {
    reaches('/file?token=alpha', $one);
    reaches('/file?x=1&token=alpha&token=path', $one, 'the first token');
    reaches('/file?token=%61lph%61', $one, 'decoded');
    reaches('/file?token=by%20name', $one, 'a blank, and localhost');
    reaches('/file?token=a%2Fb+c', $two);
    reaches('/file?token=path', $unix);
    reaches('/file?token=near', $unix, 'a path that begins at the file');
    reaches('/directory?token=beta', $two);
    reaches('/directory?token=vm', $inside, 'a socket by its name');
};

case 'others are 404' => sub {
    is(status("/file$_"), 404, $_)
        for '', '?', '?token', '?token=', '?token=ALPHA', '?token=alpha%00', '?token=alpha:', '?Xtoken=alpha',
            '?token=' . 'x' x 5000;
    is(status("/directory?token=$_"), 404, "token $_")
        for '../docker', '..%2Fdocker', '%2e%2e/docker', './vm', "$prefix/docker", '1', '../secret', 'deep', '.', '..';
    is(status('/without?token=alpha'), 404, 'no tokens');
};

case 'a new file is read without a reload' => sub {
    my $open = Ws::Client->open($ngx->port, '/file?token=alpha');
    my $peer = $one->accept;
    save('tokens', "alpha: @{[$two->address]}\ngamma: @{[$one->address]}\n");
    await('the new token', sub { status('/file?token=gamma') == 101 });
    reaches('/file?token=alpha', $two, 'another address');
    await('the old token to go', sub { status('/file?token=path') == 404 });
    $open->send(binary('still'));
    is($peer->read(5), 'still', 'open connections stay');
    is($open->close(1000), 'close 1000');
};

case 'a file that is half written breaks no token' => sub {
    reaches('/file?token=alpha', $two);
    overwrite('tokens', "delta: @{[$one->address]}\nalp");
    await('the part that is there', sub { status('/file?token=delta') == 101 });
    reaches('/file?token=alpha', $two);
    await('the file to have rested', sub {
        status('/file?token=alpha') == 101 && $ngx->log =~ /"websocket_tcp_tokens": "[^"]*\/tokens" ends in the middle of a line/;
    });
    reaches('/file?token=alpha', $two);
    save('tokens', $first);
    await('the whole', sub { status('/file?token=delta') == 404 });
    reaches('/file?token=alpha', $one);
};

case 'a file that is gone leaves its tokens' => sub {
    rename "$prefix/tokens", "$prefix/away" or die "rename: $!\n";
    await('a look at what is gone', sub {
        reaches('/file?token=alpha', $one);
        $ngx->log =~ /"websocket_tcp_tokens": "[^"]*\/tokens" cannot be used: No such file/;
    });
    reaches('/file?token=alpha', $one);
    rename "$prefix/away", "$prefix/tokens" or die "rename: $!\n";
};

case 'a file may come later' => sub {
    is(status('/later?token=alpha'), 404);
    save('later', $first);
    await('the file', sub { status('/later?token=alpha') == 101 });
};

case 'a directory changes' => sub {
    save('dir/2', "epsilon: @{[$one->address]}\n");
    await('a new file', sub { status('/directory?token=epsilon') == 101 });
    unlink "$prefix/dir/2" or die "unlink: $!\n";
    await('a file to go', sub { status('/directory?token=epsilon') == 404 });
    reaches('/directory?token=beta', $two);
};

case 'tokens are in no log, and malformed lines are told by their numbers' => sub {
    overwrite('later', "$first\nhush hush\n");
    await('the line to be told', sub { status('/later?token=gone'); $ngx->log =~ /later", line 8: / });
    # What nginx itself tells at the level debug is no matter of this module.
    my $log = join "\n", grep { !/\[debug\]/ } split /\n/, $ngx->log;
    unlike($log, qr/hush/);
    unlike($log, qr/token=/);
};

ok($ngx->stop, 'stopped');

for (
    ['""',        qr/invalid value "" in "websocket_tcp_tokens" directive, expected a file, or a directory/],
    ['off',       qr/invalid value "off" in "websocket_tcp_tokens" directive: it is not a switch/],
    ['/t/$arg_x', qr/"websocket_tcp_tokens" directive: it is one file or directory for all requests/],
    ['/a /b',     qr/invalid number of arguments in "websocket_tcp_tokens" directive/],
    ["/a; websocket_tcp_tokens /b", qr/"websocket_tcp_tokens" directive is duplicate/],
) {
    my ($value, $says) = @$_;
    my $config = Ws::Nginx->new;
    $config->{server} = "location / { websocket_tcp_tokens $value; websocket_tcp \$websocket_tcp_target; }";
    my ($status, $said) = $config->check_config;
    isnt($status, 0, "refused: $value");
    like($said, $says);
}

case 'what cannot be read yet is a warning' => sub {
    my $config = Ws::Nginx->new;
    $config->{server} = "\nlocation / { websocket_tcp_tokens nosuch; websocket_tcp \$websocket_tcp_target; }";
    my ($status, $said) = $config->check_config;
    is($status, 0, 'accepted');
    like($said, qr{\[warn\].* "websocket_tcp_tokens" directive: "[^"]*/conf/nosuch" cannot be used: No such file.* in \S+/nginx\.conf:\d+});
};

done_testing();
