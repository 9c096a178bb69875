package PVE::API2; 1;
