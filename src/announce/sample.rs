//! Notices that the tests of this room speak of.

use crate::{
    model::{
        announcement::{Announcement, Phase},
        page::{Page, PageTopic, Severity},
        time::Time,
    },
    port::channel::Notice,
};

pub fn announcement(phase: Phase) -> Announcement {
    let started = Time::parse("2026-11-21T14:03:22Z").unwrap();
    Announcement {
        id: "shop-i7-onStandby".into(),
        incident: "shop-i7".into(),
        phase,
        at: started,
        started,
        title: "Shop".to_owned(),
        symptom: "Orders cannot be placed.".to_owned(),
        fallback_url: Some("https://shop.standby.example.net/".to_owned()),
        data_safety: Some("Everything up to 14:02 UTC is safe.".to_owned()),
        next_update: Some(Time::parse("2026-11-21T14:43:22Z").unwrap()),
        less_often: None,
        status_url: Some("https://status.example.net/".to_owned()),
        drill: false,
        text: None,
        channels: vec!["mail".into()],
    }
}

pub fn page() -> Notice {
    Notice::Page {
        service: "shop".into(),
        page: Box::new(Page {
            topic: PageTopic::Ask("shop-a3".into()),
            severity: Severity::Critical,
            title: "Approval needed: fail over to standby".to_owned(),
            body: vec![
                "The database is down, seen from 3 of 3 networks.".to_owned(),
                "Up to 4 s of writes would be lost.".to_owned(),
                "If nobody answers, nothing is done.".to_owned(),
            ],
            commands: vec![
                "failover approve shop-a3".to_owned(),
                "failover deny shop-a3".to_owned(),
            ],
        }),
        repeat: 2,
        id: "shop-p4".to_owned(),
    }
}
