package PVE::HTTPServer;
use strict;
use warnings;

use parent 'PVE::StandInServer';

sub own { return (title => 'Proxmox VE API', cookie_name => 'PVEAuthCookie') }

1;
