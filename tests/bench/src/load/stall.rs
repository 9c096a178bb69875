//! Clients that ask and do not read, or begin and do not end.
