//! A proxy: SOCKS5 (RFC 1928) and HTTP CONNECT on one port. It resolves one name of its own, `shop.test`, or asks a name
//! server as a proxy elsewhere would.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use failover::dns::{
    rrset,
    wire::{self, Endpoint, Travel},
};
use hickory_proto::rr::{RData, RecordType};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::TcpStream,
};

use super::host::{Host, request};

/// What it was asked to connect to.
pub type Asked = Arc<Mutex<Vec<String>>>;

/// A proxy that connects to what it is asked for.
pub async fn proxy() -> (Host, Asked) {
    start(None).await
}

/// A proxy that asks this name server for names.
pub async fn proxy_asking(server: SocketAddr) -> (Host, Asked) {
    start(Some(server)).await
}

async fn start(names: Option<SocketAddr>) -> (Host, Asked) {
    let asked = Asked::default();
    let seen = asked.clone();
    let host = Host::serving(move |stream| {
        let seen = seen.clone();
        async move {
            let _ = serve(stream, seen, names).await;
        }
    })
    .await;
    (host, asked)
}

async fn serve(
    mut stream: TcpStream,
    asked: Asked,
    names: Option<SocketAddr>,
) -> std::io::Result<()> {
    let mut first = [0];
    stream.peek(&mut first).await?;
    if first == [5] {
        return socks5(stream, asked, names).await;
    }
    let head = request(&mut stream).await;
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    asked.lock().unwrap().push(target.clone());
    match reach(&target, names).await {
        Ok(mut other) => {
            stream
                .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                .await?;
            copy_bidirectional(&mut stream, &mut other).await?;
        }
        Err(_) => {
            stream
                .write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
                .await?;
        }
    }
    Ok(())
}

async fn socks5(
    mut stream: TcpStream,
    asked: Asked,
    names: Option<SocketAddr>,
) -> std::io::Result<()> {
    let mut greeting = [0; 2];
    stream.read_exact(&mut greeting).await?;
    let mut methods = vec![0; usize::from(greeting[1])];
    stream.read_exact(&mut methods).await?;
    stream.write_all(&[5, 0]).await?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let host = match head[3] {
        1 => {
            let mut ip = [0; 4];
            stream.read_exact(&mut ip).await?;
            Ipv4Addr::from(ip).to_string()
        }
        3 => {
            let mut name = vec![0; usize::from(stream.read_u8().await?)];
            stream.read_exact(&mut name).await?;
            String::from_utf8_lossy(&name).into_owned()
        }
        _ => return stream.write_all(&[5, 8, 0, 1, 0, 0, 0, 0, 0, 0]).await,
    };
    let port = stream.read_u16().await?;
    let target = format!("{host}:{port}");
    asked.lock().unwrap().push(target.clone());
    match reach(&target, names).await {
        Ok(mut other) => {
            stream.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0]).await?;
            copy_bidirectional(&mut stream, &mut other).await?;
        }
        Err(_) => stream.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]).await?,
    }
    Ok(())
}

async fn reach(target: &str, names: Option<SocketAddr>) -> std::io::Result<TcpStream> {
    let mut target = target.replace("shop.test", "127.0.0.1");
    if let (Some(server), Some((name, port))) = (names, target.rsplit_once(':'))
        && name.parse::<IpAddr>().is_err()
    {
        let found = address_of(server, name)
            .await
            .ok_or_else(|| std::io::Error::other("no such name"))?;
        target = format!("{found}:{port}");
    }
    let address: SocketAddr = target
        .parse()
        .map_err(|_| std::io::Error::other("no address"))?;
    TcpStream::connect(address).await
}

/// The first address that a name server gives for a name, behind a CNAME too.
pub async fn address_of(server: SocketAddr, name: &str) -> Option<Ipv4Addr> {
    let question = wire::question(&rrset::name(name).ok()?, RecordType::A, true);
    let answer = wire::exchange(
        &Endpoint::from(server),
        &question.to_vec().ok()?,
        Travel::Udp,
        Duration::from_secs(2),
    )
    .await
    .ok()?;
    answer.message.answers.iter().find_map(|r| {
        let RData::A(a) = &r.data else { return None };
        Some(a.0)
    })
}
