//! `probe/tcp`: a connection, with TLS and a banner where wanted.

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{
    dial::{Endpoint, Host, dial},
    fault::Fault,
    progress::{Progress, Stage},
    readiness, resolve,
    tls::{Tls, TlsWith, Wire},
};
use crate::{
    model::{
        check::CheckItem,
        observation::{Evidence, Look, Sight},
        service::Via,
        span::Span,
    },
    port::{
        kind::{Kind, Make, MakeError, Problem, Wiring, With, read},
        probe::{LookContext, Probe, SharedProbe},
        runtime::SharedRuntime,
    },
};

/// The kind.
pub const KIND: Kind = Kind::new::<TcpWith>(
    "probe/tcp",
    "connects to a port, and reads its banner where one is expected",
    "host: mail.example.com\nport: 25\nexpect: ESMTP\n",
    Make::Probe(make),
)
.giving(Evidence::Outside);

/// A banner is looked for in at most so many bytes.
const LONGEST_BANNER: usize = 4096;

/// Settings of `probe/tcp`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpWith {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Shakes hands with TLS after connecting; `{}` for a handshake with nothing special.
    #[serde(default)]
    pub tls: Option<TlsWith>,
    /// Text that the other side must say by itself within its first 4 KiB.
    #[serde(default)]
    pub expect: Option<String>,
    /// The name server to ask instead of the host's own, as `address[:port]`; a proxy resolves by itself.
    #[serde(default)]
    pub resolver: Option<String>,
}

impl With for TcpWith {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.host.is_empty() || self.host.contains(['/', ' ']) {
            problems.push(
                Problem::new("host", "expected a name or an address")
                    .hint("without scheme and port, such as db.example.com"),
            );
        }
        if self.port == 0 {
            problems.push(Problem::new("port", "expected a port from 1 to 65535"));
        }
        if self.expect.as_deref() == Some("") {
            problems.push(Problem::new("expect", "an empty text is always there"));
        }
        problems.extend(self.tls.iter().flat_map(TlsWith::problems));
        problems.extend(resolve::problem(self.resolver.as_deref()));
        problems
    }

    fn hosts(&self) -> Vec<String> {
        vec![self.host.clone()]
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedProbe, MakeError> {
    let with: TcpWith = read(with)?;
    let Ok(host) = with.host.parse::<Host>();
    Ok(Arc::new(TcpProbe {
        endpoint: Endpoint {
            host,
            port: with.port,
        },
        warn_before: with.tls.clone().unwrap_or_default().warn_before,
        tls: with.tls.map(Tls::new),
        expect: with.expect,
        resolver: with.resolver.as_deref().and_then(resolve::server),
        runtime: wiring.runtime.clone(),
    }))
}

struct TcpProbe {
    endpoint: Endpoint,
    tls: Option<Tls>,
    warn_before: Span,
    expect: Option<String>,
    resolver: Option<SocketAddr>,
    runtime: SharedRuntime,
}

#[async_trait]
impl Probe for TcpProbe {
    async fn look(&self, context: &LookContext) -> Look {
        let progress = Progress::start();
        let reached = progress
            .within(context.timeout, self.reach(&context.via, &progress))
            .await;
        let took = progress.elapsed();
        let mut look = match reached {
            Ok(()) => Look {
                latency: Some(took),
                ..Look::new(Sight::Up, format!("connected in {} ms", took.as_millis()))
            },
            Err(fault) => fault.into_look(),
        };
        look.facts.certificate_expires = progress.known().certificate_expires;
        readiness::mention_expiry(&mut look, self.runtime.now(), self.warn_before);
        look
    }

    async fn check(&self, context: &LookContext) -> Vec<CheckItem> {
        let look = self.look(context).await;
        let name = format!("probe/tcp {}", self.endpoint);
        readiness::items(&name, &look, self.runtime.now(), self.warn_before)
    }
}

impl TcpProbe {
    async fn reach(&self, via: &Via, progress: &Progress) -> Result<(), Fault> {
        let stream = dial(&self.endpoint, via, self.resolver, progress).await?;
        let mut wire = match &self.tls {
            Some(tls) => Wire::Tls(Box::new(
                tls.connect(&self.endpoint.host, stream, progress).await?,
            )),
            None => Wire::Plain(stream),
        };
        match &self.expect {
            Some(text) => banner(&mut wire, text, progress).await,
            None => Ok(()),
        }
    }
}

async fn banner(
    wire: &mut (impl AsyncRead + Unpin),
    expected: &str,
    progress: &Progress,
) -> Result<(), Fault> {
    progress.enter(Stage::AwaitingBanner);
    let mut said = Vec::new();
    let mut more = wire.take(LONGEST_BANNER as u64);
    loop {
        let n = more
            .read_buf(&mut said)
            .await
            .map_err(|e| Fault::of_stream(&e))?;
        if said
            .windows(expected.len())
            .any(|w| w == expected.as_bytes())
        {
            return Ok(());
        }
        if n == 0 {
            let said: String = String::from_utf8_lossy(&said).chars().take(80).collect();
            return Err(Fault::Wrong(format!("it says {said:?}, not {expected:?}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_mistake_is_named_at_its_field() {
        let with = json!({
            "host": "tcp://h", "port": 0, "expect": "",
            "tls": {"serverName": ""}, "resolver": "x",
        });
        let paths: Vec<_> = (KIND.check)(&with).into_iter().map(|p| p.path).collect();
        assert_eq!(
            paths,
            ["host", "port", "expect", "tls.serverName", "resolver"]
        );
    }
}
