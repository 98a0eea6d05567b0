//! One question, one answer: DNS over UDP and TCP to one server, with a deadline.
//!
//! Own sockets instead of a resolver's, because an update's outcome hangs on what exactly went wrong: whether
//! anything was sent at all, and which error stands in the answer.

use std::{fmt, io, net::SocketAddr, time::Duration};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RecordType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::{Instant, timeout_at},
};

use super::rrset;
use crate::{
    model::service::RecordKind,
    port::{cause, connection::race, dns::RecordSet},
};

/// The port of DNS (RFC 1035 §4.2).
pub const PORT: u16 = 53;

/// The UDP payload that we announce: what passes without fragments nearly everywhere (DNS flag day 2020).
const PAYLOAD: u16 = 1232;

/// Where a server listens: a name or an address, with a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Endpoint {
    /// Reads `host`, `host:port`, `2001:db8::53` or `[2001:db8::53]:port`.
    ///
    /// # Errors
    /// One sentence that says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no server: expected a name or an address, such as 192.0.2.53, [2001:db8::53]:5353 or ns1.example.net:53"
            )
        };
        let text = text.trim();
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self::from(address));
        }
        if text.parse::<std::net::IpAddr>().is_ok() {
            return Ok(Self {
                host: text.to_owned(),
                port: PORT,
            });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
            None => (text, PORT),
        };
        if host.is_empty()
            || host.contains([':', '/', '[', ']'])
            || host.contains(char::is_whitespace)
        {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }

    /// The addresses behind it, by the host's own resolver where it is a name.
    async fn addresses(&self, deadline: Instant) -> Result<Vec<SocketAddr>, WireError> {
        let host = self.host.trim_end_matches('.');
        match timeout_at(deadline, tokio::net::lookup_host((host, self.port))).await {
            Ok(Ok(found)) => {
                let found: Vec<_> = found.collect();
                if found.is_empty() {
                    return Err(WireError::NoAddress(self.host.clone()));
                }
                Ok(found)
            }
            Ok(Err(source)) => Err(WireError::Resolve {
                host: self.host.clone(),
                source,
            }),
            Err(_) => Err(WireError::ResolveTimeout(self.host.clone())),
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The server's name has no address.
    #[error("the name {0} has no address")]
    NoAddress(String),
    /// The server's name could not be looked up.
    #[error("cannot look up {host}")]
    Resolve {
        /// The name.
        host: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Looking up the server's name took too long.
    #[error("looking up {0} took too long")]
    ResolveTimeout(String),
    /// The server did not take the connection.
    #[error("cannot connect to {server}")]
    Connect {
        /// The server.
        server: Endpoint,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The server did not take the connection in time.
    #[error("{0} did not take the connection in time")]
    ConnectTimeout(Endpoint),
    /// The connection broke after the question was sent, or while it was.
    #[error("the connection to {server} broke before the answer came")]
    Broken {
        /// The server.
        server: Endpoint,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// No answer came in time.
    #[error("{0} did not answer in time")]
    Timeout(Endpoint),
    /// What came is no DNS message, or the question could not be written as one.
    #[error("{0} sent something that is no DNS answer")]
    Garbled(Endpoint),
    /// The question cannot be written as a DNS message.
    #[error("the question cannot be written as a DNS message")]
    Unwritable,
}

impl WireError {
    /// Whether the question surely never reached the server. A time-out never says so.
    #[must_use]
    pub fn never_sent(&self) -> bool {
        match self {
            Self::NoAddress(_) | Self::Resolve { .. } | Self::Connect { .. } | Self::Unwritable => {
                true
            }
            Self::ResolveTimeout(_)
            | Self::ConnectTimeout(_)
            | Self::Broken { .. }
            | Self::Timeout(_)
            | Self::Garbled(_) => false,
        }
    }

    /// What went wrong with its cause, in one line for people.
    #[must_use]
    pub fn plain(&self) -> String {
        cause::in_full(self)
    }
}

/// How questions travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Travel {
    /// One connection.
    Tcp,
    /// One datagram, sent once: for what must not be repeated blindly.
    UdpOnce,
    /// A datagram, sent again while no answer comes; TCP where the answer is cut.
    Udp,
}

/// An answer as it came, with the message read from it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// As it came: a signature is over these bytes.
    pub bytes: Vec<u8>,
    /// What it says.
    pub message: Message,
}

/// A question of one name and type.
#[must_use]
pub fn question(name: &Name, kind: RecordType, recurse: bool) -> Message {
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = recurse;
    message.add_query(Query::query(name.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    message.edns = Some(edns);
    message
}

/// Why an answer does not tell what an authoritative server holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// The server holds no such zone.
    #[error("does not hold the zone of {0}: it answers without authority")]
    NotAuthoritative(Name),
    /// The server does not answer such a question.
    #[error("does not answer for {name}: {code}")]
    Code {
        /// The name.
        name: Name,
        /// The code in words.
        code: &'static str,
    },
}

/// What an authoritative server holds for a name and type, by its own answer; an empty set where it holds nothing.
///
/// # Errors
/// Where the answer does not tell.
pub fn held(answer: &Message, owner: &Name, kind: RecordKind) -> Result<RecordSet, Doubt> {
    if !says_what_is_held(answer) {
        return Err(Doubt::Code {
            name: owner.clone(),
            code: answer.response_code.to_str(),
        });
    }
    if !answer.authoritative {
        return Err(Doubt::NotAuthoritative(owner.clone()));
    }
    Ok(rrset::pick(&answer.answers, owner, kind))
}

/// Sends a message and waits for its answer.
///
/// # Errors
/// Where no answer came before `within` was over; [`WireError::never_sent`] tells whether it can have arrived.
pub async fn exchange(
    server: &Endpoint,
    request: &[u8],
    travel: Travel,
    within: Duration,
) -> Result<Answer, WireError> {
    let deadline = Instant::now() + within;
    let addresses = server.addresses(deadline).await?;
    let asked = Message::from_vec(request).map_err(|_| WireError::Unwritable)?;
    let asked = Asked {
        bytes: request,
        id: asked.id,
        query: asked.queries.first().cloned(),
    };
    match travel {
        Travel::Tcp => tcp(server, &addresses, &asked, deadline).await,
        Travel::UdpOnce => udp(server, &addresses, &asked, deadline, within).await,
        Travel::Udp => {
            // A question may be asked twice: an address that is silent is not waited for.
            let ask = |to| datagram(server, to, &asked, deadline, within / 3);
            let answer = race(&addresses, ask).await.map_err(|mut failures| {
                let none = || WireError::NoAddress(server.host.clone());
                failures.pop().unwrap_or_else(none)
            })?;
            if answer.message.truncation {
                return tcp(server, &addresses, &asked, deadline).await;
            }
            Ok(answer)
        }
    }
}

/// A message as it is sent, and what its answer is known by.
struct Asked<'a> {
    bytes: &'a [u8],
    id: u16,
    query: Option<Query>,
}

/// Tries the next address only where the one before surely got nothing.
async fn udp(
    server: &Endpoint,
    addresses: &[SocketAddr],
    asked: &Asked<'_>,
    deadline: Instant,
    again: Duration,
) -> Result<Answer, WireError> {
    let mut last = WireError::NoAddress(server.host.clone());
    for address in addresses {
        match datagram(server, *address, asked, deadline, again).await {
            Err(e @ WireError::Connect { .. }) => last = e,
            other => return other,
        }
    }
    Err(last)
}

async fn datagram(
    server: &Endpoint,
    address: SocketAddr,
    asked: &Asked<'_>,
    deadline: Instant,
    again: Duration,
) -> Result<Answer, WireError> {
    let refused = |source| WireError::Connect {
        server: server.clone(),
        source,
    };
    let local = match address {
        SocketAddr::V4(_) => "0.0.0.0:0",
        SocketAddr::V6(_) => "[::]:0",
    };
    let socket = UdpSocket::bind(local).await.map_err(refused)?;
    socket.connect(address).await.map_err(refused)?;
    let mut bytes = vec![0; usize::from(u16::MAX)];
    loop {
        socket.send(asked.bytes).await.map_err(refused)?;
        let until = deadline.min(Instant::now() + again);
        loop {
            match timeout_at(until, socket.recv(&mut bytes)).await {
                // What does not fit our question is somebody else's, or forged: keep waiting.
                Ok(Ok(length)) => {
                    if let Some(answer) = asked.read(&bytes[..length]) {
                        return Ok(answer);
                    }
                }
                // On a connected socket this is the host's own "nobody listens here".
                Ok(Err(source)) => return Err(refused(source)),
                Err(_) if until >= deadline => return Err(WireError::Timeout(server.clone())),
                Err(_) => break,
            }
        }
    }
}

async fn tcp(
    server: &Endpoint,
    addresses: &[SocketAddr],
    asked: &Asked<'_>,
    deadline: Instant,
) -> Result<Answer, WireError> {
    let mut stream = match timeout_at(deadline, race(addresses, TcpStream::connect)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(mut failures)) => {
            let nobody = || io::ErrorKind::NotFound.into();
            return Err(WireError::Connect {
                server: server.clone(),
                source: failures.pop().unwrap_or_else(nobody),
            });
        }
        Err(_) => return Err(WireError::ConnectTimeout(server.clone())),
    };
    let length = u16::try_from(asked.bytes.len()).map_err(|_| WireError::Unwritable)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(asked.bytes);
    let talk = async {
        stream.write_all(&framed).await?;
        let length = stream.read_u16().await?;
        let mut bytes = vec![0; usize::from(length)];
        stream.read_exact(&mut bytes).await?;
        Ok::<_, io::Error>(bytes)
    };
    match timeout_at(deadline, talk).await {
        Ok(Ok(bytes)) => asked
            .read(&bytes)
            .ok_or_else(|| WireError::Garbled(server.clone())),
        Ok(Err(source)) => Err(WireError::Broken {
            server: server.clone(),
            source,
        }),
        Err(_) => Err(WireError::Timeout(server.clone())),
    }
}

impl Asked<'_> {
    /// The answer, where it is one to this message: anything else may be somebody's forgery.
    fn read(&self, bytes: &[u8]) -> Option<Answer> {
        let message = Message::from_vec(bytes).ok()?;
        let repeats = match message.queries.first() {
            Some(query) => self.query.as_ref() == Some(query),
            // Errors and answers to updates need not repeat it (RFC 2136 §3.8).
            None => !(message.op_code == OpCode::Query && says_what_is_held(&message)),
        };
        let fits = repeats && message.id == self.id;
        (fits && message.message_type == MessageType::Response).then(|| Answer {
            bytes: bytes.to_vec(),
            message,
        })
    }
}

