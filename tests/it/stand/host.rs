//! A host that answers connections as a test tells it to.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use rustls::ServerConfig;
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// A listener and the task that serves it; it ends when dropped.
pub struct Host {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Host {
    /// Serves each connection by `handler`.
    pub async fn serving<F>(handler: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(handler(stream));
            }
        });
        Self { address, task }
    }

    /// Answers each request with these bytes and closes.
    pub async fn saying(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes: Arc<[u8]> = bytes.into().into();
        Self::serving(move |mut stream| {
            let bytes = bytes.clone();
            async move {
                request(&mut stream).await;
                say(&mut stream, &bytes).await;
            }
        })
        .await
    }

    /// Answers each request by what the function makes of it.
    pub async fn answering(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let answer = Arc::new(answer);
        Self::serving(move |mut stream| {
            let answer = answer.clone();
            async move {
                let head = request(&mut stream).await;
                say(&mut stream, answer(&head).as_bytes()).await;
            }
        })
        .await
    }

    /// The same over TLS.
    pub async fn saying_over_tls(config: Arc<ServerConfig>, bytes: &'static str) -> Self {
        let acceptor = TlsAcceptor::from(config);
        Self::serving(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    request(&mut stream).await;
                    say(&mut stream, bytes.as_bytes()).await;
                }
            }
        })
        .await
    }

    /// Takes connections and says nothing.
    pub async fn silent() -> Self {
        Self::serving(|mut stream| async move {
            let mut sink = Vec::new();
            let _ = stream.read_to_end(&mut sink).await;
            std::future::pending::<()>().await;
        })
        .await
    }

    /// Its URL over plain HTTP.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

/// A port that refuses connections for as long as this lives: it is bound, but nobody listens.
pub struct ClosedPort {
    /// Where it refuses.
    pub address: SocketAddr,
    _socket: Socket,
}

impl ClosedPort {
    /// Takes a free port.
    pub fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any = SocketAddr::from((IpAddr::V4(Ipv4Addr::LOCALHOST), 0));
        socket.bind(&any.into()).unwrap();
        Self {
            address: socket.local_addr().unwrap().as_socket().unwrap(),
            _socket: socket,
        }
    }
}

/// Reads a request's head.
pub async fn request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

async fn say(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), bytes: &[u8]) {
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    // Closing with unread bytes would reset the connection and may eat what was said.
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {}
}

/// `HTTP/1.1` with this status, these further header lines and this body.
pub fn http(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
