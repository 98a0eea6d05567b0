//! The stage of the demo: two sites with their networks, and the world outside. Nothing of it is left when it is
//! dropped.

use std::{
    env, fs, io,
    net::SocketAddr,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time,
};
use tokio_postgres::NoTls;

use super::{
    account::Account,
    address::{Block, Spot},
    documents::{PRIMARY, STANDBY},
    host::{HostSettings, HostState},
    outside::{Inbox, mail, telegram, x},
    postgres::{self, Cluster, Programs},
    process,
    relay::{Cable, Relay},
    shop::{Keeps, ShopSettings, TABLE},
};
use crate::{
    desk::token,
    error::Error,
    promote::{Grants, grants_sql},
};

/// How long a part may take to start.
const START: Duration = Duration::from_mins(2);
/// The name of the shop's user and database.
const SHOP: &str = "shop";
/// The role of the controller.
pub const ROLE: &str = "failover";
/// The role that copies the standby for a drill.
pub const DRILL_ROLE: &str = "failover_drill";
/// The customers' chat.
pub const CHAT: i64 = -100_200;
/// The team's chat.
pub const TEAM_CHAT: i64 = -100_300;

/// Where everything stands.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The port of the shop at both sites.
    pub shop_port: u16,
    /// The primary's database over its network.
    pub primary_database: SocketAddr,
    /// The standby's database.
    pub standby_database: SocketAddr,
    /// The agent of the standby's host.
    pub standby_agent: SocketAddr,
    /// The primary's host behind its network: agent, shop and database.
    pub host: [SocketAddr; 3],
    /// The primary's database over the network between the sites.
    pub replication: SocketAddr,
    /// The agent of the primary's host over its network.
    pub agent: SocketAddr,
    /// The controller's DNS server.
    pub dns: SocketAddr,
    /// The status page.
    pub page: SocketAddr,
    /// The mail server.
    pub mail: SocketAddr,
    /// X.
    pub x: SocketAddr,
    /// Telegram.
    pub telegram: SocketAddr,
}

/// Everything that is not the controller.
pub struct Stage {
    /// The block of addresses.
    pub block: Block,
    /// Where everything stands.
    pub addresses: Addresses,
    /// The standby's database, where there is one.
    pub standby: Option<Cluster>,
    /// Where there is one, what it is.
    pub programs: Option<Programs>,
    /// The account that it runs as, where that is another.
    pub account: Option<Account>,
    /// What was received outside.
    pub inbox: Inbox,
    /// The network of the primary site.
    pub network: Cable,
    /// The network between the sites.
    pub replication: Cable,
    hosts: Vec<Child>,
    relays: Vec<Relay>,
    tasks: Vec<JoinHandle<()>>,
    /// Last: it is removed when everything in it has ended.
    folder: TempDir,
}

impl Stage {
    /// Builds it and starts everything.
    ///
    /// # Errors
    /// Where a part does not start; everything that was started is stopped again.
    pub async fn build(programs: Option<Programs>) -> Result<Self, Error> {
        let block = Block::draw()?;
        let failed = |part: &str| {
            let part = part.to_owned();
            move |source: io::Error| Error::DemoStart {
                part,
                reason: source.to_string(),
            }
        };
        let account = match &programs {
            Some(_) => Account::for_database().map_err(failed("PostgreSQL"))?,
            None => None,
        };
        let folder = make_folder(account.is_some()).map_err(failed("the demo's folder"))?;
        let addresses = addresses(block).map_err(failed("the network"))?;
        let mut stage = Self {
            block,
            addresses,
            standby: None,
            programs,
            account,
            inbox: Inbox::default(),
            network: Cable::default(),
            replication: Cable::default(),
            hosts: Vec::new(),
            relays: Vec::new(),
            tasks: Vec::new(),
            folder,
        };
        stage.secrets().map_err(failed("the demo's folder"))?;
        stage.outside().await.map_err(failed("the world outside"))?;
        stage.sites().await?;
        Ok(stage)
    }

    /// The folder that holds everything.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The path of a secret.
    #[must_use]
    pub fn secret(&self, name: &str) -> PathBuf {
        self.folder().join("secrets").join(name)
    }

    /// The fallback URL: the standby's own.
    #[must_use]
    pub fn standby_url(&self) -> String {
        self.url(Spot::Standby)
    }

