//! Connection strings as they are given to `init`: the password is taken out, and the rest is what documents hold.

use std::{collections::BTreeMap, env, fs, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc};

use crate::{
    error::Error,
    model::secret::{Secret, SecretRef},
    port::{
        postgres::{Conninfo, ConninfoError, Login, keys, written},
        secret::{SecretError, Secrets},
    },
};

/// The environment variable that `psql` reads a password from.
const PASSWORD: &str = "PGPASSWORD";

/// What libpq knows and one look has no use for, so that it is left out of documents.
const LEFT_OUT: [&str; 6] = [
    "password",
    "passfile",
    "sslpassword",
    "connect_timeout",
    "target_session_attrs",
    "load_balance_hosts",
];

/// A server as it was named.
pub struct Given {
    /// `primary` or `standby`.
    pub which: &'static str,
    /// Where to log in now, and as whom.
    pub login: Login,
    /// The connection string for documents: the same server as the least-privileged role.
    pub document: String,
    /// What somebody should look at.
    pub remark: Option<String>,
}

impl Given {
    /// Reads a connection string.
    ///
    /// # Errors
    /// Where it is none, or names no single server.
    pub fn read(which: &'static str, text: &str, role: &str) -> Result<Self, Error> {
        let wrong = |e: ConninfoError| {
            let more = match e {
                ConninfoError::Key(_) => format!("; init also takes {}", LEFT_OUT.join(", ")),
                ConninfoError::Shape
                | ConninfoError::Elsewhere(..)
                | ConninfoError::Value { .. }
                | ConninfoError::Missing(_)
                | ConninfoError::Hosts => String::new(),
            };
            Error::Usage(format!("--{which}: {e}{more}"))
        };
        let given = keys(text).map_err(wrong)?;
        let mut kept = given.clone();
        kept.retain(|key, _| !LEFT_OUT.contains(&key.as_str()));
        if !kept.contains_key("user") {
            let user = env::var("PGUSER").or_else(|_| env::var("USER"));
            kept.extend(user.ok().map(|user| ("user".to_owned(), user)));
        }
        let conninfo: Conninfo = written(&kept).parse().map_err(wrong)?;
        let (password, remark) = password(&given, &conninfo);
        kept.insert("user".to_owned(), role.to_owned());
        Ok(Self {
            which,
            login: Login {
                conninfo,
                password: password
                    .is_some()
                    .then(|| SecretRef::Env(PASSWORD.to_owned())),
                secrets: Arc::new(Held(password)),
            },
            document: written(&kept),
            remark,
        })
    }
}

/// A secret that was given once, whatever it is asked for by.
struct Held(Option<Secret>);

impl Secrets for Held {
    fn read(&self, at: &SecretRef) -> Result<Secret, SecretError> {
        self.0
            .clone()
            .ok_or_else(|| SecretError::Empty(at.to_string()))
    }
}

/// In libpq's order: the string, the environment, the password file.
fn password(given: &BTreeMap<String, String>, at: &Conninfo) -> (Option<Secret>, Option<String>) {
    let direct = given.get("password").cloned();
    let direct = direct.or_else(|| env::var(PASSWORD).ok());
    if let Some(password) = direct.filter(|p| !p.is_empty()) {
        return (Some(Secret::new(password)), None);
    }
    let file = given
        .get("passfile")
        .map(PathBuf::from)
        .or_else(|| env::var_os("PGPASSFILE").map(PathBuf::from))
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".pgpass")));
    let Some((path, meta)) = file.and_then(|p| Some((p.clone(), fs::metadata(p).ok()?))) else {
        return (None, None);
    };
    if meta.permissions().mode() & 0o077 != 0 {
        let remark = format!(
            "the password file {} was not read: others may read it (chmod 0600)",
            path.display()
        );
        return (None, Some(remark));
    }
    let text = fs::read_to_string(path).unwrap_or_default();
    (from_file(&text, at).map(Secret::new), None)
}

/// The first line of a password file that fits: `host:port:database:user:password`, with `*` for anything.
fn from_file(text: &str, at: &Conninfo) -> Option<String> {
    let mut hosts = at.hosts();
    if hosts.is_empty() {
        hosts.push("localhost".to_owned());
    }
    let fits = |field: &str, wanted: &str| field == "*" || field == wanted;
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(fields)
        .find_map(|fields| {
            let [host, port, database, user, password] = <[String; 5]>::try_from(fields).ok()?;
            (hosts.iter().any(|h| fits(&host, h))
                && fits(&port, &at.port.to_string())
                && fits(&database, &at.database)
                && fits(&user, &at.user))
            .then_some(password)
        })
}

/// Five fields at the most: in the password a colon is just a colon. A backslash takes the next character as it is.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let taken = match c {
            '\\' => chars.next(),
            ':' if fields.len() < 5 => {
                fields.push(String::new());
                None
            }
            c => Some(c),
        };
        if let Some(last) = fields.last_mut() {
            last.extend(taken);
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_never_gets_into_the_documents() {
        for text in [
            "host=db1 user=ann password='s3cret word' dbname=shop",
            "postgresql://ann:s3cret%20word@db1/shop?connect_timeout=3",
        ] {
            let given = Given::read("primary", text, "failover").unwrap();
            assert_eq!(given.document, "host=db1 dbname=shop user=failover");
            assert_eq!(given.login.conninfo.user, "ann");
            let password = given.login.password.as_ref().unwrap();
            let secret = given.login.secrets.read(password).unwrap();
            assert_eq!(secret.expose(), "s3cret word");
            assert!(given.document.parse::<Conninfo>().is_ok());
        }
    }

    #[test]
    fn a_password_file_is_read_as_psql_does() {
        let at: Conninfo = "host=db1 user=ann dbname=shop".parse().unwrap();
        let text =
            "# mine\ndb2:*:*:*:no\n*:5433:*:*:no\ndb1:5432:sh\\op:ann:a:b\\:c\\\\\n*:*:*:*:late";
        assert_eq!(from_file(text, &at).as_deref(), Some("a:b:c\\"));
        assert_eq!(from_file("db1:5432:shop:bob:no", &at), None);
        let socket: Conninfo = "host=/run/pg user=ann".parse().unwrap();
        let found = from_file("localhost:*:*:*:yes", &socket);
        assert_eq!(found.as_deref(), Some("yes"));
    }

    #[test]
    fn several_hosts_are_refused() {
        let error = Given::read("standby", "host=a,b user=ann", "failover").err();
        assert!(matches!(error, Some(Error::Usage(text)) if text.starts_with("--standby: ")));
    }
}
