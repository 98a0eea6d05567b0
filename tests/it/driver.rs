//! The loop of a service when what it stands on gives way: its journal, its adapters, its documents.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use failover::{
    decide::{event::Reply, readiness},
    driver::{
        controller::StartError,
        service::{Leader, LoopError},
        tenure::{Moment, Tenure},
    },
    model::{
        announcement::Phase,
        id::{Seq, ServiceName, Term},
        record::{RecordBody, RunOutcome},
        service::Mode,
        span::Span,
        step::StepResult,
    },
    port::journal::{JournalError, Rivals},
};
use futures::{FutureExt, StreamExt};

use crate::stand::{
    doubles::{Manners, Mood},
    stage::Stage,
};

const SECOND: Span = Span::from_secs(1);
const MINUTE: Span = Span::from_secs(60);

fn outcome(stage: &Stage) -> Option<RunOutcome> {
    let core = stage.core();
    let ended = core.state().last_run.as_ref()?.ended.as_ref()?;
    Some(ended.0)
}

fn kinds(stage: &Stage) -> Vec<&'static str> {
    stage.records().iter().map(|r| r.body.kind()).collect()
}

#[test]
fn what_a_step_came_to_is_kept_until_the_journal_can_be_written() {
    let stage = Stage::running();
    stage.journal.turn(Mood::FullFrom("stepOutcome"));
    stage.fail_over();
    stage.time.pass(MINUTE);
    assert_eq!(stage.props.times("perform fence"), 1);
    assert!(stage.recorded("stepOutcome").is_empty());
    let told = stage.props.pages().pop();
    assert_eq!(told.as_deref(), Some("shop: the journal cannot be written"));

    stage.journal.turn(Mood::Well);
    stage.time.pass(MINUTE);
    assert_eq!(outcome(&stage), Some(RunOutcome::Done));
    for step in ["fence", "promote", "verify"] {
        assert_eq!(stage.props.times(&format!("perform {step}")), 1);
        assert_eq!(stage.props.times(&format!("observe {step}")), 0);
    }
}

#[test]
fn what_comes_in_while_the_journal_cannot_be_written_is_kept() {
    let stage = Stage::running();
    stage.journal.turn(Mood::FullFrom("stepOutcome"));
    stage.props.make("fence", Some(Manners::Stalls));
    stage.fail_over();
    stage.journal.turn(Mood::Full);
    // It cannot be told within its time, and that is heard while nothing can be recorded.
    stage.time.pass(Span::from_secs(15));
    stage.props.make("fence", None);
    stage.journal.turn(Mood::Well);
    stage.time.pass(MINUTE);
    assert_eq!(outcome(&stage), Some(RunOutcome::Done));
    let outcomes = stage.recorded("stepOutcome");
    assert!(matches!(
        &outcomes[0],
        RecordBody::StepOutcome {
            result: StepResult::Indeterminate { .. },
            ..
        }
    ));
}

#[test]
fn customers_and_the_team_are_told_once_the_journal_can_be_written() {
    let stage = Stage::running();
    stage.journal.turn(Mood::FullFrom("announcementSettled"));
    stage.fail_over();
    stage.time.pass(MINUTE);
    stage.journal.turn(Mood::Well);
    stage.time.pass(MINUTE);
    let core = stage.core();
    let told = &core.state().announcements;
    assert_eq!(told.len(), 2);
    assert!(told.values().all(|t| t.settled.is_some()), "{told:#?}");
    assert_eq!(
        core.state().incident.as_ref().unwrap().phase,
        Some(Phase::OnStandby)
    );
    assert_eq!(stage.props.times("tell hook"), 2);
    let done = "shop: failover to west is done".to_owned();
    assert!(
        stage.props.pages().contains(&done),
        "{:?}",
        stage.props.pages()
    );
}