    /// The shop's URL at a site.
    #[must_use]
    pub fn url(&self, spot: Spot) -> String {
        let at = SocketAddr::new(self.block.at(spot), self.addresses.shop_port);
        format!("http://{at}/")
    }

    /// Kills database and shop at the primary; their host lives.
    ///
    /// # Errors
    /// Where the host's agent does not answer.
    pub async fn crash(&self) -> Result<(), Error> {
        let state = self.agent("state", false).await?;
        for pid in state.shop.into_iter().chain(state.database) {
            process::kill_tree(pid);
        }
        Ok(())
    }

    /// Stops every process at the primary without ending it. Gives the database's.
    ///
    /// # Errors
    /// Where the host's agent does not answer before.
    pub async fn freeze(&self) -> Result<Option<u32>, Error> {
        let state = self.agent("state", false).await?;
        if let Some(pid) = self.hosts.first().map(Child::id) {
            process::signal_all(&process::tree(pid), Signal::SIGSTOP);
        }
        Ok(state.database)
    }

    /// Lets a frozen process and what is below it go on, or stops it again.
    pub fn thaw(frozen: u32, on: bool) {
        let signal = if on { Signal::SIGCONT } else { Signal::SIGSTOP };
        process::signal_all(&process::tree(frozen), signal);
    }

    /// Drops everything to and from the primary site.
    pub fn partition(&self) {
        self.network.silence();
        self.replication.silence();
    }

    /// Starts again what does not run at the primary, as its service manager would.
    ///
    /// # Errors
    /// Where it does not start.
    pub async fn restart(&self) -> Result<(), Error> {
        self.agent("start", true).await.map(drop)
    }

    /// Asks the agent of the primary's host, from beside it.
    async fn agent(&self, what: &str, post: bool) -> Result<HostState, Error> {
        ask_agent(self.addresses.host[0], what, post).await
    }

    fn secrets(&self) -> io::Result<()> {
        fs::create_dir(self.folder().join("secrets"))?;
        fs::set_permissions(
            self.folder().join("secrets"),
            fs::Permissions::from_mode(0o700),
        )?;
        for name in [
            "superuser",
            "shop",
            "failover",
            "drill",
            "receipts",
            "unsubscribe",
            "telegram",
            "x-api-key",
            "x-api-secret",
            "x-access-token",
            "x-access-secret",
            "ann",
            "bob",
        ] {
            write_private(&self.secret(name), token::fresh().expose())?;
        }
        Ok(())
    }

    async fn outside(&mut self) -> io::Result<()> {
        let read = |name: &str| fs::read_to_string(self.secret(name));
        let keys = x::Keys {
            api_key: read("x-api-key")?,
            access_token: read("x-access-token")?,
        };
        // As BotFather gives them: the bot's number, a colon, and the secret.
        let bot = format!("1:{}", read("telegram")?);
        write_private(&self.secret("telegram"), &bot)?;
        let x = x::router(keys, self.inbox.clone());
        let telegram = telegram::router(bot, vec![CHAT, TEAM_CHAT], self.inbox.clone());
        for (address, routes) in [(self.addresses.x, x), (self.addresses.telegram, telegram)] {
            let listener = TcpListener::bind(address).await?;
            self.tasks.push(tokio::spawn(async move {
                let _ = axum::serve(listener, routes).await;
            }));
        }
        let (address, inbox) = (self.addresses.mail, self.inbox.clone());
        let listener = TcpListener::bind(address).await?;
        self.tasks.push(tokio::spawn(async move {
            let _ = mail::serve(listener, inbox).await;
        }));
        Ok(())
    }

    async fn sites(&mut self) -> Result<(), Error> {
        let failed = |source: io::Error| Error::DemoStart {
            part: "a site".to_owned(),
            reason: source.to_string(),
        };
        let [agent, shop, database] = self.addresses.host;
        let primary = self.cluster(PRIMARY, database).map_err(failed)?;
        let public = SocketAddr::new(self.block.at(Spot::Primary), self.addresses.shop_port);
        for (listen, to, cable) in [
            (public, shop, &self.network),
            (self.addresses.primary_database, database, &self.network),
            (self.addresses.agent, agent, &self.network),
            (self.addresses.replication, database, &self.replication),
        ] {
            self.relays
                .push(Relay::start(listen, to, cable).map_err(failed)?);
        }
        if let Some(primary) = &primary {
            // Only what comes from this machine's own loopback, each with a password.
            let made = primary.init("127.0.0.0/8").await;
            made.map_err(|e| Error::DemoStart {
                part: "PostgreSQL".to_owned(),
                reason: e.to_string(),
            })?;
        }
        self.host(PRIMARY, agent, shop, primary.clone(), true)
            .await?;
        let standby = match &primary {
            Some(primary) => Some(self.follow(primary).await?),
            None => None,
        };
        let agent = self.addresses.standby_agent;
        let shop = SocketAddr::new(self.block.at(Spot::Standby), self.addresses.shop_port);
        self.host(STANDBY, agent, shop, standby.clone(), false)
            .await?;
        self.standby = standby;
        Ok(())
    }

