//! A TLS server that gives every request the same answer: a node that is no nodegate.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nodegate_standin::Certificate;
use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::X509;

/// Stops when dropped.
pub struct TlsServer {
    address: std::net::SocketAddr,
    stopped: Arc<AtomicBool>,
}

/// Serves `answer` on `address`, connection after connection.
pub fn tls_server(address: impl ToSocketAddrs, certificate: &Certificate, answer: &'static str) -> TlsServer {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    let leaf = X509::from_pem(certificate.certificate_pem().as_bytes()).unwrap();
    builder.set_certificate(&leaf).unwrap();
    let key = PKey::private_key_from_pem(certificate.key_pem().as_bytes()).unwrap();
    builder.set_private_key(&key).unwrap();
    let acceptor = builder.build();
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    let stopped = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&stopped);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            if let Ok(mut stream) = acceptor.accept(stream) {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(answer.as_bytes());
                let _ = stream.shutdown();
            }
        }
    });
    TlsServer { address, stopped }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        let _ = std::net::TcpStream::connect(self.address);
    }
}
