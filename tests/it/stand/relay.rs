//! Relays on the router of a network: whatever goes through them takes its time.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, mpsc},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use super::network::{Inside, Namespace, Network};

/// The router, and how long everything is on its way. What was relayed is, for as long as the test's process lives.
pub struct Relays {
    router: Arc<Namespace>,
    delay: Duration,
}

impl Relays {
    pub fn new(network: &Network, delay: Duration) -> Self {
        Self {
            router: network.router.clone(),
            delay,
        }
    }

    fn enter(&self) -> Inside {
        self.router.enter()
    }

    /// Another address of whoever hears datagrams there.
    pub fn datagrams(&self, to: SocketAddr) -> SocketAddr {
        let _inside = self.enter();
        let (socket, address) = (UdpSocket::bind("0.0.0.0:0").unwrap(), gateway(to));
        let own = SocketAddr::new(address, socket.local_addr().unwrap().port());
        let out = socket.try_clone().unwrap();
        let line = line(self.delay, move |datagram: Vec<u8>| {
            let _ = out.send_to(&datagram, to);
            true
        });
        thread::spawn(move || {
            let mut datagram = [0; 2000];
            loop {
                // An answer of the network to something sent before is no end.
                if let Ok((length, _)) = socket.recv_from(&mut datagram) {
                    let _ = line.send((Instant::now(), datagram[..length].to_vec()));
                }
            }
        });
        own
    }

    /// Another address of whoever takes connections there.
    pub fn sessions(&self, to: SocketAddr) -> SocketAddr {
        let _inside = self.enter();
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let own = SocketAddr::new(gateway(to), listener.local_addr().unwrap().port());
        let delay = self.delay;
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                thread::spawn(move || {
                    sleep(delay * 2);
                    if let Ok(far) = TcpStream::connect(to) {
                        let (back, forth) = (far.try_clone().unwrap(), near.try_clone().unwrap());
                        thread::spawn(move || carry(back, &forth, delay));
                        carry(near, &far, delay);
                    }
                });
            }
        });
        own
    }
}

/// The router's address in the network of a host.
fn gateway(host: SocketAddr) -> IpAddr {
    match host.ip() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            Ipv4Addr::new(a, b, c, 1).into()
        }
        IpAddr::V6(_) => panic!("the hosts of a network have addresses of IPv4"),
    }
}

fn carry(mut from: TcpStream, to: &TcpStream, delay: Duration) {
    let mut out = to.try_clone().unwrap();
    let line = line(delay, move |part: Vec<u8>| {
        // The end is on its way as long as everything else.
        let _ = part.is_empty().then(|| out.shutdown(Shutdown::Write));
        out.write_all(&part).is_ok() && !part.is_empty()
    });
    let mut part = [0; 16_384];
    loop {
        let length = from.read(&mut part).unwrap_or(0);
        let sent = line.send((Instant::now(), part[..length].to_vec()));
        if length == 0 || sent.is_err() {
            return;
        }
    }
}

/// Hands on what it is given, in order and so much later, as long as that is taken.
fn line(
    delay: Duration,
    mut hand_on: impl FnMut(Vec<u8>) -> bool + Send + 'static,
) -> mpsc::Sender<(Instant, Vec<u8>)> {
    let (give, given) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        for (at, part) in given {
            sleep((at + delay).saturating_duration_since(Instant::now()));
            if !hand_on(part) {
                return;
            }
        }
    });
    give
}
