//! A host of the demo, as a process of its own: it supervises its site's database and shop, and its agent stops them
//! for good when it is asked to fence.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    sync::Mutex,
    time,
};
use tokio_postgres::NoTls;

use super::{postgres::Cluster, process, shop::ShopSettings};

/// How long a part may take to answer after its start.
const START: Duration = Duration::from_mins(1);
/// How often a part that starts is asked.
const ASK: Duration = Duration::from_millis(20);

/// What a host is started with.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostSettings {
    /// Where its agent listens.
    pub agent: SocketAddr,
    /// Its database.
    pub database: Option<Cluster>,
    /// Its shop.
    pub shop: ShopSettings,
    /// The shop's settings as a file.
    pub shop_settings: PathBuf,
    /// The file that says that this host is fenced.
    pub fenced: PathBuf,
}

/// What a host's agent says of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostState {
    /// Whether nothing may be started any more.
    pub fenced: bool,
    /// The database's process, where one runs.
    pub database: Option<u32>,
    /// The shop's process, where one runs.
    pub shop: Option<u32>,
}

struct Host {
    settings: HostSettings,
    parts: Mutex<Parts>,
}

#[derive(Default)]
struct Parts {
    database: Option<Child>,
    shop: Option<Child>,
}

/// Runs a host until its standard input ends: whoever started it is gone then.
///
/// # Errors
/// Where a part of it does not start.
pub async fn run(settings: HostSettings) -> io::Result<()> {
    process::adopt_orphans();
    let listener = TcpListener::bind(settings.agent).await?;
    let host = Arc::new(Host {
        settings,
        parts: Mutex::default(),
    });
    let router = Router::new()
        .route("/state", get(state))
        .route("/fence", get(fenced).post(fence))
        .route("/start", post(start))
        .with_state(Arc::clone(&host));
    let mut input = tokio::io::stdin();
    let mut nothing = [0; 16];
    let ended = tokio::select! {
        served = axum::serve(listener, router) => served,
        _ = input.read(&mut nothing) => Ok(()),
    };
    host.parts.lock().await.stop().await;
    ended
}

async fn state(State(host): State<Arc<Host>>) -> Json<HostState> {
    Json(host.look().await)
}

/// Starts what does not run, and answers once it serves.
async fn start(State(host): State<Arc<Host>>) -> Result<Json<HostState>, (StatusCode, String)> {
    if host.settings.fenced.exists() {
        return Err((StatusCode::FORBIDDEN, "this host is fenced".to_owned()));
    }
    match host.start().await {
        Ok(()) => Ok(Json(host.look().await)),
        Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

/// Stops everything, for good, and says so once it is true.
async fn fence(State(host): State<Arc<Host>>) -> Result<Json<HostState>, (StatusCode, String)> {
    let failed = |e: io::Error| (StatusCode::INTERNAL_SERVER_ERROR, e.to_string());
    let mut parts = host.parts.lock().await;
    // First the promise, durable, then the deed: whatever is started after this moment is refused.
    fs::write(&host.settings.fenced, b"")
        .and_then(|()| fs::File::open(&host.settings.fenced)?.sync_all())
        .map_err(failed)?;
    parts.stop().await;
    drop(parts);
    let state = host.look().await;
    if state.database.is_some() || state.shop.is_some() {
        return Err((
            StatusCode::INTERNAL_SERVER_ERROR,
            "a process does not end".to_owned(),
        ));
    }
    Ok(Json(state))
}

/// 200 where this host is fenced and nothing runs, 409 where it is not.
async fn fenced(State(host): State<Arc<Host>>) -> (StatusCode, Json<HostState>) {
    let state = host.look().await;
    let safe = state.fenced && state.database.is_none() && state.shop.is_none();
    let status = if safe {
        StatusCode::OK
    } else {
        StatusCode::CONFLICT
    };
    (status, Json(state))
}

impl Host {
    async fn look(&self) -> HostState {
        let mut parts = self.parts.lock().await;
        let database = parts.database.as_mut().and_then(running).or_else(|| {
            let data = &self.settings.database.as_ref()?.data;
            left_behind(data)
        });
        HostState {
            fenced: self.settings.fenced.exists(),
            database,
            shop: parts.shop.as_mut().and_then(running),
        }
    }

    async fn start(&self) -> io::Result<()> {
        let mut parts = self.parts.lock().await;
        let parts = &mut *parts;
        if let Some(cluster) = &self.settings.database
            && parts.database.as_mut().and_then(running).is_none()
        {
            let child = parts.database.insert(spawn(cluster.server()?)?);
            wait_for_database(cluster, child).await?;
        }
        if parts.shop.as_mut().and_then(running).is_none() {
            let mut shop = Command::new(std::env::current_exe()?);
            shop.args(["demo-part", "shop", "--settings"])
                .arg(&self.settings.shop_settings)
                .stdin(Stdio::null())
                .stdout(Stdio::null());
            let child = parts.shop.insert(spawn(shop)?);
            wait_for_shop(self.settings.shop.listen, child).await?;
        }
        Ok(())
    }
}

impl Parts {
    /// Kills everything and waits until it is gone.
    async fn stop(&mut self) {
        for part in [&mut self.shop, &mut self.database] {
            let Some(mut child) = part.take() else {
                continue;
            };
            let all = process::tree(child.id());
            process::kill_tree(child.id());
            let deadline = time::Instant::now() + START;
            while (child.try_wait().is_ok_and(|ended| ended.is_none())
                || all.iter().any(|pid| process::runs(*pid)))
                && time::Instant::now() < deadline
            {
                time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

/// Starts a part in a process group of its own, so that a terminal's Ctrl-C does not reach it.
fn spawn(mut command: Command) -> io::Result<Child> {
    command.process_group(0).spawn()
}

fn running(child: &mut Child) -> Option<u32> {
    match child.try_wait() {
        Ok(None) => Some(child.id()),
        Ok(Some(_)) | Err(_) => None,
    }
}

/// A backend that outlives its postmaster would still write.
fn left_behind(data: &Path) -> Option<u32> {
    process::working_in(data).first().copied()
}

async fn wait_for_database(cluster: &Cluster, child: &mut Child) -> io::Result<()> {
    let config = cluster.superuser(cluster.listen)?;
    let deadline = time::Instant::now() + START;
    loop {
        if let Ok((_, connection)) = config.connect(NoTls).await {
            drop(connection);
            return Ok(());
        }
        may_still_start("PostgreSQL", child, deadline, &cluster.log)?;
        time::sleep(ASK).await;
    }
}

async fn wait_for_shop(listen: SocketAddr, child: &mut Child) -> io::Result<()> {
    let deadline = time::Instant::now() + START;
    while TcpStream::connect(listen).await.is_err() {
        may_still_start("the shop", child, deadline, Path::new("/dev/null"))?;
        time::sleep(ASK).await;
    }
    Ok(())
}

fn may_still_start(
    name: &str,
    child: &mut Child,
    deadline: time::Instant,
    log: &Path,
) -> io::Result<()> {
    let why = match child.try_wait()? {
        Some(status) => format!("it ended with {status}"),
        None if time::Instant::now() < deadline => return Ok(()),
        None => "it does not answer".to_owned(),
    };
    let said = fs::read_to_string(log).unwrap_or_default();
    let last = said.lines().last().unwrap_or_default();
    Err(io::Error::other(format!("{name}: {why}; {last}")))
}
