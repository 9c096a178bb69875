package PVE::APIServer::Formatter::Standard; 1;
