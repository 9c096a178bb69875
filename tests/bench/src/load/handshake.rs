//! Full and resumed TLS handshakes, one request each.
