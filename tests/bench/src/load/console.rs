//! Consoles: bulk and echo through a websocket, and through bare TLS.
