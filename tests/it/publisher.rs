//! The publisher: every target at its own pace.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use failover::{
    decide::core::Core,
    driver::{
        history::History,
        metrics::Metrics,
        publisher::{self, Publisher, Slot},
        registry,
    },
    model::{check::CheckItem, span::Span, time::Time},
    port::{
        runtime::Runtime,
        target::{PageFile, SharedTarget, Target, WriteError},
    },
    publish::listener::Pages,
    spec,
};

use crate::stand::virtual_time::{VirtualRuntime, VirtualTime};

/// Notes when it was written to.
struct Place {
    time: Arc<VirtualTime>,
    written: Mutex<Vec<Time>>,
    manners: Manners,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Manners {
    Good,
    Refuses,
    NeverAnswers,
}

#[async_trait]
impl Target for Place {
    async fn write(&self, _: &[PageFile]) -> Result<(), WriteError> {
        self.written.lock().unwrap().push(self.time.now());
        match self.manners {
            Manners::Good => Ok(()),
            Manners::Refuses => Err(WriteError {
                target: "here".to_owned(),
                source: "no".into(),
            }),
            Manners::NeverAnswers => std::future::pending().await,
        }
    }

    async fn check(&self) -> Vec<CheckItem> {
        Vec::new()
    }
}

struct Stage {
    time: Arc<VirtualTime>,
    began: Time,
    places: Vec<Arc<Place>>,
    slot: Slot,
    core: Core,
    metrics: Arc<Metrics>,
}

impl Stage {
    fn with(manners: &[Manners]) -> Self {
        let documents = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/crm");
        let loaded = spec::load(&[documents.into()], registry::kinds());
        let service = Arc::new(loaded.services.into_iter().next().unwrap());
        let began = Time::parse("2026-11-21T14:00:00Z").unwrap();
        let time = VirtualTime::at(began);
        let runtime = Arc::new(VirtualRuntime(time.clone()));
        let places: Vec<_> = manners
            .iter()
            .map(|manners| {
                Arc::new(Place {
                    time: time.clone(),
                    written: Mutex::default(),
                    manners: *manners,
                })
            })
            .collect();
        let targets: Vec<SharedTarget> = places.iter().map(|p| p.clone() as SharedTarget).collect();
        let metrics = Arc::new(Metrics::new(runtime.clone(), "test"));
        let (slot, rung) = publisher::slot();
        let publisher = Publisher {
            slot: slot.clone(),
            rung,
            targets: Arc::new(Mutex::new(BTreeMap::from([(
                service.name.clone(),
                targets,
            )]))),
            pages: Pages::default(),
            runtime: runtime.clone(),
            metrics: metrics.clone(),
            tenure: None,
        };
        runtime.spawn("publish", Box::pin(publisher.run()));
        Self {
            time,
            began,
            places,
            slot,
            core: Core::new(service),
            metrics,
        }
    }

    fn change(&self) {
        self.slot.put(&self.core, &History::default());
    }

    fn written(&self, place: usize) -> Vec<u64> {
        let written = self.places[place].written.lock().unwrap();
        written
            .iter()
            .map(|at| at.since(self.began).as_millis() / 1000)
            .collect()
    }
}

#[test]
fn a_target_that_never_answers_keeps_nothing_from_the_others() {
    let stage = Stage::with(&[Manners::NeverAnswers, Manners::Good]);
    for _ in 0..5 {
        stage.change();
        stage.time.pass(Span::from_secs(1));
    }
    assert_eq!(stage.written(1), [0, 1, 2, 3, 4]);
    assert_eq!(stage.written(0), [0]);
    stage.time.pass(Span::from_secs(36));
    // Given up after 30 s; what changed meanwhile is written at once.
    assert_eq!(stage.written(0), [0, 30]);
}

#[test]
fn a_target_that_refuses_is_tried_again_soon() {
    let stage = Stage::with(&[Manners::Refuses, Manners::Good]);
    stage.change();
    stage.time.pass(Span::from_secs(59));
    assert_eq!(stage.written(0), [0, 10, 20, 30, 40, 50]);
    assert_eq!(stage.written(1), [0]);
    let figures = stage.metrics.encode();
    for (outcome, times) in [("failed", 6), ("done", 1)] {
        let line = format!("outcome=\"{outcome}\"}} {times}\n");
        assert!(figures.contains(&line), "{figures}");
    }
}

#[test]
fn a_page_without_news_is_written_every_minute() {
    let stage = Stage::with(&[Manners::Good]);
    stage.change();
    stage.time.pass(Span::from_secs(130));
    assert_eq!(stage.written(0), [0, 60, 120]);
}

#[test]
fn a_service_that_is_forgotten_is_written_no_more() {
    let stage = Stage::with(&[Manners::Good]);
    stage.change();
    stage.time.pass(Span::from_secs(30));
    stage.slot.forget(&stage.core.service().name);
    stage.time.pass(Span::from_secs(300));
    assert_eq!(stage.written(0), [0]);
}
