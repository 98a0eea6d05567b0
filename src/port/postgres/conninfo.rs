//! Connection strings as `psql` takes them, for one server, without a password.

use std::{collections::BTreeMap, fmt, net::IpAddr, path::PathBuf, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Port that PostgreSQL listens on unless told otherwise.
const DEFAULT_PORT: u16 = 5432;
/// The database that exists in every cluster.
const DEFAULT_DATABASE: &str = "postgres";

/// Where a server is and as whom to log in: libpq's keywords or its URI, for exactly one server.
///
/// It differs from libpq where a failover controller must: a password is refused (it is a secret and has a field
/// of its own), several hosts are refused (it has to be known which server answered), nothing is taken from the
/// environment, and `dbname` defaults to `postgres`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conninfo {
    /// Where it listens.
    pub host: Host,
    /// TCP port, or the number in the socket's name.
    pub port: u16,
    /// Database.
    pub database: String,
    /// Role.
    pub user: String,
    /// How far TLS goes.
    pub tls: TlsMode,
    /// Who may have signed the server's certificate; none: the platform's roots.
    pub root: Option<PathBuf>,
    /// Certificate and key that the client shows.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Whether the login must be bound to the TLS channel.
    pub binding: ChannelBinding,
    /// Shown in `pg_stat_activity`.
    pub application: String,
    /// Server settings for the session, as `-c name=value`.
    pub options: Option<String>,
    text: String,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name or an address in text.
    Name(String),
    /// An address, with the name that its certificate holds.
    Address(IpAddr, Option<String>),
    /// The folder of its Unix socket.
    Socket(PathBuf),
}

/// How far TLS goes, in libpq's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Never.
    Disable,
    /// Where the server offers it; its certificate is not verified.
    Prefer,
    /// Always; its certificate is verified only where `sslrootcert` is given.
    Require,
    /// Always; its certificate must be signed by a known root.
    VerifyCa,
    /// Always; its certificate must be signed by a known root and hold the host's name.
    VerifyFull,
}

/// Whether the login must be bound to the TLS channel, in libpq's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where both sides can.
    Prefer,
    /// Always.
    Require,
}

/// Why a text is no connection string for one server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConninfoError {
    /// It is neither `key=value …` nor a URI.
    #[error(
        "expected a connection string such as \"host=db.example.com user=failover sslmode=verify-full\""
    )]
    Shape,
    /// A key that is not known here.
    #[error(
        "unknown key {0:?}: known are host, hostaddr, port, dbname, user, sslmode, sslrootcert, sslcert, sslkey, \
         channel_binding, application_name and options"
    )]
    Key(String),
    /// A key that has a better place.
    #[error("{0} cannot be set here: {1}")]
    Elsewhere(&'static str, &'static str),
    /// A value that its key cannot have.
    #[error("{key} cannot be {value:?}: expected {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A key that must be there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Several servers.
    #[error("name one server only: it has to be known which one answered")]
    Hosts,
}

impl Conninfo {
    /// The host as `check` compares it with the primary's; none where it is a socket of this machine.
    #[must_use]
    pub fn hosts(&self) -> Vec<String> {
        match &self.host {
            Host::Name(name) => vec![name.clone()],
            Host::Address(address, name) => std::iter::once(address.to_string())
                .chain(name.clone())
                .collect(),
            Host::Socket(_) => Vec::new(),
        }
    }

