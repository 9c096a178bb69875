//! What requests and consoles ask of a client's stream beyond reading and writing.

use std::ffi::c_int;
use std::ptr::null_mut;

use foreign_types::ForeignTypeRef as _;
use openssl::ssl::SslMode;
use openssl_sys::{SSL_CTRL_MODE, SSL_ctrl};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::TlsStream;

/// What a client is connected by.
pub trait ClientStream: AsyncRead + AsyncWrite + Unpin {
    /// What bytes come from and go to in the end.
    fn socket(&self) -> &TcpStream;

    /// Gives back what is only needed while bytes come and go.
    fn rest(&mut self);

    /// From now on it gives that back after each use: a console is quiet most of the time.
    fn spare(&mut self);
}

impl ClientStream for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }

    fn rest(&mut self) {}

    fn spare(&mut self) {}
}

impl ClientStream for TlsStream {
    fn socket(&self) -> &TcpStream {
        &self.0.get_ref().stream
    }

    fn rest(&mut self) {
        // SAFETY: the connection's own state, borrowed alone; buffers that hold something stay (SSL_free_buffers(3)).
        unsafe { SSL_free_buffers(self.0.ssl().as_ptr()) };
    }

    fn spare(&mut self) {
        let mode = SslMode::RELEASE_BUFFERS.bits();
        // SAFETY: the connection's own state, borrowed alone; the call sets bits in it (SSL_set_mode(3)).
        unsafe { SSL_ctrl(self.0.ssl().as_ptr(), SSL_CTRL_MODE, mode, null_mut()) };
        self.rest();
    }
}

unsafe extern "C" {
    // openssl-sys does not have it.
    fn SSL_free_buffers(ssl: *mut openssl_sys::SSL) -> c_int;
}
