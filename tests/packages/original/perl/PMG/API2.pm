package PMG::API2; 1;
