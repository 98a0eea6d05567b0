//! What must be true when a story is over, however often its controller died on the way.

use std::{collections::BTreeMap, fs};

use failover::{
    announce::ledger::SqliteLedger,
    journal::{file::JournalFile, verify},
    model::{
        id::{ChannelName, PageId, Seq, ServiceName, SiteName},
        page::{Page, PageTopic, Severity},
        record::{Record, RecordBody, RunOutcome},
        step::{Presence, StepResult},
    },
    port::ledger::{Ledger, Mailing},
};
use serde_json::Value;

use super::world::{CHAT, CUSTOMERS, World};
use crate::stand::bind::Bind;

/// How often customers hear: failing over, on standby, recovered. By mail only the last two.
const PHASES: [&str; 3] = ["failingOver", "onStandby", "recovered"];

/// The records of a journal that is whole, as `failover journal verify` sees it.
pub fn records(world: &World) -> Vec<Record> {
    let file = JournalFile::open_to_read(&world.journal()).unwrap();
    let findings = verify::journal(&file).unwrap();
    let shop = ServiceName::from("shop");
    let records = file.records(&shop, Seq(1)).unwrap();
    for finding in findings {
        assert_eq!(finding.broken, None);
        assert_eq!(finding.records, records.len() as u64);
    }
    records
}

/// Everything happened, once.
pub async fn all_is_well(world: &World, bind: &Bind) {
    let records = records(world);
    journal(&records);
    effects(world, bind, &records);
    status_page(world);
    pages(world, &records);
    customers(world, &records).await;
}

/// The chain tells one incident with one run whose steps were done once each, under one epoch.
fn journal(records: &[Record]) {
    let mut counts = BTreeMap::<&str, u32>::new();
    let mut done = BTreeMap::<&str, u32>::new();
    for record in records {
        *counts.entry(record.body.kind()).or_default() += 1;
        let (RecordBody::StepOutcome {
            step,
            result: StepResult::Done(_),
            ..
        }
        | RecordBody::StepObserved {
            step,
            presence: Presence::InPlace(_),
            ..
        }) = &record.body
        else {
            continue;
        };
        *done.entry(step.as_str()).or_default() += 1;
    }
    for once in [
        "incidentOpened",
        "askOpened",
        "approved",
        "runOpened",
        "epochRaised",
        "verified",
        "runClosed",
        "failoverAcknowledged",
        "note",
    ] {
        assert_eq!(counts.get(once), Some(&1), "{once}: {counts:?}");
    }
    let steps = [
        "cutover",
        "fallback",
        "promote",
        "repoint",
        "stop-primary",
        "verify",
    ];
    assert_eq!(done, steps.map(|step| (step, 1)).into());
    let closed = records.iter().find_map(|r| {
        let RecordBody::RunClosed {
            outcome, active, ..
        } = &r.body
        else {
            return None;
        };
        Some((*outcome, active.clone()))
    });
    assert_eq!(closed, Some((RunOutcome::Done, SiteName::from("b"))));
}

/// The old primary's fence cannot tell a repeat by itself: `observe` prevents it. The standby could (by the key), the
/// zone could (by the update's prerequisites).
fn effects(world: &World, bind: &Bind, records: &[Record]) {
    let key = |wanted: &str| {
        records.iter().find_map(|r| {
            let RecordBody::StepIntent { step, key, .. } = &r.body else {
                return None;
            };
            (step.as_str() == wanted).then(|| key.to_string())
        })
    };
    assert_eq!(world.fences(), [key("stop-primary").unwrap()]);
    assert_eq!(world.promotions(), [key("promote").unwrap()]);
    // The TTL was lowered ahead of need, then the address was changed.
    assert_eq!(bind.serial(&world.zone), 7 + 2);
    let app = format!("app.{}. 60 IN A 198.51.100.1", world.zone);
    assert!(bind.records(&world.zone).contains(&app));
}

