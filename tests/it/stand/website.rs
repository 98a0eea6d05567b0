//! A web application at two sites, each an address of this host, on one port: what the public name leads to is up to
//! DNS, as it is in the world.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::State};
use tokio::{net::TcpListener, task::JoinHandle};

/// The application at two sites.
pub struct Website {
    pub port: u16,
    pub sites: [Place; 2],
}

/// The application servers of one site.
pub struct Place {
    pub address: Ipv4Addr,
    port: u16,
    /// Milliseconds that an answer takes.
    delay: Arc<AtomicU64>,
    servers: Option<JoinHandle<()>>,
}

impl Website {
    /// Serves at `127.0.block.1` and `127.0.block.2`.
    pub async fn start(block: u8) -> Self {
        loop {
            let [first, second] = [1, 2].map(|n| Ipv4Addr::new(127, 0, block, n));
            let one = TcpListener::bind((first, 0)).await.unwrap();
            let port = one.local_addr().unwrap().port();
            // Somebody else may hold that port at the other address.
            if let Ok(two) = TcpListener::bind((second, port)).await {
                let sites = [Place::serving(first, one), Place::serving(second, two)];
                return Self { port, sites };
            }
        }
    }

    /// `host:port` of a site.
    pub fn at(&self, site: usize) -> String {
        format!("{}:{}", self.sites[site].address, self.port)
    }
}

impl Place {
    fn serving(address: Ipv4Addr, listener: TcpListener) -> Self {
        let port = listener.local_addr().unwrap().port();
        let delay = Arc::new(AtomicU64::new(0));
        Self {
            address,
            port,
            servers: Some(serve(listener, delay.clone())),
            delay,
        }
    }

    /// Its servers are gone: connections are refused.
    pub async fn off(&mut self) {
        if let Some(servers) = self.servers.take() {
            servers.abort();
            let _ = servers.await;
        }
    }

    /// They are back.
    pub async fn on(&mut self) -> io::Result<()> {
        let at = SocketAddr::from((IpAddr::V4(self.address), self.port));
        let listener = TcpListener::bind(at).await?;
        self.servers = Some(serve(listener, self.delay.clone()));
        Ok(())
    }

    /// Answers take so long from now on.
    pub fn slow(&self, delay: Duration) {
        let delay = u64::try_from(delay.as_millis()).unwrap();
        self.delay.store(delay, Ordering::SeqCst);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(servers) = &self.servers {
            servers.abort();
        }
    }
}

fn serve(listener: TcpListener, delay: Arc<AtomicU64>) -> JoinHandle<()> {
    let answer = |State(delay): State<Arc<AtomicU64>>| async move {
        tokio::time::sleep(Duration::from_millis(delay.load(Ordering::SeqCst))).await;
        "it works"
    };
    let router = Router::new().fallback(answer).with_state(delay);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })
}
