//! A real S3 server (s3s over a folder): signatures, conditional puts and listings as S3 has them, and outages.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
};

use failover::{
    model::secret::{Secret, SecretRef},
    port::{
        secret::{SecretError, Secrets, SharedSecrets},
        store::StoreWith,
    },
};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::{
    auth::SimpleAuth,
    service::{S3Service, S3ServiceBuilder},
};
use s3s_fs::FileSystem;
use tokio::{net::TcpListener, select, sync::watch, task::JoinSet};

/// The bucket that is there from the start.
pub const BUCKET: &str = "copies";

const KEY_ID: &str = "test-key";
const KEY_SECRET: &str = "test-secret";

/// The server. It runs on a thread of its own, so that a test may block, and ends when it is dropped.
pub struct S3 {
    folder: tempfile::TempDir,
    address: SocketAddr,
    power: watch::Sender<Power>,
    applied: mpsc::Receiver<()>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    /// Connections are cut and new ones closed at once.
    Outage,
    Off,
}

impl S3 {
    /// Starts it with an empty bucket.
    pub fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let mut service = S3ServiceBuilder::new(FileSystem::new(folder.path()).unwrap());
        service.set_auth(SimpleAuth::from_single(KEY_ID, KEY_SECRET));
        let service = service.build();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (power, powered) = watch::channel(Power::On);
        let (applying, applied) = mpsc::channel();
        let thread = thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(serve(listener, service, powered, applying));
        });
        Self {
            folder,
            address,
            power,
            applied,
            thread: Some(thread),
        }
    }

    /// Where it listens: `http://127.0.0.1:…`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Settings for a store below `prefix` in the bucket; its secrets are read through [`S3::secrets`].
    pub fn with(&self, prefix: &str) -> StoreWith {
        StoreWith {
            url: format!("s3://{BUCKET}/{prefix}"),
            endpoint: Some(self.endpoint()),
            region: None,
            access_key_id: Some(SecretRef::Env("S3_KEY_ID".to_owned())),
            secret_access_key: Some(SecretRef::Env("S3_KEY_SECRET".to_owned())),
            allow_http: true,
            virtual_host: false,
        }
    }

    /// The right secrets.
    pub fn secrets() -> SharedSecrets {
        Arc::new(Given {
            id: KEY_ID,
            secret: KEY_SECRET,
        })
    }

    /// A secret that the server refuses.
    pub fn wrong_secrets() -> SharedSecrets {
        Arc::new(Given {
            id: KEY_ID,
            secret: "another-secret",
        })
    }

    /// An object's content as it stands on the server.
    pub fn object(&self, key: &str) -> Option<Vec<u8>> {
        std::fs::read(self.path(key)).ok()
    }

    /// Puts an object there behind everybody's back.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        let path = self.path(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Takes an object away.
    pub fn remove(&self, key: &str) {
        std::fs::remove_file(self.path(key)).unwrap();
    }

    /// Cuts every connection and lets no new one through; in force when this returns.
    pub fn begin_outage(&self) {
        self.power.send_replace(Power::Outage);
        self.applied.recv().unwrap();
    }

    /// Serves again when this returns.
    pub fn end_outage(&self) {
        self.power.send_replace(Power::On);
        self.applied.recv().unwrap();
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.path().join(BUCKET).join(key)
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.power.send_replace(Power::Off);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(
    listener: std::net::TcpListener,
    service: S3Service,
    mut power: watch::Receiver<Power>,
    applying: mpsc::Sender<()>,
) {
    let listener = TcpListener::from_std(listener).unwrap();
    let mut connections = JoinSet::new();
    let mut now = Power::On;
    loop {
        select! {
            biased;
            _ = power.changed() => {
                now = *power.borrow_and_update();
                match now {
                    Power::On => {}
                    Power::Outage => connections.shutdown().await,
                    Power::Off => return,
                }
                let _ = applying.send(());
            }
            accepted = listener.accept() => {
                if let (Ok((socket, _)), Power::On) = (accepted, now) {
                    let service = service.clone();
                    connections.spawn(async move {
                        // A client that goes away is no fault of the server.
                        let _ = http1::Builder::new()
                            .serve_connection(TokioIo::new(socket), service)
                            .await;
                    });
                }
            }
        }
    }
}

struct Given {
    id: &'static str,
    secret: &'static str,
}

impl Secrets for Given {
    fn read(&self, at: &SecretRef) -> Result<Secret, SecretError> {
        match at {
            SecretRef::Env(name) if name == "S3_KEY_ID" => Ok(Secret::new(self.id)),
            SecretRef::Env(name) if name == "S3_KEY_SECRET" => Ok(Secret::new(self.secret)),
            SecretRef::Env(_) | SecretRef::File(_) | SecretRef::SecretRef(_) => {
                Err(SecretError::Env(at.to_string()))
            }
        }
    }
}
