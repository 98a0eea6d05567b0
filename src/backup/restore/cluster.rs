//! A PostgreSQL of its own: its own data, its own configuration, a Unix socket in a folder that nobody else may enter, and
//! no network. Nothing of the backup's configuration is used: it would archive into the real archive.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{process::Command as Process, time};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, error::SqlState};

use super::{Fault, form, programs::Programs, scratch::Scratch};
use crate::{
    backup::program::{self, ProgramError, SHOWN},
    model::backup::VerifyQuery,
    port::{
        account::Account,
        cause,
        program::{Group, last_words},
    },
};

/// The database that a dump is restored into.
pub const DATABASE: &str = "restored";
const SUPERUSER: &str = "postgres";
/// How often it is asked whether it answers.
const ASK: Duration = Duration::from_millis(100);
/// How long it may take to end.
const END: Duration = Duration::from_secs(10);

/// What is asked of every restored database.
const TABLES: &str = "select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace \
                      where c.relkind in ('r', 'p') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'";
const SIZE: &str = "select pg_database_size(current_database())";

/// What a restore complains of that is this host's fault and not the backup's.
const OF_HOST: [&str; 7] = [
    "is not available",
    "could not open extension control file",
    "could not access file",
    "No space left on device",
    "out of memory",
    "collation \"",
    "could not load library",
];

/// A server that is stopped when it is dropped.
pub struct Cluster<'a> {
    programs: Programs,
    scratch: &'a Scratch,
    sockets: PathBuf,
    log: PathBuf,
    server: Group,
}

impl Drop for Cluster<'_> {
    /// Asked to end at once, it takes its shared memory with it.
    fn drop(&mut self) {
        let pid = self.server.child.id().and_then(|id| i32::try_from(id).ok());
        let Some(pid) = pid.map(Pid::from_raw) else {
            return;
        };
        let until = Instant::now() + END;
        let _ = kill(pid, Signal::SIGQUIT);
        while Instant::now() < until {
            if !matches!(self.server.child.try_wait(), Ok(None)) {
                return;
            }
            sleep(Duration::from_millis(10));
        }
    }
}

impl<'a> Cluster<'a> {
    /// A fresh one with an empty database.
    pub async fn fresh(programs: Programs, scratch: &'a Scratch) -> Result<Self, Fault> {
        let data = scratch.path().join("data");
        fs::create_dir(&data).map_err(|e| Fault::here("data", &e))?;
        scratch.give_away()?;
        let mut init = Self::process(&programs, "initdb", scratch);
        init.args([
            "--no-sync",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
        ])
        .args(["--username", SUPERUSER, "--pgdata"])
        .arg(&data);
        program::run(init)
            .await
            .map_err(|e| Fault::of_host("initdb", &e))?;
        let cluster = Self::start(&data, programs, scratch, "").await?;
        let made = cluster.client("postgres").await?;
        made.simple_query(&format!("create database {DATABASE}"))
            .await
            .map_err(|e| Fault::Unclear(cause::in_full(&e)))?;
        Ok(cluster)
    }