fn status_page(world: &World) {
    let read = |name: &str| -> Value {
        let text = fs::read_to_string(world.page().join(name)).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let incidents = read("incidents.json");
    let incidents = incidents["incidents"].as_array().unwrap();
    assert_eq!(incidents.len(), 1);
    // Investigating, failing over, on standby, recovered.
    let updates = incidents[0]["incident_updates"].as_array().unwrap();
    assert_eq!(updates.len(), 4, "{updates:#?}");
}

/// The receiver takes each `webhook-id` once. What must be looked at was sent; nothing was sent under two ids.
fn pages(world: &World, records: &[Record]) {
    let mut sent = BTreeMap::<String, u32>::new();
    let taken = world.pager.seen.lock().unwrap().taken.clone();
    for page in taken.iter().filter(|sent| sent["type"] == "page") {
        let id = page["data"]["id"].as_str().unwrap();
        *sent.entry(id.to_owned()).or_default() += 1;
    }
    let raised: BTreeMap<String, &Page> = records
        .iter()
        .filter_map(|r| {
            let RecordBody::PageRaised { page } = &r.body else {
                return None;
            };
            Some((PageId::of(&r.chain, r.seq).to_string(), page.as_ref()))
        })
        .collect();
    for (id, page) in raised {
        let times = sent.remove(&id).unwrap_or_default();
        assert!(times <= 1, "{times} times: {page:?}");
        // A controller that goes home may not have sent what it just raised: that it was started again, or that the
        // primary's credentials cannot be tried any more.
        let late = page.severity == Severity::Info || page.topic == PageTopic::NotReady;
        assert!(times == 1 || late, "never: {page:?}");
    }
    assert_eq!(sent, BTreeMap::new());
}

async fn customers(world: &World, records: &[Record]) {
    let announcements: BTreeMap<String, String> = records
        .iter()
        .filter_map(|r| {
            let RecordBody::PhaseEntered { announcement, .. } = &r.body else {
                return None;
            };
            let phase = serde_json::to_value(announcement.phase).unwrap();
            let phase = phase.as_str().unwrap().to_owned();
            Some((phase, announcement.id.to_string()))
        })
        .collect();
    assert_eq!(announcements.len(), 4);
    // X refuses a text that it has; the receiver of webhooks takes an id once.
    assert_eq!(world.x.posts().len(), PHASES.len());
    let told: Vec<String> = (world.hook.seen.lock().unwrap().taken.iter())
        .map(|n| n["data"]["phase"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(told, PHASES);

    let shown = world.telegram.shown();
    assert!(shown.iter().all(|(chat, ..)| chat == CHAT));
    let mails = world.mail.taken.lock().unwrap().clone();
    let ledger = SqliteLedger::open(&world.ledger()).unwrap();
    let tally = async |phase: &str, channel: &str| {
        let mailing = Mailing {
            service: "shop".into(),
            message: announcements[phase].clone(),
            channel: ChannelName::from(channel),
        };
        ledger.tally(&mailing).await.unwrap()
    };
    for (phase, subject) in PHASES.into_iter().zip(WORDS) {
        for (channel, to) in [("x", 1), ("webhook", 1), ("telegram", 1)] {
            let tally = tally(phase, channel).await;
            assert_eq!(tally.queued + tally.failed + tally.suppressed, 0);
            assert_eq!(tally.sent + tally.unknown, to, "{phase} {channel}");
            // Where the other side can tell, nothing stays unknown.
            assert!(
                channel == "telegram" || tally.unknown == 0,
                "{phase} {channel}"
            );
        }
        // Telegram and mail servers cannot tell: what may have been sent is not sent again, and counts as unknown.
        let telegram = tally(phase, "telegram").await;
        let seen = shown
            .iter()
            .filter(|(_, text, _)| text.contains(subject))
            .count();
        assert!(
            seen as u64 >= telegram.sent && seen <= 1,
            "{phase}: {telegram:?}, {shown:?}"
        );
        let mail = tally(phase, "email").await;
        let expected = if phase == "failingOver" {
            0
        } else {
            CUSTOMERS.len()
        };
        assert_eq!(mail.sent + mail.unknown, expected as u64, "{phase}");
        assert_eq!(mail.queued + mail.failed + mail.suppressed, 0);
        let mut seen = 0;
        for customer in CUSTOMERS {
            let to = format!("To: {customer}");
            let got = mails
                .iter()
                .filter(|m| m.contains(&to) && m.contains(subject))
                .count();
            assert!(got <= 1, "{phase}: {got} mails to {customer}");
            seen += got as u64;
        }
        assert!(seen >= mail.sent, "{phase}: {mail:?}, {seen}");
    }
}

/// Words that only the message of that phase has.
const WORDS: [&str; 3] = [
    "moving it to our standby site",
    "from our standby site",
    "as usual again",
];
