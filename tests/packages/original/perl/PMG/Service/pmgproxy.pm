package PMG::Service::pmgproxy;
# A stand-in for the service's module.
use strict;
use warnings;

use File::Basename ();

use parent 'PVE::StandInService';
use PVE::StandInPage;

my $newer = File::Basename::dirname(__FILE__) . '/pmgproxy.more';

my @directories = (
    ['/pve2/locale/' => '/usr/share/pmg-i18n/'],
    ['/pve2/js/' => '/usr/share/javascript/pmg-gui/js/'],
    ['/xtermjs/' => '/usr/share/pve-xtermjs/'],
    ['/pmg-docs/' => '/usr/share/pmg-docs/'],
);

sub init {
    my ($self) = @_;
    my $page = sub { return get_index($self->{nodename}, @_) };
    my $pages = { '/' => $page, '/quarantine' => $page, '/favicon.ico' => { file => '/usr/share/doc/pmg-api/favicon.ico' } };
    return $self->configuration('/var/lock/pmgproxy.lck', \@directories, $pages, $newer);
}

sub get_index { return PVE::StandInPage::render('PMG', @_) }

1;
