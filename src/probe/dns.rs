//! `probe/dns`: a question to a name server, without a cache in between.

mod question;

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use async_trait::async_trait;
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Name, RecordType},
};
use hickory_resolver::system_conf::read_system_conf;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use self::question::Question;
use super::{
    dial::{Endpoint, Host},
    fault::Fault,
    progress::{Progress, Stage},
    readiness, resolve,
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
pub const KIND: Kind = Kind::new::<DnsWith>(
    "probe/dns",
    "asks a name server and compares its answer",
    "name: shop.example.com\ntype: A\nserver: 192.0.2.53\nexpect: [192.0.2.10]\n",
    Make::Probe(make),
)
.giving(Evidence::Outside);

/// Settings of `probe/dns`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DnsWith {
    /// The whole name that is asked for.
    pub name: String,
    /// The type that is asked for; default A.
    #[serde(default, rename = "type")]
    pub kind: DnsType,
    /// The server that is asked, as `host[:port]`; then its silence is Down. Default: the host's own resolvers,
    /// whose silence is unknown.
    #[serde(default)]
    pub server: Option<String>,
    /// The values that the answer must consist of, in any order; default: any answer that is not empty.
    #[serde(default)]
    pub expect: Vec<String>,
}

/// Types of records that can be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names are the DNS's own")]
pub enum DnsType {
    #[default]
    A,
    Aaaa,
    Caa,
    Cname,
    Mx,
    Ns,
    Ptr,
    Soa,
    Srv,
    Txt,
}

impl DnsType {
    fn record_type(self) -> RecordType {
        match self {
            Self::A => RecordType::A,
            Self::Aaaa => RecordType::AAAA,
            Self::Caa => RecordType::CAA,
            Self::Cname => RecordType::CNAME,
            Self::Mx => RecordType::MX,
            Self::Ns => RecordType::NS,
            Self::Ptr => RecordType::PTR,
            Self::Soa => RecordType::SOA,
            Self::Srv => RecordType::SRV,
            Self::Txt => RecordType::TXT,
        }
    }

    /// The form in which values are compared: addresses and names have several that mean the same.
    fn canonical(self, value: &str) -> String {
        match self {
            Self::A | Self::Aaaa => value
                .parse::<IpAddr>()
                .map_or_else(|_| value.to_owned(), |ip| ip.to_string()),
            Self::Cname | Self::Mx | Self::Ns | Self::Ptr | Self::Soa | Self::Srv => value
                .split_whitespace()
                .map(|word| word.trim_end_matches('.').to_ascii_lowercase())
                .collect::<Vec<_>>()
                .join(" "),
            Self::Caa | Self::Txt => value.to_owned(),
        }
    }

    fn is_address(self) -> bool {
        matches!(self, Self::A | Self::Aaaa)
    }
}

impl With for DnsWith {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Err(e) = Name::from_utf8(&self.name) {
            problems.push(Problem::new(
                "name",
                format!("{:?} is no name: {e}", self.name),
            ));
        } else if self.name.is_empty() {
            problems.push(Problem::new("name", "expected a name"));
        }
        if let Some(server) = &self.server
            && server_endpoint(server).is_none()
        {
            problems.push(Problem::new(
                "server",
                format!("expected host or host:port, not {server:?}"),
            ));
        }
        for (i, value) in self.expect.iter().enumerate() {
            if self.kind.is_address() && value.parse::<IpAddr>().is_err() {
                problems.push(Problem::new(
                    format!("expect[{i}]"),
                    format!("{value:?} is no address"),
                ));
            }
        }
        problems
    }

    fn hosts(&self) -> Vec<String> {
        let endpoint = self.server.as_deref().and_then(server_endpoint);
        endpoint.iter().map(|e| e.host.to_string()).collect()
    }
}

fn server_endpoint(text: &str) -> Option<Endpoint> {
    if let Some(address) = resolve::server(text) {
        return Some(Endpoint {
            host: Host::Address(address.ip()),
            port: address.port(),
        });
    }
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, port.parse().ok()?),
        None => (text, 53),
    };
    let well = !name.is_empty() && Name::from_utf8(name).is_ok();
    well.then(|| Endpoint {
        host: Host::Name(name.to_owned()),
        port,
    })
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedProbe, MakeError> {
    let with: DnsWith = read(with)?;
    let mut name = Name::from_utf8(&with.name).map_err(|e| MakeError(format!("with.name: {e}")))?;
    name.set_fqdn(true);
    Ok(Arc::new(DnsProbe {
        question: Question {
            name,
            kind: with.kind.record_type(),
        },
        server: with.server.as_deref().and_then(server_endpoint),
        expect: with.expect.iter().map(|v| with.kind.canonical(v)).collect(),
        with,
        runtime: wiring.runtime.clone(),
    }))
}

struct DnsProbe {
    with: DnsWith,
    question: Question,
    server: Option<Endpoint>,
    expect: BTreeSet<String>,
    runtime: SharedRuntime,
}

