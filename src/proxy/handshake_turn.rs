//! The order of TLS handshakes on a worker. The signature of a full handshake takes about half a millisecond, and the
//! event loop takes up to 61 tasks between two looks at its sockets. Without an order, a burst of newcomers would delay
//! all other clients of the worker by 30 ms.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use tokio::sync::Semaphore;
use tokio::task::yield_now;

/// The right of one handshake of a worker to take its first step.
#[derive(Clone)]
pub struct HandshakeTurn(Rc<Semaphore>);

impl Default for HandshakeTurn {
    fn default() -> Self {
        Self(Rc::new(Semaphore::new(1)))
    }
}

impl HandshakeTurn {
    /// Waits for the turn, takes the first step of `handshake`, and lets ready clients go ahead before the next
    /// handshake begins. The other steps are short, and wait for the network, so they need no turn.
    pub async fn run<T>(&self, handshake: impl Future<Output = T>) -> T {
        let mut handshake = pin!(handshake);
        let turn = self.0.acquire().await;
        let first = poll_fn(|context| Poll::Ready(handshake.as_mut().poll(context))).await;
        // Returns after the event loop has looked at its sockets.
        yield_now().await;
        drop(turn);
        match first {
            Poll::Ready(done) => done,
            Poll::Pending => handshake.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::Write as _;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpStream;
    use tokio::task::LocalSet;

    use super::*;

    /// Handshakes that are ready at once, and a client whose request arrives during the first of them.
    #[test]
    fn a_request_waits_for_one_handshake() {
        let (began, seen) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(None)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let tasks = LocalSet::new();
        tasks.block_on(&runtime, async {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            accepted.set_nonblocking(true).unwrap();
            let mut accepted = TcpStream::from_std(accepted).unwrap();
            let (counted, noted) = (Rc::clone(&began), Rc::clone(&seen));
            let reader = tokio::task::spawn_local(async move {
                accepted.read_u8().await.unwrap();
                noted.set(Some(counted.get()));
            });
            yield_now().await;
            let turn = HandshakeTurn::default();
            let handshakes = (0..20).map(|number| {
                let (turn, began) = (turn.clone(), Rc::clone(&began));
                let mut client = (number == 0).then(|| client.try_clone().unwrap());
                tokio::task::spawn_local(async move {
                    let handshake = async {
                        began.set(began.get() + 1);
                        if let Some(client) = &mut client {
                            client.write_all(b"x").unwrap();
                        }
                    };
                    turn.run(handshake).await;
                })
            });
            let handshakes: Vec<_> = handshakes.collect();
            for handshake in handshakes {
                handshake.await.unwrap();
            }
            reader.await.unwrap();
        });
        assert_eq!((began.get(), seen.get()), (20, Some(1)));
    }
}
