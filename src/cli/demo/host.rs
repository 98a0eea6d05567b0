//! A host of the demo, as a process of its own: it supervises its site's database and shop, and its agent stops them
//! for good when it is asked to fence. For planned work it also stops the database in order, and has it follow another.

use std::{
    fmt, fs, io,
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
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    sync::Mutex,
    time,
};
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::{postgres::Cluster, process, shop::ShopSettings};
use crate::model::observation::Lsn;

/// How long a part may take to answer after its start.
const START: Duration = Duration::from_mins(1);
/// How long a database may take to stop in order.
const DRAIN: Duration = Duration::from_secs(10);
/// Whether a database receives another one's log, as it says itself.
const STREAMS: &str =
    "SELECT (count(*) = 1)::text FROM pg_stat_wal_receiver WHERE status = 'streaming'";
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
    /// Where the log ends of a database that was stopped in order: its last record begins there.
    pub drained: Option<Lsn>,
}

impl fmt::Display for HostState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |name: &str, pid: Option<u32>| match pid {
            Some(pid) => format!("{name} runs as process {pid}"),
            None => format!("{name} has no process"),
        };
        let may = if self.fenced {
            "nothing may be started"
        } else {
            "it is not fenced"
        };
        write!(
            f,
            "{}, {}, {may}",
            part("database", self.database),
            part("shop", self.shop)
        )
    }
}

/// What an agent answers.
type Said = Result<Json<HostState>, (StatusCode, String)>;

struct Host {
    settings: HostSettings,
    parts: Mutex<Parts>,
}

#[derive(Default)]
struct Parts {
    database: Option<Child>,
    shop: Option<Child>,
    drained: Option<Lsn>,
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
        .route("/release", post(release))
        .route("/drain", post(drain))
        .route("/position", get(position))
        .route("/follow", get(follows).post(follow))
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
async fn start(State(host): State<Arc<Host>>) -> Said {
    if host.settings.fenced.exists() {
        return Err((StatusCode::FORBIDDEN, "this host is fenced".to_owned()));
    }
    match host.start().await {
        Ok(()) => Ok(Json(host.look().await)),
        Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

/// Stops everything, for good, and says so once it is true.
async fn fence(State(host): State<Arc<Host>>) -> Said {
    let mut parts = host.parts.lock().await;
    // First the promise, durable, then the deed: whatever is started after this moment is refused.
    fs::write(&host.settings.fenced, b"")
        .and_then(|()| fs::File::open(&host.settings.fenced)?.sync_all())
        .map_err(|e| failed(&e))?;
    parts.stop().await;
    drop(parts);
    let state = host.look().await;
    if state.database.is_some() || state.shop.is_some() {
        return Err(failed(&io::Error::other("a process does not end")));
    }
    Ok(Json(state))
}

/// Takes the promise back, and starts what does not run.
async fn release(State(host): State<Arc<Host>>) -> Said {
    host.unfence().map_err(|e| failed(&e))?;
    host.start().await.map_err(|e| failed(&e))?;
    Ok(Json(host.look().await))
}

/// Stops the database in order: what it acknowledged goes to its standby before it ends.
async fn drain(State(host): State<Arc<Host>>) -> Said {
    host.drain().await.map_err(|e| failed(&e))?;
    Ok(Json(host.look().await))
}

/// How much of another's log a database that follows has.
async fn position(State(host): State<Arc<Host>>) -> Result<String, (StatusCode, String)> {
    host.say("SELECT coalesce(pg_last_wal_receive_lsn()::text, 'nothing')")
        .await
        .map_err(|e| failed(&e))
}

/// Has the database follow another one from now on.
async fn follow(State(host): State<Arc<Host>>, Json(primary): Json<SocketAddr>) -> Said {
    host.follow(primary).await.map_err(|e| failed(&e))?;
    Ok(Json(host.look().await))
}

/// 200 where the database follows another one, 409 where it does not.
async fn follows(State(host): State<Arc<Host>>) -> (StatusCode, Json<HostState>) {
    let status = match host.say(STREAMS).await.as_deref() {
        Ok("true") => StatusCode::OK,
        Ok(_) | Err(_) => StatusCode::CONFLICT,
    };
    (status, Json(host.look().await))
}

fn failed(e: &io::Error) -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, e.to_string())
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
            drained: parts.drained.filter(|_| database.is_none()),
        }
    }

    async fn drain(&self) -> io::Result<()> {
        let mut parts = self.parts.lock().await;
        let cluster = self.cluster()?;
        let Some(mut server) = parts.database.take() else {
            return match parts.drained {
                Some(_) => Ok(()),
                None => Err(io::Error::other("no database runs")),
            };
        };
        // PostgreSQL's fast shutdown: sessions end, and the log goes to every standby that streams.
        let pid = i32::try_from(server.id()).map_err(io::Error::other)?;
        kill(Pid::from_raw(pid), Signal::SIGINT)?;
        let deadline = time::Instant::now() + DRAIN;
        while server.try_wait()?.is_none() {
            if time::Instant::now() >= deadline {
                parts.database = Some(server);
                return Err(io::Error::other("the database does not stop in order"));
            }
            time::sleep(Duration::from_millis(5)).await;
        }
        parts.drained = Some(cluster.end_of_log()?);
        Ok(())
    }

    async fn follow(&self, primary: SocketAddr) -> io::Result<()> {
        let cluster = self.cluster()?;
        self.parts.lock().await.stop().await;
        cluster.follow(primary)?;
        self.unfence()?;
        self.start().await?;
        let deadline = time::Instant::now() + START;
        while self.say(STREAMS).await? != "true" {
            if time::Instant::now() >= deadline {
                return Err(io::Error::other("the database does not stream"));
            }
            time::sleep(ASK).await;
        }
        // It would keep log for a standby that is none any more.
        self.say(
            "SELECT count(pg_drop_replication_slot(slot_name)) FROM pg_replication_slots WHERE NOT active",
        )
        .await
        .map(drop)
    }

    fn unfence(&self) -> io::Result<()> {
        match fs::remove_file(&self.settings.fenced) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn cluster(&self) -> io::Result<&Cluster> {
        let cluster = self.settings.database.as_ref();
        cluster.ok_or_else(|| io::Error::other("this host has no database"))
    }

    /// What the database answers, as text.
    async fn say(&self, sql: &str) -> io::Result<String> {
        let cluster = self.cluster()?;
        let (client, connection) = cluster
            .superuser(cluster.listen)?
            .connect(NoTls)
            .await
            .map_err(io::Error::other)?;
        let task = tokio::spawn(connection);
        let rows = client.simple_query(sql).await.map_err(io::Error::other);
        drop(client);
        let _ = task.await;
        let text = rows?.into_iter().find_map(|message| {
            if let SimpleQueryMessage::Row(row) = message {
                row.get(0).map(ToOwned::to_owned)
            } else {
                None
            }
        });
        text.ok_or_else(|| io::Error::other("the database says nothing"))
    }

    async fn start(&self) -> io::Result<()> {
        let mut parts = self.parts.lock().await;
        let parts = &mut *parts;
        if let Some(cluster) = &self.settings.database
            && parts.database.as_mut().and_then(running).is_none()
        {
            parts.drained = None;
            let child = parts.database.insert(spawn(cluster.server()?)?);
            wait_for_database(cluster, child).await?;
        }
        if parts.shop.as_mut().and_then(running).is_none() {
            let mut shop = Command::new(std::env::current_exe()?);
            shop.args(["part-of-demo", "shop", "--settings"])
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