#[test]
fn documents_that_changed_while_the_journal_could_not_be_written_are_in_force_after_that() {
    let stage = Stage::running();
    stage.journal.turn(Mood::Full);
    let mut changed = stage.shop();
    changed.mode = Mode::Observe;
    changed.config = "second".into();
    stage.reload(vec![changed]).unwrap();
    stage.time.pass(MINUTE);
    stage.journal.turn(Mood::Well);
    stage.time.pass(SECOND);
    let core = stage.core();
    assert_eq!(core.state().wanted, Mode::Observe);
    assert_eq!(core.state().config, "second".into());
    let kinds = kinds(&stage);
    let end = kinds.iter().position(|k| *k == "journalResumed").unwrap();
    assert_eq!(kinds[end + 1], "documentsChanged");
}

#[test]
fn a_first_start_on_a_full_disk_goes_on_once_there_is_room() {
    let mut stage = Stage::new();
    stage.journal.turn(Mood::Full);
    stage.start(vec![stage.shop()]);
    stage.time.pass(Span::from_millis(1500));
    stage.journal.turn(Mood::Well);
    stage.time.pass(MINUTE);
    let kinds = kinds(&stage);
    assert_eq!(kinds[..2], ["journalResumed", "controllerStarted"]);
    assert!(kinds.contains(&"verdictChanged"), "{kinds:?}");
}

#[test]
fn an_append_that_hangs_is_told_and_waited_for() {
    let stage = Stage::running();
    stage.journal.turn(Mood::Hangs);
    let appends = stage.journal.appends();
    let answer = stage.note("is anybody there?");
    stage.time.pass(Span::from_secs(9));
    assert_eq!(stage.props.pages(), [""; 0]);
    stage.time.pass(Span::from_secs(2));
    let page = "shop: the journal cannot be written";
    assert_eq!(stage.props.pages(), [page]);
    assert_eq!(
        stage.means.metrics.unready().len(),
        1,
        "its journal: another start would not help the loop"
    );
    stage.time.pass(Span::from_secs(600));
    assert_eq!(stage.props.pages(), [page, page, page]);
    assert_eq!(stage.journal.appends(), appends + 1);

    stage.journal.turn(Mood::Well);
    stage.time.pass(SECOND);
    let answer = answer.now_or_never().unwrap().unwrap().unwrap();
    assert_eq!(answer, Reply::Ok("noted".to_owned()));
    let kinds = kinds(&stage);
    let note = kinds.iter().position(|k| *k == "note").unwrap();
    assert!(kinds[note..].contains(&"journalResumed"), "{kinds:?}");
    assert!(stage.means.metrics.stuck().is_empty());
}

#[test]
fn documents_without_a_site_of_an_open_run_are_refused() {
    let stage = Stage::running();
    stage.props.make("fence", Some(Manners::Stalls));
    stage.fail_over();
    let mut changed = stage.shop();
    changed.sites.retain(|s| s.name != "west".into());
    changed.config = "second".into();
    let refused = stage.reload(vec![changed.clone()]).unwrap_err();
    assert!(
        matches!(&refused, StartError::SiteOfRun { site, .. } if *site == "west".into()),
        "{refused}"
    );
    assert_eq!(stage.core().service().sites.len(), 2);
    assert!(stage.recorded("documentsChanged").is_empty());

    // Once the run is over they are taken.
    stage.props.make("fence", None);
    stage.time.pass(MINUTE);
    assert_eq!(outcome(&stage), Some(RunOutcome::Done));
    changed.sites = stage.shop().sites;
    changed.sites.retain(|s| s.name != "east".into());
    assert_eq!(stage.reload(vec![changed]).unwrap(), ["shop changed"]);
}

#[test]
fn a_restart_without_a_site_of_the_open_run_ends_the_run_aloud() {
    let mut stage = Stage::running();
    stage.props.make("fence", Some(Manners::Stalls));
    stage.fail_over();
    stage.stop();
    let mut changed = stage.shop();
    changed.sites.retain(|s| s.name != "west".into());
    stage.start(vec![changed]);
    stage.time.pass(MINUTE);
    let core = stage.core();
    let run = core.state().last_run.as_ref().expect("the run hangs");
    let (outcome, reason, _) = run.ended.as_ref().unwrap();
    assert_eq!(*outcome, RunOutcome::Stuck);
    assert!(reason.contains("site west"), "{reason}");
    assert_eq!(stage.props.times("perform promote"), 0);
}

