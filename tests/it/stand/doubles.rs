//! Parts of a service that do what a test tells them to: probes, steps, channels and targets, a journal and a ledger.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    sync::{Arc, Mutex, Weak},
    task::{Poll, Waker},
};

use async_trait::async_trait;
use failover::{
    journal::memory::MemoryJournal,
    model::{
        announcement::Tally,
        check::CheckItem,
        id::{IdempotencyKey, Seq, ServiceName},
        observation::{Look, Sight},
        plan::StepPhase,
        record::Record,
        span::Span,
        step::{Presence, Proof, Rung, StepResult},
        time::Time,
    },
    port::{
        action::{Action, StepContext},
        channel::{Channel, Compiled, Notice, Recipient, RecipientsError, Sent},
        journal::{Draft, Journal, JournalError},
        kind::{Kind, Kinds, Make, MakeError, Wiring, With},
        ledger::{Delivery, Ledger, LedgerError, Mailing},
        probe::{LookContext, Probe},
        runtime::SharedRuntime,
        target::{PageFile, Target, WriteError},
    },
};
use schemars::JsonSchema;
use serde::Deserialize;

/// How a step's effect comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manners {
    /// It never ends.
    Stalls,
    /// It panics.
    Panics,
    /// It takes so long.
    Takes(Span),
}

/// What doubles are told, and what they did.
#[derive(Default)]
pub struct Props {
    /// Steps and channels that do not do what they should.
    pub odd: Mutex<BTreeMap<String, Manners>>,
    down: Mutex<BTreeSet<String>>,
    texts: Mutex<Vec<String>>,
    done: Mutex<Vec<String>>,
    pages: Mutex<Vec<String>>,
}

/// Those of all tests, by the key that documents name them with.
static PROPS: Mutex<BTreeMap<usize, Weak<Props>>> = Mutex::new(BTreeMap::new());

impl Props {
    /// New ones, and their key.
    pub fn new() -> (usize, Arc<Self>) {
        let props = Arc::new(Self::default());
        let mut all = PROPS.lock().unwrap();
        let key = all.len();
        all.insert(key, Arc::downgrade(&props));
        (key, props)
    }

    /// What was done to the world, in order: `perform fence`, `tell hook`, `write page`.
    pub fn done(&self) -> Vec<String> {
        self.done.lock().unwrap().clone()
    }

    /// How often that was done.
    pub fn times(&self, deed: &str) -> usize {
        self.done().iter().filter(|done| *done == deed).count()
    }

    /// Titles of the pages that the team got, in order; those on channels beside `team` with the channel's name.
    pub fn pages(&self) -> Vec<String> {
        self.pages.lock().unwrap().clone()
    }

    /// Lets a step or a channel be odd, or `None`: as it should be.
    pub fn make(&self, name: &str, odd: Option<Manners>) {
        let mut all = self.odd.lock().unwrap();
        match odd {
            Some(odd) => all.insert(name.to_owned(), odd),
            None => all.remove(name),
        };
    }

    /// What customers were told, in order: `<channel>: <phase>`.
    pub fn told(&self) -> Vec<String> {
        self.texts.lock().unwrap().clone()
    }

    /// Whatever looks at this site sees it down.
    pub fn dies(&self, site: &str) {
        self.down.lock().unwrap().insert(site.to_owned());
    }

    async fn deed(&self, verb: &str, name: &str, runtime: &SharedRuntime) {
        self.done.lock().unwrap().push(format!("{verb} {name}"));
        let odd = self.odd.lock().unwrap().get(name).copied();
        match odd {
            Some(Manners::Stalls) => std::future::pending().await,
            Some(Manners::Panics) => panic!("{name} is odd"),
            Some(Manners::Takes(span)) => runtime.sleep_until(runtime.now().after(span)).await,
            None => {}
        }
    }
}

#[derive(Deserialize, JsonSchema)]
struct DoubleWith {
    props: usize,
    #[serde(default)]
    name: String,
}

impl With for DoubleWith {}

struct Double {
    props: Arc<Props>,
    name: String,
    runtime: SharedRuntime,
}

