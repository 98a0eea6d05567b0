//! A command becomes a request at the desk, and what comes of it becomes a message.

use std::{
    fmt::Write as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::future::{Either, select};

use super::{
    card,
    phrase::{self, Verb},
    ticket::{Choice, Deed, Tickets},
};
use crate::{
    decide::explain::{AskReport, Report},
    desk::{
        clerk::Clerk,
        message::{Answer, PreviewItem, Request, Wish},
        speaker::Speaker,
    },
    model::{
        announcement::Phase,
        approval::Person,
        duty::Duty,
        id::{AskId, PageId, PersonName, ServiceName, SiteName},
        plan::RunKind,
        service::{Mode, Service},
        span::Span,
    },
    port::{
        chat::{Button, Post, Room},
        runtime::SharedRuntime,
    },
};

/// How a service stands is waited for so long.
const ANSWER: Span = Span::from_secs(5);
/// Lines of a timeline, unless a number is given.
const LINES: usize = 15;
/// Lines of a timeline at most.
const MOST_LINES: usize = 100;

/// What is said to whoever gave a command.
#[derive(Debug)]
pub struct Reply {
    /// The message.
    pub post: Post,
    /// What its buttons decide.
    pub choice: Option<Choice>,
}

impl Reply {
    /// A text without buttons.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            post: Post::text(text),
            choice: None,
        }
    }
}

/// Or why a command came to nothing: a sentence for whoever gave it.
pub type Said = Result<Reply, String>;

/// What a conversation is held with.
pub struct Talk {
    /// Who answers at the desk.
    pub clerk: Arc<Clerk>,
    /// Time.
    pub runtime: SharedRuntime,
    /// The buttons that are out.
    pub tickets: Mutex<Tickets>,
    /// Choices that were put so far.
    pub choices: AtomicU64,
}

/// One command, who gives it, where, and what is spoken of there.
pub struct Turn<'a> {
    /// Who.
    pub speaker: &'a Speaker,
    /// Where.
    pub room: &'a Room,
    /// The services that this person may speak of here.
    pub services: &'a [Arc<Service>],
    /// Every service that is spoken of here.
    pub known: &'a [ServiceName],
    /// What it is about.
    pub verb: Verb,
    /// What came after it.
    pub rest: &'a str,
}

impl Talk {
    /// Does what a command says.
    ///
    /// # Errors
    /// In one sentence, where it cannot be done.
    pub async fn take(&self, turn: &Turn<'_>) -> Said {
        match turn.verb {
            Verb::Help => Ok(Reply::text(card::help())),
            Verb::WhoAmI => Ok(Reply::text(who(turn.speaker, turn.services))),
            Verb::Approve => self.answer(turn, Way::Approve).await,
            Verb::BreakGlass => self.answer(turn, Way::BreakGlass).await,
            Verb::Deny => self.answer(turn, Way::Deny).await,
            Verb::Status => self.status(turn).await,
            Verb::Stalk
            | Verb::Plan
            | Verb::Timeline
            | Verb::OnCall
            | Verb::Declare
            | Verb::Note
            | Verb::Role
            | Verb::Announce
            | Verb::Failover
            | Verb::Redirect
            | Verb::Switchover
            | Verb::Failback
            | Verb::Pause
            | Verb::Resume
            | Verb::Abort
            | Verb::Ack
            | Verb::Drill
            | Verb::Mode
            | Verb::Resolve
            | Verb::HandOff
            | Verb::Accept => {
                let (service, rest) = pick(turn)?;
                self.of_service(turn, service, rest).await
            }
        }
    }

