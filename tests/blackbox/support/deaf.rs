//! A listener that accepts no connection: its queue is full, so that the kernel drops all others.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

const MOMENT: Duration = Duration::from_millis(300);

pub struct Deaf {
    pub address: SocketAddr,
    _listener: Socket,
    _waiting: Vec<Socket>,
}

impl Deaf {
    /// On the first of `ports` that is free; 0 is any.
    pub fn listen(mut ports: impl Iterator<Item = u16>) -> Self {
        let listener = tcp();
        let is_free =
            |port: &u16| listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, *port)).into()).is_ok();
        ports.find(is_free).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let waiting = (0..4).map(|_| {
            let socket = tcp();
            let _ = socket.connect_timeout(&address.into(), MOMENT);
            socket
        });
        let waiting = waiting.collect();
        assert!(TcpStream::connect_timeout(&address, MOMENT).is_err(), "the queue takes more than it should");
        Self { address, _listener: listener, _waiting: waiting }
    }
}

fn tcp() -> Socket {
    Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()
}
