#!/usr/bin/perl
# Writes cases.json anew: each template with the page that Template-Toolkit (Debian's libtemplate-perl) makes of it.
# The templates are the ones in the file, or those of a JSON array of texts on stdin.
use strict;
use warnings;
use FindBin qw($Bin);
use JSON::PP;
use Template;

my $json = JSON::PP->new->utf8;
my $file = "$Bin/cases.json";
my $slurp = sub { local $/; my ($handle) = @_; return $json->decode(<$handle>) };
my @templates;
if (@ARGV && $ARGV[0] eq '-') {
    @templates = @{ $slurp->(\*STDIN) };
} else {
    open(my $known, '<', $file) or die "$file: $!\n";
    @templates = map { $_->[0] } @{ $slurp->($known) };
}
my $toolkit = Template->new({ ABSOLUTE => 1 });
my @lines;
for my $template (@templates) {
    my $page = '';
    $toolkit->process(\$template, { x => 'X', y => '0', z => 'z-1' }, \$page)
        or die $json->encode([$template]) . ': ' . $toolkit->error() . "\n";
    push @lines, $json->encode([$template, $page]);
}
open(my $out, '>', $file) or die "$file: $!\n";
print $out "[\n", join(",\n", @lines), "\n]\n";
