//! Who may speak to an API server, and how it knows them.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{ExtendedKeyUsagePurpose, KeyPair};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use serde_json::{Value, json};

use crate::stand::authority::Authority;

/// Keys and certificates of one cluster, as files in its folder.
pub struct Access {
    /// Where the API server is to listen.
    pub address: SocketAddr,
    /// The kubeconfig of one who may do everything.
    pub admin: PathBuf,
    /// The kubeconfig of the cluster's own parts, who may do everything as well.
    pub part: PathBuf,
    folder: PathBuf,
    authority: String,
    certificate: String,
    key: String,
    client: Arc<ClientConfig>,
}

impl Access {
    /// Makes them: `authority.pem`, `server.pem` and `.key`, `account.key` and `.pub`, and kubeconfigs.
    pub fn new(folder: &Path, port: u16) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let authority = Authority::new();
        let (server, server_key) =
            authority.issue("127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth);
        let (certificate, key) = authority.member("admin", "system:masters");
        let root = fs::read_to_string(authority.path()).unwrap();
        let account = KeyPair::generate().unwrap();
        for (name, content) in [
            ("authority.pem", &root),
            ("server.pem", &server),
            ("server.key", &server_key),
            ("account.key", &account.serialize_pem()),
            ("account.pub", &account.public_key_pem()),
        ] {
            write(&folder.join(name), content);
        }
        let mut access = Self {
            address,
            admin: PathBuf::new(),
            part: PathBuf::new(),
            folder: folder.to_owned(),
            client: client(&root, &certificate, &key),
            authority: root,
            certificate,
            key,
        };
        access.admin = access.kubeconfig("admin", &access.administrator());
        let (certificate, key) = authority.member("part", "system:masters");
        access.part = access.kubeconfig("part", &by_certificate(&certificate, &key));
        access
    }

    /// The kubeconfig of whoever holds a token.
    pub fn of_token(&self, name: &str, token: &str) -> PathBuf {
        self.kubeconfig(name, &json!({"token": token}))
    }

    /// The kubeconfig by which the administrator plays a user of these groups.
    pub fn of_user(&self, user: &str, groups: &[&str]) -> PathBuf {
        let mut played = self.administrator();
        played["as"] = json!(user);
        played["as-groups"] = json!(groups);
        // A user's name may hold what a file's must not.
        self.kubeconfig(&hex::encode(user), &played)
    }

    fn administrator(&self) -> Value {
        by_certificate(&self.certificate, &self.key)
    }

    fn kubeconfig(&self, name: &str, user: &Value) -> PathBuf {
        let cluster = json!({
            "server": format!("https://{}", self.address),
            "certificate-authority-data": STANDARD.encode(&self.authority),
        });
        let content = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        });
        let path = self.folder.join(format!("{name}.kubeconfig"));
        write(&path, &content.to_string());
        path
    }

    /// The status with which the API server answers a path to the administrator; none where it does not answer.
    pub fn status(&self, path: &str) -> Option<u16> {
        self.ask(path).ok()
    }

    fn ask(&self, path: &str) -> io::Result<u16> {
        const PATIENCE: Duration = Duration::from_secs(5);
        let socket = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let name = ServerName::from(self.address.ip());
        let session =
            ClientConnection::new(Arc::clone(&self.client), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(session, socket);
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.address
        )?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|s| s.parse().ok());
        status.ok_or_else(|| io::Error::other(line.clone()))
    }
}

fn by_certificate(certificate: &str, key: &str) -> Value {
    json!({
        "client-certificate-data": STANDARD.encode(certificate),
        "client-key-data": STANDARD.encode(key),
    })
}

fn client(root: &str, certificate: &str, key: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap())
        .unwrap();
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .unwrap();
    Arc::new(config)
}

fn write(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
