//! The database as its agent handles it: started and followed in a hold behind the gate, looked at, promoted, ended.
//!
//! What can hang is bounded or can be called off, but for the start of a hold, which is waited for: dropped half-way it
//! might go on behind the back of a fence. Each use of the gate carries a [`Turn`]; one of an earlier turn than the last
//! is refused, so that a late answer never opens what a fence has closed.

use std::{collections::BTreeMap, future, io, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, watch},
    time::{sleep, timeout},
};

mod control;
mod disk;
mod files;
mod fork;
mod identity;
mod locks;
mod opening;
mod place;
mod resting;
mod resync;
mod rewinding;
mod salvage;
mod settings;
mod source;
mod tool;

pub use self::{
    control::ControlError,
    identity::IdentityError,
    resync::ResyncError,
    rewinding::{done as made_anew, is_half_done},
    salvage::Store,
};
use self::{
    control::{LastRun, end_of_log, last_run},
    disk::Disk,
    locks::Locks,
    opening::Openings,
    resting::Resting,
};
use super::{
    clock,
    config::{self, Config},
    gate::{Gate, GateError},
    hold::{BootTime, CommandSignal, Hold, HoldError, Launch},
    machine::Until,
};
use crate::{
    model::{
        guard::{Database, FirstHand, Salvage},
        id::{Epoch, ServiceName},
        observation::Lsn,
        span::Span,
    },
    port::{
        cause,
        postgres::{Login, PostgresError, Session},
        secret::{SecretError, SharedSecrets},
    },
};

/// What a question to the server may take.
const LOOK: Duration = Duration::from_secs(1);
/// A look is given up after so many renewals, or after [`LOOK`]: a server that is silent for so long says nothing this
/// time.
const SILENCE: u32 = 3;
/// A server that is only busy is slower than this.
const BUSY: Duration = Duration::from_millis(300);
/// What hold may take to move its timer; the next renewal tries again.
const ARM: Duration = Duration::from_secs(1);
/// What the end of every process may take before it counts as unknown.
const END: Duration = Duration::from_secs(10);
/// Between two looks at a server that is being opened.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a session may live that looks again and again.
const SESSION: Duration = Duration::from_hours(1);
/// A longer time without a standby is told as this.
const LONGEST: Span = Span::from_secs(86_400);
/// Only a role that may read statistics hears of standbys.
const QUESTION: &str = "
SELECT pg_is_in_recovery() AS recovery,
    CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
        ELSE pg_current_wal_lsn() END AS position,
    (SELECT greatest(0, extract(epoch FROM clock_timestamp() - max(reply_time)) * 1000)::bigint
        FROM pg_stat_replication) AS contact";