    /// Whether the connection leaves this machine.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        match &self.host {
            Host::Name(name) => name
                .parse::<IpAddr>()
                .map_or(name != "localhost", |a| !a.is_loopback()),
            Host::Address(address, _) => !address.is_loopback(),
            Host::Socket(_) => false,
        }
    }

    /// `host:port`, for people.
    #[must_use]
    pub fn server(&self) -> String {
        match &self.host {
            Host::Name(name) if name.contains(':') => format!("[{name}]:{}", self.port),
            Host::Name(name) | Host::Address(_, Some(name)) => format!("{name}:{}", self.port),
            Host::Address(IpAddr::V6(address), None) => format!("[{address}]:{}", self.port),
            Host::Address(IpAddr::V4(address), None) => format!("{address}:{}", self.port),
            Host::Socket(folder) => format!("{}:{}", folder.display(), self.port),
        }
    }

    fn build(text: &str, keys: BTreeMap<String, String>) -> Result<Self, ConninfoError> {
        let mut draft = Draft::default();
        for (key, value) in keys {
            draft.set(&key, value)?;
        }
        let host = match (draft.host, draft.address) {
            (Some(host), None) if host.starts_with('/') => Host::Socket(PathBuf::from(host)),
            (Some(host), None) => Host::Name(host),
            (host, Some(address)) => Host::Address(address, host),
            (None, None) => return Err(ConninfoError::Missing("host")),
        };
        let identity = match (draft.certificate, draft.key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => return Err(ConninfoError::Missing("sslkey")),
            (None, Some(_)) => return Err(ConninfoError::Missing("sslcert")),
        };
        Ok(Self {
            host,
            port: draft.port.unwrap_or(DEFAULT_PORT),
            database: draft
                .database
                .unwrap_or_else(|| DEFAULT_DATABASE.to_owned()),
            user: draft.user.ok_or(ConninfoError::Missing("user"))?,
            tls: draft.tls.unwrap_or(TlsMode::Prefer),
            root: draft.root,
            identity,
            binding: draft.binding.unwrap_or(ChannelBinding::Prefer),
            application: draft.application.unwrap_or_else(|| "failover".to_owned()),
            options: draft.options,
            text: text.to_owned(),
        })
    }
}

/// What was read so far.
#[derive(Default)]
struct Draft {
    host: Option<String>,
    address: Option<IpAddr>,
    port: Option<u16>,
    database: Option<String>,
    user: Option<String>,
    tls: Option<TlsMode>,
    root: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    binding: Option<ChannelBinding>,
    application: Option<String>,
    options: Option<String>,
}

impl Draft {
    fn set(&mut self, key: &str, value: String) -> Result<(), ConninfoError> {
        match key {
            "host" | "hostaddr" | "port" if value.contains(',') => {
                return Err(ConninfoError::Hosts);
            }
            "host" => self.host = Some(value),
            "hostaddr" => {
                let address = value.parse();
                self.address = Some(address.map_err(|_| bad("hostaddr", value, "an IP address"))?);
            }
            "port" => match value.parse() {
                Ok(port) if port > 0 => self.port = Some(port),
                Ok(_) | Err(_) => return Err(bad("port", value, "1 to 65535")),
            },
            "dbname" => self.database = Some(value),
            "user" => self.user = Some(value),
            "sslmode" => self.tls = Some(tls_mode(value)?),
            // `system` names the platform's roots, which are the default here.
            "sslrootcert" if value == "system" => self.root = None,
            "sslrootcert" => self.root = Some(PathBuf::from(value)),
            "sslcert" => self.certificate = Some(PathBuf::from(value)),
            "sslkey" => self.key = Some(PathBuf::from(value)),
            "channel_binding" => self.binding = Some(binding(value)?),
            "application_name" => self.application = Some(value),
            "options" => self.options = Some(value),
            "password" | "passfile" | "sslpassword" => {
                return Err(ConninfoError::Elsewhere(
                    "a password",
                    "give the field password a reference, such as {env: NAME} or {file: PATH}",
                ));
            }
            "service" | "servicefile" => {
                return Err(ConninfoError::Elsewhere("service", "write the server out"));
            }
            "target_session_attrs" | "load_balance_hosts" => {
                return Err(ConninfoError::Elsewhere(
                    "target_session_attrs",
                    "each connection is to one server, whatever it is just now",
                ));
            }
            "connect_timeout" => {
                return Err(ConninfoError::Elsewhere(
                    "connect_timeout",
                    "the probe's or step's own timeout holds",
                ));
            }
            other => return Err(ConninfoError::Key(other.to_owned())),
        }
        Ok(())
    }
}