#[test]
fn a_step_that_panics_is_looked_for() {
    let stage = Stage::running();
    stage.props.make("promote", Some(Manners::Panics));
    stage.fail_over();
    stage.props.make("promote", None);
    stage.time.pass(MINUTE);
    assert_eq!(outcome(&stage), Some(RunOutcome::Done));
    assert_eq!(stage.props.times("perform promote"), 1);
    assert_eq!(stage.props.times("observe promote"), 1);
}

#[test]
fn a_channel_that_panics_is_told_and_keeps_nothing_from_the_others() {
    let stage = Stage::running();
    stage.props.make("hook", Some(Manners::Panics));
    stage.fail_over();
    stage.time.pass(MINUTE);
    assert_eq!(outcome(&stage), Some(RunOutcome::Done));
    assert_eq!(stage.props.times("tell mail"), 2);
    let broken = "shop: channel hook cannot send".to_owned();
    assert!(
        stage.props.pages().contains(&broken),
        "{:?}",
        stage.props.pages()
    );

    stage.props.make("hook", None);
    stage.time.pass(Span::from_secs(400));
    let core = stage.core();
    let told = &core.state().announcements;
    assert!(told.values().all(|t| t.settled.is_some()), "{told:#?}");
}

#[test]
fn a_loop_that_panics_is_told() {
    let mut stage = Stage::running();
    stage.journal.turn(Mood::Panics);
    let answer = stage.note("boom");
    stage.time.pass(SECOND);
    let (service, end) = stage
        .ends
        .take()
        .unwrap()
        .next()
        .now_or_never()
        .unwrap()
        .unwrap();
    assert_eq!(service, "shop".into());
    assert!(matches!(end, Err(LoopError::Panicked { .. })), "{end:?}");
    assert!(answer.now_or_never().unwrap().unwrap().is_err());
}

#[test]
fn of_a_service_that_is_retired_nothing_lives_on() {
    let mut stage = Stage::new();
    stage.start(vec![stage.shop(), stage.service("bank")]);
    stage.time.pass(Span::from_secs(70));
    assert!(stage.props.times("write bank") > 1);
    stage.reload(vec![stage.shop()]).unwrap();
    stage.time.pass(SECOND);
    let written = (
        stage.props.times("write shop"),
        stage.props.times("write bank"),
    );
    stage.time.pass(Span::from_secs(600));
    assert!(stage.props.times("write shop") > written.0);
    assert_eq!(stage.props.times("write bank"), written.1);
    assert_eq!(stage.means.metrics.stuck(), [""; 0]);
    assert!(!stage.means.metrics.encode().contains("bank\",mode"));

    // It may come back.
    let both = vec![stage.shop(), stage.service("bank")];
    assert_eq!(stage.reload(both).unwrap(), ["bank is new"]);
    stage.time.pass(MINUTE);
    assert!(stage.props.times("write bank") > written.1);
    assert!(stage.means.metrics.encode().contains("bank\",mode"));
}

#[test]
fn automatic_is_earned_again_soon_after_documents_changed() {
    let mut stage = Stage::new();
    stage.means.upkeep = true;
    let mut shop = stage.shop();
    shop.mode = Mode::Automatic;
    stage.start(vec![shop.clone()]);
    stage.time.pass(Span::from_secs(20));
    let earned = |stage: &Stage| {
        let core = stage.core();
        let check = core.state().check.clone();
        assert!(check.as_ref().is_some_and(|c| c.green), "{check:#?}");
        readiness::earned(core.service(), core.state(), stage.time.now())
    };
    assert!(earned(&stage));
    shop.config = "second".into();
    stage.reload(vec![shop]).unwrap();
    assert!(!earned(&stage));
    stage.time.pass(Span::from_secs(20));
    assert!(earned(&stage));
}

/// What the journal says of other leaders.
#[derive(Clone, Copy)]
enum Says {
    /// Another one wrote this.
    Overtaken(Seq),
    /// Nobody else wrote anything.
    Alone,
    /// It does not answer.
    Nothing,
}

