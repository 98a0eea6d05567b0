//! Connections to clusters: by a kubeconfig that is a secret, or as the Pod that this runs in.

use std::{fmt, sync::Arc, time::Duration};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::sync::Mutex;

use super::ApiError;
use crate::{
    model::secret::SecretRef,
    port::{
        cause,
        kind::{Problem, Wiring},
        secret::SharedSecrets,
    },
};

/// How long connecting may take; an answer has the caller's own time.
const CONNECT: Duration = Duration::from_secs(5);

/// A cluster. Its kubeconfig is read each time; only one that has changed makes a new client.
pub struct Cluster {
    kubeconfig: Option<SecretRef>,
    secrets: SharedSecrets,
    made: Mutex<Option<(String, Client)>>,
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kubeconfig {
            Some(at) => write!(f, "the cluster of the {at}"),
            None => f.write_str("this cluster"),
        }
    }
}

impl Cluster {
    /// The cluster of a kubeconfig; without one, that of the Pod that this runs in.
    #[must_use]
    pub fn new(kubeconfig: Option<SecretRef>, wiring: &Wiring) -> Self {
        Self {
            kubeconfig,
            secrets: Arc::clone(&wiring.secrets),
            made: Mutex::default(),
        }
    }

    /// A client of it.
    ///
    /// # Errors
    /// Where the kubeconfig cannot be read or used. Nothing was asked of the cluster.
    pub async fn client(&self) -> Result<Client, ApiError> {
        let text = match &self.kubeconfig {
            Some(at) => {
                let text = self.secrets.read(at).map_err(ApiError::Secret)?;
                text.expose().to_owned()
            }
            None => String::new(),
        };
        let mut made = self.made.lock().await;
        if let Some((of, client)) = &*made
            && *of == text
        {
            return Ok(client.clone());
        }
        let mut config = if self.kubeconfig.is_some() {
            config(&text).await?
        } else {
            Config::incluster().map_err(|e| ApiError::Settings(cause::without_repeats(&e)))?
        };
        config.connect_timeout = Some(CONNECT);
        // Else it is that of the environment, which may name a password.
        config.proxy_url = None;
        // A step knows itself what it may ask again.
        config.default_retry = false;
        let client = Client::try_from(config);
        let client = client.map_err(|e| ApiError::Settings(cause::without_repeats(&e)))?;
        *made = Some((text, client.clone()));
        Ok(client)
    }
}

async fn config(text: &str) -> Result<Config, ApiError> {
    let kubeconfig = read(text)?;
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    config.map_err(|e| ApiError::Settings(cause::without_repeats(&e)))
}

/// A kubeconfig that stands for itself: it runs no program, which could hang, reads no file of this host, which could be a
/// secret of ours, and trusts no server unseen, whose word would prove a fence.
fn read(text: &str) -> Result<Kubeconfig, ApiError> {
    let refused = |why: &str| Err(ApiError::Settings(why.to_owned()));
    // What the parser says of a wrong text may show parts of it.
    let Ok(kubeconfig) = Kubeconfig::from_yaml(text) else {
        return refused("it is no kubeconfig: give the text of one, with one context");
    };
    if kubeconfig.contexts.len() != 1 {
        return refused("it has several contexts or none: give one with one context");
    }
    let people = kubeconfig.auth_infos.iter();
    for person in people.filter_map(|named| named.auth_info.as_ref()) {
        if person.exec.is_some() || person.auth_provider.is_some() {
            return refused(
                "it runs a program to log in: give it the token or certificate of a service account",
            );
        }
        let files = [
            &person.token_file,
            &person.client_certificate,
            &person.client_key,
        ];
        if files.into_iter().any(Option::is_some) {
            return refused(
                "it names a file to log in with: give it token, or client-certificate-data and client-key-data",
            );
        }
    }
    let clusters = kubeconfig.clusters.iter();
    for cluster in clusters.filter_map(|named| named.cluster.as_ref()) {
        if cluster.insecure_skip_tls_verify == Some(true) {
            return refused("it trusts any server: give it certificate-authority-data");
        }
        if cluster.certificate_authority.is_some() {
            return refused("it names a file of authorities: give it certificate-authority-data");
        }
        if cluster.proxy_url.is_some() {
            return refused("it names a proxy, which is not supported: take proxy-url out");
        }
        let server = cluster.server.as_deref().unwrap_or_default();
        if !server.starts_with("https://") {
            return refused(
                "its server has no https:// URL: nobody else's word is taken for the server's",
            );
        }
    }
    Ok(kubeconfig)
}

/// What is wrong with the name of an object or namespace.
#[must_use]
pub fn name_problem(path: &str, name: &str) -> Option<Problem> {
    let is_edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let fits = name.len() <= 253
        && is_edge(name.chars().next())
        && is_edge(name.chars().last())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.'));
    (!fits).then(|| {
        Problem::new(path, format!("{name:?} is no name of Kubernetes"))
            .hint("lower-case letters, digits, - and ., such as shop-db")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(user: &str, cluster: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
             contexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n\
             clusters: [{{name: a, cluster: {{server: \"https://192.0.2.1\"{cluster}}}}}]\n\
             users: [{{name: a, user: {user}}}]\n"
        )
    }

    #[test]
    fn a_kubeconfig_runs_no_program_reads_no_file_and_trusts_no_stranger() {
        assert!(read(&with("{token: t}", "")).is_ok());
        for (text, told) in [
            (with("{exec: {command: aws}}", ""), "runs a program"),
            (
                with("{auth-provider: {name: gcp, config: {}}}", ""),
                "runs a program",
            ),
            (
                with("{token: t}", ", insecure-skip-tls-verify: true"),
                "trusts any server",
            ),
            (with("{tokenFile: /s3cret}", ""), "names a file to log in"),
            (
                with("{client-certificate: /a, client-key: /s3cret}", ""),
                "names a file to log in",
            ),
            (
                with("{token: t}", ", certificate-authority: /s3cret"),
                "names a file of authorities",
            ),
            (
                with("{token: t}", ", proxy-url: \"http://u:s3cret@p\""),
                "names a proxy",
            ),
            (
                with("{token: t}", "").replace("https:", "http:"),
                "https://",
            ),
            (
                with("{token: t}", "").replace(
                    "contexts: [",
                    "contexts: [{name: b, context: {cluster: a, user: a}}, ",
                ),
                "several contexts",
            ),
            ("s3cret".to_owned(), "no kubeconfig"),
        ] {
            let error = read(&text).unwrap_err().told();
            assert!(error.contains(told) && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn names_are_those_of_the_server() {
        for good in ["shop", "shop-db.eu-1", "7"] {
            assert_eq!(name_problem("name", good), None);
        }
        for bad in ["", "Shop", "-shop", "shop/status", "shop_db", "../nodes"] {
            assert!(name_problem("name", bad).is_some(), "{bad}");
        }
    }
}