    /// A database that is not there yet.
    fn cluster(&self, site: &str, listen: SocketAddr) -> io::Result<Option<Cluster>> {
        let folder = self.folder().join(site);
        fs::create_dir(&folder)?;
        let Some(programs) = self.programs.clone() else {
            return Ok(None);
        };
        let data = folder.join("data");
        fs::create_dir(&data)?;
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700))?;
        Account::own(self.account.as_ref(), &data)?;
        Ok(Some(Cluster {
            programs,
            account: self.account.clone(),
            data,
            listen,
            password_file: self.secret("superuser"),
            log: folder.join("postgresql.log"),
        }))
    }

    /// Roles and table on the primary, and a standby that copies it.
    async fn follow(&self, primary: &Cluster) -> Result<Cluster, Error> {
        let failed = |reason: String| Error::DemoStart {
            part: "the standby database".to_owned(),
            reason,
        };
        self.populate(primary).await.map_err(failed)?;
        let standby = self
            .cluster(STANDBY, self.addresses.standby_database)
            .map_err(|e| failed(e.to_string()))?
            .ok_or_else(|| failed("no PostgreSQL".to_owned()))?;
        let copied = standby.copy_of(self.addresses.replication).await;
        copied.map_err(|e| failed(e.to_string()))?;
        Ok(standby)
    }

    /// Before PostgreSQL 15 only a superuser may have a primary refuse writers.
    fn has_parameter_grants(&self) -> bool {
        self.programs.as_ref().is_some_and(|p| p.major() >= 15)
    }

    async fn populate(&self, primary: &Cluster) -> Result<(), String> {
        let secret = |name: &str| {
            fs::read_to_string(self.secret(name))
                .map(|text| text.trim().to_owned())
                .map_err(|e| e.to_string())
        };
        let config = primary
            .superuser(primary.listen)
            .map_err(|e| e.to_string())?;
        let grants = grants_sql(&Grants {
            role: ROLE,
            database: SHOP,
            promote: true,
            fence: self.has_parameter_grants(),
        });
        execute(
            &config,
            &format!("CREATE ROLE {SHOP} LOGIN PASSWORD '{}'", secret("shop")?),
        )
        .await?;
        execute(&config, &format!("CREATE DATABASE {SHOP} OWNER {SHOP}")).await?;
        let mut config = config;
        config.dbname(SHOP);
        execute(&config, &format!("SET ROLE {SHOP}; {TABLE}")).await?;
        execute(&config, &grants).await?;
        if !self.has_parameter_grants() {
            execute(&config, &format!("ALTER ROLE {ROLE} SUPERUSER")).await?;
        }
        execute(
            &config,
            &format!("ALTER ROLE {ROLE} PASSWORD '{}'", secret("failover")?),
        )
        .await?;
        let drill = format!(
            "CREATE ROLE {DRILL_ROLE} LOGIN REPLICATION PASSWORD '{}'; GRANT pg_monitor TO {DRILL_ROLE}",
            secret("drill")?
        );
        execute(&config, &drill).await
    }

    async fn host(
        &mut self,
        site: &str,
        agent: SocketAddr,
        shop: SocketAddr,
        database: Option<Cluster>,
        open: bool,
    ) -> Result<(), Error> {
        let folder = self.folder().join(site);
        let failed = |reason: String| Error::DemoStart {
            part: format!("the host {site}"),
            reason,
        };
        let io_failed = |e: io::Error| failed(e.to_string());
        if !folder.exists() {
            fs::create_dir(&folder).map_err(io_failed)?;
        }
        let open_file = folder.join("open");
        if open {
            fs::write(&open_file, b"").map_err(io_failed)?;
        }
        let keeps = match &database {
            Some(cluster) => Keeps::Database {
                address: cluster.listen,
                user: SHOP.to_owned(),
                password_file: self.secret("shop"),
            },
            None => Keeps::Receipts {
                key_file: self.secret("receipts"),
                open_file,
            },
        };
        let settings = HostSettings {
            agent,
            database,
            shop: ShopSettings {
                site: site.to_owned(),
                listen: shop,
                keeps,
            },
            shop_settings: folder.join("shop.json"),
            fenced: folder.join("fenced"),
        };
        let shop = serde_json::to_string(&settings.shop).map_err(|e| failed(e.to_string()))?;
        fs::write(&settings.shop_settings, shop).map_err(io_failed)?;
        let path = folder.join("host.json");
        let text = serde_json::to_string(&settings).map_err(|e| failed(e.to_string()))?;
        fs::write(&path, text).map_err(io_failed)?;
        let log = fs::File::create(folder.join("host.log")).map_err(io_failed)?;
        let child = Command::new(env::current_exe().map_err(io_failed)?)
            .args(["part-of-demo", "host", "--settings"])
            .arg(&path)
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(io_failed)?;
        self.hosts.push(child);
        let deadline = time::Instant::now() + START;
        while TcpStream::connect(agent).await.is_err() {
            if time::Instant::now() >= deadline {
                return Err(failed("its agent does not answer".to_owned()));
            }
            time::sleep(Duration::from_millis(10)).await;
        }
        ask_agent(agent, "start", true).await.map(drop)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        for host in &mut self.hosts {
            process::kill_tree(host.id());
            let _ = host.wait();
        }
        // Whatever lost its parent before.
        process::sweep(self.folder.path());
        for site in [PRIMARY, STANDBY] {
            postgres::release(&self.folder().join(site).join("data"));
        }
    }
}

