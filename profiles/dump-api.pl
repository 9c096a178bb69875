# Prints the API, the pages and the directories of an installed product as its own Perl modules have them, for
# `nodegate profile-diff`: perl - ROOT API SERVICE [UPLOAD-PARAMETER], with this program on stdin.
#
# API is the class at the top of the API, SERVICE the class of the daemon that serves it. The program opens no socket and
# writes no file. docs/reference/profile.md describes the output, "The installed product".
use strict;
use warnings;

use IO::File;
use POSIX ();

# Seconds for the service to name its pages and directories.
use constant PATIENCE => 15;
# More levels of classes than any product has: two classes that mount each other end here.
use constant LEVELS => 40;

# Only this program writes the output. What modules print goes to stderr.
open(my $output, '>&', \*STDOUT) or die "stdout cannot be used: $!\n";
open(STDOUT, '>&', \*STDERR) or die "stderr cannot be used: $!\n";

my ($root, $api, $service, $upload) = @ARGV;
my (%routes, @notes);

main();

sub main {
    die "usage: perl - ROOT API SERVICE [UPLOAD-PARAMETER]\n" if !defined($service);
    unshift(@INC, "$root/usr/share/perl5") if $root ne '';
    my $error = load($api);
    die "the module $api cannot be loaded: $error\n" if defined($error);
    my @sources = ([method_attributes => \&registered], [api_dump => \&dumped]);
    my @known = grep { $api->can($_->[0]) } @sources;
    die "the API of $api has an unknown form: it has neither method_attributes nor api_dump\n" if !@known;
    for my $source (@known) {
        my ($name, $read) = @$source;
        my %before = %routes;
        next if eval { $read->(); 1 };
        # Half of an API would look like an update that removes the rest.
        %routes = %before;
        push(@notes, "$name of $api failed: " . one_line($@));
    }
    die join('; ', "$api has no methods", @notes) . "\n" if !%routes;
    for my $call (sort keys %routes) {
        my ($method, $path) = split(/ /, $call);
        my $colon = $routes{$call} eq '' ? '' : ':';
        print_line('route', "$method$colon$routes{$call}", $path);
    }
    my ($pages, $problem) = served();
    push(@notes, "the pages and directories are not known: $problem") if defined($problem);
    print_line(@$_) for @$pages;
    print_line('note', $_) for @notes;
    print_line('end');
    close($output) or die "the output cannot be written: $!\n";
    return;
}

sub print_line {
    my $line = join(' ', @_);
    print {$output} one_line($line) . "\n" or die "the output cannot be written: $!\n";
    return;
}

sub one_line {
    my ($text) = @_;
    $text =~ s/[\x00-\x20\x7f]+/ /g;
    $text =~ s/^ +| +$//g;
    return substr($text, 0, 1000);
}

# Undefined, or the reason.
sub load {
    my ($module) = @_;
    return 'its name is no module' if $module !~ /^\w+(?:::\w+)*$/;
    return undef if eval { require(($module =~ s{::}{/}gr) . '.pm'); 1 };
    return one_line($@) =~ s/ ?Compilation failed in require at - line \d+\.$//r;
}

# The methods that the classes have registered, from the top class down.
sub registered { return walk($api, '', 0, 0) }

