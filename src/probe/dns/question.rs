//! One question to one name server, over UDP and where needed over TCP (RFC 1035, RFC 7766).

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Message, MessageType, Query},
    rr::{Name, RecordType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UdpSocket,
};

use super::super::{
    dial::{Endpoint, addresses, dial},
    fault::Fault,
    progress::{Progress, Stage},
};
use crate::model::service::Via;

/// A datagram may be lost: the question is sent again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// The size of answers that pass everywhere without fragments (DNS flag day 2020).
const PAYLOAD: u16 = 1232;

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) name: Name,
    pub(super) kind: RecordType,
}

impl Question {
    /// Asks one server; `waiting` is the stage in which its silence counts.
    pub(super) async fn ask(
        &self,
        server: &Endpoint,
        via: &Via,
        waiting: Stage,
        progress: &Progress,
    ) -> Result<Message, Fault> {
        let query = self.message();
        let source = match via {
            Via::Direct => None,
            Via::SourceAddress(ip) => Some(*ip),
            Via::Proxy(_) => return self.over_tcp(server, via, waiting, &query, progress).await,
        };
        let to = addresses(server, source, None)
            .await?
            .first()
            .copied()
            .ok_or_else(|| Fault::NoAddress(server.to_string()))?;
        progress.enter(waiting);
        let answer = self.over_udp(to, source, &query).await?;
        if answer.metadata.truncation {
            return self.over_tcp(server, via, waiting, &query, progress).await;
        }
        Ok(answer)
    }

    fn message(&self) -> Message {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(self.name.clone(), self.kind));
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD);
        message.set_edns(edns);
        message
    }

    async fn over_udp(
        &self,
        to: SocketAddr,
        source: Option<IpAddr>,
        query: &Message,
    ) -> Result<Message, Fault> {
        let any = if to.is_ipv4() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        } else {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        };
        let socket =
            UdpSocket::bind((source.unwrap_or(any), 0))
                .await
                .map_err(|e| match source {
                    Some(source) => Fault::OwnAddress(source),
                    None => Fault::of_connect(e),
                })?;
        socket.connect(to).await.map_err(Fault::of_connect)?;
        let bytes = encode(query)?;
        let mut answer = [0; 4096];
        loop {
            socket.send(&bytes).await.map_err(Fault::of_connect)?;
            let heard = async {
                loop {
                    let n = socket.recv(&mut answer).await.map_err(Fault::of_connect)?;
                    if let Some(answer) = self.matching(&answer[..n], query) {
                        return Ok(answer);
                    }
                }
            };
            if let Ok(heard) = tokio::time::timeout(AGAIN, heard).await {
                return heard;
            }
        }
    }

    async fn over_tcp(
        &self,
        server: &Endpoint,
        via: &Via,
        waiting: Stage,
        query: &Message,
        progress: &Progress,
    ) -> Result<Message, Fault> {
        let mut stream = dial(server, via, None, progress).await?;
        progress.enter(waiting);
        let broken = |e: std::io::Error| Fault::of_stream(&e);
        let bytes = encode(query)?;
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend(bytes);
        stream.write_all(&framed).await.map_err(broken)?;
        let length = stream.read_u16().await.map_err(broken)?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await.map_err(broken)?;
        self.matching(&answer, query)
            .ok_or(Fault::Garbled("DNS answer to the question"))
    }

    /// The answer, where it is one to this question: anything else may be somebody's forgery.
    fn matching(&self, bytes: &[u8], query: &Message) -> Option<Message> {
        let answer = Message::from_vec(bytes).ok()?;
        let asked = answer.queries.first()?;
        let matches = answer.metadata.id == query.metadata.id
            && answer.metadata.message_type == MessageType::Response
            && asked.name == self.name
            && asked.query_type == self.kind;
        matches.then_some(answer)
    }
}

fn encode(query: &Message) -> Result<Vec<u8>, Fault> {
    query
        .to_vec()
        .map_err(|e| Fault::Io(std::io::Error::other(e)))
}
