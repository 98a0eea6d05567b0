//! The simulator: the rules hold, a seed gives one history, and every rule that is weakened on purpose is noticed.

use std::{collections::BTreeMap, fs, sync::Arc, time::Instant};

use failover::{
    guard::machine,
    model::span::Span,
    sim::{
        campaign::{Campaign, Report},
        coverage::Met,
        fault::{Anchor, By, Fault, Planned},
        history::play,
        rule::Rule,
        scenario::{Scenario, Subject},
        shrink,
        trace::Trace,
        weakness::Weakness,
    },
};

/// Histories of the rules' own test. A nightly run takes 100,000: `FAILOVER_NIGHTLY=1 tests/run simulate`.
const SEEDS: u64 = 30;
/// So many histories at most are needed to notice a weakened rule.
const NOTICED: u64 = 2000;

fn campaign(seeds: u64, weakness: Option<Weakness>) -> Campaign {
    Campaign {
        from: 0,
        seeds,
        subject: Subject::Drawn,
        weakness,
    }
}

#[test]
fn the_rules_hold() {
    let began = Instant::now();
    let report = campaign(SEEDS, None).run(|_| true);
    let found: Vec<_> = report
        .findings
        .iter()
        .map(|f| format!("seed {}: {}", f.seed, f.violations[0]))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
    println!(
        "{} histories in {:?}: {:?}",
        report.histories,
        began.elapsed(),
        report.ended
    );
}

/// Another controller takes over from the journal's copy, or is elected, and the one before comes back: it changes nothing
/// any more.
#[test]
fn a_controller_that_another_one_came_after_changes_nothing() {
    let campaign = campaign(NOTICED, None);
    let seeds = (0..campaign.seeds).filter(|seed| campaign.scenario(*seed).succession().is_some());
    let mut report = Report::default();
    for seed in seeds.take(successions()) {
        report.add(seed, campaign.play(seed, Trace::silent()));
    }
    let found: Vec<_> = report
        .findings
        .iter()
        .map(|f| format!("seed {}: {}", f.seed, f.violations[0]))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
    let mut seen = BTreeMap::<_, u64>::new();
    for (handover, times) in report.coverage.handovers() {
        *seen.entry((handover.by, handover.met)).or_default() += times;
    }
    println!("{} histories: {seen:?}", report.histories);
    for by in [By::Takeover, By::Election] {
        for met in [Met::Quiet, Met::InRun, Met::Back] {
            assert!(seen.contains_key(&(by, met)), "{by:?}, {met:?}: {seen:?}");
        }
    }
}

/// Histories in which another controller comes after the first; all of the first 2,000 in a nightly run.
fn successions() -> usize {
    match std::env::var_os("FAILOVER_NIGHTLY") {
        Some(_) => usize::MAX,
        None => 40,
    }
}

/// The configuration that fails over within a second is not the one that fails over for nothing.
#[test]
fn a_rough_network_brings_no_failover_within_the_preset_lan() {
    let nightly = std::env::var_os("FAILOVER_NIGHTLY").is_some();
    let rough = |lasts: u64| Planned {
        from: Anchor::Beginning,
        at: Span::from_secs(30),
        lasts: Span::from_secs(lasts),
        fault: Fault::Rough,
    };
    let lasts = if nightly { 24 * 3600 } else { 300 };
    let calm = play(
        Arc::new(Scenario::lan(1, vec![rough(lasts)])),
        Trace::silent(),
    );
    assert_eq!(calm.violations, []);
    assert_eq!(calm.ended, BTreeMap::new());
    assert!(calm.lasted > Span::from_secs(lasts));
    // The very same one does fail over once there is reason to.
    let lost = Planned {
        from: Anchor::Beginning,
        at: Span::from_secs(90),
        lasts: Span::from_secs(1),
        fault: Fault::Burns(0),
    };
    let lost = play(
        Arc::new(Scenario::lan(1, vec![rough(120), lost])),
        Trace::silent(),
    );
    assert_eq!(lost.violations, []);
    assert_eq!(lost.ended, BTreeMap::from([("done", 1)]));
}

#[test]
fn a_seed_gives_one_history() {
    let campaign = campaign(6, None);
    for seed in 0..campaign.seeds {
        let one = campaign.play(seed, Trace::silent());
        let two = campaign.play(seed, Trace::written());
        assert_eq!(one.print, two.print, "seed {seed}");
        assert_eq!(one.events, two.events, "seed {seed}");
        let script = serde_json::to_string(campaign.scenario(seed).as_ref()).unwrap();
        let read: Scenario = serde_json::from_str(&script).unwrap();
        let three = play(Arc::new(read), Trace::silent());
        assert_eq!(one.print, three.print, "seed {seed}, from its script");
    }
}

/// Scripts that `failover simulate --save` wrote, each of a fault of the product or of the simulator that is mended.
#[test]
fn what_broke_a_rule_once_breaks_none() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/histories");
    let mut played = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let script: Scenario = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let outcome = play(Arc::new(script), Trace::silent());
        assert_eq!(outcome.violations, [], "{}", path.display());
        played += 1;
    }
    assert!(played > 0);
}

