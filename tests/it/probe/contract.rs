//! What every probe promises, whatever the other side does: it ends within its time-out, a refusal is Down, nothing
//! makes it panic.

use std::time::{Duration, Instant};

use failover::{
    model::{
        observation::{
            Look,
            Sight::{Down, Up},
        },
        service::Via,
        span::Span,
    },
    port::probe::SharedProbe,
};
use futures::{StreamExt, future::join_all, stream};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{look, look_for, probe, seen};
use crate::stand::{
    host::{ClosedPort, Host, http, request},
    name_server::NameServer,
};

const TIMEOUT: Span = Span::from_millis(500);

/// How much later than its time-out a look may end.
const MARGIN: Duration = Duration::from_millis(200);

/// Every kind that speaks over TCP, looking at this address in a way that wants a whole answer.
fn over_tcp(address: std::net::SocketAddr) -> Vec<(&'static str, SharedProbe)> {
    let (host, port) = (address.ip(), address.port());
    let loose = json!({"verify": false});
    let mut made = Vec::new();
    for (name, with) in [
        ("probe/http", json!({"url": format!("http://{address}/")})),
        (
            "probe/http",
            json!({"url": format!("https://{address}/"), "tls": loose}),
        ),
        (
            "probe/http",
            json!({"url": format!("http://{address}/"), "followRedirects": 3, "body": {"contains": ["x"]}}),
        ),
        (
            "probe/tcp",
            json!({"host": host, "port": port, "expect": "never said"}),
        ),
        (
            "probe/tcp",
            json!({"host": host, "port": port, "tls": loose}),
        ),
    ] {
        made.push((name, probe(name, &with)));
    }
    made
}

#[tokio::test]
async fn a_refusal_is_down_at_once() {
    let port = ClosedPort::new();
    let mut probes = over_tcp(port.address);
    let with = json!({"name": "a.example", "server": port.address.to_string()});
    probes.push(("probe/dns", probe("probe/dns", &with)));
    for (name, made) in probes {
        let look = look(&made).await;
        assert_eq!(seen(&look, Down), "connection refused", "{name}");
    }
}

async fn drip(mut stream: TcpStream, first: &'static [u8], then: &'static [u8], every: Duration) {
    if stream.write_all(first).await.is_err() {
        return;
    }
    while stream.write_all(then).await.is_ok() {
        tokio::time::sleep(every).await;
    }
}

#[tokio::test]
async fn no_other_side_holds_a_look_beyond_its_time_out() {
    const SLOW: Duration = Duration::from_millis(20);
    let hosts = [
        ("silent", Host::silent().await),
        ("closes at once", Host::serving(async |_| {}).await),
        (
            "drips its status line",
            Host::serving(|s| drip(s, b"HTTP/1.1 ", b"2", SLOW)).await,
        ),
        (
            "drips headers",
            Host::serving(|s| drip(s, b"HTTP/1.1 200 OK\r\n", b"X-Y: z\r\n", SLOW)).await,
        ),
        (
            "floods headers",
            Host::serving(|s| drip(s, b"HTTP/1.1 200 OK\r\n", b"X-Y: z\r\n", Duration::ZERO)).await,
        ),
        (
            "drips its body",
            Host::serving(|s| drip(s, b"HTTP/1.1 200 OK\r\n\r\n", b".", SLOW)).await,
        ),
        (
            "chunks of nothing sensible",
            Host::serving(|s| {
                drip(
                    s,
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                    b"zz\r\n",
                    SLOW,
                )
            })
            .await,
        ),
        (
            "says 100 for ever",
            Host::serving(|s| drip(s, b"", b"HTTP/1.1 100 Continue\r\n\r\n", SLOW)).await,
        ),
    ];
    join_all(hosts.iter().map(async |(manner, host)| {
        join_all(over_tcp(host.address).iter().map(async |(name, made)| {
            let look = look_in_time(made, &format!("{name}, {manner}")).await;
            assert_eq!(look.sight, Down, "{name}, {manner}: {look:?}");
        }))
        .await
    }))
    .await;
}