    async fn of_service(&self, turn: &Turn<'_>, service: &Service, rest: &str) -> Said {
        let name = &service.name;
        let wish = match turn.verb {
            Verb::Plan => return self.plan(turn, service, rest).await,
            Verb::Timeline => return self.timeline(turn, service, rest).await,
            Verb::OnCall => return self.contacts(turn.speaker, service).await.map(Reply::text),
            Verb::Announce => return self.announce(turn, service, rest).await,
            Verb::Failover => return self.open(turn, service, RunKind::Failover, rest).await,
            Verb::Redirect => return self.open(turn, service, RunKind::Redirect, rest).await,
            Verb::Switchover => return self.open(turn, service, RunKind::Switchover, rest).await,
            Verb::Failback => return self.open(turn, service, RunKind::Failback, rest).await,
            Verb::Abort => self.abort(turn, name, rest).await?,
            Verb::Declare => Wish::Declare {
                reason: needed(turn.verb, rest)?,
            },
            Verb::Note => Wish::Note {
                text: needed(turn.verb, rest)?,
            },
            Verb::Pause => Wish::Pause {
                reason: needed(turn.verb, rest)?,
            },
            Verb::Resolve => Wish::Resolve {
                reason: reason(rest),
            },
            Verb::Resume => nothing_more(turn.verb, rest, Wish::Resume)?,
            Verb::Accept => nothing_more(turn.verb, rest, Wish::Accept)?,
            Verb::Role => role(rest)?,
            Verb::HandOff => Wish::HandOver {
                to: PersonName::new(phrase::person(&needed(turn.verb, rest)?)),
            },
            Verb::Ack => Wish::Acknowledge {
                page: (!rest.is_empty()).then(|| PageId::new(rest)),
            },
            Verb::Drill => Wish::Drill {
                policy: (!rest.is_empty()).then(|| rest.into()),
                reason: reason(""),
            },
            Verb::Mode => mode(rest)?,
            Verb::Help
            | Verb::WhoAmI
            | Verb::Status
            | Verb::Stalk
            | Verb::Approve
            | Verb::BreakGlass
            | Verb::Deny => return Err(format!("write {}", phrase::usage(turn.verb))),
        };
        self.give(turn.speaker, name, wish).await.map(Reply::text)
    }

    /// Asks at the desk.
    async fn ask(&self, speaker: &Speaker, request: Request) -> Result<Answer, String> {
        let (answer, _) = self.clerk.answer(request, speaker).await;
        if let Answer::Refused(refusal) = answer {
            return Err(refusal.to_string());
        }
        Ok(answer)
    }

    /// Gives a command, and says what came of it.
    ///
    /// # Errors
    /// Where it was refused.
    pub async fn give(
        &self,
        speaker: &Speaker,
        service: &ServiceName,
        wish: Wish,
    ) -> Result<String, String> {
        let request = Request::Command {
            services: vec![service.clone()],
            wish,
        };
        let Answer::Done { done, refused } = self.ask(speaker, request).await? else {
            return Err(unexpected());
        };
        match (done.get(service), refused.get(service)) {
            (Some(said), _) => Ok(format!("{service}: {said}")),
            (None, Some(why)) => Err(why.clone()),
            (None, None) => Err(unexpected()),
        }
    }

    async fn status(&self, turn: &Turn<'_>) -> Said {
        let one = match phrase::word(turn.rest).0 {
            "" => None,
            _ => Some(pick(turn)?.0.name.clone()),
        };
        let mut texts = Vec::new();
        for service in turn.services {
            if one.as_ref().is_none_or(|name| *name == service.name) {
                texts.push(card::status(
                    &self.report(turn.speaker, &service.name).await?,
                ));
            }
        }
        Ok(Reply::text(texts.join("\n\n")))
    }

    /// How a service stands.
    ///
    /// # Errors
    /// Where that cannot be told.
    pub async fn report(&self, speaker: &Speaker, service: &ServiceName) -> Result<Report, String> {
        let service = Some(service.clone());
        // A service that waits for its journal does not answer; nobody else waits for it.
        let late = self.runtime.sleep_until(self.runtime.now().after(ANSWER));
        let asked = Box::pin(self.ask(speaker, Request::Status { service }));
        let Either::Left((answer, _)) = select(asked, late).await else {
            return Err("the controller does not answer: it waits for its journal".to_owned());
        };
        let Answer::Status(reports) = answer? else {
            return Err(unexpected());
        };
        reports.into_iter().next().ok_or_else(unexpected)
    }

