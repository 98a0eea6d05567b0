//! The customers of the demo: they follow the shop's name, order all the time, and remember what was acknowledged.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};
use reqwest::StatusCode;
use tokio::{task::JoinHandle, time};

use super::{
    outside::now,
    shop::{Order, Receipt},
};
use crate::model::time::Time;

/// How many customers order side by side.
const CUSTOMERS: usize = 4;
/// How long a customer thinks between two orders.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a customer waits for the shop.
const PATIENCE: Duration = Duration::from_secs(1);

/// An order that the shop acknowledged.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    /// When.
    pub at: Time,
    /// What the shop said.
    pub receipt: Receipt,
}

/// Customers at work; they stop when this is dropped.
#[derive(Debug)]
pub struct Customers {
    ledger: Arc<Mutex<Vec<Acknowledged>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Customers {
    /// Sends customers to a shop by its name.
    ///
    /// # Errors
    /// Where the HTTP client or the resolver cannot be made.
    pub fn start(name: &str, port: u16, dns: SocketAddr) -> Result<Self, String> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .connect_timeout(PATIENCE)
            .build()
            .map_err(|e| e.to_string())?;
        let ledger = Arc::new(Mutex::new(Vec::new()));
        let next = Arc::new(AtomicI64::new(1));
        let mut tasks = Vec::new();
        for _ in 0..CUSTOMERS {
            // Each with a cache of its own, as each customer's computer has.
            let customer = Customer {
                resolver: resolver(dns)?,
                http: http.clone(),
                name: format!("{name}."),
                port,
                next: Arc::clone(&next),
                ledger: Arc::clone(&ledger),
            };
            tasks.push(tokio::spawn(customer.order_for_ever()));
        }
        Ok(Self { ledger, tasks })
    }

    /// What was acknowledged so far, in order of time.
    #[must_use]
    pub fn acknowledged(&self) -> Vec<Acknowledged> {
        self.ledger
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How many orders were acknowledged so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.ledger
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// The first order that was acknowledged after a moment.
    #[must_use]
    pub fn first_after(&self, moment: Time) -> Option<Acknowledged> {
        self.ledger
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .find(|order| order.at > moment)
            .cloned()
    }

    /// Sends everybody home; an order under way is not acknowledged any more.
    pub fn stop(&mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
        }
    }
}

impl Drop for Customers {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Customer {
    resolver: TokioResolver,
    http: reqwest::Client,
    name: String,
    port: u16,
    next: Arc<AtomicI64>,
    ledger: Arc<Mutex<Vec<Acknowledged>>>,
}

impl Customer {
    async fn order_for_ever(self) {
        loop {
            if let Some(receipt) = self.order().await {
                let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
                // Read under the lock, so that the ledger is in order of time.
                ledger.push(Acknowledged { at: now(), receipt });
            }
            time::sleep(PAUSE).await;
        }
    }

    async fn order(&self) -> Option<Receipt> {
        let address = address(&self.resolver, &self.name).await?;
        let url = format!("http://{}/orders", SocketAddr::new(address, self.port));
        let order = Order {
            id: self.next.fetch_add(1, Ordering::Relaxed),
        };
        let answer = self.http.post(url).json(&order).send().await.ok()?;
        if answer.status() == StatusCode::CREATED {
            answer.json().await.ok()
        } else {
            None
        }
    }
}

/// A resolver that asks one server and keeps its answers as long as their TTL says.
///
/// # Errors
/// Where it cannot be made.
pub fn resolver(dns: SocketAddr) -> Result<TokioResolver, String> {
    let mut udp = ConnectionConfig::udp();
    udp.port = dns.port();
    let server = NameServerConfig::new(dns.ip(), true, vec![udp]);
    let config = ResolverConfig::from_name_servers(vec![server]);
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .build()
        .map_err(|e| e.to_string())
}

/// What a name leads to, as a resolver tells it.
pub async fn address(resolver: &TokioResolver, name: &str) -> Option<IpAddr> {
    resolver.lookup_ip(name).await.ok()?.iter().next()
}
