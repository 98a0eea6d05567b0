//! A relay before a DNS server that loses, holds, delays or cuts what passes, over UDP and TCP.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Notify,
    task::JoinSet,
};

/// What happens to a message.
#[derive(Clone)]
pub enum Fate {
    /// It passes, and so does its answer.
    Pass,
    /// It arrives; its answer is lost.
    Swallow,
    /// It never arrives.
    Lose,
    /// It arrives; its answer comes this much later.
    Delay(Duration),
    /// It is held on its way until somebody lets it go.
    Hold(Arc<Notify>),
    /// Over UDP the answer has no records and the TC bit.
    Cut,
}

struct Fates {
    updates: Fate,
    queries: Fate,
}

/// A running relay. It ends when it is dropped.
pub struct Relay {
    /// Where it listens.
    pub address: SocketAddr,
    fates: Arc<Mutex<Fates>>,
    seen: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
    tcp: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Relay {
    /// Listens and passes everything.
    pub async fn start(upstream: SocketAddr) -> Self {
        let (listener, socket) = loop {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()).await {
                break (listener, Arc::new(socket));
            }
        };
        let address = listener.local_addr().unwrap();
        let fates = Arc::new(Mutex::new(Fates {
            updates: Fate::Pass,
            queries: Fate::Pass,
        }));
        let (seen, asked) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let tcp = Arc::<AtomicUsize>::default();
        let mut tasks = JoinSet::new();
        let path = Path {
            upstream,
            fates: fates.clone(),
            seen: seen.clone(),
            asked: asked.clone(),
        };
        tasks.spawn(datagrams(socket, path.clone()));
        tasks.spawn(connections(listener, path, tcp.clone()));
        Self {
            address,
            fates,
            seen,
            asked,
            tcp,
            _tasks: tasks,
        }
    }

    /// What happens to updates from now on.
    pub fn updates(&self, fate: Fate) {
        self.fates.lock().unwrap().updates = fate;
    }

    /// What happens to questions from now on.
    pub fn queries(&self, fate: Fate) {
        self.fates.lock().unwrap().queries = fate;
    }

    /// How many updates have come.
    pub fn updates_seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }

    /// How many connections have come.
    pub fn connections(&self) -> usize {
        self.tcp.load(Ordering::SeqCst)
    }

    /// Waits until an update has come.
    pub async fn update_came(&self) {
        reaches(&self.seen, 1).await;
    }

    /// Waits until so many more questions have come.
    pub async fn questions_came(&self, more: usize) {
        reaches(&self.asked, self.asked.load(Ordering::SeqCst) + more).await;
    }
}

async fn reaches(count: &AtomicUsize, enough: usize) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while count.load(Ordering::SeqCst) < enough {
        assert!(tokio::time::Instant::now() < deadline, "nothing came");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[derive(Clone)]
struct Path {
    upstream: SocketAddr,
    fates: Arc<Mutex<Fates>>,
    seen: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
}

impl Path {
    fn fate(&self, message: &[u8]) -> Fate {
        const UPDATE: u8 = 5;
        let fates = self.fates.lock().unwrap();
        if message[2] >> 3 & 0xf == UPDATE {
            self.seen.fetch_add(1, Ordering::SeqCst);
            fates.updates.clone()
        } else {
            self.asked.fetch_add(1, Ordering::SeqCst);
            fates.queries.clone()
        }
    }
}

async fn datagrams(socket: Arc<UdpSocket>, path: Path) {
    let mut bytes = vec![0; 65535];
    let mut tasks = JoinSet::new();
    while let Ok((length, client)) = socket.recv_from(&mut bytes).await {
        let (message, path, socket) = (bytes[..length].to_vec(), path.clone(), socket.clone());
        tasks.spawn(async move {
            let fate = path.fate(&message);
            let ask = async {
                let upstream = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                upstream.send_to(&message, path.upstream).await.unwrap();
                let mut answer = vec![0; 65535];
                let length = upstream.recv(&mut answer).await.unwrap();
                answer.truncate(length);
                answer
            };
            if let Some(answer) = travel(fate, ask, true).await {
                let _ = socket.send_to(&answer, client).await;
            }
        });
    }
}

async fn connections(listener: TcpListener, path: Path, count: Arc<AtomicUsize>) {
    let mut tasks = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        count.fetch_add(1, Ordering::SeqCst);
        let path = path.clone();
        tasks.spawn(async move {
            while let Some(message) = framed(&mut client).await {
                let fate = path.fate(&message);
                let ask = async {
                    let mut upstream = TcpStream::connect(path.upstream).await.unwrap();
                    upstream.write_all(&frame(&message)).await.unwrap();
                    framed(&mut upstream).await.unwrap()
                };
                if let Some(answer) = travel(fate, ask, false).await {
                    let _ = client.write_all(&frame(&answer)).await;
                }
            }
        });
    }
}

async fn travel(fate: Fate, ask: impl Future<Output = Vec<u8>>, udp: bool) -> Option<Vec<u8>> {
    match fate {
        Fate::Swallow => {
            ask.await;
            None
        }
        Fate::Lose => None,
        Fate::Delay(time) => {
            let answer = ask.await;
            tokio::time::sleep(time).await;
            Some(answer)
        }
        Fate::Hold(go) => {
            go.notified().await;
            Some(ask.await)
        }
        Fate::Cut if udp => Some(cut(&ask.await)),
        Fate::Pass | Fate::Cut => Some(ask.await),
    }
}

/// The header with the TC bit, and the question alone.
fn cut(answer: &[u8]) -> Vec<u8> {
    let full = hickory_proto::op::Message::from_vec(answer).unwrap();
    let mut short = hickory_proto::op::Message::response(full.id, full.op_code);
    short.metadata = full.metadata;
    short.metadata.truncation = true;
    short.add_queries(full.queries.clone());
    short.to_vec().unwrap()
}

async fn framed(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let length = stream.read_u16().await.ok()?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await.ok()?;
    Some(bytes)
}

fn frame(message: &[u8]) -> Vec<u8> {
    let mut framed = u16::try_from(message.len()).unwrap().to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    framed
}
