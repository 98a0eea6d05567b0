//! The wire between guards and the controller: one signed datagram a message.
//!
//! Loss, repeats, reordering and replay are the protocol's own business; what the wire adds is who speaks. A datagram is
//! the version, a signature, the names of sender, receiver and service, and the message as JSON. Nothing behind the names
//! is read before the signature was found to be the sender's. Whatever is not right is counted and dropped, and never
//! answered.
//!
//! The first byte also says which way a datagram goes ([`relay`]); it is the one byte that is not signed.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

pub mod certificate;
pub mod key;
pub mod message;
pub mod relay;

pub use self::{
    certificate::{Certificate, Proof},
    key::{KeyError, KeyPair},
    message::Message,
    relay::{Allowance, Way, Ways},
};
use crate::model::{
    id::{ServiceName, SiteName},
    public_key::PublicKey,
};

/// The most bytes of a datagram: what every link passes in one piece that IPv6 may use (1280, less the headers).
pub const LARGEST: usize = 1232;
/// Of this format; another one is not read.
const VERSION: u8 = 1;
/// In its place: the receiver is to pass the datagram on.
const TO_PASS: u8 = 2;
/// In its place: somebody passed the datagram on.
const PASSED: u8 = 4;
const SIGNATURE: usize = 64;
/// What is signed begins with this, so that no signature for one thing passes for another.
const CONTEXT: &[u8] = b"failover guard datagram\0";

/// One who sends and receives: the controller, or the guard of a site.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Party {
    /// The controller, by its name.
    Controller(String),
    /// The guard of a site.
    Guard(SiteName),
}

impl Party {
    fn name(&self) -> &str {
        match self {
            Self::Controller(name) => name,
            Self::Guard(site) => site.as_str(),
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a datagram was dropped.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    thiserror::Error,
)]
#[serde(rename_all = "camelCase")]
pub enum Dropped {
    /// It is larger than any that is sent.
    #[error("it is too large")]
    Large,
    /// It is of another version of the wire.
    #[error("it is of another version")]
    Version,
    /// Its frame cannot be read.
    #[error("it cannot be read")]
    Malformed,
    /// It is for somebody else.
    #[error("it is for another receiver")]
    Receiver,
    /// It is about another service.
    #[error("it is about another service")]
    Service,
    /// Nobody of this name is known.
    #[error("its sender is not known")]
    Sender,
    /// It was not signed by whom it names.
    #[error("its signature is not its sender's")]
    Signature,
    /// It is signed, and cannot be understood: the sender runs another version.
    #[error("its message is not understood")]
    Message,
    /// Its sender may not say that: a grant in another's name, an order of a guard.
    #[error("its sender may not say that")]
    Author,
    /// The terms that it shows were not signed by the controller.
    #[error("its terms are not the controller's")]
    Certificate,
    /// More is to be passed on than anybody needs.
    #[error("too much is to be passed on")]
    Rate,
}

/// How many datagrams were dropped, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counts(BTreeMap<Dropped, u64>);

impl Counts {
    /// One more.
    pub fn note(&mut self, why: Dropped) {
        *self.0.entry(why).or_default() += 1;
    }

    /// How many were dropped for that.
    #[must_use]
    pub fn of(&self, why: Dropped) -> u64 {
        self.0.get(&why).copied().unwrap_or_default()
    }

    /// How many were dropped at all.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.0.values().sum()
    }
}

/// Why a message cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Names are too long for one datagram.
    #[error("the message has {bytes} bytes with its names, more than {LARGEST}")]
    Large {
        /// How large it is.
        bytes: usize,
    },
    /// A name has more than 255 bytes.
    #[error("the name {0:?} is too long")]
    Name(String),
    /// It has no form in JSON.
    #[error("the message cannot be written")]
    Write(#[source] serde_json::Error),
}

/// One end of the wire.
#[derive(Debug)]
pub struct Wire {
    own: Party,
    service: ServiceName,
    key: KeyPair,
    others: BTreeMap<String, (Party, PublicKey)>,
}

impl Wire {
    /// The end of `own`, which knows these others.
    #[must_use]
    pub fn new(
        own: Party,
        service: ServiceName,
        key: KeyPair,
        others: impl IntoIterator<Item = (Party, PublicKey)>,
    ) -> Self {
        Self {
            own,
            service,
            key,
            others: others
                .into_iter()
                .map(|(party, key)| (party.name().to_owned(), (party, key)))
                .collect(),
        }
    }