fn double(with: &serde_json::Value, wiring: &Wiring) -> Result<Arc<Double>, MakeError> {
    let with: DoubleWith = failover::port::kind::read(with)?;
    let props = PROPS.lock().unwrap()[&with.props].upgrade().unwrap();
    Ok(Arc::new(Double {
        props,
        name: with.name,
        runtime: wiring.runtime.clone(),
    }))
}

static KINDS: [Kind; 4] = [
    Kind::new::<DoubleWith>(
        "double/probe",
        "",
        "",
        Make::Probe(|w, by| Ok(double(w, by)?)),
    ),
    Kind::new::<DoubleWith>(
        "double/step",
        "",
        "",
        Make::Action(|w, by| Ok(double(w, by)?)),
    )
    .in_phase(StepPhase::Fence)
    .reaching(Rung::Infrastructure),
    Kind::new::<DoubleWith>(
        "double/channel",
        "",
        "",
        Make::Channel(|w, by| Ok(double(w, by)?)),
    ),
    Kind::new::<DoubleWith>(
        "double/target",
        "",
        "",
        Make::Target(|w, by| Ok(double(w, by)?)),
    ),
];

/// The kinds of doubles.
pub fn kinds() -> Kinds {
    Kinds(&KINDS)
}

#[async_trait]
impl Probe for Double {
    async fn look(&self, _: &LookContext) -> Look {
        if self.props.down.lock().unwrap().contains(&self.name) {
            return Look::new(Sight::Down, "refused");
        }
        Look::new(Sight::Up, "open")
    }
}

#[async_trait]
impl Action for Double {
    async fn perform(&self, step: &StepContext) -> StepResult {
        self.props
            .deed("perform", step.step.as_str(), &self.runtime)
            .await;
        StepResult::Done(Proof::new("done").reaching(Rung::Infrastructure))
    }

    async fn observe(&self, step: &StepContext) -> Presence {
        self.props
            .deed("observe", step.step.as_str(), &self.runtime)
            .await;
        Presence::InPlace(Proof::new("there").reaching(Rung::Infrastructure))
    }
}

#[async_trait]
impl Channel for Double {
    fn compile(&self, notice: &Notice) -> Compiled {
        let text = match notice {
            Notice::Announcement { announcement, .. } => announcement.phase.to_string(),
            Notice::Page { page, .. } => page.title.clone(),
            Notice::PageOver { page, .. } => format!("over: {}", page.title),
        };
        Compiled {
            text,
            ..Compiled::default()
        }
    }

    async fn recipients(&self) -> Result<Vec<Recipient>, RecipientsError> {
        Ok(vec![Recipient(self.name.clone())])
    }

    async fn send(&self, message: &Compiled, _: &Recipient, _: &IdempotencyKey) -> Sent {
        if self.name == "team" {
            self.props.pages.lock().unwrap().push(message.text.clone());
        } else if self.name.starts_with("team-") {
            let heard = format!("{}: {}", self.name, message.text);
            self.props.pages.lock().unwrap().push(heard);
        } else {
            let told = format!("{}: {}", self.name, message.text);
            self.props.texts.lock().unwrap().push(told);
            self.props.deed("tell", &self.name, &self.runtime).await;
        }
        Sent::Accepted { reference: None }
    }

    fn keeps_state(&self) -> bool {
        self.name == "team-kept"
    }

    async fn check(&self) -> Vec<CheckItem> {
        Vec::new()
    }
}

#[async_trait]
impl Target for Double {
    async fn write(&self, _: &[PageFile]) -> Result<(), WriteError> {
        self.props.deed("write", &self.name, &self.runtime).await;
        Ok(())
    }

    async fn check(&self) -> Vec<CheckItem> {
        Vec::new()
    }
}

/// How the journal behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    #[default]
    Well,
    /// It writes nothing.
    Full,
    /// It writes nothing from the first record of this kind on.
    FullFrom(&'static str),
    /// It answers only when that is over.
    Hangs,
    /// It panics.
    Panics,
}

/// A journal with moods.
#[derive(Default)]
pub struct MoodyJournal {
    /// What it holds.
    pub inner: MemoryJournal,
    mood: Mutex<(Mood, Vec<Waker>)>,
    appends: Mutex<usize>,
}