#[async_trait]
impl Probe for DnsProbe {
    async fn look(&self, context: &LookContext) -> Look {
        let progress = Progress::start();
        let answered = progress
            .within(context.timeout, self.ask(&context.via, &progress))
            .await;
        let took = progress.elapsed();
        match answered.and_then(|answer| self.judge(&answer)) {
            Ok(values) => Look {
                latency: Some(took),
                ..Look::new(Sight::Up, format!("{values} in {} ms", took.as_millis()))
            },
            Err(fault) => fault.into_look(),
        }
    }

    async fn check(&self, context: &LookContext) -> Vec<CheckItem> {
        let look = self.look(context).await;
        let name = format!("probe/dns {}", self.with.name);
        readiness::items(&name, &look, self.runtime.now(), Span::ZERO)
    }
}

impl DnsProbe {
    async fn ask(&self, via: &Via, progress: &Progress) -> Result<Message, Fault> {
        match &self.server {
            Some(server) => {
                self.question
                    .ask(server, via, Stage::AwaitingServer, progress)
                    .await
            }
            None => self.ask_own(via, progress).await,
        }
    }

    /// Asks the host's own resolvers in turn.
    async fn ask_own(&self, via: &Via, progress: &Progress) -> Result<Message, Fault> {
        let name = &self.with.name;
        let unanswered = |source: Box<dyn std::error::Error + Send + Sync>| Fault::Resolver {
            name: name.clone(),
            source,
        };
        if let Via::Proxy(_) = via {
            return Err(Fault::Via(
                "a DNS question through a proxy needs a server of its own".to_owned(),
            ));
        }
        let (config, _) = read_system_conf().map_err(|e| unanswered(e.into()))?;
        let mut last = None;
        for server in config.name_servers() {
            let endpoint = Endpoint {
                host: Host::Address(server.ip),
                port: 53,
            };
            let asked = self
                .question
                .ask(&endpoint, via, Stage::Resolving, progress);
            match tokio::time::timeout(resolve::PER_SERVER, asked).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(fault)) => last = Some(fault),
                Err(_) => {}
            }
        }
        Err(unanswered(match last {
            Some(fault) => fault.into(),
            None => "no resolver answers".into(),
        }))
    }

    /// The values of a right answer, for people.
    fn judge(&self, answer: &Message) -> Result<String, Fault> {
        let code = answer.metadata.response_code;
        if code == ResponseCode::NXDomain {
            return Err(Fault::NoSuchName(self.with.name.clone()));
        }
        if code != ResponseCode::NoError {
            return Err(match self.server {
                Some(_) => Fault::Wrong(format!("the server answers: {code}")),
                None => Fault::Resolver {
                    name: self.with.name.clone(),
                    source: code.to_string().into(),
                },
            });
        }
        let values: BTreeSet<String> = answer
            .answers
            .iter()
            .filter(|record| record.record_type() == self.question.kind)
            .map(|record| self.with.kind.canonical(&record.data.to_string()))
            .collect();
        let text = cut(values
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", "));
        if values.is_empty() {
            return Err(Fault::Wrong(format!(
                "{} has no {} record",
                self.with.name, self.question.kind
            )));
        }
        if !self.expect.is_empty() && values != self.expect {
            let wanted: Vec<_> = self.expect.iter().map(String::as_str).collect();
            return Err(Fault::Wrong(format!(
                "the answer is {text}, not {}",
                wanted.join(", ")
            )));
        }
        Ok(text)
    }
}

/// At most 200 characters of what the other side sent.
fn cut(text: String) -> String {
    match text.char_indices().nth(200) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_mistake_is_named_at_its_field() {
        let with = json!({"name": "a..b", "server": ":x", "expect": ["192.0.2.1", "x"]});
        let paths: Vec<_> = (KIND.check)(&with).into_iter().map(|p| p.path).collect();
        assert_eq!(paths, ["name", "server", "expect[1]"]);
        let with = json!({"name": "a.b", "type": "LOC"});
        assert_eq!((KIND.check)(&with)[0].path, "type");
    }

    #[test]
    fn forms_that_mean_the_same_compare_equal() {
        assert_eq!(
            DnsType::Aaaa.canonical("2001:DB8:0:0::1"),
            DnsType::Aaaa.canonical("2001:db8::1")
        );
        assert_eq!(
            DnsType::Mx.canonical("10 Mail.example.com."),
            DnsType::Mx.canonical("10  mail.example.com")
        );
    }

    #[test]
    fn servers_are_hosts_with_or_without_port() {
        let read = |text| server_endpoint(text).map(|e| e.to_string());
        assert_eq!(read("192.0.2.1").as_deref(), Some("192.0.2.1:53"));
        assert_eq!(read("ns.example").as_deref(), Some("ns.example:53"));
        assert_eq!(read("ns.example:54").as_deref(), Some("ns.example:54"));
        assert_eq!(read("[::1]:54").as_deref(), Some("[::1]:54"));
    }
}