/// The rule that is to notice it.
fn noticed_by(weakness: Weakness) -> Rule {
    match weakness {
        Weakness::FenceAnswersEarly | Weakness::NoRung | Weakness::SilenceRefuses => {
            Rule::FencedBeforeEpoch
        }
        Weakness::TimeoutIsFailure => Rule::FailedLeavesNothing,
        Weakness::EffectBeforeRecord => Rule::RecordBeforeEffect,
        Weakness::NamesBeforePromotion => Rule::NamesAfterPromotion,
        Weakness::RosyProbes => Rule::RecoveredIsTrue,
        Weakness::FalseAlarm => Rule::NoFailoverWhileServed,
        Weakness::RosyLag | Weakness::RosyPosition => Rule::LossWithinForecast,
        Weakness::ForgetfulLedger => Rule::ToldOnce,
        Weakness::ForgetfulJournal | Weakness::DeafSteps => Rule::RunsEnd,
        Weakness::DeafToSuccessor | Weakness::CopyOverwrites => Rule::DeposedIsIdle,
        Weakness::Guard(_)
        | Weakness::NoDeadMan
        | Weakness::LateTimer
        | Weakness::NoPermit
        | Weakness::WaitNotRestarted
        | Weakness::WaitTooShort
        | Weakness::NewLeaderAssumesNothing
        | Weakness::AnyAcknowledgement
        | Weakness::GrantsOldEpoch
        | Weakness::EndlessForgotten
        | Weakness::DeputySilent
        | Weakness::EndlessTenure
        | Weakness::JournalOverwrites
        | Weakness::EpochOfTheOther
        | Weakness::SoloUnreported
        | Weakness::SoloUnwaited => Rule::OneWriter,
    }
}

/// Rules of the fencing protocol: whichever notices, it is a rule. Those of the guards can be broken in builds with the
/// feature `weakened` alone.
#[test]
fn weakened_guards_are_noticed() {
    let is_nightly = std::env::var_os("FAILOVER_NIGHTLY").is_some();
    let weaknesses = Weakness::GUARDED
        .into_iter()
        .filter(|w| cfg!(feature = "weakened") || w.of_guard().is_none())
        .filter(|w| is_nightly || !RARE_GUARDED.contains(w));
    let mut unnoticed = Vec::new();
    for weakness in weaknesses {
        let report = campaign(NOTICED, Some(weakness)).run(|so_far| so_far.findings.is_empty());
        let rules: Vec<_> = report
            .findings
            .iter()
            .flat_map(|f| &f.violations)
            .map(|v| v.rule.name())
            .collect();
        println!(
            "{weakness:?}: {} after {}",
            rules.join(", "),
            report.histories
        );
        if report.findings.is_empty() {
            unnoticed.push(weakness);
        }
    }
    assert!(
        unnoticed.is_empty(),
        "in {NOTICED} histories: {unnoticed:?}"
    );
}

/// Those of guards that take many histories to notice.
const RARE_GUARDED: [Weakness; 10] = [
    Weakness::Guard(machine::Weakness::GrantBelowPromise),
    Weakness::Guard(machine::Weakness::DeputyDoesNotWait),
    Weakness::Guard(machine::Weakness::DeputyForgetsAtStart),
    Weakness::Guard(machine::Weakness::LostStateVotes),
    Weakness::Guard(machine::Weakness::OldPromoteObeyed),
    Weakness::LateTimer,
    Weakness::WaitTooShort,
    Weakness::NewLeaderAssumesNothing,
    Weakness::AnyAcknowledgement,
    Weakness::RosyPosition,
];

/// Those that take many histories to notice.
const RARE: [Weakness; 4] = [
    Weakness::NoRung,
    Weakness::RosyProbes,
    Weakness::TimeoutIsFailure,
    Weakness::ForgetfulLedger,
];

#[test]
fn weakened_rules_are_noticed() {
    // The nightly run sets it: the rare ones take minutes of a core.
    let is_nightly = std::env::var_os("FAILOVER_NIGHTLY").is_some();
    let weaknesses = Weakness::ALL
        .into_iter()
        .filter(|w| is_nightly || !RARE.contains(w));
    let mut unnoticed = Vec::new();
    for weakness in weaknesses {
        let rule = noticed_by(weakness);
        let is_broken = |report: &Report| {
            let mut found = report.findings.iter().flat_map(|f| &f.violations);
            found.any(|v| v.rule == rule)
        };
        let report = campaign(NOTICED, Some(weakness)).run(|so_far| !is_broken(so_far));
        println!("{weakness:?}: {} after {}", rule.name(), report.histories);
        if !is_broken(&report) {
            unnoticed.push(weakness);
        }
    }
    assert!(
        unnoticed.is_empty(),
        "in {NOTICED} histories: {unnoticed:?}"
    );
}

#[test]
fn a_broken_history_is_shrunk_to_what_it_takes() {
    let least = shrunk(Weakness::FenceAnswersEarly);
    assert!(least.faults.len() <= 2, "{:?}", least.faults);
}

/// What a controller does that another one came after takes that one.
#[test]
fn a_history_of_two_controllers_is_shrunk_to_what_it_takes() {
    let least = shrunk(Weakness::DeafToSuccessor);
    assert_eq!(least.succession(), Some(By::Takeover));
    assert!(least.faults.len() <= 3, "{:?}", least.faults);
}

fn shrunk(weakness: Weakness) -> Scenario {
    let campaign = campaign(NOTICED, Some(weakness));
    let report = campaign.run(|so_far| so_far.findings.is_empty());
    let finding = &report.findings[0];
    let scenario = campaign.scenario(finding.seed);
    let rule = finding.violations[0].rule;
    let least = shrink::shrink(&scenario, rule);
    assert!(least.faults.len() <= scenario.faults.len());
    let again = play(Arc::new(least.clone()), Trace::silent());
    assert!(again.violations.iter().any(|v| v.rule == rule), "{rule:?}");
    least
}
