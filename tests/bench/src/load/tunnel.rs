//! Tunnels: bulk and echo through CONNECT, or through a plain TCP proxy.