fn says_what_is_held(answer: &Message) -> bool {
    let code = answer.response_code;
    code == ResponseCode::NoError || code == ResponseCode::NXDomain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_servers() {
        let shown = |text: &str| Endpoint::parse(text).map(|e| e.to_string());
        assert_eq!(shown("192.0.2.53"), Ok("192.0.2.53:53".into()));
        assert_eq!(shown("192.0.2.53:5353"), Ok("192.0.2.53:5353".into()));
        assert_eq!(shown("2001:db8::53"), Ok("[2001:db8::53]:53".into()));
        assert_eq!(
            shown("[2001:db8::53]:5353"),
            Ok("[2001:db8::53]:5353".into())
        );
        assert_eq!(shown("ns1.example.net"), Ok("ns1.example.net:53".into()));
        assert_eq!(
            shown("ns1.example.net:5353"),
            Ok("ns1.example.net:5353".into())
        );
        for wrong in ["", ":53", "a b", "ns1:port", "http://ns1/", "[::1"] {
            assert!(shown(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let name = rrset::name("app.example.com").unwrap();
        let request = question(&name, RecordType::A, false);
        let bytes = request.to_vec().unwrap();
        let asked = Asked {
            bytes: &bytes,
            id: request.id,
            query: request.queries.first().cloned(),
        };
        let answer = |query: Option<Query>, code| {
            let mut answer = Message::response(request.id, OpCode::Query);
            answer.metadata.response_code = code;
            answer.add_queries(query);
            asked.read(&answer.to_vec().unwrap())
        };
        let other = Query::query(rrset::name("www.example.com").unwrap(), RecordType::A);
        assert!(answer(asked.query.clone(), ResponseCode::NoError).is_some());
        assert!(answer(Some(other), ResponseCode::NoError).is_none());
        assert!(answer(None, ResponseCode::NoError).is_none());
        assert!(answer(None, ResponseCode::FormErr).is_some());
    }

    /// Its queue of connections is full, so that it answers nobody: as an address that leads nowhere.
    #[tokio::test]
    async fn an_address_that_leads_nowhere_takes_no_time_from_the_next() {
        let nowhere = tokio::net::TcpSocket::new_v4().unwrap();
        nowhere.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let nowhere = nowhere.listen(1).unwrap();
        let silent = nowhere.local_addr().unwrap();
        let mut crowd = Vec::new();
        let wait = Duration::from_millis(300);
        while let Ok(Ok(stream)) = tokio::time::timeout(wait, TcpStream::connect(silent)).await {
            crowd.push(stream);
        }
        let live = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [silent, live.local_addr().unwrap()];
        let name = rrset::name("app.example.com").unwrap();
        let bytes = question(&name, RecordType::A, false).to_vec().unwrap();
        let asked = Asked {
            bytes: &bytes,
            id: 0,
            query: None,
        };
        let server = Endpoint::parse("ns1.example.com").unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        let asking = tcp(&server, &addresses, &asked, deadline);
        let came = timeout_at(deadline, live.accept());
        let (_, came) = tokio::join!(asking, async {
            let came = came.await.is_ok_and(|c| c.is_ok());
            assert!(came, "the second address was not tried in time");
            came
        });
        assert!(came);
    }

    #[test]
    fn only_what_surely_was_not_sent_counts_as_never_sent() {
        let server = Endpoint::parse("192.0.2.53").unwrap();
        assert!(!WireError::Timeout(server.clone()).never_sent());
        assert!(!WireError::ConnectTimeout(server.clone()).never_sent());
        assert!(
            WireError::Connect {
                server,
                source: io::ErrorKind::ConnectionRefused.into(),
            }
            .never_sent()
        );
    }
}