fn tls_mode(value: String) -> Result<TlsMode, ConninfoError> {
    match value.as_str() {
        "disable" => Ok(TlsMode::Disable),
        "prefer" => Ok(TlsMode::Prefer),
        "require" => Ok(TlsMode::Require),
        "verify-ca" => Ok(TlsMode::VerifyCa),
        "verify-full" => Ok(TlsMode::VerifyFull),
        _ => Err(bad(
            "sslmode",
            value,
            "disable, prefer, require, verify-ca or verify-full",
        )),
    }
}

fn binding(value: String) -> Result<ChannelBinding, ConninfoError> {
    match value.as_str() {
        "disable" => Ok(ChannelBinding::Disable),
        "prefer" => Ok(ChannelBinding::Prefer),
        "require" => Ok(ChannelBinding::Require),
        _ => Err(bad("channel_binding", value, "disable, prefer or require")),
    }
}

fn bad(key: &'static str, value: String, expected: &'static str) -> ConninfoError {
    ConninfoError::Value {
        key,
        value,
        expected,
    }
}

impl FromStr for Conninfo {
    type Err = ConninfoError;

    fn from_str(text: &str) -> Result<Self, ConninfoError> {
        Self::build(text, keys(text)?)
    }
}

/// What stands in a connection string, keywords or URI, whether or not a [`Conninfo`] takes it.
///
/// # Errors
/// `Shape` where it is neither.
pub fn keys(text: &str) -> Result<BTreeMap<String, String>, ConninfoError> {
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        uri(text)
    } else {
        pairs(text)
    }
}

/// Keys and values as a connection string, in the order in which people write them.
#[must_use]
pub fn written(keys: &BTreeMap<String, String>) -> String {
    const FIRST: [&str; 5] = ["host", "hostaddr", "port", "dbname", "user"];
    let rest = keys.keys().map(String::as_str);
    let rest = rest.filter(|key| !FIRST.contains(key));
    FIRST
        .into_iter()
        .chain(rest)
        .filter_map(|key| Some(format!("{key}={}", value(keys.get(key)?))))
        .collect::<Vec<_>>()
        .join(" ")
}

/// A value, in quotes where it needs them.
fn value(text: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && c != '\'' && c != '\\';
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    let escaped = text.replace('\\', "\\\\").replace('\'', "\\'");
    format!("'{escaped}'")
}

/// `key = 'value' …`, with backslashes escaping, as libpq reads it.
fn pairs(text: &str) -> Result<BTreeMap<String, String>, ConninfoError> {
    let mut keys = BTreeMap::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok(keys);
        }
        let mut key = String::new();
        while let Some(c) = chars.next_if(|c| !c.is_whitespace() && *c != '=') {
            key.push(c);
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if key.is_empty() || chars.next() != Some('=') {
            return Err(ConninfoError::Shape);
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match chars.peek() {
                None if quoted => return Err(ConninfoError::Shape),
                None => break,
                Some('\'') if quoted => {
                    chars.next();
                    break;
                }
                Some(c) if c.is_whitespace() && !quoted => break,
                Some(_) => {}
            }
            match chars.next() {
                Some('\\') => value.extend(chars.next()),
                Some(c) => value.push(c),
                None => {}
            }
        }
        if !value.is_empty() {
            keys.insert(key, value);
        }
    }
}

/// `postgresql://user@host:port/database?key=value`.
fn uri(text: &str) -> Result<BTreeMap<String, String>, ConninfoError> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    if place.contains(',') {
        return Err(ConninfoError::Hosts);
    }
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (host, port) = match place.strip_prefix('[') {
        Some(v6) => {
            let (host, rest) = v6.split_once(']').ok_or(ConninfoError::Shape)?;
            (host, rest.strip_prefix(':').unwrap_or(rest))
        }
        None => place.split_once(':').unwrap_or((place, "")),
    };
    let mut keys = BTreeMap::new();
    let parts = [
        ("user", user),
        ("password", password),
        ("host", host),
        ("port", port),
        ("dbname", database),
    ];
    let query = query
        .split('&')
        .filter(|p| !p.is_empty())
        .map(|p| p.split_once('=').ok_or(ConninfoError::Shape));
    for pair in parts.into_iter().map(Ok).chain(query) {
        let (key, value) = pair?;
        if !value.is_empty() {
            keys.insert(decoded(key)?, decoded(value)?);
        }
    }
    Ok(keys)
}

