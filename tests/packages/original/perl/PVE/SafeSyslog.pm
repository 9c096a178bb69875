package PVE::SafeSyslog;
# A stand-in that records the opener of the log.
use strict;
use warnings;

our $name;
sub initlog { ($name) = @_; return }

1;
