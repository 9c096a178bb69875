//! The methods that requests and consoles need of a client's stream beyond reading and writing.

use std::ffi::c_int;
use std::ptr::null_mut;
use std::time::Duration;

use foreign_types::ForeignTypeRef as _;
use openssl::ssl::SslMode;
use openssl_sys::{SSL_CTRL_MODE, SSL_ctrl};
use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::TlsStream;

/// How long a client without TLS that closed its sending half may wait for its response.
const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(30);

/// A client's connection, with or without TLS.
pub trait ClientStream: AsyncRead + AsyncWrite + Unpin {
    /// The TCP socket below.
    fn socket(&self) -> &TcpStream;

    /// Whether the client left, after it has waited for its response for so long.
    fn has_left(&self, waited: Duration) -> bool;

    /// Releases the buffers that are needed only while bytes come and go.
    fn release_buffers(&mut self);

    /// Releases the buffers after each use from now on: a console is quiet most of the time.
    fn set_release_buffers(&mut self);
}

impl ClientStream for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }

    /// A client that closes only its sending half looks the same.
    fn has_left(&self, waited: Duration) -> bool {
        is_closed(self, PollFlags::empty())
            || (waited >= HALF_CLOSED_TIMEOUT && is_closed(self, PollFlags::RDHUP))
    }

    fn release_buffers(&mut self) {}

    fn set_release_buffers(&mut self) {}
}

impl ClientStream for TlsStream {
    fn socket(&self) -> &TcpStream {
        &self.0.get_ref().stream
    }

    /// In TLS an alert closes a sending half. If the TCP stream below ends, the client left.
    fn has_left(&self, _waited: Duration) -> bool {
        is_closed(self.socket(), PollFlags::RDHUP)
    }

    fn release_buffers(&mut self) {
        // SAFETY: the connection's own state, borrowed exclusively; buffers that hold something stay
        // (SSL_free_buffers(3)).
        unsafe { SSL_free_buffers(self.0.ssl().as_ptr()) };
    }

    fn set_release_buffers(&mut self) {
        let mode = SslMode::RELEASE_BUFFERS.bits();
        // SAFETY: the connection's own state, borrowed exclusively; the call sets bits in it (SSL_set_mode(3)).
        unsafe { SSL_ctrl(self.0.ssl().as_ptr(), SSL_CTRL_MODE, mode, null_mut()) };
        self.release_buffers();
    }
}

/// Whether the connection failed, or one of these events is pending.
pub fn is_closed(socket: &TcpStream, events: PollFlags) -> bool {
    let mut sockets = [PollFd::new(socket, events)];
    let polled = rustix::event::poll(&mut sockets, Some(&Timespec::default()));
    polled.is_ok() && sockets.iter().any(|socket| !socket.revents().is_empty())
}

unsafe extern "C" {
    // openssl-sys does not have it.
    fn SSL_free_buffers(ssl: *mut openssl_sys::SSL) -> c_int;
}
