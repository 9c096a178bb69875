package PVE::StandInPage;
# A stand-in for the products' page functions: the same arguments, the same places to look. It shows all that it was given.
use strict;
use warnings;

sub render {
    my ($prefix, $node, $server, $request, $arguments) = @_;
    require HTTP::Response;
    require URI::Escape;
    my $cookies = $request->header('Cookie');
    my ($language) = ($cookies // '') =~ /(?:^|\s)${prefix}LangCookie=([^;]*)/;
    my ($ticket) = ($cookies // '') =~ /(?:^|\s)\Q$server->{cookie_name}\E=([^;]*)/;
    my %shown = (
        node => $node,
        debug => $server->{debug},
        path => $request->uri->path,
        cookies => $cookies // 'none',
        language => $language // 'none',
        ticket => URI::Escape::uri_unescape($ticket // 'none'),
        agent => $request->header('User-Agent') // 'none',
        map { ("?$_" => $arguments->{$_} // 'undefined') } keys %$arguments,
    );
    die "failing on request\n" if exists $arguments->{'fail-here'};
    my $rows = join '', map { "<p>$_=$shown{$_}|</p>\n" } sort keys %shown;
    my $page = "<!DOCTYPE html>\n<html lang=\"" . ($language // 'en') . "\">\n<body>\n$rows</body>\n</html>\n";
    return HTTP::Response->new(200, 'OK', ['Content-Type' => 'text/html; charset=UTF-8'], $page);
}

1;