    /// One over the data directory of a base backup.
    pub async fn over(
        data: &Path,
        programs: Programs,
        scratch: &'a Scratch,
    ) -> Result<Self, Fault> {
        for name in [
            "standby.signal",
            "recovery.signal",
            "postgresql.auto.conf",
            "postmaster.pid",
        ] {
            match fs::remove_file(data.join(name)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Fault::here(name, &e));
                }
                Ok(()) | Err(_) => {}
            }
        }
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(data, private).map_err(|e| Fault::here("data", &e))?;
        scratch.give_away()?;
        Self::start(data, programs, scratch, "").await
    }

    /// One over the same that replays archived WAL and then begins a timeline of its own.
    pub async fn recovering(
        data: &Path,
        programs: Programs,
        scratch: &'a Scratch,
        recovery: &str,
    ) -> Result<Self, Fault> {
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(data, private).map_err(|e| Fault::here("data", &e))?;
        scratch.give_away()?;
        Self::start(data, programs, scratch, recovery).await
    }

    /// Ends it in order, so that its data can be started anywhere.
    pub async fn stop(mut self) -> Result<(), Fault> {
        let pid = self.server.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid.map(Pid::from_raw) {
            let _ = kill(pid, Signal::SIGINT);
        }
        let status = self.server.child.wait().await;
        let status = status.map_err(|e| Fault::here("postgres", &e))?;
        if status.success() {
            Ok(())
        } else {
            let said = self.complaint();
            Err(Fault::Unclear(format!(
                "the restored server did not end in order ({status}): {said}"
            )))
        }
    }

    /// The first row that it answers with, by the names of its columns.
    pub async fn row(&self, sql: &str) -> Result<BTreeMap<String, Option<String>>, Fault> {
        let unclear = |e: tokio_postgres::Error| Fault::Unclear(cause::in_full(&e));
        let client = match self.connect("postgres").await {
            Ok(client) => client,
            Err(_) => self.connect("template1").await.map_err(unclear)?,
        };
        let rows = client.simple_query(sql).await.map_err(unclear)?;
        let named = rows.into_iter().find_map(|message| {
            let SimpleQueryMessage::Row(row) = message else {
                return None;
            };
            let names = row.columns().iter().enumerate();
            let cell = |(n, c): (usize, &tokio_postgres::SimpleColumn)| {
                (c.name().to_owned(), row.get(n).map(str::to_owned))
            };
            Some(names.map(cell).collect())
        });
        named.ok_or_else(|| Fault::Unclear("it has no row to tell".to_owned()))
    }

    fn process(programs: &Programs, name: &str, scratch: &Scratch) -> Process {
        let mut process = Process::new(programs.path(name));
        process
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LC_ALL", "C")
            .current_dir(scratch.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        Account::apply(scratch.account(), &mut process);
        process
    }

    async fn start(
        data: &Path,
        programs: Programs,
        scratch: &'a Scratch,
        more: &str,
    ) -> Result<Self, Fault> {
        let sockets = scratch.folder("run")?;
        let log = scratch.path().join("log");
        let write = |name: &str, text: &str| {
            let path = scratch.path().join(name);
            fs::write(&path, text).map_err(|e| Fault::here(name, &e))?;
            Ok::<_, Fault>(path)
        };
        let hba = write("hba.conf", "local all all trust\n")?;
        let ident = write("ident.conf", "")?;
        let text = format!("{}{more}", configuration(&sockets, &hba, &ident));
        let config = write("server.conf", &text)?;
        let out = File::create(&log).map_err(|e| Fault::here("log", &e))?;
        scratch.give_away()?;
        let mut server = Self::process(&programs, "postgres", scratch);
        server
            .arg("-D")
            .arg(data)
            .arg("-c")
            .arg(format!("config_file={}", config.display()))
            .stderr(out);
        let server =
            Group::start(&mut server).map_err(|e| Fault::here("postgres cannot be started", &e))?;
        let mut cluster = Self {
            programs,
            scratch,
            sockets,
            log,
            server,
        };
        cluster.answers().await?;
        Ok(cluster)
    }

    /// Waits until it has recovered and answers.
    async fn answers(&mut self) -> Result<(), Fault> {
        loop {
            if let Ok(Some(status)) = self.server.child.try_wait() {
                let text = format!(
                    "PostgreSQL does not start on it ({status}): {}",
                    self.complaint()
                );
                return Err(if is_of_host(&text) {
                    Fault::Unclear(text)
                } else {
                    Fault::Bad(text)
                });
            }
            if self.connect("postgres").await.is_ok() || self.connect("template1").await.is_ok() {
                return Ok(());
            }
            time::sleep(ASK).await;
        }
    }

    /// The last of what the server says.
    fn complaint(&self) -> String {
        last_words(&fs::read_to_string(&self.log).unwrap_or_default(), SHOWN)
    }

    async fn connect(&self, database: &str) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = Config::new()
            .host_path(&self.sockets)
            .user(SUPERUSER)
            .dbname(database)
            .connect(NoTls)
            .await?;
        tokio::spawn(connection);
        Ok(client)
    }

    async fn client(&self, database: &str) -> Result<Client, Fault> {
        self.connect(database).await.map_err(|e| {
            Fault::Unclear(format!(
                "the restored server does not let {SUPERUSER} into {database}: {}",
                cause::in_full(&e)
            ))
        })
    }

    /// Restores an archive of `pg_dump`.
    pub async fn restore_archive(&self, archive: &Path) -> Result<(), Fault> {
        let mut restore = Self::process(&self.programs, "pg_restore", self.scratch);
        restore
            .args([
                "--exit-on-error",
                "--no-owner",
                "--no-privileges",
                "--no-tablespaces",
            ])
            .args(["--username", SUPERUSER, "--dbname", DATABASE, "--host"])
            .arg(&self.sockets)
            .arg(archive);
        Self::restored("pg_restore", program::run(restore).await)
    }

    /// Runs a dump as text.
    pub async fn run_script(&self, script: &Path) -> Result<(), Fault> {
        let roles = form::roles(script).map_err(|e| Fault::here("the dump", &e))?;
        let client = self.client(DATABASE).await?;
        for role in roles.iter().filter(|r| *r != SUPERUSER) {
            let made = client
                .simple_query(&format!("create role \"{role}\" nologin"))
                .await;
            made.map_err(|e| Fault::Unclear(cause::in_full(&e)))?;
        }
        let mut psql = Self::process(&self.programs, "psql", self.scratch);
        psql.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"])
            .args(["--username", SUPERUSER, "--dbname", DATABASE, "--host"])
            .arg(&self.sockets)
            .arg("--file")
            .arg(script);
        Self::restored("psql", program::run(psql).await)
    }

    fn restored(name: &str, ended: Result<String, ProgramError>) -> Result<(), Fault> {
        match ended {
            Ok(_) => Ok(()),
            Err(e @ ProgramError::Run(_)) => Err(Fault::of_host(name, &e)),
            Err(ProgramError::Failed { said, .. }) => {
                let text = format!("{name}: {said}");
                Err(if is_of_host(&said) {
                    Fault::Unclear(text)
                } else {
                    Fault::Bad(text)
                })
            }
        }
    }

    /// Asks the restored database, and keeps its answers.
    pub async fn ask(
        &self,
        database: &str,
        queries: &[VerifyQuery],
        answers: &mut BTreeMap<String, String>,
    ) -> Result<(), Fault> {
        let client = self.client(database).await?;
        let tables = answer(&client, "tables", TABLES).await?;
        let size = answer(&client, "bytes", SIZE).await?;
        answers.insert("tables".to_owned(), tables.clone());
        answers.insert("bytes".to_owned(), size);
        if tables == "0" {
            return Err(Fault::Wrong(format!(
                "the database {database} holds no table (verify.database names the one to ask)"
            )));
        }
        for query in queries {
            let said = answer(&client, &query.name, &query.sql).await?;
            answers.insert(query.name.clone(), said.clone());
            let Some(least) = query.at_least else {
                continue;
            };
            let enough = said.trim().parse::<f64>();
            #[expect(
                clippy::cast_precision_loss,
                reason = "a count of rows stays far below 2^52"
            )]
            if !enough.is_ok_and(|n| n >= least as f64) {
                return Err(Fault::Wrong(format!(
                    "{} is {said}, and should be at least {least}",
                    query.name
                )));
            }
        }
        Ok(())
    }
}

