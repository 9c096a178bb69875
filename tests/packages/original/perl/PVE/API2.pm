package PVE::API2;
# A stand-in for the class at the top of the API.
use strict;
use warnings;

use File::Basename ();

use parent 'PVE::RESTHandler';
use PVE::StandInApi;

PVE::StandInApi::register(__PACKAGE__, File::Basename::dirname(__FILE__) . '/methods.tsv');
print "a module that prints\n";

1;