/// Where the system's programs are.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What failed at the database.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The user or groups it runs as.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The dead-man.
    #[error("the dead-man failed")]
    Hold(#[from] HoldError),
    /// The gate.
    #[error("the gate failed")]
    Gate(#[from] GateError),
    /// The resting state.
    #[error("standby.signal in the data directory cannot be put or taken")]
    Resting(#[source] io::Error),
    /// What the server did last cannot be told.
    #[error("the data directory cannot be understood")]
    Control(#[from] ControlError),
    /// The server does not do as it is told.
    #[error("the server refused")]
    Postgres(#[from] PostgresError),
    /// Processes hang in the kernel.
    #[error("not every process had ended after {} s", END.as_secs())]
    Hangs,
    /// Hold does not answer.
    #[error("the dead-man did not answer in time")]
    Silent,
    /// The data was not brought into line.
    #[error("the data cannot be brought into line")]
    Resync(#[from] ResyncError),
    /// `pg_rewind` was broken off.
    #[error(
        "pg_rewind was broken off in the data, which is neither the old nor the new: only another resync may touch it"
    )]
    HalfDone,
    /// A password.
    #[error("the password at {at} cannot be read")]
    Secret {
        /// Where.
        at: String,
        /// Why.
        #[source]
        source: SecretError,
    },
    /// It was started by somebody else.
    #[error("a server that this guard did not start answers")]
    Outside,
    /// A fence, or a later start, came before.
    #[error("it was called off")]
    CalledOff,
    /// A task of this program ended before its time.
    #[error("a task ended early")]
    Task(#[source] tokio::task::JoinError),
}

/// Orders what is done to the gate and to the hold: of what is under way only the latest turn counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn(pub u64);

/// What a look finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What the database does; none where it runs and does not say.
    pub database: Option<Database>,
    /// When the kernel ends it; none where no timer is set.
    pub armed: Option<BootTime>,
    /// What else was seen.
    pub besides: FirstHand,
}

/// Calls off what takes long.
#[derive(Clone, Debug)]
pub struct CallOff(watch::Receiver<bool>);

impl CallOff {
    /// What calls off, and what hears of it.
    #[must_use]
    pub fn new() -> (watch::Sender<bool>, Self) {
        let (send, heard) = watch::channel(false);
        (send, Self(heard))
    }

    /// Goes on unless it was called off.
    ///
    /// # Errors
    /// Where it was.
    pub fn check(&self) -> Result<(), ServerError> {
        if *self.0.borrow() {
            return Err(ServerError::CalledOff);
        }
        Ok(())
    }

    /// Does it, unless it is called off: then it is dropped.
    ///
    /// # Errors
    /// Where it was called off.
    pub async fn unless<T>(&self, work: impl Future<Output = T>) -> Result<T, ServerError> {
        let mut heard = self.0.clone();
        tokio::select! {
            biased;
            Ok(_) = heard.wait_for(|off| *off) => Err(ServerError::CalledOff),
            done = work => Ok(done),
        }
    }
}

/// One database server.
pub struct Server {
    launch: Launch,
    gate: Gate,
    login: Login,
    resting: Resting,
    locks: Locks,
    data: PathBuf,
    document: config::Database,
    secrets: SharedSecrets,
    disk: Disk,
    /// What a look may take.
    patience: Duration,
    turn: Mutex<Turn>,
    /// What was called off while it was being opened, and may not be over.
    openings: Openings,
}

impl Server {
    /// The server of a document.
    ///
    /// # Errors
    /// Where its user is not known, or the gate cannot be named.
    pub fn new(config: &Config, secrets: SharedSecrets) -> Result<Self, ServerError> {
        let database = &config.database;
        let (uid, gid, groups) = identity::of(database)?;
        // Two sites on one host are for tries only, and must not share a gate all the same.
        let gate = ServiceName::new(format!("{}.{}", config.service, config.site));
        let mut env = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
        env.extend(database.env.clone());
        Ok(Self {
            launch: Launch {
                program: database.program.clone(),
                args: database.args.clone(),
                env,
                uid,
                gid,
                groups,
                folder: config.runtime(),
                log: database.log_file.clone(),
                // Also where the file was replaced by an upgrade.
                exe: "/proc/self/exe".into(),
                armed: None,
            },
            gate: Gate::new(&gate, database.listen.iter().copied())?,
            login: Login {
                conninfo: database.connection.clone(),
                password: database.password.clone(),
                secrets: Arc::clone(&secrets),
            },
            resting: Resting::new(database.data_dir.clone(), uid, gid),
            locks: Locks::new(&database.data_dir, &database.connection),
            data: database.data_dir.clone(),
            document: database.clone(),
            secrets,
            disk: Disk::new(database.data_dir.clone()),
            patience: (config.renewal.to_std() * SILENCE).clamp(BUSY, LOOK),
            turn: Mutex::default(),
            openings: Openings::default(),
        })
    }

    /// Puts gate, data and resting state in place before anything is decided. What runs goes on.
    ///
    /// # Errors
    /// Where that fails, or a server answers that no guard started.
    pub async fn prepare(&self) -> Result<(), ServerError> {
        self.gate.install().await?;
        if self.attached()?.is_none() && self.ask(&mut None).await.is_ok() {
            return Err(ServerError::Outside);
        }
        if self.document.resync.is_some() {
            place::finish(&self.data).map_err(ServerError::from)?;
        }
        self.rest().await
    }

    /// Looks, with a session that is kept for the next look.
    ///
    /// # Errors
    /// Where the hold cannot be asked.
    pub async fn look(&self, session: &mut Option<Session>) -> Result<Seen, ServerError> {
        let disk = self.disk.look().await;
        let Some(hold) = self.attached()? else {
            *session = None;
            return Ok(gone(disk));
        };
        let armed = match timeout(LOOK, hold.state()).await {
            Ok(Ok(state)) => state.armed,
            Ok(Err(_)) | Err(_) => None,
        };
        let asked = timeout(self.patience, self.question(session));
        let told = tokio::select! {
            told = asked => told.ok().and_then(Result::ok),
            () = end_of(&hold) => None,
        };
        if told.is_none() && !hold.runs()? {
            *session = None;
            return Ok(gone(disk));
        }
        let besides = told.map_or(disk, |(_, told)| FirstHand {
            position: told.position,
            contact: told.contact,
            ..disk
        });
        Ok(Seen {
            database: told.map(|(database, _)| database),
            armed,
            besides,
        })
    }

    /// Returns when nothing of what runs now is left; never where nothing runs, or the kernel does not tell.
    pub async fn ended(&self) {
        match self.attached() {
            Ok(Some(hold)) => end_of(&hold).await,
            Ok(None) | Err(_) => future::pending().await,
        }
    }

    /// Moves the moment at which kernel and gate end it; returns once both have taken it.
    ///
    /// # Errors
    /// Where one of them has not, or a later turn came before.
    pub async fn arm(&self, until: Until, turn: Turn) -> Result<(), ServerError> {
        let current = self.turn.lock().await;
        if *current != turn {
            return Err(ServerError::CalledOff);
        }
        let hold = self.attached()?.ok_or(ServerError::CalledOff)?;
        let armed = async {
            match until {
                Until::At(at) => hold.arm(clock::boot_time(at)).await,
                Until::Never => hold.disarm().await,
            }
        };
        timeout(ARM, armed)
            .await
            .map_err(|_| ServerError::Silent)??;
        self.open_gate(until).await
    }

    /// Lets readers in for good.
    ///
    /// # Errors
    /// Where the gate does not open, or a later turn came before.
    pub async fn admit(&self, turn: Turn) -> Result<(), ServerError> {
        let current = self.turn.lock().await;
        if *current != turn {
            return Err(ServerError::CalledOff);
        }
        self.open_gate(Until::Never).await
    }

    /// Ends every process and destroys the sockets, behind a closed gate. `opening` is what is being opened, which was
    /// called off already. Gives where its log ends, where that is known for certain.
    ///
    /// # Errors
    /// Where it is not known whether all of that is so.
    pub async fn empty(
        &self,
        turn: Turn,
        opening: Option<tokio::task::JoinHandle<()>>,
    ) -> Result<Option<Lsn>, ServerError> {
        self.openings.keep(opening);
        match timeout(END, self.end(turn)).await {
            Ok(ended) => ended,
            Err(_) => Err(ServerError::Hangs),
        }
    }

    async fn end(&self, turn: Turn) -> Result<Option<Lsn>, ServerError> {
        self.kill().await?;
        self.openings.over().await?;
        let mut current = self.turn.lock().await;
        *current = (*current).max(turn);
        // What had been about to start when the first kill came.
        self.kill().await?;
        match self.gate.close().await {
            Err(GateError::Absent(_)) => self.gate.install().await?,
            other => other?,
        }
        self.gate.destroy_sockets().await?;
        self.rest().await?;
        if self
            .ask(&mut None)
            .await
            .is_ok_and(|d| d == Database::Writable)
        {
            return Err(ServerError::Outside);
        }
        let data = self.data.clone();
        blocking(move || Ok(end_of_log(&data).unwrap_or_default())).await
    }

    /// Starts it as a primary under an armed dead-man; `armed` is called when dead-man and gate have taken the moment.
    /// Data that was a standby's last is promoted, so that what it writes is on a timeline of its own.
    ///
    /// # Errors
    /// Where it does not come so far.
    pub async fn start(
        &self,
        until: Until,
        turn: Turn,
        off: &CallOff,
        armed: impl FnOnce() + Send,
    ) -> Result<Database, ServerError> {
        let started = self.launch_primary(until, turn, off, armed).await;
        let opened = match started {
            Ok((hold, LastRun::Primary)) => self.opened(&hold, off, Database::Writable).await,
            Ok((hold, LastRun::Standby)) => {
                match self.opened(&hold, off, Database::Following).await {
                    Ok(Database::Following) => self.promote_under(&hold, off).await,
                    other => other,
                }
            }
            Err(e) => Err(e),
        };
        self.rest().await?;
        opened
    }

    async fn launch_primary(
        &self,
        until: Until,
        turn: Turn,
        off: &CallOff,
        armed: impl FnOnce() + Send,
    ) -> Result<(Hold, LastRun), ServerError> {
        let mut current = self.turn.lock().await;
        off.check()?;
        self.is_whole()?;
        *current = turn;
        // A standby that was being started when the order to promote came.
        self.kill().await?;
        self.sweep_locks().await;
        let last_run = self.last_run().await?;
        match last_run {
            LastRun::Primary => self.rouse().await?,
            LastRun::Standby => self.rest().await?,
        }
        self.gate.destroy_sockets().await?;
        self.open_gate(until).await?;
        off.check()?;
        let launch = Launch {
            armed: match until {
                Until::At(at) => Some(clock::boot_time(at)),
                Until::Never => None,
            },
            ..self.launch.clone()
        };
        let hold = Hold::start(&launch).await?;
        armed();
        drop(current);
        Ok((hold, last_run))
    }

    /// Data that `pg_rewind` was at work on may look sound and is not: no server is started on it.
    fn is_whole(&self) -> Result<(), ServerError> {
        if self.is_half_done() {
            return Err(ServerError::HalfDone);
        }
        Ok(())
    }

    /// Whether `pg_rewind` was broken off at the data.
    #[must_use]
    pub fn is_half_done(&self) -> bool {
        rewinding::is_half_done(&self.data)
    }

    /// Promotes the standby that runs, and gives what it does then.
    ///
    /// # Errors
    /// Where it does not come so far.
    pub async fn promote(&self, off: &CallOff) -> Result<Database, ServerError> {
        let Some(hold) = self.attached()? else {
            return Ok(Database::Gone);
        };
        let promoted = self.promote_under(&hold, off).await;
        // The server takes the file away at its promotion.
        self.rest().await?;
        promoted
    }

    async fn promote_under(&self, hold: &Hold, off: &CallOff) -> Result<Database, ServerError> {
        let asked = async {
            let session = timeout(LOOK, self.login.open(SESSION)).await;
            match session {
                Ok(Ok(session)) => {
                    match timeout(LOOK, session.rows("SELECT pg_promote(false)")).await {
                        Ok(promoted) => promoted.map(drop).map_err(ServerError::Postgres),
                        Err(_) => Err(ServerError::Silent),
                    }
                }
                Ok(Err(e)) => Err(e.into()),
                Err(_) => Err(ServerError::Silent),
            }
        };
        off.unless(asked).await??;
        self.opened(hold, off, Database::Writable).await
    }

    /// Starts it as a standby, for readers; where it runs already it is left as it is.
    ///
    /// # Errors
    /// Where it does not come so far.
    pub async fn follow(&self, turn: Turn, off: &CallOff) -> Result<Database, ServerError> {
        let mut current = self.turn.lock().await;
        off.check()?;
        *current = turn;
        let hold = if let Some(hold) = self.attached()? {
            hold
        } else {
            self.is_whole()?;
            self.sweep_locks().await;
            self.rest().await?;
            self.gate.destroy_sockets().await?;
            Hold::start(&self.launch).await?
        };
        self.open_gate(Until::Never).await?;
        drop(current);
        self.opened(&hold, off, Database::Following).await
    }

    /// Has the server end in its own order, with a checkpoint; returns once nothing of it is left.
    ///
    /// # Errors
    /// Where it could not be asked.
    pub async fn stop(&self) -> Result<(), ServerError> {
        let Some(hold) = self.attached()? else {
            return Ok(());
        };
        match hold.signal(CommandSignal::Int).await {
            Ok(()) | Err(HoldError::NoCommand) => {}
            Err(e) => return Err(e.into()),
        }
        hold.ended().await?;
        Ok(())
    }

    /// Has it end in its own order, and tells where its log ends; none where it did not end so.
    ///
    /// # Errors
    /// Where it could not be asked, or what it left cannot be read.
    pub async fn drain(&self) -> Result<Option<Lsn>, ServerError> {
        self.stop().await?;
        let data = self.data.clone();
        blocking(move || Ok(end_of_log(&data)?)).await
    }

    /// Keeps what only this site has, and brings its data into line with the site that serves.
    ///
    /// # Errors
    /// Where it could not be done, was called off, or something of the database runs.
    pub async fn resync(&self, epoch: Epoch, off: &CallOff) -> Result<Salvage, ServerError> {
        // Nothing is started meanwhile.
        let _current = self.turn.lock().await;
        if self.attached()?.is_some() {
            return Err(ServerError::Outside);
        }
        self.sweep_locks().await;
        let work = resync::Work {
            database: &self.document,
            owner: (self.launch.uid, self.launch.gid),
            resting: &self.resting,
            secrets: &self.secrets,
            epoch,
            off,
        };
        work.run().await
    }

    /// Waits until it lets people in and does what is wanted, or has ended. A server that says it is writable where a
    /// follower was wanted is told as that.
    async fn opened(
        &self,
        hold: &Hold,
        off: &CallOff,
        wanted: Database,
    ) -> Result<Database, ServerError> {
        let mut session = None;
        loop {
            off.check()?;
            if !hold.runs()? {
                return Ok(Database::Gone);
            }
            match off.unless(self.ask(&mut session)).await? {
                Ok(Database::Writable) => {
                    self.warn_of_settings(&mut session).await;
                    return Ok(Database::Writable);
                }
                Ok(database) if database == wanted => return Ok(database),
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(error = %cause::in_full(&error), "the server does not answer yet");
                }
            }
            off.unless(sleep(PAUSE)).await?;
        }
    }

    /// A server that starts itself anew after a crash reads the resting state as an order to follow.
    async fn warn_of_settings(&self, session: &mut Option<Session>) {
        let Some(session) = session else { return };
        let shown = timeout(LOOK, session.row("SHOW restart_after_crash")).await;
        if let Ok(Ok(row)) = shown
            && row.get(0) == Some("on")
        {
            tracing::error!(
                "PostgreSQL runs with restart_after_crash = on: after the crash of one backend this primary would come \
                 up read-only. Set restart_after_crash = off in postgresql.conf; the guard restarts it"
            );
        }
    }

    async fn ask(&self, kept: &mut Option<Session>) -> Result<Database, ServerError> {
        self.question(kept).await.map(|(database, _)| database)
    }

    async fn question(
        &self,
        kept: &mut Option<Session>,
    ) -> Result<(Database, FirstHand), ServerError> {
        let session = match kept.take().filter(|s| s.left() > LOOK) {
            Some(session) => session,
            None => timeout(LOOK, self.login.open(SESSION))
                .await
                .map_err(|_| ServerError::Silent)??,
        };
        let row = timeout(LOOK, session.row(QUESTION))
            .await
            .map_err(|_| ServerError::Silent)??;
        *kept = Some(session);
        let database = match row.get("recovery") {
            Some("t") => Database::Following,
            Some(_) | None => Database::Writable,
        };
        let contact = row.get("contact").and_then(|ms| ms.parse().ok());
        let told = FirstHand {
            position: row.get("position").and_then(Lsn::parse),
            contact: contact.map(|ms| Span::from_millis(ms).min(LONGEST)),
            ..FirstHand::default()
        };
        Ok((database, told))
    }

    async fn open_gate(&self, until: Until) -> Result<(), ServerError> {
        let open = async || match until {
            Until::At(at) => self.gate.open_until(clock::boot_time(at)).await.map(drop),
            Until::Never => self.gate.open().await,
        };
        match open().await {
            // Somebody flushed the ruleset.
            Err(GateError::Absent(_)) => {
                tracing::error!("the gate was gone, and is put back");
                self.gate.install().await?;
                open().await?;
            }
            other => other?,
        }
        Ok(())
    }

    /// The hold, where anything of it runs.
    fn attached(&self) -> Result<Option<Hold>, ServerError> {
        let Some(hold) = Hold::attach(&self.launch.folder)? else {
            return Ok(None);
        };
        Ok(hold.runs()?.then_some(hold))
    }

    async fn kill(&self) -> Result<(), ServerError> {
        if let Some(hold) = self.attached()? {
            hold.kill().await?;
        }
        Ok(())
    }

    async fn rest(&self) -> Result<(), ServerError> {
        let resting = self.resting.clone();
        blocking(move || resting.put().map_err(ServerError::Resting)).await
    }

    /// Nothing of the server runs: its lock files are nobody's.
    async fn sweep_locks(&self) {
        let locks = self.locks.clone();
        drop(tokio::task::spawn_blocking(move || locks.sweep()).await);
    }

    async fn rouse(&self) -> Result<(), ServerError> {
        let resting = self.resting.clone();
        blocking(move || resting.take().map_err(ServerError::Resting)).await
    }

    async fn last_run(&self) -> Result<LastRun, ServerError> {
        let data = self.data.clone();
        blocking(move || Ok(last_run(&data)?)).await
    }
}

/// Returns when nothing of it is left; never where the kernel does not tell.
async fn end_of(hold: &Hold) {
    if hold.ended().await.is_err() {
        future::pending::<()>().await;
    }
}

fn gone(disk: FirstHand) -> Seen {
    Seen {
        database: Some(Database::Gone),
        armed: None,
        besides: disk,
    }
}

/// User and group of a document's database.
///
/// # Errors
/// Where one is not known on this host.
pub fn identity(config: &Config) -> Result<(u32, u32), IdentityError> {
    identity::of(&config.database).map(|(uid, gid, _)| (uid, gid))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ServerError> + Send + 'static,
) -> Result<T, ServerError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(ServerError::Task)?
}

/// A server that many tasks share.
pub type SharedServer = Arc<Server>;
