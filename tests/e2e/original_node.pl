#!/usr/bin/perl
# original_node.pl PEER
# Stands for another node's original proxy: asks PEER (https://ADDRESS:PORT) with AnyEvent::HTTP, and passes on what that
# client makes of the answer: every header, and the body as it has it. Says the port that it listens on.
use strict;
use warnings;
use AnyEvent;
use AnyEvent::Handle;
use AnyEvent::HTTP;
use AnyEvent::Socket;

my ($peer) = @ARGV;
my %open;
$| = 1;

sub serve {
    my ($handle, $head) = @_;
    my ($request, @lines) = split /\r\n/, $head;
    my ($method, $target) = split / /, $request;
    my %sent = (PVEDisableProxy => 'true', PVEClientIP => '192.0.2.7');
    for my $line (@lines) {
        my ($name, $value) = split /:\s*/, $line, 2;
        $sent{$name} = $value if $name =~ /^(?:cookie|accept-encoding|host)$/i;
    }
    http_request $method => "$peer$target",
        headers => \%sent,
        recurse => 0,
        timeout => 30,
        tls_ctx => { verify => 0 },
        sub {
            my ($body, $got) = @_;
            $body //= '';
            my $answer = "HTTP/1.1 $got->{Status} $got->{Reason}\r\n";
            # The client's own notes begin with a capital letter.
            for my $name (grep { /^[a-z]/ && !/^(?:connection|content-length)$/ } sort keys %$got) {
                $answer .= "$name: $got->{$name}\r\n";
            }
            $answer .= 'content-length: ' . length($body) . "\r\nconnection: close\r\n\r\n";
            $handle->push_write($answer . $body);
            $handle->push_shutdown;
        };
}

my $server = tcp_server '127.0.0.1', 0, sub {
    my ($socket) = @_;
    my $handle;
    $handle = AnyEvent::Handle->new(
        fh => $socket,
        on_eof => sub { delete $open{$_[0]} },
        on_error => sub { delete $open{$_[0]} },
    );
    $open{$handle} = $handle;
    $handle->push_read(line => "\r\n\r\n", sub { serve($_[0], $_[1]) });
}, sub {
    my (undef, undef, $port) = @_;
    print "$port\n";
    return;
};
AnyEvent->condvar->recv;