    /// A datagram for that party.
    ///
    /// # Errors
    /// Where it does not fit into one.
    pub fn seal(&self, to: &Party, message: &Message) -> Result<Vec<u8>, SealError> {
        let mut signed = Vec::with_capacity(LARGEST);
        signed.push(VERSION);
        for name in [self.own.name(), to.name(), self.service.as_str()] {
            let length = u8::try_from(name.len()).map_err(|_| SealError::Name(name.to_owned()))?;
            signed.push(length);
            signed.extend_from_slice(name.as_bytes());
        }
        serde_json::to_writer(&mut signed, message).map_err(SealError::Write)?;
        let signature = self.key.sign(CONTEXT, &signed);
        let mut datagram = Vec::with_capacity(signed.len() + SIGNATURE);
        datagram.push(VERSION);
        datagram.extend_from_slice(&signature);
        datagram.extend_from_slice(&signed[1..]);
        if datagram.len() > LARGEST {
            return Err(SealError::Large {
                bytes: datagram.len(),
            });
        }
        Ok(datagram)
    }

    /// Who says what in a datagram, and which way it came.
    ///
    /// # Errors
    /// With why it is to be dropped.
    pub fn open(&self, datagram: &[u8]) -> Result<(Party, Message, Way), Dropped> {
        let frame = Frame::read(datagram)?;
        let way = match frame.version {
            VERSION => Way::Straight,
            PASSED => Way::Around,
            _ => return Err(Dropped::Version),
        };
        if frame.to != self.own.name() {
            return Err(Dropped::Receiver);
        }
        let sender = self.sender(&frame)?;
        let message: Message = serde_json::from_slice(frame.body).map_err(|_| Dropped::Message)?;
        if !message.may_come_from(sender) {
            return Err(Dropped::Author);
        }
        self.check_terms(&message)?;
        Ok((sender.clone(), message, way))
    }

    /// Whose signature it bears, where that is somebody who is known and it is about this service.
    fn sender(&self, frame: &Frame<'_>) -> Result<&Party, Dropped> {
        if frame.service != self.service.as_str() {
            return Err(Dropped::Service);
        }
        let (sender, key) = self.others.get(frame.from).ok_or(Dropped::Sender)?;
        let mut signed = vec![VERSION];
        signed.extend_from_slice(frame.named);
        if !key::signed(key, CONTEXT, &signed, frame.signature) {
            return Err(Dropped::Signature);
        }
        Ok(sender)
    }

    /// Signs terms, so that guards can show them to each other: for the controller alone.
    #[must_use]
    pub fn certify(&self, terms: &crate::model::guard::Terms) -> Proof {
        Proof::new(&self.key, terms)
    }

    fn check_terms(&self, message: &Message) -> Result<(), Dropped> {
        let Some((terms, proof)) = message.shown() else {
            return Ok(());
        };
        let mut controllers = self.others.values().filter_map(|(party, key)| match party {
            Party::Controller(_) => Some(key),
            Party::Guard(_) => None,
        });
        let own = matches!(self.own, Party::Controller(_)).then(|| self.key.public());
        let is_proved = controllers.any(|key| proof.holds(key, terms))
            || own.is_some_and(|key| proof.holds(&key, terms));
        if terms.service != self.service || !is_proved {
            return Err(Dropped::Certificate);
        }
        Ok(())
    }
}

/// The parts of a datagram; nothing of it is proved.
struct Frame<'a> {
    version: u8,
    signature: &'a [u8],
    /// What is signed, but for the version before it.
    named: &'a [u8],
    from: &'a str,
    to: &'a str,
    service: &'a str,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    fn read(datagram: &'a [u8]) -> Result<Self, Dropped> {
        if datagram.len() > LARGEST {
            return Err(Dropped::Large);
        }
        let (version, rest) = datagram.split_first().ok_or(Dropped::Malformed)?;
        if ![VERSION, TO_PASS, PASSED].contains(version) {
            return Err(Dropped::Version);
        }
        let (signature, named) = rest.split_at_checked(SIGNATURE).ok_or(Dropped::Malformed)?;
        let (from, rest) = name(named)?;
        let (to, rest) = name(rest)?;
        let (service, body) = name(rest)?;
        Ok(Self {
            version: *version,
            signature,
            named,
            from,
            to,
            service,
            body,
        })
    }
}

/// The service that a datagram says to be about; nothing of it is proved.
#[must_use]
pub fn about(datagram: &[u8]) -> Option<ServiceName> {
    let frame = Frame::read(datagram).ok()?;
    Some(ServiceName::new(frame.service))
}

fn name(bytes: &[u8]) -> Result<(&str, &[u8]), Dropped> {
    let (length, rest) = bytes.split_first().ok_or(Dropped::Malformed)?;
    let (name, rest) = rest
        .split_at_checked(usize::from(*length))
        .ok_or(Dropped::Malformed)?;
    let name = std::str::from_utf8(name).map_err(|_| Dropped::Malformed)?;
    Ok((name, rest))
}

#[cfg(test)]
mod tests;