impl MoodyJournal {
    /// From now on it behaves so.
    pub fn turn(&self, mood: Mood) {
        let mut now = self.mood.lock().unwrap();
        now.0 = mood;
        now.1.drain(..).for_each(Waker::wake);
    }

    /// How often something was to be appended.
    pub fn appends(&self) -> usize {
        *self.appends.lock().unwrap()
    }

    async fn over(&self) {
        poll_fn(|cx| {
            let mut mood = self.mood.lock().unwrap();
            if mood.0 == Mood::Hangs {
                mood.1.push(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }
}

#[async_trait]
impl Journal for MoodyJournal {
    async fn append(
        &self,
        chain: &ServiceName,
        after: Seq,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Record>, JournalError> {
        *self.appends.lock().unwrap() += 1;
        let mood = self.mood.lock().unwrap().0;
        match mood {
            Mood::FullFrom(kind) if drafts.iter().any(|d| d.body.kind() == kind) => {
                self.turn(Mood::Full);
            }
            Mood::Hangs => self.over().await,
            Mood::Panics => panic!("the journal is odd"),
            Mood::Well | Mood::Full | Mood::FullFrom(_) => {}
        }
        if self.mood.lock().unwrap().0 == Mood::Full {
            let place = "here".to_owned();
            return Err(JournalError::Full { place });
        }
        self.inner.append(chain, after, drafts).await
    }

    async fn read(&self, chain: &ServiceName, from: Seq) -> Result<Vec<Record>, JournalError> {
        self.inner.read(chain, from).await
    }

    async fn chains(&self) -> Result<Vec<ServiceName>, JournalError> {
        self.inner.chains().await
    }
}

/// A ledger in memory.
#[derive(Default)]
pub struct MemoryLedger {
    told: Mutex<BTreeMap<(Mailing, Recipient), Delivery>>,
    suppressed: Mutex<BTreeSet<(ServiceName, Recipient)>>,
}

impl MemoryLedger {
    fn standing(&self, mailing: &Mailing, at: Delivery) -> Vec<Recipient> {
        let told = self.told.lock().unwrap();
        let own = told.iter().filter(|((m, _), d)| m == mailing && **d == at);
        own.map(|((_, to), _)| to.clone()).collect()
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn enqueue(
        &self,
        mailing: &Mailing,
        to: &[Recipient],
        _: Time,
    ) -> Result<(), LedgerError> {
        let mut told = self.told.lock().unwrap();
        for to in to {
            told.entry((mailing.clone(), to.clone()))
                .or_insert(Delivery::Queued);
        }
        Ok(())
    }

    async fn queued(&self, mailing: &Mailing, most: usize) -> Result<Vec<Recipient>, LedgerError> {
        let mut queued = self.standing(mailing, Delivery::Queued);
        queued.truncate(most);
        Ok(queued)
    }

    async fn interrupted(&self, mailing: &Mailing) -> Result<Vec<Recipient>, LedgerError> {
        Ok(self.standing(mailing, Delivery::Sending))
    }

    async fn mark(
        &self,
        mailing: &Mailing,
        marks: &[(Recipient, Delivery, String)],
        _: Time,
    ) -> Result<(), LedgerError> {
        let mut told = self.told.lock().unwrap();
        for (to, delivery, _) in marks {
            told.insert((mailing.clone(), to.clone()), *delivery);
        }
        Ok(())
    }

    async fn tally(&self, mailing: &Mailing) -> Result<Tally, LedgerError> {
        let count = |at| self.standing(mailing, at).len() as u64;
        Ok(Tally {
            queued: count(Delivery::Queued) + count(Delivery::Sending),
            sent: count(Delivery::Sent),
            unknown: count(Delivery::Unknown),
            failed: count(Delivery::Failed),
            suppressed: count(Delivery::Suppressed),
        })
    }

    async fn suppress(
        &self,
        service: &ServiceName,
        to: &Recipient,
        _: &str,
        _: Time,
    ) -> Result<(), LedgerError> {
        let mut all = self.suppressed.lock().unwrap();
        all.insert((service.clone(), to.clone()));
        Ok(())
    }

    async fn suppressed(&self, service: &ServiceName, to: &Recipient) -> Result<bool, LedgerError> {
        let all = self.suppressed.lock().unwrap();
        Ok(all.contains(&(service.clone(), to.clone())))
    }
}
