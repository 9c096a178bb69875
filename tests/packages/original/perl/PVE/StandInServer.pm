package PVE::StandInServer;
# A stand-in for the products' HTTP server: it takes what that one takes, accepts as that one does, and speaks as that one
# does. It serves pages without a login, by the function for each. Every other answer names the server.
use strict;
use warnings;

use AnyEvent;
use AnyEvent::Handle;
use Fcntl qw(:flock);
use HTTP::Date ();
use HTTP::Request;
use HTTP::Response;
use URI::Escape ();

my %fixed = (keep_alive => 100, max_conn => 500, max_requests => 1000, debug => 0, trusted_env => 0);
# More of a head gets no answer, and the connection is closed after a while.
my ($longest_head, $idle) = (8192, 5);

sub new {
    my ($class, %given) = @_;
    my %expected = (%fixed, $class->own());
    for my $name (keys %expected) {
        die "$name is '" . ($given{$name} // 'missing') . "'\n" if ($given{$name} // '') ne $expected{$name};
    }
    my %all = map { $_ => 1 } keys %expected, qw(lockfile lockfh socket pages);
    die "unknown argument $_\n" for grep { !$all{$_} } keys %given;
    die "no lock file\n" if !-f $given{lockfile} || !$given{lockfh}->opened();
    die "no listening socket\n" if !$given{socket}->isa('IO::Socket::IP') || !$given{socket}->sockport();
    die "the log was not opened\n" if !$PVE::SafeSyslog::name;
    die "pages are functions\n" if grep { ref($_) ne 'CODE' } values %{ $given{pages} // {} };
    my $self = bless { %given, end => AnyEvent->condvar }, $class;
    $self->{accepting} = AnyEvent->io(fh => $given{socket}, poll => 'r', cb => sub { $self->accept() });
    $self->{term} = AnyEvent->signal(signal => 'TERM', cb => sub { $self->{end}->send() });
    return $self;
}

sub run {
    my ($self) = @_;
    $self->{end}->recv();
    return;
}

sub accept {
    my ($self) = @_;
    flock($self->{lockfh}, LOCK_EX) or die "cannot lock: $!\n";
    my $client = $self->{socket}->accept();
    flock($self->{lockfh}, LOCK_UN);
    return if !$client;
    my $handle;
    my $end = sub { $handle->destroy() if $handle; undef $handle };
    $handle = AnyEvent::Handle->new(fh => $client, timeout => $idle, on_error => $end, on_eof => $end, on_timeout => $end);
    $handle->push_read(regex => qr/\r\n\r\n/, sub {
        my ($line, $lines) = split /\r\n/, $_[1], 2;
        return if length $lines >= $longest_head;
        my $request = HTTP::Request->parse($_[1]);
        my $answer = $self->answer($request);
        my $closes = $answer->code >= 400 || ($request->header('Connection') // '') =~ /close/i;
        $handle->push_write(head($answer, $closes) . $answer->content);
        $handle->on_drain(sub { shutdown $client, 1; $end->() }) if $closes;
    });
    return;
}

sub answer {
    my ($self, $request) = @_;
    return HTTP::Response->new(501, "method '" . $request->method . "' not available") if $request->method ne 'GET';
    my $path = URI::Escape::uri_unescape($request->uri->path);
    if (my $page = $self->{pages}->{$path}) {
        my ($answer) = $page->($self, $request, parameters($request->uri->query // ''));
        return $answer;
    }
    return HTTP::Response->new(500, "no such file '$path'", undef, "no such file '$path'\n") if $path !~ m{^/api2/};
    my $body = sprintf '{"data":"worker %s user %s"}', $$, scalar getpwuid($>);
    return HTTP::Response->new(200, 'OK', ['Content-Type' => 'application/json;charset=UTF-8'], $body);
}

# One without `=` is there and undefined.
sub parameters {
    my ($query) = @_;
    my %parameters;
    for my $part (grep { length } split /[&;]/, $query) {
        my ($name, $value) = map { URI::Escape::uri_unescape(tr/+/ /r) } split /=/, $part, 2;
        $parameters{$name} = $value;
    }
    return \%parameters;
}

# An answer that is empty has no length.
sub head {
    my ($answer, $closes) = @_;
    my $date = HTTP::Date::time2str(time());
    my @lines = ('HTTP/1.1 ' . $answer->code . ' ' . $answer->message, 'Cache-Control: max-age=0');
    push @lines, $closes ? 'Connection: close' : 'Connection: Keep-Alive';
    push @lines, "Date: $date", 'Pragma: no-cache', 'Server: pve-api-daemon/3.0';
    push @lines, 'Content-Length: ' . length($answer->content) if length $answer->content;
    push @lines, 'Content-Type: ' . $answer->header('Content-Type') if $answer->header('Content-Type');
    return join("\r\n", @lines, "Expires: $date", '', '');
}

1;
