//! What durability costs: records a second against a bare append + fsync on the same disk in the same run, several
//! chains at once, the time to resume from 100,000 records, and the ledger's marks.
//!
//! `cargo bench --bench journal` prints a table, and the same figures as one line of JSON.
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
    fs::OpenOptions,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use failover::{
    announce::ledger::SqliteLedger,
    decide::state::State,
    journal::{
        chain::{self, Head},
        file::JournalFile,
        sqlite::SqliteJournal,
    },
    model::{
        id::{Epoch, Seq, ServiceName},
        observation::{Evidence, Sight},
        record::RecordBody,
        span::Span,
        time::Time,
        verdict::{Verdict, Witness},
    },
    port::{
        channel::Recipient,
        journal::{Draft, Journal},
        ledger::{Delivery, Ledger, Mailing},
    },
};
use futures::future::join_all;
use serde_json::json;

/// Appends in each measurement of throughput.
const APPENDS: usize = 3000;
/// Chains that append at once.
const CHAINS: usize = 8;
/// Records that a start reads back.
const RESUME: usize = 100_000;
/// Recipients of one announcement.
const RECIPIENTS: usize = 10_000;

fn main() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bare = append_and_fsync(&folder.path().join("bare"));
    let single = runtime.block_on(append(&folder.path().join("one.sqlite"), 1));
    let group = runtime.block_on(append(&folder.path().join("many.sqlite"), CHAINS));
    let (resume, bytes) = runtime.block_on(resume(&folder.path().join("long.sqlite")));
    let few = runtime.block_on(mark(&folder.path().join("few.sqlite"), 8));
    let many = runtime.block_on(mark(&folder.path().join("many-workers.sqlite"), 64));

    let rows = [
        ("bare append + fsync, records/s", format!("{bare:.0}")),
        ("journal, one chain, records/s", format!("{single:.0}")),
        ("  of the bare loop", format!("{:.2}", single / bare)),
        (
            "journal, 8 chains at once, records/s",
            format!("{group:.0}"),
        ),
        ("  of the bare loop", format!("{:.2}", group / bare)),
        (
            "resume from 100,000 records, s",
            format!("{:.3}", resume.as_secs_f64()),
        ),
        ("  bytes of a record", format!("{bytes}")),
        ("ledger, 8 workers, recipients/s", format!("{few:.0}")),
        ("ledger, 64 workers, recipients/s", format!("{many:.0}")),
    ];
    for (what, figure) in rows {
        println!("{what:<40} {figure:>8}");
    }
    println!(
        "{}",
        json!({
            "bare_fsync_per_s": bare.round(),
            "journal_1_chain_per_s": single.round(),
            "journal_8_chains_per_s": group.round(),
            "ratio_1_chain": single / bare,
            "ratio_8_chains": group / bare,
            "resume_100k_s": resume.as_secs_f64(),
            "record_bytes": bytes,
            "ledger_8_workers_per_s": few.round(),
            "ledger_64_workers_per_s": many.round(),
        })
    );
}

/// A change of verdict with its witnesses: most of what a journal holds.
fn verdict(n: usize) -> Draft {
    let at = Time::from_millis(1_700_000_000_000).after(Span::from_secs(n as u64));
    let turn = if n.is_multiple_of(2) {
        (Verdict::Healthy, Verdict::Suspect)
    } else {
        (Verdict::Suspect, Verdict::Healthy)
    };
    let witnesses = ["here", "office"].map(|vantage| Witness {
        vantage: vantage.into(),
        network: vantage.into(),
        probe: "front".into(),
        component: "app".into(),
        evidence: Evidence::Outside,
        sight: Sight::Up,
        age: Span::from_millis(730),
        detail: format!("200 OK in {} ms", n % 97),
    });
    Draft {
        epoch: Epoch(1),
        at,
        body: RecordBody::VerdictChanged {
            component: "app".into(),
            from: turn.0,
            to: turn.1,
            reason: format!("1 of 2 voices says down, attempt {n}"),
            witnesses: witnesses.into(),
        },
    }
}

fn per_second(count: usize, began: Instant) -> f64 {
    count as f64 / began.elapsed().as_secs_f64()
}

/// The floor: the same lines, appended to a file and synced one by one.
fn append_and_fsync(path: &Path) -> f64 {
    let mut head = Head::default();
    let drafts = (0..APPENDS).map(verdict).collect();
    let sealed = chain::seal(&"shop".into(), &mut head, drafts).unwrap();
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    let began = Instant::now();
    for (_, line) in &sealed {
        writeln!(file, "{}", line.text).unwrap();
        file.sync_data().unwrap();
    }
    per_second(sealed.len(), began)
}

/// Every chain waits until one record is durable before it appends the next.
async fn append(path: &Path, chains: usize) -> f64 {
    let journal = SqliteJournal::open(path).unwrap();
    let began = Instant::now();
    join_all((0..chains).map(|chain| {
        let journal = &journal;
        async move {
            let chain = ServiceName::new(format!("shop-{chain}"));
            for n in 0..APPENDS {
                let after = Seq(n as u64);
                journal
                    .append(&chain, after, vec![verdict(n)])
                    .await
                    .unwrap();
            }
        }
    }))
    .await;
    per_second(chains * APPENDS, began)
}

/// From nothing to a state that is up to date: open, read, check each hash, apply. The best of five, and the mean
/// length of a record.
async fn resume(path: &Path) -> (Duration, usize) {
    let shop = ServiceName::from("shop");
    let mut head = Head::default();
    let sealed = chain::seal(&shop, &mut head, (0..RESUME).map(verdict).collect()).unwrap();
    let bytes: usize = sealed.iter().map(|(_, line)| line.text.len()).sum();
    JournalFile::open(path)
        .unwrap()
        .append(sealed.iter().map(|(_, line)| (&shop, line)))
        .unwrap();
    drop(sealed);
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let began = Instant::now();
        let journal = SqliteJournal::open(path).unwrap();
        let mut state = State::default();
        for record in journal.read(&shop, Seq(1)).await.unwrap() {
            state.apply(&record);
        }
        best = best.min(began.elapsed());
        assert_eq!(state.seq, Seq(RESUME as u64));
    }
    (best, bytes / RESUME)
}

/// Workers that note each recipient twice, before and after the sending, as the fan-out does.
async fn mark(path: &Path, workers: usize) -> f64 {
    let ledger = SqliteLedger::open(path).unwrap();
    let mailing = Mailing {
        service: "shop".into(),
        message: "shop-i1-onStandby".to_owned(),
        channel: "mail".into(),
    };
    let now = Time::from_millis(1_700_000_000_000);
    let all: Vec<Recipient> = (0..RECIPIENTS)
        .map(|n| Recipient(format!("customer-{n}@example.com")))
        .collect();
    let began = Instant::now();
    ledger.enqueue(&mailing, &all, now).await.unwrap();
    join_all(all.chunks(RECIPIENTS.div_ceil(workers)).map(|share| {
        let (ledger, mailing) = (&ledger, &mailing);
        async move {
            for to in share {
                for state in [Delivery::Sending, Delivery::Sent] {
                    let mark = [(to.clone(), state, "250 2.0.0 ok".to_owned())];
                    ledger.mark(mailing, &mark, now).await.unwrap();
                }
            }
        }
    }))
    .await;
    per_second(RECIPIENTS, began)
}
