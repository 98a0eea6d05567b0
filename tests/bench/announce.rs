//! What telling people costs: mails to a real server against a bare loop over the same library, the time from a
//! decision to the first announcement that somebody has, and the status page under load while an incident runs.
//!
//! `cargo bench --bench announce` prints a table, and the same figures as one line of JSON. `-- --mails 500` shortens it.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on should say where"
)]
#![expect(clippy::print_stdout, reason = "the figures are the output")]
#![expect(
    clippy::cast_precision_loss,
    reason = "counts and times of a benchmark are far below 2^52"
)]

use std::{
    env, fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use failover::{
    announce::{
        fanout::{Fanout, Patience},
        ledger::SqliteLedger,
        template,
    },
    driver::{clock::HostRuntime, registry::kinds},
    model::{
        announcement::{Announcement, Phase},
        time::Time,
    },
    port::{
        channel::{Notice, SharedChannel},
        kind::Make,
        ledger::Mailing,
        runtime::Runtime,
    },
};
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor, transport::smtp::PoolConfig,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

#[path = "../it/stand"]
#[expect(dead_code, reason = "the tests use more of it")]
mod stand {
    pub mod bind;
    pub mod controller;
    pub mod host;
    pub mod listener;
    pub mod patience;
    pub mod smtp;
    pub mod webhook;
    pub mod wiring;
}

use stand::{controller::Stand, smtp::Exim, wiring::wiring};

/// Mails in each measurement.
const MAILS: usize = 4_000;
/// Mails that are under way at once, in both.
const WORKERS: usize = 8;
/// Each way of mailing is measured so often, in turns; the median counts.
const TURNS: usize = 3;
/// Outages, for the time to the first announcement.
const OUTAGES: usize = 5;
/// Readers of the status page at once.
const READERS: usize = 32;
/// How long they read.
const READING: Duration = Duration::from_secs(10);

/// The aims: of the bare loop, seconds, requests a second.
const AIM_RATIO: f64 = 0.9;
const AIM_FIRST: f64 = 1.0;
const AIM_PAGE: f64 = 2000.0;

fn main() {
    let args: Vec<String> = env::args().collect();
    let mails = args.iter().position(|a| a == "--mails");
    let mails = mails.map_or(MAILS, |at| args[at + 1].parse().unwrap());
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (bare, ours) = runtime.block_on(mail(mails));
    let first = runtime.block_on(first());
    let page = runtime.block_on(page());
    let rows = [
        ("bare loop of the library, mails/s", format!("{bare:.0}")),
        ("with the ledger durable, mails/s", format!("{ours:.0}")),
        ("  of the bare loop", format!("{:.2}", ours / bare)),
        (
            "decision to first announcement, ms",
            format!("{:.0}", first * 1000.0),
        ),
        (
            "status page in an incident, requests/s",
            format!("{:.0}", page.a_second),
        ),
        ("  p99, ms", format!("{:.1}", page.p99 * 1000.0)),
        (
            "  memory of the controller before, MB",
            format!("{:.0}", page.before),
        ),
        (
            "  memory of the controller at its highest, MB",
            format!("{:.0}", page.highest),
        ),
    ];
    for (what, figure) in rows {
        println!("{what:<48} {figure:>8}");
    }
    println!(
        "{}",
        json!({
            "mails": mails,
            "aims": {"ratio": AIM_RATIO, "firstS": AIM_FIRST, "pagePerS": AIM_PAGE},
            "barePerS": bare.round(),
            "mailsPerS": ours.round(),
            "ratio": ours / bare,
            "firstS": first,
            "pagePerS": page.a_second.round(),
            "pageP99S": page.p99,
            "rssBeforeMb": page.before,
            "rssMb": page.highest,
        })
    );
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Mails a second: by a bare loop, and by a fan-out whose ledger is durable. Each mailing has a server of its own.
async fn mail(mails: usize) -> (f64, f64) {
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for turn in 0..TURNS {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let exim = Exim::start_keeping().await;
        bare.push(loop_over(exim.port, mails).await);
        assert_eq!(exim.taken().len(), mails);
        let exim = Exim::start_keeping().await;
        ours.push(fan_out(folder.path(), exim.port, mails, turn).await);
        assert_eq!(exim.taken().len(), mails);
    }
    (median(bare), median(ours))
}

/// The floor: the library's pool, the same message to the same people, by as many workers.
async fn loop_over(port: u16, mails: usize) -> f64 {
    let workers = u32::try_from(WORKERS).unwrap();
    let pool = PoolConfig::new().max_size(workers);
    let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("127.0.0.1")
        .port(port)
        .pool_config(pool)
        .build();
    let text = notice().1;
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let mut all = JoinSet::new();
    for _ in 0..WORKERS {
        let (transport, next, text) = (transport.clone(), next.clone(), text.clone());
        all.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= mails {
                    return;
                }
                let message = Message::builder()
                    .from("Shop status <status@shop.example>".parse().unwrap())
                    .to(format!("user{n}@example.com").parse().unwrap())
                    .subject("Shop: we are looking into a problem")
                    .body(text.clone())
                    .unwrap();
                transport.send(message).await.unwrap();
            }
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
    mails as f64 / began.elapsed().as_secs_f64()
}

/// The notice that is sent, and its text.
fn notice() -> (Notice, String) {
    let phase = Phase::Investigating;
    let template = template::ready_made(phase);
    let started = Time::parse("2026-11-21T14:03:22Z").unwrap();
    let announcement = Announcement {
        id: "shop-i7-investigating".into(),
        incident: "shop-i7".into(),
        phase,
        at: started,
        started,
        title: "Shop".to_owned(),
        symptom: "Orders cannot be placed.".to_owned(),
        fallback_url: None,
        data_safety: None,
        next_update: Some(started),
        less_often: None,
        status_url: Some("https://status.example.net/".to_owned()),
        drill: false,
        text: None,
        channels: vec!["mail".into()],
    };
    let text = template::fill(&template.text, &announcement);
    let notice = Notice::Announcement {
        announcement: Box::new(announcement),
        template,
    };
    (notice, text)
}

async fn fan_out(folder: &Path, port: u16, mails: usize, turn: usize) -> f64 {
    let people: Vec<String> = (0..mails).map(|n| format!("user{n}@example.com")).collect();
    let with = json!({
        "smtp": {"host": "127.0.0.1", "port": port, "tls": "none", "timeout": "20s"},
        "from": "Shop status <status@shop.example>",
        "list": {"addresses": people},
        "workers": WORKERS,
    });
    let channel = channel("announce/email", &with, folder);
    let ledger = SqliteLedger::open(&folder.join("ledger.sqlite")).unwrap();
    let runtime = HostRuntime::new();
    let mailing = Mailing {
        service: "shop".into(),
        message: format!("shop-i7-{turn}"),
        channel: "mail".into(),
    };
    let message = channel.compile(&notice().0);
    let fanout = Fanout {
        runtime: &runtime,
        ledger: &ledger,
        channel: &*channel,
        mailing: &mailing,
        patience: Patience::default(),
        since: runtime.now(),
        stalled: Box::new(|reason| panic!("{reason}")),
    };
    let began = Instant::now();
    let outcome = fanout.run(&message).await.unwrap();
    let took = began.elapsed();
    assert_eq!(outcome.tally.sent, mails as u64, "{outcome:?}");
    mails as f64 / took.as_secs_f64()
}

fn channel(kind: &str, with: &Value, folder: &Path) -> SharedChannel {
    let kind = kinds().get(kind).unwrap();
    assert_eq!((kind.check)(with), []);
    let Make::Channel(make) = kind.make else {
        panic!("{} is no channel", kind.name)
    };
    make(with, &wiring(folder)).unwrap()
}

/// From the record of the phase to when the customers' webhook has taken its announcement, in seconds; the median of
/// several outages. Both clocks are this host's.
async fn first() -> f64 {
    let mut stand = Stand::new().await;
    let hook = "uses: announce/webhook\n        with: {url: \"";
    let at = stand.customers.url.clone();
    let speaks = format!("phases: [investigating, recovered]\n        {hook}{at}");
    let document = stand.document().replace(&format!("{hook}{at}"), &speaks);
    stand.write(&document);
    stand.start(&[]);
    let mut took = Vec::new();
    for n in 0..OUTAGES {
        let before = taken(&stand);
        stand.east_is_up(false);
        stand::controller::until("customers are told", || taken(&stand) > before);
        let heard = HostRuntime::new().wall();
        let timeline = stand.shows(&["timeline", "shop", "--output", "json"]);
        took.push(heard.since(decided(&timeline)).as_secs_f64());
        stand.east_is_up(true);
        if n + 1 < OUTAGES {
            // An incident ends after a minute of quiet: a new one needs a controller that knows of none.
            stand.signal(nix::sys::signal::Signal::SIGKILL);
            stand.ended();
            fs::remove_dir_all(stand.path("state")).unwrap();
            // A new journal gives the ids of the old one again, and the customers would take them for repeats.
            stand.customers.seen.lock().unwrap().taken.clear();
            stand.start(&[]);
        }
    }
    median(took)
}

fn taken(stand: &Stand) -> usize {
    stand.customers.seen.lock().unwrap().taken.len()
}

/// When the phase that customers hear of first was recorded.
fn decided(timeline: &str) -> Time {
    let records = timeline
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let told = |r: &Value| r.to_string().contains("customers hear: investigating");
    let all: Vec<Value> = records.collect();
    let last = all.iter().rev().find(|r| told(r));
    let last = last.unwrap_or_else(|| panic!("no phase in {timeline}"));
    Time::parse(last["at"].as_str().unwrap()).unwrap()
}

struct Page {
    a_second: f64,
    p99: f64,
    before: f64,
    highest: f64,
}

/// Reads the status page over kept connections while an incident runs.
async fn page() -> Page {
    let mut stand = Stand::running().await;
    let before = memory(stand.pid(), "VmRSS:");
    stand.east_is_up(false);
    let mut text = String::new();
    let end = Instant::now() + Duration::from_mins(1);
    while !text.contains("Orders cannot be placed") {
        assert!(Instant::now() < end, "the page never tells: {text}");
        tokio::time::sleep(Duration::from_millis(100)).await;
        text = stand.page("/").await.1;
    }
    let address = stand.page_address();
    let mut readers = JoinSet::new();
    let began = Instant::now();
    for _ in 0..READERS {
        readers.spawn(read(address.clone(), began + READING));
    }
    let mut took: Vec<f64> = Vec::new();
    while let Some(one) = readers.join_next().await {
        took.extend(one.unwrap());
    }
    let passed = began.elapsed().as_secs_f64();
    let a_second = took.len() as f64 / passed;
    took.sort_by(f64::total_cmp);
    let highest = memory(stand.pid(), "VmHWM:");
    stand.signal(nix::sys::signal::Signal::SIGTERM);
    stand.ended();
    Page {
        a_second,
        p99: took[took.len() * 99 / 100],
        before,
        highest,
    }
}

/// One reader: how long each answer took.
async fn read(address: String, until: Instant) -> Vec<f64> {
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let request = format!("GET / HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let (mut took, mut bytes) = (Vec::new(), Vec::new());
    while Instant::now() < until {
        let began = Instant::now();
        stream.write_all(request.as_bytes()).await.unwrap();
        bytes.clear();
        let whole = loop {
            let read = stream.read_buf(&mut bytes).await.unwrap();
            assert!(read > 0, "the line was cut");
            if let Some(whole) = length(&bytes) {
                break whole;
            }
        };
        while bytes.len() < whole {
            assert!(stream.read_buf(&mut bytes).await.unwrap() > 0);
        }
        took.push(began.elapsed().as_secs_f64());
    }
    took
}

/// Head and body in bytes, once the head is there.
fn length(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let (_, rest) = head.split_once("content-length:").unwrap();
    let length: usize = rest.lines().next().unwrap().trim().parse().unwrap();
    Some(end + length)
}

/// MB of a process.
fn memory(pid: u32, what: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with(what)).unwrap();
    let kb: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kb / 1024.0
}