async fn ask_agent(agent: SocketAddr, what: &str, post: bool) -> Result<HostState, Error> {
    let failed = |reason: String| Error::DemoStart {
        part: "the host's agent".to_owned(),
        reason,
    };
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(START)
        .build()
        .map_err(|e| failed(e.to_string()))?;
    let url = format!("http://{agent}/{what}");
    let request = if post { http.post(url) } else { http.get(url) };
    let answer = request.send().await.map_err(|e| failed(e.to_string()))?;
    let well = answer.status().is_success();
    let body = answer.text().await.map_err(|e| failed(e.to_string()))?;
    if !well {
        return Err(failed(body));
    }
    serde_json::from_str(&body).map_err(|e| failed(e.to_string()))
}

async fn execute(config: &tokio_postgres::Config, sql: &str) -> Result<(), String> {
    let said = |e: tokio_postgres::Error| {
        e.as_db_error()
            .map_or_else(|| e.to_string(), |d| d.message().to_owned())
    };
    let (client, connection) = config.connect(NoTls).await.map_err(said)?;
    let task = tokio::spawn(connection);
    let done = client.batch_execute(sql).await.map_err(said);
    drop(client);
    let _ = task.await;
    done
}

fn addresses(block: Block) -> io::Result<Addresses> {
    let [primary_database, replication, agent] = block.free(Spot::Primary)?;
    let [standby_database, standby_agent] = block.free(Spot::Standby)?;
    let [dns, page] = block.free(Spot::Controller)?;
    let [mail, x, telegram] = block.free(Spot::Outside)?;
    Ok(Addresses {
        shop_port: block.free_at_both(Spot::Primary, Spot::Standby)?,
        primary_database,
        standby_database,
        standby_agent,
        host: block.free(Spot::PrimaryHost)?,
        replication,
        agent,
        dns,
        page,
        mail,
        x,
        telegram,
    })
}

/// A folder that only this user may list; the database's account may go through it to its own.
fn make_folder(other_account: bool) -> io::Result<TempDir> {
    let usual = env::temp_dir();
    let base = if other_account && !all_may_enter(&usual) {
        PathBuf::from("/tmp")
    } else {
        usual
    };
    let folder = tempfile::Builder::new()
        .prefix("failover-demo-")
        .tempdir_in(base)?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711))?;
    Ok(folder)
}

fn all_may_enter(path: &Path) -> bool {
    path.ancestors()
        .all(|p| fs::metadata(p).is_ok_and(|meta| meta.mode() & 0o001 != 0))
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}
