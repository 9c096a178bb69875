package PMG::HTTPServer;
use strict;
use warnings;

use parent 'PVE::StandInServer';

sub own { return (title => 'Proxmox Mail Gateway API', cookie_name => 'PMGAuthCookie') }

1;
