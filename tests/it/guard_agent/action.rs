//! Actions that a guard's own document names: run once, whatever is repeated, and told of for ever.

use std::{fs, path::Path, thread::sleep, time::Duration};

use failover::{
    guard::wire::Message,
    model::{
        action::{ActEnd, ActOrder, ActQuery, ActState, NotRun},
        guard::Boot,
        id::{Attempt, Epoch, IdempotencyKey},
    },
};
use serde_json::json;

use super::{
    apart,
    shop::{Shop, Wanted},
    stage::{Layout, Stage},
};
use crate::stand::postgres::until;

const NOTE: &str = r#"echo "$FAILOVER_SITE $FAILOVER_ACTION $FAILOVER_KEY" >> "$0"; echo noted"#;

/// What stands in the guards' documents; `note` writes a line into that file.
fn actions(file: &Path) -> serde_json::Value {
    json!({"actions": {
        "note": {"command": ["/bin/sh", "-c", NOTE, file]},
        "fail": {"command": ["/bin/sh", "-c", "echo no >&2; exit 1"]},
        "hang": {"command": ["/bin/sleep", "100"], "timeout": "2s"},
        "slow": {"command": ["/bin/sleep", "20"], "timeout": "90s"},
    }})
}

struct Asking<'a> {
    stage: &'a Stage,
    boot: Boot,
}

impl<'a> Asking<'a> {
    fn of(stage: &'a Stage) -> Self {
        let boot = stage.b.status()["report"]["boot"].clone();
        Self {
            stage,
            boot: serde_json::from_value(boot).unwrap(),
        }
    }

    /// Asks, and gives what is said of it once it is so.
    fn until(
        &self,
        (action, key, attempt): (&str, &str, u32),
        so: impl Fn(&ActState) -> bool,
    ) -> ActState {
        let order = ActOrder {
            action: action.into(),
            key: key.into(),
            attempt: Attempt(attempt),
            epoch: Epoch(1),
            boot: self.boot,
        };
        let query = ActQuery {
            action: action.into(),
            key: key.into(),
        };
        self.stage.controller.mind().acted.clear();
        let mut found = None;
        until(&format!("{action} {key} {attempt}"), || {
            self.stage
                .controller
                .send("b", &Message::Act(order.clone()));
            self.stage
                .controller
                .send("b", &Message::Recall(query.clone()));
            sleep(Duration::from_millis(20));
            let mind = self.stage.controller.mind();
            let key = IdempotencyKey::new(key);
            let mut said = mind.acted.iter().filter(|r| r.key == key);
            found = said.find(|r| so(&r.state)).map(|r| r.state.clone());
            found.is_some()
        });
        found.unwrap()
    }

    fn end(&self, action: &str, key: &str, attempt: u32) -> ActEnd {
        let is_this = |state: &ActState| matches!(state, ActState::Ended(end) if end.attempt == Attempt(attempt));
        match self.until((action, key, attempt), is_this) {
            ActState::Ended(end) => end,
            ActState::NotRun(_) | ActState::Running | ActState::Lost => unreachable!(),
        }
    }

    fn refused(&self, action: &str, key: &str, why: NotRun) {
        self.until((action, key, 1), |state| *state == ActState::NotRun(why));
    }
}

#[test]
fn an_action_is_run_once_and_what_became_of_it_is_told_for_ever() {
    apart(|| {
        let notes = tempfile::NamedTempFile::new().unwrap();
        let mut stage = Stage::with(&Layout {
            besides: actions(notes.path()),
            ..Layout::default()
        });
        let asking = Asking::of(&stage);
        let end = asking.end("note", "k1", 1);
        assert_eq!(
            (end.status, end.said.as_str()),
            (Some(0), "exit status 0: noted")
        );
        assert_eq!(asking.end("note", "k1", 1), end);

        let end = asking.end("fail", "k2", 1);
        assert_eq!(
            (end.status, end.said.as_str()),
            (Some(1), "exit status 1: no")
        );
        assert_eq!(asking.end("fail", "k2", 2).status, Some(1));

        // What took too long may have happened: it is never tried again.
        let end = asking.end("hang", "k3", 1);
        assert_eq!(end.status, None);
        assert!(end.said.contains("no end within 2s"), "{}", end.said);

        asking.refused("rm", "k4", NotRun::Unnamed);
        asking.until(("slow", "k5", 1), |state| *state == ActState::Running);
        asking.refused("note", "k6", NotRun::Busy);

        // The guard dies while it runs.
        let before = asking.boot;
        stage.b.kill();
        stage.b.start();
        until("it guards again", || !stage.b.status().is_null());
        let asking = Asking::of(&stage);
        assert_ne!(asking.boot, before);
        asking.until(("slow", "k5", 2), |state| *state == ActState::Lost);
        assert_eq!(asking.end("note", "k1", 1).status, Some(0));
        let late = Asking {
            stage: &stage,
            boot: before,
        };
        late.refused("note", "k7", NotRun::Boot);
        let text = fs::read_to_string(notes.path()).unwrap();
        assert_eq!(text, "b note k1\n");
    });
}

#[test]
fn a_failover_has_the_guard_of_the_standby_run_what_its_document_names() {
    apart(|| {
        let notes = tempfile::NamedTempFile::new().unwrap();
        let shop = Shop::open(&Wanted {
            besides: actions(notes.path()),
            action: Some("note"),
            ..Wanted::default()
        });
        shop.until_ready();
        shop.hosts.a.freeze_database();
        shop.witness.until_written("b");
        shop.until_closed("done");
        let outcomes = shop.records("stepOutcome");
        let grown = outcomes.iter().find(|o| o["step"] == "grow").unwrap();
        let summary = &grown["result"]["done"]["summary"];
        assert_eq!(summary, "the action note at b: exit status 0: noted");
        let text = fs::read_to_string(notes.path()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 1, "{text}");
        assert!(lines[0].starts_with("b note shop-r"), "{text}");
    });
}
