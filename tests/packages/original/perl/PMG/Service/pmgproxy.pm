package PMG::Service::pmgproxy;
# A stand-in for the service's module.
use strict;
use warnings;

use PVE::StandInPage;

sub get_index { return PVE::StandInPage::render('PMG', @_) }

1;
