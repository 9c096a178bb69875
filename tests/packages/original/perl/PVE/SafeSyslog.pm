package PVE::SafeSyslog;
# A stand-in: who opened the log.
use strict;
use warnings;

our $name;
sub initlog { ($name) = @_; return }

1;