struct Word(Mutex<Says>);

#[async_trait]
impl Rivals for Word {
    async fn overtaken(
        &self,
        chain: &ServiceName,
        _after: Seq,
    ) -> Result<Option<Seq>, JournalError> {
        match *self.0.lock().unwrap() {
            Says::Overtaken(seq) => Ok(Some(seq)),
            Says::Alone => Ok(None),
            Says::Nothing => Err(JournalError::Locked {
                place: chain.to_string(),
            }),
        }
    }
}

/// A leader of this term, with ten seconds of which it is sure.
fn leader(stage: &Stage, term: u64, word: Arc<Word>) -> Leader {
    let runtime = &stage.means.runtime;
    let ten = Span::from_secs(10);
    let tenure = Tenure::new(Moment::now(runtime), ten, word, runtime.clone());
    Leader {
        term: Term(term),
        name: format!("replica {term}"),
        tenure: Arc::new(tenure),
    }
}

/// A leader whose time has run out, in front of a run that is begun.
fn outdated(word: Says) -> (Stage, Arc<Word>) {
    let mut stage = Stage::new();
    let word = Arc::new(Word(Mutex::new(word)));
    stage.means.leader = Some(leader(&stage, 1, word.clone()));
    stage.start(vec![stage.shop()]);
    stage.time.pass(Span::from_secs(11));
    stage.fail_over();
    stage.time.pass(Span::from_secs(5));
    (stage, word)
}

/// Steps that were performed, and what customers were told.
fn changes(stage: &Stage) -> Vec<String> {
    let done = stage.props.done().into_iter();
    let changes = |deed: &String| deed.starts_with("perform") || deed.starts_with("tell");
    done.filter(changes).collect()
}

#[test]
fn a_leader_whose_successor_has_begun_performs_nothing_and_tells_nobody() {
    let (mut stage, _) = outdated(Says::Overtaken(Seq(9)));
    assert!(!stage.recorded("stepIntent").is_empty());
    assert_eq!(changes(&stage), [""; 0]);
    let ended = stage.ends.take().unwrap().next().now_or_never();
    let (_, end) = ended.unwrap().unwrap();
    assert!(matches!(end, Err(LoopError::Deposed { .. })), "{end:?}");
}

#[test]
fn a_leader_that_cannot_know_whether_it_leads_waits_until_it_can() {
    let (stage, word) = outdated(Says::Nothing);
    assert!(!stage.recorded("stepIntent").is_empty());
    assert_eq!(changes(&stage), [""; 0]);
    *word.0.lock().unwrap() = Says::Alone;
    stage.time.pass(MINUTE);
    assert_eq!(outcome(&stage), Some(RunOutcome::Done));
    assert_eq!(stage.props.times("perform promote"), 1);
}

/// It froze between its election and its first look at the chain: what it asks for later than that is not there, so nothing
/// but the chain itself tells it.
#[test]
fn a_leader_that_finds_a_later_leader_in_the_chain_takes_up_nothing() {
    let mut stage = Stage::new();
    let alone = Arc::new(Word(Mutex::new(Says::Alone)));
    stage.means.leader = Some(leader(&stage, 2, alone.clone()));
    stage.start(vec![stage.shop()]);
    stage.time.pass(MINUTE);
    stage.stop();
    let before = stage.records().len();

    stage.means.leader = Some(leader(&stage, 1, alone.clone()));
    let refused = stage.try_start(vec![stage.shop()]);
    let Err(StartError::Loop(LoopError::Deposed { source, .. })) = refused else {
        panic!("{refused:?}");
    };
    assert!(
        matches!(source, JournalError::Conflict { seq: Seq(1), .. }),
        "{source:?}"
    );
    stage.time.pass(MINUTE);
    assert_eq!(stage.records().len(), before);

    for own_or_later in [2, 3] {
        stage.means.leader = Some(leader(&stage, own_or_later, alone.clone()));
        stage.start(vec![stage.shop()]);
        stage.time.pass(Span::from_secs(2));
        stage.stop();
    }
}
