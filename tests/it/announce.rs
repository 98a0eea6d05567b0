//! Tests of announce: what customers and the team really get.

use std::{path::Path, sync::Arc};

use failover::{
    announce::{fanout::Fanout, fanout::Outcome, fanout::Patience, ledger::SqliteLedger, template},
    driver::{clock::HostRuntime, registry::kinds},
    model::{
        announcement::{Announcement, Phase},
        id::IdempotencyKey,
        page::{Page, PageTopic, Severity},
        span::Span,
        time::Time,
    },
    port::{
        channel::{Channel, Compiled, Notice, Recipient, SharedChannel},
        kind::{Make, Wiring},
        ledger::{Ledger, Mailing},
        runtime::Runtime,
    },
};
use serde_json::{Value, json};

mod alertmanager;
mod dkim;
mod email;
mod fanout;
mod list;
mod many;
mod pagerduty;
mod sms;
mod telegram;
mod unsubscribe;
mod webhook;
mod x;

/// The channel of that kind, after its `with` passed the check that `failover validate` makes.
fn channel(kind: &str, with: &Value, wiring: &Wiring) -> SharedChannel {
    let kind = kinds().get(kind).unwrap();
    assert_eq!((kind.check)(with), []);
    let Make::Channel(make) = kind.make else {
        panic!("{} is no channel", kind.name)
    };
    make(with, wiring).unwrap()
}

/// A secret in a file of this folder.
fn secret(folder: &Path, name: &str, value: &str) -> Value {
    let file = folder.join(format!("secret-{name}"));
    std::fs::write(&file, value).unwrap();
    json!({ "file": file })
}

fn announcement(phase: Phase) -> Announcement {
    let now = HostRuntime::new().now();
    Announcement {
        id: format!("shop-i7-{phase}").as_str().into(),
        incident: "shop-i7".into(),
        phase,
        at: now,
        started: Time::parse("2026-11-21T14:03:22Z").unwrap(),
        title: "Shop".to_owned(),
        symptom: "Orders cannot be placed.".to_owned(),
        fallback_url: Some("https://shop.standby.example.net/".to_owned()),
        data_safety: None,
        next_update: Some(now.after(Span::from_secs(1200))),
        less_often: None,
        status_url: Some("https://status.example.net/".to_owned()),
        drill: false,
        text: None,
        channels: vec!["mail".into()],
    }
}

fn notice(phase: Phase) -> Notice {
    Notice::Announcement {
        announcement: Box::new(announcement(phase)),
        template: template::ready_made(phase),
    }
}

/// A person's own words.
fn saying(text: &str) -> Notice {
    let mut announcement = announcement(Phase::Correction);
    announcement.text = Some(text.to_owned());
    Notice::Announcement {
        announcement: Box::new(announcement),
        template: template::ready_made(Phase::Correction),
    }
}

/// A question to the team.
fn page(severity: Severity, repeat: u32, id: &str) -> Notice {
    Notice::Page {
        service: "shop".into(),
        page: Box::new(Page {
            topic: PageTopic::Ask("shop-a3".into()),
            severity,
            title: "Approval needed: fail over to standby".to_owned(),
            body: vec!["The database is down, seen from 3 of 3 networks.".to_owned()],
            commands: vec!["failover approve shop-a3".to_owned()],
        }),
        repeat,
        id: id.to_owned(),
    }
}

/// The same page is over.
fn over(severity: Severity, id: &str) -> Notice {
    let Notice::Page { service, page, .. } = page(severity, 0, id) else {
        panic!("this is no page")
    };
    Notice::PageOver {
        service,
        page,
        id: id.to_owned(),
    }
}

fn mailing(message: &str) -> Mailing {
    Mailing {
        service: "shop".into(),
        message: message.to_owned(),
        channel: "mail".into(),
    }
}

fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::new(text.to_owned())
}

fn ledger(folder: &Path) -> Arc<SqliteLedger> {
    Arc::new(SqliteLedger::open(&folder.join("ledger.sqlite")).unwrap())
}

/// Quick where the other side does not say how long to wait.
const QUICK: Patience = Patience {
    first: Span::from_millis(20),
    longest: Span::from_millis(200),
    sending: Span::from_secs(20),
    total: Span::from_secs(60),
};

/// Drives a mailing to its end.
async fn tell(
    channel: &dyn Channel,
    ledger: &dyn Ledger,
    message: &Compiled,
    mailing: &Mailing,
) -> Outcome {
    let runtime = HostRuntime::new();
    let fanout = Fanout {
        runtime: &runtime,
        ledger,
        channel,
        mailing,
        patience: QUICK,
        since: runtime.now(),
        stalled: Box::new(|_| {}),
    };
    fanout.run(message).await.unwrap()
}

fn to(address: &str) -> Recipient {
    Recipient(address.to_owned())
}