/// Undoes `%` escapes. A `+` stays one: this is no form.
fn decoded(text: &str) -> Result<String, ConninfoError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let digits = tail.get(..2).ok_or(ConninfoError::Shape)?;
            let mut byte = [0];
            hex::decode_to_slice(digits, &mut byte).map_err(|_| ConninfoError::Shape)?;
            bytes.push(byte[0]);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).map_err(|_| ConninfoError::Shape)
}

impl fmt::Display for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Conninfo {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Conninfo {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Conninfo {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Conninfo".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A PostgreSQL connection string for one server, without a password: \
                            host=db.example.com user=failover sslmode=verify-full",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Conninfo, ConninfoError> {
        text.parse()
    }

    #[test]
    fn what_is_written_reads_the_same() {
        for text in [
            "host=db1 port=5433 dbname=shop user=ann application_name='it\\'s' options='-c a=b\\\\c'",
            "postgresql://ann:p%40ss@[2001:db8::1]:5433/shop?sslmode=require",
        ] {
            let read = keys(text).unwrap();
            assert_eq!(keys(&written(&read)).unwrap(), read);
        }
        let read = keys("user=ann host=db1").unwrap();
        assert_eq!(written(&read), "host=db1 user=ann");
    }

    #[test]
    fn both_forms_say_the_same() {
        let pairs = read(
            "host=db.example.com port = 5433 user='fail over' dbname=shop sslmode=verify-full \
             sslrootcert='/etc/it\\'s.pem'",
        )
        .unwrap();
        let uri = read(
            "postgresql://fail%20over@db.example.com:5433/shop?sslmode=verify-full&sslrootcert=/etc/it%27s.pem",
        )
        .unwrap();
        assert_eq!(pairs.user, "fail over");
        assert_eq!(pairs.root, Some(PathBuf::from("/etc/it's.pem")));
        assert_eq!(pairs.tls, TlsMode::VerifyFull);
        assert_eq!(
            Conninfo {
                text: String::new(),
                ..pairs
            },
            Conninfo {
                text: String::new(),
                ..uri
            }
        );
    }

    #[test]
    fn defaults_are_those_of_the_docs() {
        let c = read("host=::1 user=f").unwrap();
        assert_eq!(
            (c.port, c.database.as_str(), c.tls),
            (5432, "postgres", TlsMode::Prefer)
        );
        assert_eq!(c.server(), "[::1]:5432");
        assert!(!c.is_remote());
        let c = read("postgres://f@/?host=/run/postgresql").unwrap();
        assert_eq!(c.host, Host::Socket("/run/postgresql".into()));
        assert!(c.hosts().is_empty());
        let c = read("host=db hostaddr=192.0.2.7 user=f").unwrap();
        assert_eq!(c.hosts(), ["192.0.2.7", "db"]);
        assert!(c.is_remote());
    }

    #[test]
    fn refuses_what_a_failover_cannot_use() {
        for (text, expected) in [
            ("", "host is missing"),
            ("host=db", "user is missing"),
            ("db.example.com", "expected a connection string"),
            ("host=db user=f port=0", "port cannot be \"0\""),
            ("host=a,b user=f", "name one server only"),
            ("postgresql://f@a,b/x", "name one server only"),
            ("host=db user=f sslmode=yes", "sslmode cannot be \"yes\""),
            ("host=db user=f hots=x", "unknown key \"hots\""),
            ("host=db user=f sslcert=/c", "sslkey is missing"),
            ("host=db user='f", "expected a connection string"),
            ("postgresql://f@db/%zz", "expected a connection string"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_password_is_refused_and_never_repeated() {
        for text in [
            "host=db user=f password=hunter2",
            "postgresql://f:hunter2@db/x",
            "postgresql://f@db/x?password=hunter2",
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(
                error.contains("give the field password a reference"),
                "{error}"
            );
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
