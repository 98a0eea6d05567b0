//! Probes over real sockets, and the watch that runs them.

mod contract;
mod http;
mod name;
mod own;
mod via;
mod watch;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, LazyLock, Mutex},
    time::{Duration, SystemTime},
};

use failover::{
    driver::registry,
    model::{
        observation::{Look, Sight},
        secret::{Secret, SecretRef},
        service::{Service, Via},
        span::Span,
        time::Time,
    },
    port::{
        kind::{Make, Wiring},
        probe::{LookContext, SharedProbe},
        runtime::{Runtime, SharedRuntime},
        secret::{SecretError, Secrets},
    },
};
use futures::future::BoxFuture;
use serde_json::Value;

/// The host's time and tokio's tasks.
struct HostRuntime;

impl Runtime for HostRuntime {
    fn now(&self) -> Time {
        let since = SystemTime::UNIX_EPOCH.elapsed().unwrap();
        Time::from_millis(i64::try_from(since.as_millis()).unwrap())
    }

    fn sleep_until(&self, at: Time) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(at.since(self.now()).to_std()))
    }

    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }
}

/// Secrets of a test, by the name of an environment variable.
#[derive(Default)]
struct Vault(Mutex<BTreeMap<String, String>>);

impl Secrets for Vault {
    fn read(&self, at: &SecretRef) -> Result<Secret, SecretError> {
        let SecretRef::Env(name) = at else {
            return Err(SecretError::Env(at.to_string()));
        };
        let vault = self.0.lock().unwrap();
        let value = vault
            .get(name)
            .ok_or_else(|| SecretError::Env(name.clone()))?;
        Ok(Secret::new(value.clone()))
    }
}

/// A service without parts.
fn service() -> Service {
    Service {
        title: "Shop".into(),
        ..Service::bare("shop".into())
    }
}

/// Made once: loading the host's certificates takes a while.
static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    failover::port::http::client(Duration::from_secs(1)).unwrap()
});

fn wiring(runtime: SharedRuntime, vault: Vault) -> Wiring {
    Wiring {
        secrets: Arc::new(vault),
        runtime,
        http: CLIENT.clone(),
        service: Arc::new(service()),
        state: PathBuf::new(),
        dns: None,
        lookouts: None,
        guards: None,
    }
}

/// A probe as a document would make it.
fn probe(kind: &str, with: &Value) -> SharedProbe {
    probe_with(kind, with, Vault::default())
}

fn probe_with(kind: &str, with: &Value, vault: Vault) -> SharedProbe {
    let kind = registry::kinds().get(kind).unwrap();
    assert_eq!((kind.check)(with), []);
    let Make::Probe(make) = kind.make else {
        panic!("{} makes no probe", kind.name);
    };
    make(with, &wiring(Arc::new(HostRuntime), vault)).unwrap()
}

/// Enough for anything that answers at all, on a busy machine too.
const AMPLE: Span = Span::from_secs(10);

async fn look(probe: &SharedProbe) -> Look {
    look_via(probe, Via::Direct).await
}

async fn look_via(probe: &SharedProbe, via: Via) -> Look {
    look_for(probe, via, AMPLE).await
}

/// Looks again where the machine was too busy to tell, which a probe notices by itself.
async fn look_for(probe: &SharedProbe, via: Via, timeout: Span) -> Look {
    let context = LookContext { via, timeout };
    loop {
        let look = probe.look(&context).await;
        if !look.detail.starts_with("this host stood still") {
            return look;
        }
    }
}

/// Asserts what was seen, and gives its detail.
#[track_caller]
fn seen(look: &Look, sight: Sight) -> &str {
    assert_eq!(look.sight, sight, "{look:?}");
    &look.detail
}
