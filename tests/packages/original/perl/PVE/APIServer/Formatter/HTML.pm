package PVE::APIServer::Formatter::HTML; 1;
