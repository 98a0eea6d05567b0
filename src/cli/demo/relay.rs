//! The network of the demo: what goes to and from a site passes a relay, whose line can be made silent.
//!
//! A silent line is a partition: what is under way stays open and hears nothing more, what is new is not answered.
//! Where the other end refuses, the relay refuses too, as a host without the service would.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use socket2::{Domain, SockRef, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{Notify, watch},
    task::JoinHandle,
    time,
};

/// Connections that may wait to be taken.
const BACKLOG: i32 = 512;
/// How often a service that refused is tried again.
const AGAIN: Duration = Duration::from_millis(50);

/// What a line does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Line {
    is_silent: bool,
    /// How often every connection was broken.
    cuts: u64,
}

/// A line that several relays share: a site's network.
#[derive(Clone, Debug, Default)]
pub struct Cable(Arc<watch::Sender<Line>>);

impl Cable {
    /// From now on nothing comes through, and nothing says so.
    pub fn silence(&self) {
        self.0.send_modify(|line| line.is_silent = true);
    }

    /// From now on everything comes through again.
    #[cfg(test)]
    fn open(&self) {
        self.0.send_modify(|line| line.is_silent = false);
    }

    /// Breaks every connection; what is under way is lost. New ones come through.
    pub fn cut(&self) {
        self.0.send_modify(|line| {
            line.is_silent = false;
            line.cuts += 1;
        });
    }
}

/// A relay; it ends when it is dropped.
#[derive(Debug)]
pub struct Relay(JoinHandle<()>);

impl Relay {
    /// Relays from one address to another.
    ///
    /// # Errors
    /// Where the address cannot be bound.
    pub fn start(listen: SocketAddr, to: SocketAddr, cable: &Cable) -> io::Result<Self> {
        let listener = bind(listen)?;
        let line = cable.0.subscribe();
        Ok(Self(tokio::spawn(relay(listener, listen, to, line))))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn relay(
    mut listener: TcpListener,
    listen: SocketAddr,
    to: SocketAddr,
    mut line: watch::Receiver<Line>,
) {
    let refused = Arc::new(Notify::new());
    loop {
        let now = *line.borrow_and_update();
        if now.is_silent {
            let queue = fill(&listener, listen).await;
            if line.changed().await.is_err() {
                return;
            }
            drop(queue);
            let _ = SockRef::from(&listener).listen(BACKLOG);
            continue;
        }
        tokio::select! {
            changed = line.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = refused.notified() => {
                drop(listener);
                listener = reopen(listen, to).await;
            }
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    tokio::spawn(join(client, to, line.clone(), Arc::clone(&refused)));
                }
            }
        }
    }
}

/// Fills the queue of connections that wait, so that the kernel drops new ones as a dead network would.
async fn fill(listener: &TcpListener, listen: SocketAddr) -> Vec<TcpStream> {
    let _ = SockRef::from(listener).listen(0);
    let mut queue = Vec::new();
    for _ in 0..4 {
        match time::timeout(Duration::from_millis(50), TcpStream::connect(listen)).await {
            Ok(Ok(stream)) => queue.push(stream),
            Ok(Err(_)) | Err(_) => break,
        }
    }
    queue
}

/// Refuses until the service is there again.
async fn reopen(listen: SocketAddr, to: SocketAddr) -> TcpListener {
    loop {
        time::sleep(AGAIN).await;
        if let Ok(Ok(_)) = time::timeout(AGAIN, TcpStream::connect(to)).await
            && let Ok(listener) = bind(listen)
        {
            return listener;
        }
    }
}

async fn join(
    mut client: TcpStream,
    to: SocketAddr,
    line: watch::Receiver<Line>,
    refused: Arc<Notify>,
) {
    let cuts = line.borrow().cuts;
    // A relay that is broken resets both ends: neither shall believe that the other has ended in peace.
    let _ = SockRef::from(&client).set_linger(Some(Duration::ZERO));
    let mut server = match TcpStream::connect(to).await {
        Ok(server) => server,
        Err(error) => {
            if error.kind() == io::ErrorKind::ConnectionRefused {
                refused.notify_one();
            }
            return;
        }
    };
    let _ = SockRef::from(&server).set_linger(Some(Duration::ZERO));
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (mut client_read, mut client_write) = client.split();
    let (mut server_read, mut server_write) = server.split();
    let both = async {
        tokio::try_join!(
            pump(&mut client_read, &mut server_write, line.clone(), cuts),
            pump(&mut server_read, &mut client_write, line.clone(), cuts),
        )
    };
    tokio::select! {
        () = cut(line.clone(), cuts) => {}
        both = both => {
            if both.is_ok() {
                let _ = SockRef::from(client_write.as_ref()).set_linger(None);
                let _ = SockRef::from(server_write.as_ref()).set_linger(None);
            }
        }
    }
}