/// The first column of the first row.
async fn answer(client: &Client, name: &str, sql: &str) -> Result<String, Fault> {
    let rows = client.simple_query(sql).await.map_err(|e| {
        let told = format!("{name} cannot be asked: {}", cause::in_full(&e));
        match e.code() {
            Some(code) if is_damage(code) => Fault::Bad(told),
            Some(_) => Fault::Wrong(told),
            // The server is gone.
            None => Fault::Unclear(told),
        }
    })?;
    let first = rows.into_iter().find_map(|message| {
        let SimpleQueryMessage::Row(row) = message else {
            return None;
        };
        Some(row.get(0).unwrap_or("null").to_owned())
    });
    first.ok_or_else(|| Fault::Wrong(format!("{name} has no row")))
}

/// Whether the server found its data damaged, rather than the question wrong.
fn is_damage(code: &SqlState) -> bool {
    [
        SqlState::DATA_CORRUPTED,
        SqlState::INDEX_CORRUPTED,
        SqlState::IO_ERROR,
        SqlState::UNDEFINED_FILE,
    ]
    .contains(code)
}

fn is_of_host(text: &str) -> bool {
    let role = text.contains("role \"") && text.contains("does not exist");
    role || OF_HOST.iter().any(|mark| text.contains(mark))
}

fn configuration(sockets: &Path, hba: &Path, ident: &Path) -> String {
    let quoted = |path: &Path| path.display().to_string().replace('\'', "''");
    format!(
        "listen_addresses = ''\n\
         unix_socket_directories = '{sockets}'\n\
         unix_socket_permissions = 0700\n\
         hba_file = '{hba}'\n\
         ident_file = '{ident}'\n\
         external_pid_file = ''\n\
         archive_mode = off\n\
         wal_level = minimal\n\
         max_wal_senders = 0\n\
         max_connections = 20\n\
         max_prepared_transactions = 100\n\
         hot_standby = off\n\
         autovacuum = off\n\
         fsync = off\n\
         full_page_writes = off\n\
         synchronous_commit = off\n\
         shared_buffers = '64MB'\n\
         maintenance_work_mem = '128MB'\n\
         dynamic_shared_memory_type = mmap\n\
         logging_collector = off\n\
         log_destination = 'stderr'\n",
        sockets = quoted(sockets),
        hba = quoted(hba),
        ident = quoted(ident),
    )
}
