package PVE::StandInApi;
# Registers an API as the products' classes do, from the table methods.tsv beside the class at the top: a class for each
# first part of a path and for each node, and those whose last parameter takes the rest of a path.
use strict;
use warnings;

use IO::File;

use PVE::RESTHandler;

# Mounts with a fragment delimiter, and the parameter below each.
my $rest = qr{^(.*/(?:content|firewall/ipset/\{name\}|mynetworks))(/\{(?:volume|cidr)\})?$};

sub register {
    my ($class, $table) = @_;
    return if !-e $table; # for tests of the worker, which calls no method
    my (%mounted, @names);
    my $file = IO::File->new($table, 'r') or die "$table: $!\n";
    while (defined(my $line = $file->getline())) {
        chomp $line;
        my @columns = split(/\t/, $line);
        if (!@names) {
            @names = @columns;
            next;
        }
        my %row;
        @row{@names} = @columns;
        add($class, \%mounted, \%row);
    }
    return;
}

sub add {
    my ($top, $mounted, $row) = @_;
    my ($mount, $below, $takes_rest) = parts($row->{path});
    my $class = defined($mount) ? class_for($top, $mounted, $mount, $takes_rest) : $top;
    $class->register_method(info($row, $below));
    return;
}

# Where a path is mounted, what is registered there, and whether that takes the rest of the path.
sub parts {
    my ($path) = @_;
    if (my ($mount, $below) = $path =~ $rest) {
        return ($mount, ($below // '') =~ s{^/}{}r, 1);
    }
    return ($1, $2, 0) if $path =~ m{^(/nodes/\{node\})/?(.*)$} || $path =~ m{^(/[^/]+)/?(.*)$};
    return (undef, '', 0);
}

# The class of a mount. It is mounted in the class above it on its first use.
sub class_for {
    my ($top, $mounted, $mount, $takes_rest) = @_;
    return $mounted->{$mount} if $mounted->{$mount};
    my $class = $top . '::' . ($mount =~ s{[^A-Za-z0-9]+}{_}gr);
    {
        no strict 'refs';
        @{"${class}::ISA"} = ('PVE::RESTHandler');
    }
    $mounted->{$mount} = $class;
    my ($above, $path) = ($top, substr($mount, 1));
    if ($mount =~ m{^(/nodes/\{node\})/(.+)$} || $mount =~ m{^(/[^/]+)/(.+)$}) {
        ($above, $path) = (class_for($top, $mounted, $1, 0), $2);
    }
    my $delimiter = $takes_rest ? { fragmentDelimiter => '' } : {};
    $above->register_method({ subclass => $class, path => $path, %$delimiter });
    return $class;
}

sub info {
    my ($row, $path) = @_;
    my %info = (
        name => "$row->{method} $row->{path}",
        path => ($path // '') =~ s/\{pos\}/{pos:\\d+}/r,
        method => $row->{method},
        permissions => $row->{auth} eq 'world' ? { user => 'world' } : { check => ['perm', '/', ['Sys.Audit']] },
        parameters => { additionalProperties => 0, properties => {} },
        returns => { type => 'object' },
        code => sub { die "this API answers nothing\n" },
    );
    $info{protected} = 1 if $row->{protected};
    $info{proxyto} = $row->{proxyto} if $row->{proxyto} ne '';
    $info{proxyto_callback} = sub { return 'localhost' } if $row->{proxyto_callback};
    $info{allowtoken} = 0 if !$row->{allowtoken};
    $info{download_allowed} = 1 if $row->{download};
    $info{parameters}{properties}{tmpfilename} = { type => 'string' } if $row->{upload};
    return \%info;
}

1;