/// Ends when the cable was cut once more.
async fn cut(mut line: watch::Receiver<Line>, cuts: u64) {
    if line.wait_for(|l| l.cuts != cuts).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn pump(
    from: &mut ReadHalf<'_>,
    to: &mut WriteHalf<'_>,
    mut line: watch::Receiver<Line>,
    cuts: u64,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await;
        // Whatever came, an end too, stays in the cable while it is silent, and is lost when it is cut.
        match line.wait_for(|l| !l.is_silent).await {
            Ok(line) if line.cuts != cuts => return Err(io::ErrorKind::ConnectionReset.into()),
            Ok(_) => {}
            Err(_) => return Ok(()),
        }
        match read {
            Ok(0) => return to.shutdown().await,
            Ok(n) => to.write_all(&buffer[..n]).await?,
            Err(error) => return Err(error),
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        (address, task)
    }

    /// A relay on an address of its own, and the cable that it has to itself.
    fn relay_to(to: SocketAddr) -> (SocketAddr, Cable, Relay) {
        let free = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listen = free.local_addr().unwrap();
        drop(free);
        let cable = Cable::default();
        let relay = Relay::start(listen, to, &cable).unwrap();
        (listen, cable, relay)
    }

    async fn says(stream: &mut TcpStream, word: &[u8; 4]) -> Option<[u8; 4]> {
        let mut answer = [0; 4];
        stream.write_all(word).await.ok()?;
        time::timeout(Duration::from_millis(500), stream.read_exact(&mut answer))
            .await
            .ok()?
            .ok()?;
        Some(answer)
    }

    #[tokio::test]
    async fn a_silent_cable_holds_everything_back_and_loses_nothing() {
        let (to, _server) = echo().await;
        let (listen, cable, _relay) = relay_to(to);
        let mut stream = TcpStream::connect(listen).await.unwrap();
        assert_eq!(says(&mut stream, b"ping").await, Some(*b"ping"));

        cable.silence();
        assert_eq!(says(&mut stream, b"lost").await, None);

        cable.open();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"lost");
        let mut fresh = TcpStream::connect(listen).await.unwrap();
        assert_eq!(says(&mut fresh, b"well").await, Some(*b"well"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_silent_cable_held_back_is_lost_when_it_is_cut() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (listen, cable, _relay) = relay_to(server.local_addr().unwrap());
        let mut pairs = Vec::new();
        for _ in 0..200 {
            let mut client = TcpStream::connect(listen).await.unwrap();
            let (mut inside, _) = server.accept().await.unwrap();
            client.write_all(b"ping").await.unwrap();
            inside.read_exact(&mut [0; 4]).await.unwrap();
            pairs.push((client, inside));
        }

        cable.silence();
        // More than the relay takes at once: the rest waits in both ends' kernels.
        let much = vec![7; 64 * 1024];
        for (client, _) in &mut pairs {
            client.write_all(&much).await.unwrap();
        }
        cable.cut();
        for (_, mut inside) in pairs {
            let mut through = Vec::new();
            let ended = inside.read_to_end(&mut through);
            let _ = time::timeout(Duration::from_secs(10), ended).await.unwrap();
            assert_eq!(through.len(), 0);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_silent_cable_takes_no_more_than_there_is_room_for() {
        let (to, _server) = echo().await;
        let (listen, cable, _relay) = relay_to(to);
        let mut client = TcpStream::connect(listen).await.unwrap();
        assert_eq!(says(&mut client, b"ping").await, Some(*b"ping"));
        cable.silence();
        let much = vec![7; 8 * 1024 * 1024];
        let sent = time::timeout(Duration::from_millis(300), client.write_all(&much)).await;
        assert!(sent.is_err(), "a silent cable takes everything");
    }

    /// A standby that waits for an answer would wait for ever: nothing of its own tells it that nobody is there.
    #[tokio::test]
    async fn who_waits_for_an_answer_hears_that_the_service_died() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (listen, _cable, _relay) = relay_to(server.local_addr().unwrap());
        let mut client = TcpStream::connect(listen).await.unwrap();
        let (mut inside, _) = server.accept().await.unwrap();
        client.write_all(b"ping").await.unwrap();
        inside.read_exact(&mut [0; 4]).await.unwrap();
        SockRef::from(&inside)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(inside);
        let heard = time::timeout(Duration::from_secs(10), client.read(&mut [0; 4])).await;
        assert!(heard.unwrap().is_err());
    }

    #[tokio::test]
    async fn a_service_that_is_gone_is_refused_and_comes_back() {
        let (to, server) = echo().await;
        let (listen, _cable, _relay) = relay_to(to);
        server.abort();
        let _ = server.await;
        let refused = async {
            loop {
                match TcpStream::connect(listen).await {
                    Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => break,
                    Ok(_) | Err(_) => time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        time::timeout(Duration::from_secs(10), refused)
            .await
            .unwrap();
        let back = TcpListener::bind(to).await.unwrap();
        let back_again = async {
            loop {
                if TcpStream::connect(listen).await.is_ok() {
                    break;
                }
                time::sleep(Duration::from_millis(5)).await;
            }
        };
        time::timeout(Duration::from_secs(10), back_again)
            .await
            .unwrap();
        drop(back);
    }
}
