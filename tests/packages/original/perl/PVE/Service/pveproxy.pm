package PVE::Service::pveproxy;
# A stand-in for the service's module: loading it makes an object with habits of a daemon's, and starts nothing.
use strict;
use warnings;

use File::Basename ();

use parent 'PVE::StandInService';
use PVE::SafeSyslog;
use PVE::StandInPage;

PVE::SafeSyslog::initlog('pveproxy');
$0 = 'pveproxy';
$SIG{TERM} = sub { die "a handler of the daemon's\n" };
$ENV{PATH} = '/nowhere';

my $newer = File::Basename::dirname(__FILE__) . '/pveproxy.more';

my @directories = (
    ['/novnc/' => '/usr/share/novnc-pve/'],
    ['/pve-docs/' => '/usr/share/pve-docs/'],
    ['/pve2/css/' => '/usr/share/pve-manager/css/'],
    ['/pve2/ext6/' => '/usr/share/javascript/extjs/'],
    ['/pve2/images/' => '/usr/share/pve-manager/images/'],
    ['/pve2/js/' => '/usr/share/pve-manager/js/'],
    ['/pve2/locale/' => '/usr/share/pve-i18n/'],
    ['/pwt/css/' => '/usr/share/javascript/proxmox-widget-toolkit/css/'],
    ['/xtermjs/' => '/usr/share/pve-xtermjs/'],
    ['/yew-mobile/' => '/usr/share/pve-yew-mobile-gui/'],
);

sub init {
    my ($self) = @_;
    my $file = sub { return { file => "/usr/share/$_[0]" } };
    my $pages = {
        '/' => sub { return get_index($self->{nodename}, @_) },
        '/favicon.ico' => $file->('pve-manager/images/favicon.ico'),
        '/proxmoxlib.js' => $file->('javascript/proxmox-widget-toolkit/proxmoxlib.js'),
    };
    return $self->configuration('/var/lock/pveproxy.lck', \@directories, $pages, $newer);
}

sub get_index { return PVE::StandInPage::render('PVE', @_) }

1;
