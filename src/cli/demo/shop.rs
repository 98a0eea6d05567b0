//! The shop of the demo: takes orders over HTTP, keeps them in its site's database, or hands out signed receipts
//! where there is none.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::Html,
    routing::{get, post},
};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::{net::TcpListener, sync::Mutex, time};
use tokio_postgres::{Client, Config, NoTls};

/// How long the shop waits for its database.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a shop is started with.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShopSettings {
    /// The site it stands at.
    pub site: String,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where it keeps orders.
    pub keeps: Keeps,
}

/// Where a shop keeps orders.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Keeps {
    /// In its site's database.
    Database {
        /// Its address.
        address: SocketAddr,
        /// The shop's user and database.
        user: String,
        /// File with its password.
        password_file: PathBuf,
    },
    /// Nowhere: the customer gets a receipt that every shop with the same key can check.
    Receipts {
        /// File with the key.
        key_file: PathBuf,
        /// File that exists once this shop is open.
        open_file: PathBuf,
    },
}

/// An order as a customer sends it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// The customer's own number.
    pub id: i64,
}

/// What a customer gets for an order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Receipt {
    /// The order's number.
    pub id: i64,
    /// The site that took it.
    pub site: String,
    /// Proof of it, where nothing is kept.
    pub seal: Option<String>,
}

struct Shop {
    site: String,
    store: Store,
}

enum Store {
    Database {
        config: Box<Config>,
        client: Mutex<Option<Arc<Client>>>,
    },
    Receipts {
        key: Hmac<Sha256>,
        open_file: PathBuf,
        open: AtomicBool,
    },
}

/// Runs a shop until its process ends.
///
/// # Errors
/// Where its settings or its address cannot be used.
pub async fn run(settings: ShopSettings) -> std::io::Result<()> {
    let store = match settings.keeps {
        Keeps::Database {
            address,
            user,
            password_file,
        } => {
            let mut config = Config::new();
            config
                .host(address.ip().to_string())
                .port(address.port())
                .user(&user)
                .dbname(&user)
                .password(fs::read_to_string(password_file)?.trim())
                .connect_timeout(PATIENCE);
            Store::Database {
                config: Box::new(config),
                client: Mutex::new(None),
            }
        }
        Keeps::Receipts {
            key_file,
            open_file,
        } => Store::Receipts {
            key: Hmac::new_from_slice(&fs::read(key_file)?).map_err(std::io::Error::other)?,
            open: AtomicBool::new(open_file.exists()),
            open_file,
        },
    };
    let shop = Arc::new(Shop {
        site: settings.site,
        store,
    });
    let router = Router::new()
        .route("/", get(front))
        .route("/health", get(health))
        .route("/orders", post(order))
        .route("/receipts", post(check))
        .route("/promote", get(promoted).post(promote))
        .with_state(shop);
    axum::serve(TcpListener::bind(settings.listen).await?, router).await
}

/// What customers see: 200 only where the shop takes orders.
async fn front(State(shop): State<Arc<Shop>>) -> (StatusCode, Html<String>) {
    let site = &shop.site;
    match shop.takes_orders().await {
        Ok(true) => (
            StatusCode::OK,
            Html(format!("<h1>The shop is open</h1><p>Served by {site}.</p>")),
        ),
        Ok(false) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Html(format!("<h1>Standing by</h1><p>This is {site}.</p>")),
        ),
        Err(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Html(format!(
                "<h1>The shop is closed</h1><p>{site}: {reason}</p>"
            )),
        ),
    }
}

/// Whether the shop itself is well, standing by or not.
async fn health(State(shop): State<Arc<Shop>>) -> (StatusCode, Json<Value>) {
    match shop.takes_orders().await {
        Ok(open) => (
            StatusCode::OK,
            Json(json!({ "site": shop.site, "takesOrders": open })),
        ),
        Err(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({ "site": shop.site, "reason": reason })),
        ),
    }
}

