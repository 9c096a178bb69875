//! One connection with many streams, and windows as large as Chromium's.

use std::net::SocketAddr;
use std::pin::Pin;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::{Method, Version};
use openssl::ssl::Ssl;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use super::{Answer, Request};
use crate::load::client::{self, within};

const STREAM_WINDOW: u32 = 6 << 20;
const CONNECTION_WINDOW: u32 = 15 << 20;

pub(super) struct Connection {
    send: SendRequest<Bytes>,
    address: SocketAddr,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> Result<Self> {
        let mut builder = client::builder()?;
        builder.set_alpn_protos(b"\x02h2\x08http/1.1")?;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut stream = SslStream::new(Ssl::new(&builder.build())?, stream)?;
        within("handshake", async { Ok(Pin::new(&mut stream).connect().await?) }).await?;
        if stream.ssl().selected_alpn_protocol() != Some(b"h2") {
            bail!("{address} speaks no HTTP/2");
        }
        let mut settings = Builder::new();
        settings.initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        let (send, connection) = settings.enable_push(false).handshake(stream).await?;
        tokio::task::spawn_local(async move {
            // Its requests get the error as well.
            let _ = connection.await;
        });
        Ok(Self { send, address })
    }

    /// The answers in the order of the requests. All are sent at once, as far as the server's limit lets them.
    pub(super) async fn fetch(&mut self, requests: Vec<Request>) -> Result<Vec<Answer>> {
        let mut tasks = Vec::new();
        for request in requests {
            let url = request.url;
            let send = self.send.clone().ready().await?;
            let asking = ask(send, &request, self.address)?;
            tasks.push((url, tokio::task::spawn_local(within("answer", asking))));
        }
        let mut answers = Vec::new();
        for (url, task) in tasks {
            answers.push(task.await?.with_context(|| url)?);
        }
        Ok(answers)
    }
}

/// Sends a request at once; the answer is awaited.
fn ask(
    mut send: SendRequest<Bytes>,
    request: &Request,
    address: SocketAddr,
) -> Result<impl Future<Output = Result<Answer>> + use<>> {
    let method = if request.is_post { Method::POST } else { Method::GET };
    let mut head = http::Request::builder()
        .method(method)
        .uri(format!("https://{address}{}", request.url))
        .version(Version::HTTP_2);
    for (name, value) in &request.headers {
        head = head.header(*name, value);
    }
    let (answer, mut body) = send.send_request(head.body(())?, !request.is_post)?;
    if request.is_post {
        body.send_data(Bytes::from_static(request.body.as_bytes()), true)?;
    }
    Ok(async move {
        let (head, mut body) = answer.await?.into_parts();
        let mut bytes = 0;
        while let Some(piece) = body.data().await {
            let piece = piece?;
            bytes += piece.len();
            body.flow_control().release_capacity(piece.len())?;
        }
        let headers = head.headers.iter();
        let headers = headers
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        Ok(Answer { status: head.status.as_u16(), headers: headers.collect(), bytes })
    })
}
