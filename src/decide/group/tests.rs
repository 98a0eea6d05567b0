use super::*;
use crate::model::{
    group::Member,
    id::{ChannelName, Epoch},
    plan::Uses,
    service::{Announcements, Channel},
};

fn at(seconds: u64) -> Time {
    Time::from_millis(1_700_000_000_000).after(Span::from_secs(seconds))
}

fn group(waves: &[&[&str]], at_once: usize) -> ServiceGroup {
    let member = |name: &&str| Member {
        service: (*name).into(),
        title: name.to_uppercase(),
    };
    ServiceGroup {
        name: "dc".into(),
        title: "Everything".to_owned(),
        waves: waves
            .iter()
            .map(|w| w.iter().map(member).collect())
            .collect(),
        at_once,
        wait_at_most: Span::from_secs(600),
        gather: Span::from_secs(10),
        announcements: Announcements {
            channels: vec![Channel {
                name: ChannelName::from("all"),
                action: Uses {
                    uses: "double/channel".into(),
                    with: serde_json::Value::Null,
                },
                phases: vec![Phase::FailingOver, Phase::OnStandby, Phase::Recovered],
            }],
            cadence: Span::from_secs(1200),
            ..Announcements::default()
        },
        status_url: None,
    }
}

/// A core, its chain, and what it said.
struct Play {
    core: Core,
    chain: Vec<Record>,
    words: BTreeMap<ServiceName, Word>,
    said: Vec<(Phase, String)>,
}

impl Play {
    fn of(group: &ServiceGroup) -> Self {
        let mut core = Core::new(group.clone());
        core.start(at(0));
        Self {
            core,
            chain: Vec::new(),
            words: BTreeMap::new(),
            said: Vec::new(),
        }
    }

    /// The same after the process died: only the chain is left.
    fn restarted(self, now: Time) -> Self {
        let mut next = Self::of(self.core.group());
        for record in &self.chain {
            next.core.apply(record);
        }
        assert_eq!(next.core.state(), self.core.state());
        next.core.start(now);
        next.chain = self.chain;
        next.said = self.said;
        next
    }

    fn says(&mut self, member: &str, stands: Stands, phase: Option<Phase>) {
        let spent = match self.words.get(&ServiceName::from(member)) {
            Some(Word::Given(seq)) if matches!(stands, Stands::Clear | Stands::Ahead) => Some(*seq),
            Some(Word::Given(_) | Word::Free | Word::Behind(_) | Word::Spent(_)) | None => None,
        };
        self.core.report(Report {
            service: member.into(),
            outage: (stands != Stands::Clear || phase.is_some()).then(|| at(1)),
            phase,
            stands,
            spent,
        });
    }

    fn turn(&mut self, now: Time) {
        loop {
            let output = self.core.turn(now);
            if output.records.is_empty() {
                for effect in output.effects {
                    if let Effect::Say(member, word) = effect {
                        self.words.insert(member, word);
                    }
                }
                return;
            }
            self.commit(output.records, now);
        }
    }

    fn commit(&mut self, bodies: Vec<RecordBody>, now: Time) {
        for body in bodies {
            if let RecordBody::PhaseEntered {
                phase,
                announcement,
            } = &body
            {
                self.said.push((*phase, announcement.symptom.clone()));
            }
            let record = Record {
                format: 1,
                chain: self.core.group().chain(),
                seq: self.core.state().seq.next(),
                epoch: Epoch::default(),
                at: now,
                prev: String::new(),
                body,
            };
            self.core.apply(&record);
            self.chain.push(record);
        }
    }

    fn given(&self) -> Vec<&str> {
        self.core
            .state()
            .turns
            .keys()
            .map(ServiceName::as_str)
            .collect()
    }

    fn word(&self, member: &str) -> &Word {
        &self.words[&ServiceName::from(member)]
    }
}

#[test]
fn waves_go_in_order_and_no_more_than_may_at_once() {
    let mut play = Play::of(&group(&[&["db", "auth"], &["a", "b", "c"]], 2));
    for member in ["db", "auth", "a", "b", "c"] {
        play.says(member, Stands::Waits, None);
    }
    play.turn(at(20));
    assert_eq!(play.given(), ["auth", "db"]);
    assert!(matches!(play.word("a"), Word::Behind(_)));
    play.says("db", Stands::Runs, None);
    play.says("auth", Stands::Runs, None);
    play.turn(at(31));
    play.says("db", Stands::Clear, Some(Phase::OnStandby));
    play.turn(at(40));
    // The first wave is not through yet, whatever is free.
    assert_eq!(play.given(), ["auth"]);
    let Word::Behind(reason) = play.word("a") else {
        panic!("{:?}", play.word("a"));
    };
    assert!(reason.starts_with("wave 1 goes first since"), "{reason}");
    play.says("auth", Stands::Clear, Some(Phase::OnStandby));
    play.turn(at(50));
    assert_eq!(play.given(), ["a", "b"]);
    assert_eq!(
        *play.word("c"),
        Word::Behind(
            "2 of the group are under way since 22:14:10 UTC, and no more may be at once"
                .to_owned()
        )
    );
    play.says("a", Stands::Clear, None);
    play.turn(at(51));
    assert_eq!(play.given(), ["b", "c"]);
}

#[test]
fn a_later_wave_waits_until_outages_were_gathered() {
    let mut play = Play::of(&group(&[&["db"], &["a"]], 5));
    play.says("db", Stands::Clear, None);
    play.says("a", Stands::Waits, None);
    play.turn(at(1));
    assert!(play.given().is_empty());
    // The database is seen to be down only now: it goes first.
    play.says("db", Stands::Ahead, None);
    play.turn(at(20));
    assert!(play.given().is_empty());
    play.says("db", Stands::Clear, None);
    play.turn(at(21));
    assert_eq!(play.given(), ["a"]);
}