async fn order(
    State(shop): State<Arc<Shop>>,
    Json(order): Json<Order>,
) -> Result<(StatusCode, Json<Receipt>), (StatusCode, String)> {
    let closed = |reason| (StatusCode::SERVICE_UNAVAILABLE, reason);
    let seal = match &shop.store {
        Store::Database { .. } => {
            let client = shop.client().await.map_err(closed)?;
            let insert =
                "INSERT INTO orders (id, site) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING";
            shop.ask(client.execute(insert, &[&order.id, &shop.site]))
                .await
                .map_err(closed)?;
            None
        }
        Store::Receipts { key, open, .. } => {
            if !open.load(Ordering::Acquire) {
                return Err(closed("standing by".to_owned()));
            }
            Some(hex::encode(seal(key, order.id).finalize().into_bytes()))
        }
    };
    let receipt = Receipt {
        id: order.id,
        site: shop.site.clone(),
        seal,
    };
    Ok((StatusCode::CREATED, Json(receipt)))
}

/// Whether this shop honours a receipt, whichever shop gave it.
async fn check(State(shop): State<Arc<Shop>>, Json(receipt): Json<Receipt>) -> StatusCode {
    let Store::Receipts { key, .. } = &shop.store else {
        return StatusCode::NOT_FOUND;
    };
    let given = receipt.seal.and_then(|text| hex::decode(text).ok());
    match given {
        Some(given) if seal(key, receipt.id).verify_slice(&given).is_ok() => StatusCode::OK,
        Some(_) | None => StatusCode::FORBIDDEN,
    }
}

/// 200 once this shop is open.
async fn promoted(State(shop): State<Arc<Shop>>) -> StatusCode {
    match shop.takes_orders().await {
        Ok(true) => StatusCode::OK,
        Ok(false) | Err(_) => StatusCode::CONFLICT,
    }
}

/// Opens a shop that keeps nothing; one with a database opens when its database is promoted.
async fn promote(State(shop): State<Arc<Shop>>) -> StatusCode {
    match &shop.store {
        Store::Database { .. } => StatusCode::CONFLICT,
        Store::Receipts {
            open, open_file, ..
        } => {
            if fs::write(open_file, b"").is_err() {
                return StatusCode::INTERNAL_SERVER_ERROR;
            }
            open.store(true, Ordering::Release);
            StatusCode::OK
        }
    }
}

impl Shop {
    /// Whether it takes orders: its database is there and takes writes.
    async fn takes_orders(&self) -> Result<bool, String> {
        match &self.store {
            Store::Receipts { open, .. } => Ok(open.load(Ordering::Acquire)),
            Store::Database { .. } => {
                let client = self.client().await?;
                let row = self
                    .ask(client.query_one("SELECT NOT pg_is_in_recovery()", &[]))
                    .await?;
                Ok(row.get(0))
            }
        }
    }

    /// The connection, made anew where it was lost.
    async fn client(&self) -> Result<Arc<Client>, String> {
        let Store::Database { config, client } = &self.store else {
            return Err("this shop has no database".to_owned());
        };
        let mut client = client.lock().await;
        if let Some(known) = client.as_ref().filter(|c| !c.is_closed()) {
            return Ok(Arc::clone(known));
        }
        let (fresh, connection) = match time::timeout(PATIENCE, config.connect(NoTls)).await {
            Ok(connected) => connected.map_err(|e| format!("no database: {e}"))?,
            Err(_) => return Err("the database does not answer".to_owned()),
        };
        tokio::spawn(connection);
        let fresh = Arc::new(fresh);
        *client = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    /// What the database says, within the shop's patience.
    async fn ask<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, String> {
        match time::timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(error
                .as_db_error()
                .map_or_else(|| error.to_string(), |e| e.message().to_owned())),
            Err(_) => Err("the database does not answer".to_owned()),
        }
    }
}

fn seal(key: &Hmac<Sha256>, id: i64) -> Hmac<Sha256> {
    key.clone().chain_update(id.to_be_bytes())
}

/// The table of orders.
pub const TABLE: &str = "CREATE TABLE orders (\
     id bigint PRIMARY KEY, site text NOT NULL, taken timestamptz NOT NULL DEFAULT now())";

/// Reads settings from a file.
///
/// # Errors
/// Where it cannot be read or is no settings.
pub fn read<T: serde::de::DeserializeOwned>(path: &Path) -> std::io::Result<T> {
    Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
}
