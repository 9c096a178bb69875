package PVE::Service::pveproxy;
# A stand-in for the service's module: loading it makes an object with habits of a daemon's, and starts nothing.
use strict;
use warnings;

use PVE::SafeSyslog;
use PVE::StandInPage;

PVE::SafeSyslog::initlog('pveproxy');
$0 = 'pveproxy';
$SIG{TERM} = sub { die "a handler of the daemon's\n" };
$ENV{PATH} = '/nowhere';

sub get_index { return PVE::StandInPage::render('PVE', @_) }

1;
