package PVE::RESTHandler;
# A stand-in for the class that the products' API classes come from: methods and mounted classes are registered here, and
# can be listed and dumped as there.
use strict;
use warnings;

my %registered;

sub register_method {
    my ($class, $info) = @_;
    die "register method $class - no path\n" if !defined($info->{path});
    if (!$info->{subclass}) {
        $info->{method} //= 'GET';
        $info->{allowtoken} //= 1;
    }
    push @{ $registered{$class} }, $info;
    return;
}

sub method_attributes { return $registered{ $_[0] } }

# A tree: each entry has its part of the path, its whole path, its methods by name, and the entries below it. The top of
# the API is not in it.
sub api_dump {
    my ($class, $prefix, $raw) = @_;
    my %by_path;
    insert(\%by_path, $class, $prefix // '', $raw);
    my $top = delete($by_path{''}) // { children => [] };
    return $top->{children};
}

sub insert {
    my ($by_path, $class, $prefix, $raw) = @_;
    for my $info (@{ $registered{$class} // [] }) {
        my $path = join('/', $prefix, grep { $_ ne '' } $info->{path});
        if ($info->{subclass}) {
            insert($by_path, $info->{subclass}, $path, $raw);
        } elsif ($path ne '') {
            my %shown = map { $_ => $info->{$_} } grep { $_ ne 'code' && $_ ne 'path' } keys %$info;
            entry($by_path, $path)->{info}{ $info->{method} } = \%shown;
        }
    }
    return;
}

sub entry {
    my ($by_path, $path) = @_;
    return $by_path->{$path} //= { children => [] } if $path eq '';
    return $by_path->{$path} if $by_path->{$path};
    my ($above, $part) = $path =~ m{^(.*)/([^/]+)$} or die "no path: $path\n";
    my $entry = $by_path->{$path} = { path => $path, text => $part, children => [] };
    push @{ entry($by_path, $above)->{children} }, $entry;
    return $entry;
}

1;
