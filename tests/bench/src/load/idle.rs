//! Many idle TLS connections, and what they cost.
