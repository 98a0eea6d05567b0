//! TLS with a real PostgreSQL, as libpq's `sslmode` means it.

use std::{fs, sync::Arc, time::Duration};

use failover::port::{
    postgres::{Login, PostgresError, Session, Whose},
    secret::HostSecrets,
};
use rcgen::ExtendedKeyUsagePurpose;
use tempfile::TempDir;

use crate::stand::{
    authority::Authority,
    postgres::{Cluster, PASSWORD, USER},
};

const LIMIT: Duration = Duration::from_secs(20);

/// A server that takes password logins over TLS alone, with a certificate for `db.test`.
struct Setting {
    server: Cluster,
    authority: Authority,
    folder: TempDir,
}

impl Setting {
    fn start() -> Self {
        let (server, authority) = (Cluster::start(), Authority::new());
        let (certificate, key) = authority.issue("db.test", ExtendedKeyUsagePurpose::ServerAuth);
        server.put("server.crt", &certificate);
        server.put("server.key", &key);
        server.put("root.crt", &fs::read_to_string(authority.path()).unwrap());
        server.put(
            "pg_hba.conf",
            &format!(
                "local all postgres trust\nhostssl all {USER} 127.0.0.1/32 scram-sha-256\n\
                 hostssl all postgres 127.0.0.1/32 cert\n"
            ),
        );
        server.set("ssl_ca_file", "root.crt");
        server.set("ssl", "on");
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("password"), PASSWORD).unwrap();
        Self {
            server,
            authority,
            folder,
        }
    }

    /// Logs in with these parts of a connection string; what is asked is whether the session is encrypted.
    async fn encrypted(&self, more: &str) -> Result<String, PostgresError> {
        let conninfo = format!("hostaddr=127.0.0.1 port={} {more}", self.server.port);
        let password = self.folder.path().join("password");
        let login = Login {
            conninfo: serde_json::from_value(conninfo.into()).unwrap(),
            password: Some(serde_json::from_value(serde_json::json!({"file": password})).unwrap()),
            secrets: Arc::new(HostSecrets),
        };
        let session: Session = login.open(LIMIT).await?;
        let row = session
            .row("SELECT ssl, current_user FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            .await?;
        Ok(format!(
            "{} {}",
            row.get("ssl").unwrap(),
            row.get("current_user").unwrap()
        ))
    }

    fn file(&self, name: &str, content: &str) -> String {
        let file = self.folder.path().join(name);
        fs::write(&file, content).unwrap();
        file.to_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn each_mode_verifies_what_it_promises() {
    let setting = Setting::start();
    let root = setting.authority.path();
    let stranger = Authority::new();
    let strange = stranger.path();
    let user = format!("user={USER}");
    let well = [
        format!("host=db.test {user} sslmode=verify-full sslrootcert={root}"),
        // The chain is right, and the name does not matter.
        format!("host=else.test {user} sslmode=verify-ca sslrootcert={root}"),
        format!("host=else.test {user} sslmode=require sslrootcert={root}"),
        format!("host=else.test {user} sslmode=require"),
        format!("host=else.test {user} sslmode=prefer"),
    ];
    for conninfo in well {
        let told = setting.encrypted(&conninfo).await;
        assert_eq!(told.unwrap(), format!("t {USER}"), "{conninfo}");
    }
    let badly = [
        format!("host=else.test {user} sslmode=verify-full sslrootcert={root}"),
        format!("host=db.test {user} sslmode=verify-full sslrootcert={strange}"),
        format!("host=db.test {user} sslmode=verify-ca sslrootcert={strange}"),
        format!("host=db.test {user} sslmode=require sslrootcert={strange}"),
        // The host's own roots do not know this authority.
        format!("host=db.test {user} sslmode=verify-full"),
    ];
    for conninfo in badly {
        let error = setting.encrypted(&conninfo).await.unwrap_err();
        assert!(
            matches!(error, PostgresError::Tls { .. }),
            "{conninfo}: {error:?}"
        );
        // A certificate that is not the right one proves nothing about the database.
        assert_eq!(error.whose(), Whose::Ours, "{conninfo}");
    }
    let error = setting
        .encrypted(&format!("host=db.test {user} sslmode=disable"))
        .await
        .unwrap_err();
    assert!(error.told().contains("no encryption"), "{}", error.told());
}

#[tokio::test]
async fn a_client_certificate_logs_in_without_a_password() {
    let setting = Setting::start();
    let root = setting.authority.path();
    let (certificate, key) = setting
        .authority
        .issue("postgres", ExtendedKeyUsagePurpose::ClientAuth);
    let certificate = setting.file("client.crt", &certificate);
    let key = setting.file("client.key", &key);
    let base = format!("host=db.test user=postgres sslmode=verify-full sslrootcert={root}");
    let told = setting
        .encrypted(&format!("{base} sslcert={certificate} sslkey={key}"))
        .await;
    assert_eq!(told.unwrap(), "t postgres");

    let error = setting.encrypted(&base).await.unwrap_err();
    assert!(error.told().contains("certificate"), "{}", error.told());

    // A key that is missing is our own trouble, and is named.
    let error = setting
        .encrypted(&format!(
            "{base} sslcert={certificate} sslkey=/nowhere/client.key"
        ))
        .await
        .unwrap_err();
    assert_eq!(error.whose(), Whose::Ours);
    assert!(error.to_string().contains("/nowhere/client.key"), "{error}");
}