#[test]
fn one_that_does_not_get_on_is_waited_for_so_long_and_no_longer() {
    let mut play = Play::of(&group(&[&["db"], &["a"]], 1));
    play.says("db", Stands::Ahead, None);
    play.says("a", Stands::Waits, None);
    play.turn(at(1));
    play.turn(at(600));
    assert!(play.given().is_empty());
    play.turn(at(601));
    assert_eq!(play.given(), ["a"]);
    assert!(play.chain.iter().any(|r| matches!(
        &r.body,
        RecordBody::Group(GroupRecord::Passed { member, .. }) if member.as_str() == "db"
    )));
    // A run that hangs keeps its place for as long, and then no more.
    play.says("a", Stands::Runs, None);
    play.says("db", Stands::Waits, None);
    play.turn(at(1200));
    assert_eq!(play.given(), ["a"]);
    play.turn(at(1201));
    assert_eq!(play.given(), ["a", "db"]);
}

#[test]
fn whoever_is_not_heard_after_a_start_is_waited_for_a_little() {
    let mut play = Play::of(&group(&[&["db"], &["a"]], 1));
    play.says("a", Stands::Waits, None);
    play.turn(at(29));
    assert!(play.given().is_empty());
    play.turn(at(30));
    assert!(play.given().is_empty(), "outages are gathered still");
    play.turn(at(39));
    assert_eq!(play.given(), ["a"]);
}

#[test]
fn a_restart_keeps_turns_and_what_was_said() {
    let mut play = Play::of(&group(&[&["db"], &["a"]], 1));
    play.says("db", Stands::Waits, Some(Phase::FailingOver));
    play.says("a", Stands::Waits, Some(Phase::FailingOver));
    play.turn(at(1));
    play.turn(at(12));
    assert_eq!(play.given(), ["db"]);
    assert_eq!(play.said.len(), 1);
    let mut play = play.restarted(at(20));
    play.says("db", Stands::Runs, Some(Phase::FailingOver));
    play.says("a", Stands::Waits, Some(Phase::FailingOver));
    play.turn(at(21));
    assert_eq!(play.given(), ["db"]);
    assert_eq!(play.said.len(), 1);
    play.says("db", Stands::Clear, Some(Phase::OnStandby));
    play.turn(at(30));
    assert_eq!(play.given(), ["a"]);
    // One that gives its turn back frees it.
    play.says("a", Stands::Clear, None);
    play.turn(at(31));
    assert!(play.given().is_empty());
}

#[test]
fn a_word_that_is_older_than_the_use_of_a_turn_gives_it_to_nobody_again() {
    let mut view = crate::decide::view::View {
        turn: Some((Word::Spent(Seq(4)), at(1))),
        ..Default::default()
    };
    crate::decide::turn::hear(&mut view, Word::Given(Seq(4)), at(2));
    assert_eq!(view.turn, Some((Word::Spent(Seq(4)), at(1))));
    crate::decide::turn::hear(&mut view, Word::Given(Seq(7)), at(3));
    assert_eq!(view.turn, Some((Word::Given(Seq(7)), at(3))));
}

#[test]
fn the_audience_hears_each_phase_once_and_of_the_end_when_all_are_through() {
    let mut play = Play::of(&group(&[&["a", "b", "c"]], 3));
    for member in ["a", "b", "c"] {
        play.says(member, Stands::Runs, Some(Phase::FailingOver));
    }
    play.turn(at(1));
    assert!(play.said.is_empty(), "outages are gathered first");
    play.turn(at(11));
    play.says("a", Stands::Clear, Some(Phase::OnStandby));
    play.turn(at(20));
    play.says("b", Stands::Clear, Some(Phase::OnStandby));
    // It was promised that an update comes by then, and there is news.
    play.turn(at(11 + 1200));
    play.says("c", Stands::Clear, Some(Phase::OnStandby));
    play.turn(at(1300));
    play.says("a", Stands::Clear, Some(Phase::Recovered));
    play.says("b", Stands::Clear, Some(Phase::Recovered));
    play.turn(at(1400));
    play.says("c", Stands::Clear, None);
    play.says("a", Stands::Clear, None);
    play.says("b", Stands::Clear, None);
    play.turn(at(1500));
    let said: Vec<_> = play
        .said
        .iter()
        .map(|(p, text)| (*p, text.as_str()))
        .collect();
    assert_eq!(
        said,
        [
            (
                Phase::FailingOver,
                "Affected: A, B, C. On the standby site: 0 of 3; as usual again: 0; left: 3."
            ),
            (
                Phase::FailingOver,
                "Affected: A, B, C. On the standby site: 2 of 3; as usual again: 0; left: 1."
            ),
            (
                Phase::OnStandby,
                "Affected: A, B, C. On the standby site: 3 of 3."
            ),
            (Phase::Recovered, "Affected were: A, B, C."),
        ]
    );
    // The incident stays open until everybody was told.
    assert!(play.core.state().incident.is_some());
    let ids: Vec<_> = play.core.state().announcements.keys().cloned().collect();
    for id in ids {
        let settled = play
            .core
            .announced(id, Tallies::new(), &BTreeMap::new(), at(1501));
        play.commit(settled, at(1501));
    }
    play.turn(at(1502));
    assert!(play.core.state().incident.is_none());
}
