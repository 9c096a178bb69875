#!/usr/bin/perl
# Reads a test file of Template Toolkit's own suite without running its templates, and writes each case as JSON:
# template, expected page, the options of the processor, and the variables as assignments of the language.
# Run in the suite's folder: perl suite.pl t/vars.t
use strict;
use warnings;
use JSON::PP;
use Scalar::Util qw(blessed looks_like_number reftype);
use lib './lib';
use Template;
use Template::Test;

my ($file) = @ARGV;
my $json = JSON::PP->new->utf8->canonical;
my (%options_of, @cases);

{
    no warnings qw(redefine once);
    my $new = Template->can('new');
    *Template::new = sub {
        my ($class, @options) = @_;
        my %options = ref $options[0] eq 'HASH' ? %{ $options[0] } : @options;
        my $made = $new->($class, @options);
        $options_of{$made} = \%options if $made;
        return $made;
    };
    *Template::Test::test_expect = \&note;
}

# A value as the language writes it; dies where Perl code or an object is in it.
sub term {
    my ($value, $depth) = @_;
    die "nested too deeply\n" if $depth > 6;
    return "''" unless defined $value;
    die "an object\n" if blessed $value;
    my $kind = reftype($value) // '';
    if ($kind eq 'ARRAY') {
        return '[' . join(', ', map { term($_, $depth + 1) } @$value) . ']';
    }
    if ($kind eq 'HASH') {
        my @keys = grep { defined $value->{$_} } sort keys %$value;
        return '{' . join(', ', map { term($_, 9 * 0) . ' => ' . term($value->{$_}, $depth + 1) } @keys) . '}';
    }
    die "Perl code\n" if $kind;
    $value =~ s/([\\'])/\\$1/g;
    return "'$value'";
}

# Assignments for what a template can be given, and the names of what it cannot.
sub given {
    my ($variables) = @_;
    my (@assignments, %refused);
    for my $name (sort keys %{ $variables || {} }) {
        next unless defined $variables->{$name} && $name =~ /^[A-Za-z]\w*$/;
        my $term = eval { term($variables->{$name}, 0) };
        if (defined $term) { push @assignments, "$name = $term" }
        else { chomp(my $why = $@); $refused{$name} = $why }
    }
    return (join('; ', @assignments), \%refused);
}

sub options {
    my ($processor) = @_;
    my $options = ref $processor eq 'HASH' ? $processor : $processor ? $options_of{$processor} : {};
    my @set = grep { defined $options->{$_} && (ref $options->{$_} || $options->{$_} ne '0') } keys %{ $options || {} };
    return [ sort map { /_CHOMP$/ ? "$_=$options->{$_}" : $_ } @set ];
}

# Cuts the cases as Template::Test does.
sub note {
    my ($source, $processor, $variables) = @_;
    my $text = do { local $/; ref $source ? <$source> : $source };
    $text =~ s/^#.*?\n//gm;
    $text = $' if $text =~ /\s*--\s*start\s*--\s*/;
    $text = $` if $text =~ /\s*--\s*stop\s*--\s*/;
    my @tests = split(/^\s*--\s*test\s*--\s*\n/im, $text);
    shift @tests if @tests && $tests[0] =~ /^\s*$/;
    my %by_name;
    if (ref $processor eq 'ARRAY') {
        %by_name = @$processor;
        $processor = $processor->[1];
    }
    my ($given, $refused) = given($variables);
    for my $test (@tests) {
        $test =~ s/^\s*-- name:? (.*?) --\s*\n//im;
        $test =~ s/^\s*-- todo:? (.*?) --\s*\n//im;
        my ($template, $expected) = split(/^\s*--\s*expect\s*--\s*\n/im, $test);
        $expected //= '';
        $processor = $by_name{$1} if $template =~ s/^\s*--\s*use\s+(\S+)\s*--\s*\n//im;
        my $is_processed = $expected =~ s/^\s*--+\s*process\s*--+\s*\n//im ? JSON::PP::true : JSON::PP::false;
        push @cases, {
            template => $template,
            expected => $expected,
            is_processed => $is_processed,
            options => options($processor),
            given => $given,
            refused => $refused,
        };
    }
}

{
    local *STDOUT;
    open(STDOUT, '>', '/dev/null') or die "/dev/null: $!\n";
    local *STDERR;
    open(STDERR, '>', '/dev/null') or die "/dev/null: $!\n";
    local @ARGV = ();
    do "./$file";
}
print $json->encode(\@cases), "\n";
# what the file itself does at its end is of no interest
require POSIX;
STDOUT->flush;
POSIX::_exit(0);