    async fn plan(&self, turn: &Turn<'_>, service: &Service, rest: &str) -> Said {
        let (word, others) = phrase::word(rest);
        let (kind, rest) = match RunKind::asked_for(word) {
            Some(kind) => (kind, others),
            None => (RunKind::Failover, rest),
        };
        let (to, _) = destination(service, rest)?;
        self.shown(turn, service, kind, to)
            .await
            .map(|(text, _)| Reply::text(text))
    }

    /// A plan as a text, and its hash.
    async fn shown(
        &self,
        turn: &Turn<'_>,
        service: &Service,
        kind: RunKind,
        to: Option<SiteName>,
    ) -> Result<(String, (String, SiteName)), String> {
        let request = Request::Plan {
            service: service.name.clone(),
            kind,
            to,
        };
        let report = self.report(turn.speaker, &service.name).await?;
        let Answer::Plan(view) = self.ask(turn.speaker, request).await? else {
            return Err(unexpected());
        };
        let meant = (view.hash.as_str().to_owned(), view.plan.to.clone());
        Ok((card::plan(&report, &view), meant))
    }

    /// Shows the plan; the run is asked for with the button, and only as the plan stands here.
    async fn open(&self, turn: &Turn<'_>, service: &Service, kind: RunKind, rest: &str) -> Said {
        let (to, why) = destination(service, rest)?;
        let (text, (hash, site)) = self.shown(turn, service, kind, to).await?;
        let wish = Wish::Open {
            kind,
            to: Some(site.clone()),
            reason: reason(why),
            plan: Some(hash),
        };
        // Whoever may not give it hears so before there is anything to press.
        let request = Request::Try {
            service: service.name.clone(),
            wish: wish.clone(),
        };
        self.ask(turn.speaker, request).await?;
        let begin = format!("Begin the {kind} to {site}");
        Ok(self.choose(
            turn,
            &service.name,
            text,
            (&begin, Deed::Give(Box::new(wish))),
            "Do nothing",
        ))
    }

    async fn announce(&self, turn: &Turn<'_>, service: &Service, rest: &str) -> Said {
        let (word, text) = phrase::word(rest);
        let phase = Phase::named(word).ok_or_else(|| {
            let words: Vec<_> = Phase::ALL.iter().map(|p| p.word()).collect();
            format!(
                "write {}, where PHASE is one of {}",
                phrase::usage(Verb::Announce),
                words.join(", ")
            )
        })?;
        let text = (!text.is_empty()).then(|| text.to_owned());
        let items = self
            .previews(turn.speaker, &service.name, phase, text.clone())
            .await?;
        let text_shown = card::preview(&service.title, &items, text.as_deref());
        let send = format!("Tell customers: {phase}");
        let report = self.report(turn.speaker, &service.name).await?;
        let deed = Deed::Tell {
            wish: Box::new(Wish::Announce { phase, text }),
            incident: report.incident,
            phase: report.phase,
        };
        Ok(self.choose(
            turn,
            &service.name,
            text_shown,
            (&send, deed),
            "Do not send",
        ))
    }

    async fn previews(
        &self,
        speaker: &Speaker,
        service: &ServiceName,
        phase: Phase,
        text: Option<String>,
    ) -> Result<Vec<PreviewItem>, String> {
        let request = Request::Preview {
            service: service.clone(),
            phases: vec![phase],
            text,
        };
        let Answer::Preview(items) = self.ask(speaker, request).await? else {
            return Err(unexpected());
        };
        Ok(items)
    }

    async fn timeline(&self, turn: &Turn<'_>, service: &Service, rest: &str) -> Said {
        let last = match phrase::word(rest).0 {
            "" => LINES,
            word => word
                .parse::<usize>()
                .map_err(|_| format!("write {}", phrase::usage(Verb::Timeline)))?
                .clamp(1, MOST_LINES),
        };
        let request = Request::Timeline {
            service: service.name.clone(),
            last,
        };
        let Answer::Timeline(records) = self.ask(turn.speaker, request).await? else {
            return Err(unexpected());
        };
        Ok(Reply::text(card::timeline(&service.title, &records)))
    }

    /// Whom to call.
    ///
    /// # Errors
    /// Where that cannot be told.
    pub async fn contacts(&self, speaker: &Speaker, service: &Service) -> Result<String, String> {
        let request = Request::Team {
            service: service.name.clone(),
        };
        let Answer::Team(members) = self.ask(speaker, request).await? else {
            return Err(unexpected());
        };
        Ok(card::contacts(&service.title, &members))
    }