/// A look that is held to its time-out; it is made again where the machine was too busy to tell.
async fn look_in_time(made: &SharedProbe, what: &str) -> Look {
    for _ in 0..10 {
        let begin = Instant::now();
        let look = look_for(made, Via::Direct, TIMEOUT).await;
        if begin.elapsed() < TIMEOUT.to_std() + MARGIN {
            return look;
        }
    }
    panic!("{what}: never within {TIMEOUT}");
}

#[tokio::test]
async fn a_body_without_end_is_read_to_the_limit_only() {
    let host = Host::serving(|mut stream| async move {
        request(&mut stream).await;
        drip(
            stream,
            b"HTTP/1.1 200 OK\r\n\r\n",
            &[b'.'; 4096],
            Duration::ZERO,
        )
        .await;
    })
    .await;
    let look = look(&probe("probe/http", &json!({"url": host.url()}))).await;
    seen(&look, Up);
}

#[tokio::test]
async fn a_redirect_in_a_circle_ends() {
    let host = Host::saying(http("302 Found", "Location: /\r\n", "")).await;
    let with = json!({"url": host.url(), "followRedirects": 5});
    let look = look(&probe("probe/http", &with)).await;
    assert_eq!(seen(&look, Down), "more than 5 redirects");
}

/// A right answer with some of its bytes changed, cut, doubled or put in.
fn spoil(right: &[u8], rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = right.to_vec();
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..bytes.len().max(1));
        match rng.random_range(0..5) {
            0 if at < bytes.len() => bytes[at] = rng.random(),
            1 => bytes.truncate(at),
            2 if at < bytes.len() => bytes.insert(at, rng.random()),
            3 => bytes.extend_from_within(at.min(bytes.len())..),
            _ => {
                let mut noise = vec![0; rng.random_range(1..200)];
                rng.fill_bytes(&mut noise);
                bytes.splice(at.min(bytes.len()).., noise);
            }
        }
    }
    bytes
}

#[tokio::test]
async fn garbage_makes_no_probe_panic() {
    const SEED: u64 = 7;
    let right = http(
        "301 Moved",
        "Location: http://127.0.0.1:1/\r\nSet-Cookie: a=b\r\n",
        "220 ready ESMTP\r\n",
    );
    let rounds = (SEED..SEED + 60).map(|seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let answer = spoil(right.as_bytes(), &mut rng);
        async move {
            let host = Host::saying(answer).await;
            for (name, made) in over_tcp(host.address) {
                look_in_time(&made, &format!("{name}, seed {seed}")).await;
            }
        }
    });
    stream::iter(rounds)
        .for_each_concurrent(10, |round| round)
        .await;
}

#[tokio::test]
async fn garbage_from_a_name_server_makes_no_probe_panic() {
    for seed in 0..60 {
        let server = NameServer::answering(move |question, _| {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut right = question.clone();
            right.metadata.message_type = hickory_proto::op::MessageType::Response;
            Some(spoil(&right.to_vec().unwrap(), &mut rng))
        })
        .await;
        let server = server.address.to_string();
        let with = json!({"name": "a.example", "server": server});
        let timeout = Span::from_millis(50);
        let asked = look_for(&probe("probe/dns", &with), Via::Direct, timeout).await;
        assert_eq!(asked.sight, Down, "seed {seed}: {asked:?}");
        let with = json!({"url": "http://a.example/", "resolver": server});
        look_for(&probe("probe/http", &with), Via::Direct, timeout).await;
    }
}

#[tokio::test]
async fn thousands_of_looks_leave_nothing_behind() {
    let host = Host::saying(http("200 OK", "", "")).await;
    let made = probe("probe/http", &json!({"url": host.url()}));
    let before = open_sockets();
    let looks = (0..2000).map(|_| look(&made));
    let seen: Vec<Look> = stream::iter(looks).buffer_unordered(50).collect().await;
    assert!(seen.iter().all(|look| look.sight == Up));
    // Other tests run beside this one; they hold dozens of sockets, not thousands.
    assert!(open_sockets() < before + 300);
}

fn open_sockets() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
