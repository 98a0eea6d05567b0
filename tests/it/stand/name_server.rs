//! A name server that answers as a test tells it to, over UDP and over TCP.

use std::{net::SocketAddr, sync::Arc};

use hickory_proto::op::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    task::JoinHandle,
};

/// A name server; it ends when dropped.
pub struct NameServer {
    /// Where it listens.
    pub address: SocketAddr,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for NameServer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// What is made of a question, raw as it is sent; nothing where it stays silent. The flag tells TCP.
type Answer = dyn Fn(&Message, bool) -> Option<Vec<u8>> + Send + Sync;

impl NameServer {
    /// Answers by this function.
    pub async fn answering(
        answer: impl Fn(&Message, bool) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let answer: Arc<Answer> = Arc::new(answer);
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            // Another test may hold the same port over TCP.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let tasks = [
            tokio::spawn(datagrams(udp, answer.clone())),
            tokio::spawn(connections(tcp, answer)),
        ];
        Self { address, tasks }
    }
}

async fn datagrams(socket: UdpSocket, answer: Arc<Answer>) {
    let mut bytes = [0; 2048];
    while let Ok((n, from)) = socket.recv_from(&mut bytes).await {
        let Ok(question) = Message::from_vec(&bytes[..n]) else {
            continue;
        };
        if let Some(answer) = answer(&question, false) {
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

async fn connections(listener: TcpListener, answer: Arc<Answer>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let Ok(length) = stream.read_u16().await else {
            continue;
        };
        let mut bytes = vec![0; usize::from(length)];
        if stream.read_exact(&mut bytes).await.is_err() {
            continue;
        }
        let Ok(question) = Message::from_vec(&bytes) else {
            continue;
        };
        if let Some(answer) = answer(&question, true) {
            let length = u16::try_from(answer.len()).unwrap();
            let _ = stream.write_all(&length.to_be_bytes()).await;
            let _ = stream.write_all(&answer).await;
        }
    }
}
