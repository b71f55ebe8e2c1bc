package Ws::Chromium;

# A headless Chromium with one page, driven over its DevTools protocol by Ws::Client.

use strict;
use warnings;

use File::Temp qw(tempdir);
use JSON::PP;
use POSIX ();
use Time::HiRes qw(time);

use Ws::Client;
use Ws::Frame;
use Ws::Nginx qw(await);
use Ws::Process qw(descendants);

my $JSON = JSON::PP->new->utf8;

# Seconds. The first start on a machine reads a lot from disk.
our $TIMEOUT = 60;

sub installed {
    my ($path) = grep { -x } map { "$_/chromium" } split /:/, $ENV{PATH};
    return $path;
}

# open(url): a browser with that page.
sub open {
    my ($class, $url) = @_;

    my $profile = tempdir('ngx-ws-chromium-XXXXXXXX', TMPDIR => 1, CLEANUP => 1);
    defined(my $pid = fork) or die "fork: $!\n";
    if (!$pid) {
        $SIG{PIPE} = 'DEFAULT';
        setpgrp;
        CORE::open(STDIN, '<', '/dev/null');
        CORE::open(STDOUT, '>', "$profile/stdout");
        CORE::open(STDERR, '>', "$profile/stderr");
        $ENV{HOME} = $profile;
        exec installed(), qw(
            --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
            --disable-component-update --disable-sync --disable-extensions --disable-dev-shm-usage
            --remote-debugging-port=0
        ), "--user-data-dir=$profile", 'about:blank'
            or POSIX::_exit(127);
    }

    my $self = bless { pid => $pid, owner => $$, next => 1, events => [] }, $class;
    my ($port) = await('Chromium to start', sub {
        die "Chromium ended\n" if waitpid($pid, POSIX::WNOHANG()) == $pid;
        CORE::open(my $in, '<', "$profile/DevToolsActivePort") or return;
        my $line = <$in> // return;
        return $line =~ /^(\d+)$/ ? $1 : undef;
    }, $TIMEOUT);

    my $target = await('its page', sub {
        my $client = eval { Ws::Client->connect(port => $port) } or return;
        $client->send("GET /json/list HTTP/1.1\r\nHost: 127.0.0.1:$port\r\nConnection: close\r\n\r\n");
        my ($page) = grep { $_->{type} eq 'page' } @{$JSON->decode($client->response->{body})};
        return $page && $page->{webSocketDebuggerUrl};
    }, $TIMEOUT);
    my ($path) = $target =~ m{^ws://[^/]+(/.*)$};
    $self->{client} = Ws::Client->open($port, $path, headers => [Host => "127.0.0.1:$port"], timeout => $TIMEOUT);

    $self->call('Runtime.enable');
    $self->call('Log.enable');
    $self->call('Page.enable');
    $self->go($url);
    return $self;
}

# go(url): loads a page and waits for its load event.
sub go {
    my ($self, $url) = @_;

    my $result = $self->call('Page.navigate', { url => $url });
    die "Chromium: $result->{errorText}\n" if $result->{errorText};
    $self->await_event('Page.loadEventFired');
}

# call(method, parameters): the result of a DevTools command.
sub call {
    my ($self, $method, $parameters) = @_;

    my $id = $self->{next}++;
    $self->{client}->send(text($JSON->encode({ id => $id, method => $method, params => $parameters // {} })));
    while (1) {
        my $message = $JSON->decode($self->{client}->text($TIMEOUT));
        if (!defined $message->{id}) {
            push @{$self->{events}}, $message;
            next;
        }
        next if $message->{id} != $id;
        die "DevTools: $message->{error}{message}\n" if $message->{error};
        return $message->{result};
    }
}

sub await_event {
    my ($self, $method) = @_;

    while (1) {
        for my $i (0 .. $#{$self->{events}}) {
            next if $self->{events}[$i]{method} ne $method;
            return splice @{$self->{events}}, $i, 1;
        }
        my $message = $JSON->decode($self->{client}->text($TIMEOUT));
        push @{$self->{events}}, $message if $message->{method};
    }
}

# evaluate(expression): its value; a promise is awaited.
sub evaluate {
    my ($self, $expression) = @_;

    my $result = $self->call('Runtime.evaluate',
        { expression => $expression, awaitPromise => JSON::PP::true, returnByValue => JSON::PP::true });
    if (my $thrown = $result->{exceptionDetails}) {
        die 'page: ' . ($thrown->{exception}{description} // $thrown->{text}) . "\n";
    }
    return $result->{result}{value};
}

# await_value(expression): until it is true in the page; returns it.
sub await_value {
    my ($self, $expression) = @_;

    return await("$expression in the page", sub { $self->evaluate($expression) }, $TIMEOUT);
}

# complaints(): exceptions, and what the console or the security policy had to say, as text.
sub complaints {
    my ($self) = @_;

    $self->evaluate('1');
    return map {
        $_->{method} eq 'Runtime.exceptionThrown' ? $_->{params}{exceptionDetails}{text}
            : $_->{method} eq 'Log.entryAdded' && $_->{params}{entry}{level} eq 'error' ? $_->{params}{entry}{text} : ()
    } @{$self->{events}};
}

sub close {
    my ($self) = @_;

    my $pid = delete $self->{pid} or return;
    kill 'KILL', -$pid;
    await('Chromium to end', sub { Ws::Nginx::reap(); !kill 0, -$pid });
}

sub DESTROY {
    my ($self) = @_;

    return if $self->{owner} != $$;
    local ($?, $@, $!);
    eval { $self->close };
}

1;