    async fn abort(
        &self,
        turn: &Turn<'_>,
        service: &ServiceName,
        rest: &str,
    ) -> Result<Wish, String> {
        let report = self.report(turn.speaker, service).await?;
        let open = report.run.filter(|run| run.outcome.is_none());
        let drill = report.drill.filter(|run| run.outcome.is_none());
        let Some(run) = open.or(drill) else {
            return Err(format!("nothing is in progress at {service}"));
        };
        Ok(Wish::Abort {
            run: run.id,
            reason: needed(Verb::Abort, rest)?,
        })
    }

    async fn answer(&self, turn: &Turn<'_>, way: Way) -> Said {
        let mut open: Vec<(ServiceName, AskReport)> = Vec::new();
        for service in turn.services {
            let report = self.report(turn.speaker, &service.name).await?;
            open.extend(
                report
                    .asks
                    .into_iter()
                    .map(|ask| (service.name.clone(), ask)),
            );
        }
        let (word, others) = phrase::word(turn.rest);
        let named = open.iter().find(|(_, ask)| ask.id.as_str() == word);
        // A question is named: what was read a minute ago may not be what is open now.
        let Some((service, ask)) = named else {
            let ids: Vec<_> = open.iter().map(|(_, ask)| ask.id.as_str()).collect();
            return Err(if ids.is_empty() {
                "no question is open".to_owned()
            } else {
                format!("name the question: {}", ids.join(", "))
            });
        };
        let wish = way.wish(&ask.id, others);
        self.give(turn.speaker, service, wish)
            .await
            .map(Reply::text)
    }

    /// A question with its buttons, for everybody who may answer it.
    pub fn question(&self, room: &Room, report: &Report, ask: &AskReport) -> Post {
        let service = &report.service;
        let needs_words = ask.commands.iter().any(|c| c.contains("--reason"));
        let mut row = Vec::new();
        if !needs_words {
            let wish = Way::Approve.wish(&ask.id, "");
            row.push(self.ticket(
                room,
                service,
                None,
                "Approve",
                (Deed::Give(Box::new(wish)), None),
            ));
        }
        let wish = Way::Deny.wish(&ask.id, "");
        row.push(self.ticket(
            room,
            service,
            None,
            "Deny",
            (Deed::Give(Box::new(wish)), None),
        ));
        Post {
            text: card::question(report, ask),
            buttons: vec![row],
        }
    }

    /// Puts a choice to whoever asked for it.
    fn choose(
        &self,
        turn: &Turn<'_>,
        service: &ServiceName,
        text: String,
        (yes, deed): (&str, Deed),
        no: &str,
    ) -> Reply {
        let choice = Choice(self.choices.fetch_add(1, Ordering::Relaxed));
        let button = |label: &str, deed| {
            let decided = (deed, Some(choice));
            self.ticket(turn.room, service, Some(turn.speaker), label, decided)
        };
        let dropped = Deed::Drop(yes.to_owned());
        let yes = button(yes, deed);
        let no = button(no, dropped);
        Reply {
            post: Post {
                text,
                buttons: vec![vec![yes], vec![no]],
            },
            choice: Some(choice),
        }
    }

    /// A button.
    pub fn ticket(
        &self,
        room: &Room,
        service: &ServiceName,
        of: Option<&Speaker>,
        label: &str,
        deed: (Deed, Option<Choice>),
    ) -> Button {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = tickets.issue(service, room, of, deed, self.runtime.now());
        Button {
            label: label.to_owned(),
            ticket,
        }
    }
}

/// How a question is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Approve,
    BreakGlass,
    Deny,
}

impl Way {
    fn wish(self, ask: &AskId, why: &str) -> Wish {
        let ask = ask.clone();
        let reason = (!why.is_empty()).then(|| why.to_owned());
        match self {
            Self::Approve | Self::BreakGlass => Wish::Approve {
                ask,
                reason,
                break_glass: self == Self::BreakGlass,
            },
            Self::Deny => Wish::Deny { ask, reason },
        }
    }
}