# A mount with a fragment delimiter makes the rest of a path one parameter.
sub walk {
    my ($class, $prefix, $takes_rest, $level) = @_;
    die "$class is mounted below itself at $prefix\n" if $level > LEVELS;
    for my $info (@{ $class->method_attributes() // [] }) {
        my $below = template($info->{path});
        if (defined($info->{subclass})) {
            my $is_rest = defined($info->{fragmentDelimiter});
            walk($info->{subclass}, $prefix . $below, $is_rest, $level + 1);
            next;
        }
        if ($takes_rest && $below =~ m{^/\{([^{}/]+)\}$}) {
            $below = "/{*$1}";
        } elsif ($takes_rest && $below ne '') {
            push(@notes, "$prefix$below cannot be reached: the parameter before it takes the rest of the path");
            next;
        }
        add($info, $prefix . $below);
    }
    return;
}

# The product's own dump. It has neither the top of the tree nor the parameters that take the rest of a path, so it only
# adds methods that are missing.
sub dumped {
    my %known = map { s/\{[^{}]*\}/{}/gr => 1 } keys %routes;
    my @waiting = @{ $api->api_dump(undef, 1) };
    while (my $entry = shift(@waiting)) {
        push(@waiting, @{ $entry->{children} // [] });
        my ($path, $methods) = (template($entry->{path}), $entry->{info} // {});
        for my $method (sort keys %$methods) {
            next if $known{ "$method $path" =~ s/\{[^{}]*\}/{}/gr };
            add({ %{ $methods->{$method} }, method => $method }, $path);
            push(@notes, "$method $path is only in the product's dump") if %known;
        }
    }
    return;
}

# A path with one slash before each part, and without the pattern of a parameter: `{name:pattern}`.
sub template {
    my ($path) = @_;
    return join('', map { '/' . s/^\{([^:{}]+):.*\}$/{$1}/r } grep { $_ ne '' } split(m{/+}, $path // ''));
}

sub add {
    my ($info, $path) = @_;
    $path = '/' if $path eq '';
    my $method = $info->{method} // 'GET';
    $routes{"$method $path"} = flags($info, $method, $path);
    return;
}

# As docs/reference/profile.md lists them below "Route tables".
sub flags {
    my ($info, $method, $path) = @_;
    my $target = $info->{proxyto} // '';
    my $is_known = $target =~ /^(?:node|master)$/;
    push(@notes, "$method $path goes to '$target', which no flag can say") if $target ne '' && !$is_known;
    my $permissions = ref($info->{permissions}) eq 'HASH' ? $info->{permissions} : {};
    my $parameters = ref($info->{parameters}) eq 'HASH' ? $info->{parameters}{properties} // {} : {};
    my $takes_file = $method eq 'POST' && ($upload // '') ne '' && exists($parameters->{$upload});
    return join('',
        $info->{protected} ? 'p' : '',
        $target eq 'node' ? 'n' : $target eq 'master' ? 'm' : $info->{proxyto_callback} ? 'c' : '',
        defined($info->{allowtoken}) && !$info->{allowtoken} ? 't' : '',
        ($permissions->{user} // '') eq 'world' ? 'o' : '',
        $takes_file ? 'u'
        : $method eq 'GET' && $path =~ /websocket$/ ? 'w'
        : $info->{download_allowed} || $info->{download} ? 'd'
        : '',
    );
}

# The pages, files and directories that the service would serve, and why they are not known. The service prepares its
# configuration with functions of ours in place of those that open a socket, list a directory, or write a lock file.
sub served {
    return ([], undef) if $service eq '';
    my %directories;
    my $add = sub { my ($all, $url, $path) = @_; $directories{$url} = $path; return };
    my $configuration = eval {
        local %SIG = %SIG;
        local %ENV = %ENV;
        my $error = load($service);
        die "$error\n" if defined($error);
        my $prepare = $service->can('init') or die "$service has no init\n";
        my ($name) = $service =~ /(\w+)$/;
        my $self = bless({ name => $name, nodename => node_name(), debug => 0 }, $service);
        no strict 'refs';
        no warnings 'redefine';
        local *{"${service}::create_reusable_socket"} = sub { return undef };
        local *{"${service}::add_dirs"} = $add;
        local *{'PVE::APIServer::AnyEvent::add_dirs'} = $add;
        local *{'IO::File::new'} = without_writing(\&IO::File::new);
        local $SIG{ALRM} = sub { die 'it took more than ' . PATIENCE . " seconds\n" };
        alarm(PATIENCE);
        my $done = eval { $self->$prepare(); 1 };
        my $reason = $@;
        alarm(0);
        die $reason if !$done;
        $self->{server_config};
    };
    return ([], one_line($@ || "$service has no server_config")) if ref($configuration) ne 'HASH';
    my @found = map { [directory => $_, $directories{$_}] } sort keys %directories;
    my $pages = ref($configuration->{pages}) eq 'HASH' ? $configuration->{pages} : {};
    for my $url (sort keys %$pages) {
        my $page = $pages->{$url};
        push(@found, ref($page) eq 'HASH' ? [file => $url, $page->{file} // ''] : [page => $url]);
    }
    return (\@found, undef);
}

sub without_writing {
    my ($open) = @_;
    return sub {
        my ($class, $path, $mode, @more) = @_;
        my $writes = grep { defined($_) && /^\s*(?:\+<|>|w|a|r\+)/ } $mode // ($path // '') =~ /^\s*([+<>]+)/;
        return $open->($class, '/dev/null', 'w') if $writes;
        return $open->($class, grep { defined } $path, $mode, @more);
    };
}

sub node_name {
    my ($name) = (POSIX::uname())[1] =~ /^([^.]+)/;
    return $name // 'localhost';
}
