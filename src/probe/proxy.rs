//! Proxies that a vantage point looks through: SOCKS5 (RFC 1928) and HTTP CONNECT (RFC 9110, 9.3.6).

use std::{io, net::IpAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use url::Url;

use super::{
    dial::{Endpoint, Host},
    fault::Fault,
    progress::{Progress, Stage},
};

/// The head of a proxy's answer to CONNECT is not read beyond this.
const LONGEST_HEAD: usize = 8 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Socks5,
    Http,
}

/// A proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proxy {
    pub(super) endpoint: Endpoint,
    protocol: Protocol,
    name: String,
}

impl Proxy {
    /// Reads `socks5://host:port` or `http://host:port`.
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let wrong = |what: &str| Fault::Via(format!("the proxy {what}"));
        let url = Url::parse(text).map_err(|e| wrong(&format!("is no URL ({e})")))?;
        let (protocol, port) = match url.scheme() {
            "socks5" | "socks5h" => (Protocol::Socks5, 1080),
            "http" => (Protocol::Http, 80),
            other => return Err(wrong(&format!("speaks {other}: use socks5 or http"))),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("cannot be given a password"));
        }
        // The host of a scheme that URLs do not know is opaque text.
        let host = url.host_str().filter(|h| !h.is_empty());
        let host = host.ok_or_else(|| wrong("has no host"))?;
        let Ok(host) = host.parse();
        Ok(Self {
            endpoint: Endpoint {
                host,
                port: url.port().unwrap_or(port),
            },
            protocol,
            name: text.to_owned(),
        })
    }

    /// Has the proxy connect to `to`.
    pub(super) async fn connect(
        &self,
        mut stream: TcpStream,
        to: &Endpoint,
        progress: &Progress,
    ) -> Result<TcpStream, Fault> {
        match self.protocol {
            Protocol::Socks5 => self.socks5(&mut stream, to, progress).await?,
            Protocol::Http => self.http(&mut stream, to, progress).await?,
        }
        Ok(stream)
    }

    async fn socks5(
        &self,
        stream: &mut TcpStream,
        to: &Endpoint,
        progress: &Progress,
    ) -> Result<(), Fault> {
        let broken = |e: io::Error| self.broken(&e);
        stream.write_all(&[5, 1, 0]).await.map_err(broken)?;
        let mut choice = [0; 2];
        stream.read_exact(&mut choice).await.map_err(broken)?;
        match choice {
            [5, 0] => {}
            [5, _] => return Err(self.refuses("it wants a password")),
            _ => return Err(self.refuses("it does not speak SOCKS5")),
        }
        progress.enter(Stage::ProxyConnecting);
        stream.write_all(&request(to)).await.map_err(broken)?;
        let mut head = [0; 4];
        stream.read_exact(&mut head).await.map_err(broken)?;
        match head[1] {
            0 => {}
            // Section 6. What a proxy says of its own network or rules is nothing about the other side.
            1 => return Err(self.refuses("general failure")),
            2 => return Err(self.refuses("not allowed by its rules")),
            3 => return Err(self.refuses("it has no route to it")),
            4 => return Err(self.cannot("host unreachable")),
            5 => return Err(Fault::Refused),
            6 => return Err(self.cannot("TTL expired")),
            code => return Err(self.refuses(&format!("SOCKS5 error {code}"))),
        }
        let bound = match head[3] {
            1 => 4,
            4 => 16,
            3 => usize::from(stream.read_u8().await.map_err(broken)?),
            _ => return Err(self.refuses("it does not speak SOCKS5")),
        };
        let mut rest = [0; 255 + 2];
        stream
            .read_exact(&mut rest[..bound + 2])
            .await
            .map_err(broken)?;
        Ok(())
    }

    async fn http(
        &self,
        stream: &mut TcpStream,
        to: &Endpoint,
        progress: &Progress,
    ) -> Result<(), Fault> {
        progress.enter(Stage::ProxyConnecting);
        let ask = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n");
        stream
            .write_all(ask.as_bytes())
            .await
            .map_err(|e| self.broken(&e))?;
        let head = self.head(stream).await?;
        let status = head
            .strip_prefix(b"HTTP/1.")
            .and_then(|rest| rest.get(2..5))
            .and_then(|code| std::str::from_utf8(code).ok())
            .and_then(|code| code.parse::<u16>().ok())
            .ok_or_else(|| self.refuses("it does not speak HTTP"))?;
        match status {
            200..=299 => Ok(()),
            // A gateway's word that the other side failed it (RFC 9110, 15.6.3 to 15.6.5).
            502..=504 => Err(self.cannot(&format!("HTTP {status}"))),
            _ => Err(self.refuses(&format!("HTTP {status}"))),
        }
    }

    /// Reads up to the empty line and not one byte more: what follows is the other side's.
    async fn head(&self, stream: &mut TcpStream) -> Result<Vec<u8>, Fault> {
        const END: &[u8] = b"\r\n\r\n";
        let mut head = Vec::new();
        let mut seen = [0; 512];
        while head.len() < LONGEST_HEAD {
            let n = stream.peek(&mut seen).await.map_err(|e| self.broken(&e))?;
            if n == 0 {
                return Err(self.broken(&io::ErrorKind::UnexpectedEof.into()));
            }
            let before = head.len();
            head.extend_from_slice(&seen[..n]);
            let from = before.saturating_sub(END.len() - 1);
            let end = head[from..].windows(END.len()).position(|w| w == END);
            let take = end.map_or(n, |at| from + at + END.len() - before);
            stream
                .read_exact(&mut seen[..take])
                .await
                .map_err(|e| self.broken(&e))?;
            if end.is_some() {
                head.truncate(before + take);
                return Ok(head);
            }
        }
        Err(self.refuses("its answer has no end"))
    }

    fn broken(&self, error: &io::Error) -> Fault {
        Fault::ProxyAway {
            proxy: self.name.clone(),
            source: Box::new(Fault::of_stream(error)),
        }
    }

    fn refuses(&self, answer: &str) -> Fault {
        Fault::ProxyRefuses {
            proxy: self.name.clone(),
            answer: answer.to_owned(),
        }
    }

    fn cannot(&self, answer: &str) -> Fault {
        Fault::BehindProxy {
            proxy: self.name.clone(),
            answer: answer.to_owned(),
        }
    }
}