/// Who somebody is: what they have to tell whoever keeps the documents, and what those say already.
pub fn who(speaker: &Speaker, services: &[Arc<Service>]) -> String {
    let number = match speaker {
        Speaker::Telegram(user) => format!("Your number at Telegram is {user}."),
        Speaker::Local { .. } | Speaker::Holder(_) => String::new(),
    };
    let known: Vec<String> = services
        .iter()
        .filter_map(|service| Some((service, speaker.person(service)?)))
        .map(|(service, person)| {
            format!("{}: you are {}", service.name, described(service, person))
        })
        .collect();
    if known.is_empty() {
        return format!(
            "{number}\nNo service here knows it: it goes into spec.team.people[].telegram."
        );
    }
    format!("{number}\n{}", known.join("\n"))
}

fn described(service: &Service, person: &Person) -> String {
    let mut words = person.name.to_string();
    if let Some(role) = person.role {
        let _ = write!(words, ", {role}");
    }
    if service.approvals.approvers.contains(&person.name) {
        words.push_str(", and may approve");
    }
    words
}

/// The service that is meant, and what is left of the words.
pub fn pick<'a>(turn: &'a Turn<'_>) -> Result<(&'a Service, &'a str), String> {
    let (word, others) = phrase::word(turn.rest);
    if let Some(named) = turn.services.iter().find(|s| s.name.as_str() == word) {
        return Ok((named, others));
    }
    // What is meant for one service is never done at another.
    if turn.known.iter().any(|name| name.as_str() == word) {
        return Err(format!("you are nobody of the team of {word}"));
    }
    match turn.services {
        [one] => Ok((one, turn.rest)),
        all => {
            let names: Vec<_> = all.iter().map(|s| s.name.as_str()).collect();
            Err(format!(
                "name the service: {} ({})",
                phrase::usage(turn.verb),
                names.join(", ")
            ))
        }
    }
}

/// `to SITE`, or a site alone, and what is left of the words.
fn destination<'a>(
    service: &Service,
    rest: &'a str,
) -> Result<(Option<SiteName>, &'a str), String> {
    let (word, others) = phrase::word(rest);
    let (name, others) = if word == "to" {
        phrase::word(others)
    } else {
        (word, others)
    };
    let site = service.sites.iter().find(|s| s.name.as_str() == name);
    match site {
        Some(site) => Ok((Some(site.name.clone()), others)),
        None if word == "to" => {
            let names: Vec<_> = service.sites.iter().map(|s| s.name.as_str()).collect();
            Err(format!(
                "there is no site `{name}`; known are {}",
                names.join(", ")
            ))
        }
        None => Ok((None, rest)),
    }
}

/// Words that a command is nothing without.
fn needed(verb: Verb, rest: &str) -> Result<String, String> {
    if rest.is_empty() {
        return Err(format!("write {}", phrase::usage(verb)));
    }
    Ok(rest.to_owned())
}

/// A command that nothing comes after: what does is perhaps meant for another service.
fn nothing_more(verb: Verb, rest: &str, wish: Wish) -> Result<Wish, String> {
    if rest.is_empty() {
        return Ok(wish);
    }
    Err(format!("write {}", phrase::usage(verb)))
}

fn reason(rest: &str) -> String {
    if rest.is_empty() {
        "asked for in the chat".to_owned()
    } else {
        rest.to_owned()
    }
}

fn role(rest: &str) -> Result<Wish, String> {
    let (duty, others) = phrase::word(rest);
    let duty: Duty = duty.parse().map_err(|e| format!("{e}"))?;
    let (person, _) = phrase::word(others);
    Ok(Wish::TakeDuty {
        duty,
        person: (!person.is_empty()).then(|| PersonName::new(phrase::person(person))),
    })
}

fn mode(rest: &str) -> Result<Wish, String> {
    let (word, why) = phrase::word(rest);
    let mode = Mode::named(word).ok_or_else(|| format!("write {}", phrase::usage(Verb::Mode)))?;
    Ok(Wish::SetMode {
        mode,
        reason: reason(why),
    })
}

fn unexpected() -> String {
    "the controller answered something else".to_owned()
}
