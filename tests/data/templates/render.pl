#!/usr/bin/perl
# Renders with Template Toolkit: stdin is a JSON array of [template, {name: value}], stdout one of the pages; a page that
# the library refuses is null.
use strict;
use warnings;
use JSON::PP;
use Template;

my $json = JSON::PP->new->utf8;
my $cases = do { local $/; $json->decode(<STDIN>) };
my @pages;
for my $case (@$cases) {
    my ($template, $values) = @$case;
    my $page = '';
    local $SIG{__WARN__} = sub { };
    # of several seconds a template needs none
    my $is_rendered = eval {
        local $SIG{ALRM} = sub { die "it takes too long\n" };
        alarm 10;
        my $result = Template->new({ ABSOLUTE => 1 })->process(\$template, $values, \$page);
        alarm 0;
        $result;
    };
    push @pages, $is_rendered ? $page : undef;
}
print $json->encode(\@pages), "\n";
