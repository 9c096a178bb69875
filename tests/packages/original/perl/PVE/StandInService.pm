package PVE::StandInService;
# A stand-in for the class of the products' daemons: it prepares the configuration of the HTTP server. Preparing it opens a
# socket and a lock file, so a program that only wants to know the configuration must prevent both.
use strict;
use warnings;

use IO::File;

sub create_reusable_socket { die "this daemon would open a socket\n" }

# The product's own lists the directories below each directory as well.
sub add_dirs {
    my ($all, $url, $path) = @_;
    die "this daemon would list $path\n";
}

# The additions of a newer version: a line for each, `directory URL PATH`, `file URL PATH` or `page URL`.
sub more {
    my ($list) = @_;
    my $file = IO::File->new($list, 'r') or return;
    return map { [split(' ')] } $file->getlines();
}

sub configuration {
    my ($self, $lock, $directories, $pages, $list) = @_;
    die "the daemon has no name\n" if $lock !~ m{/\Q$self->{name}\E\.lck$};
    my $handle = IO::File->new(">>$lock") or die "unable to open lock file '$lock' - $!\n";
    my $socket = $self->create_reusable_socket(8006, undef);
    my %served;
    my $add = $self->can('add_dirs');
    $add->(\%served, @$_) for @$directories;
    for my $line (more($list)) {
        my ($kind, $url, $path) = @$line;
        $add->(\%served, $url, $path) if $kind eq 'directory';
        $pages->{$url} = { file => $path } if $kind eq 'file';
        $pages->{$url} = sub { return } if $kind eq 'page';
    }
    $self->{server_config} = { socket => $socket, lockfh => $handle, dirs => \%served, pages => $pages };
    return;
}

1;