/// RFC 1928, section 4: version, CONNECT, reserved, address, port.
fn request(to: &Endpoint) -> Vec<u8> {
    let mut bytes = vec![5, 1, 0];
    match &to.host {
        Host::Address(IpAddr::V4(ip)) => {
            bytes.push(1);
            bytes.extend(ip.octets());
        }
        Host::Address(IpAddr::V6(ip)) => {
            bytes.push(4);
            bytes.extend(ip.octets());
        }
        Host::Name(name) => {
            // DNS names end at 253 bytes, so the length always fits.
            let name = &name.as_bytes()[..name.len().min(255)];
            bytes.push(3);
            bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
            bytes.extend(name);
        }
    }
    bytes.extend(to.port.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_read_from_urls() {
        let proxy = Proxy::parse("socks5://127.0.0.1:9050").unwrap();
        assert_eq!(proxy.endpoint.to_string(), "127.0.0.1:9050");
        let proxy = Proxy::parse("http://proxy.example:3128").unwrap();
        assert_eq!(proxy.endpoint.to_string(), "proxy.example:3128");
        assert!(Proxy::parse("socks4://p:1").is_err());
        assert!(Proxy::parse("socks5://u:p@h:1").is_err());
        assert!(Proxy::parse("proxy:1080").is_err());
    }

    #[test]
    fn a_request_holds_name_or_address() {
        let name = Endpoint {
            host: Host::Name("a.b".into()),
            port: 443,
        };
        assert_eq!(request(&name), b"\x05\x01\x00\x03\x03a.b\x01\xbb");
        let address = Endpoint {
            host: Host::Address([127, 0, 0, 1].into()),
            port: 80,
        };
        assert_eq!(request(&address), [5, 1, 0, 1, 127, 0, 0, 1, 0, 80]);
    }
}
