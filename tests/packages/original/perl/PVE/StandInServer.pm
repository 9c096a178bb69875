package PVE::StandInServer;
# A stand-in for the products' HTTP server: it takes what that one takes, accepts as that one does, and tells who it is.
use strict;
use warnings;

use AnyEvent;
use AnyEvent::Handle;
use Fcntl qw(:flock);

my %fixed = (keep_alive => 100, max_conn => 500, max_requests => 1000, debug => 0, trusted_env => 0);

sub new {
    my ($class, %given) = @_;
    my %expected = (%fixed, $class->own());
    for my $name (keys %expected) {
        die "$name is '" . ($given{$name} // 'missing') . "'\n" if ($given{$name} // '') ne $expected{$name};
    }
    my %all = map { $_ => 1 } keys %expected, qw(lockfile lockfh socket);
    die "unknown argument $_\n" for grep { !$all{$_} } keys %given;
    die "no lock file\n" if !-f $given{lockfile} || !$given{lockfh}->opened();
    die "no listening socket\n" if !$given{socket}->isa('IO::Socket::IP') || !$given{socket}->sockport();
    die "the log was not opened\n" if !$PVE::SafeSyslog::name;
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
    my $body = sprintf '{"data":"worker %s user %s"}', $$, scalar getpwuid($>);
    my $handle;
    $handle = AnyEvent::Handle->new(fh => $client, on_error => sub { $_[0]->destroy(); undef $handle });
    $handle->push_read(regex => qr/\r\n\r\n/, sub {
        my $head = "HTTP/1.1 200 OK\r\nContent-Type: application/json;charset=UTF-8\r\nConnection: close\r\n";
        $handle->push_write($head . 'Content-Length: ' . length($body) . "\r\n\r\n$body");
        $handle->on_drain(sub { shutdown $client, 1; undef $handle });
    });
    return;
}

1;
