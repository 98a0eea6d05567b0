//! Who answers at the desk: each request from what a running controller knows, each command given to it under the name of
//! the person who speaks.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    message::{Answer, Event as Followed, Member, Refusal, Request, Wish},
    plan, preview,
    speaker::Speaker,
};
use crate::{
    decide::{
        command,
        event::{Command, Event, Reply},
        explain,
    },
    driver::{
        backups,
        controller::{CommandError, Controller},
    },
    model::{
        approval::{Person, Role},
        id::{PersonName, PlanHash, ServiceName},
        service::Service,
    },
    port::{cause, runtime::SharedRuntime},
};
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};

/// Answers for a controller.
pub struct Clerk {
    /// The controller.
    pub controller: Arc<Controller>,
    /// Its time.
    pub runtime: SharedRuntime,
}

/// The longest timeline that is given at once.
const LONGEST: usize = 5_000;

/// Events for a client that watches.
pub type Events = BoxStream<'static, Followed>;

impl Clerk {
    /// Answers one request.
    pub async fn answer(
        self: &Arc<Self>,
        request: Request,
        speaker: &Speaker,
    ) -> (Answer, Option<Events>) {
        if let Err(refusal) = self.admit(&request, speaker) {
            return (Answer::Refused(refusal), None);
        }
        let answered = match request {
            Request::Watch { service } => match self.watch(service.as_ref(), speaker) {
                Ok(events) => return (Answer::Watching, Some(events)),
                Err(refusal) => Err(refusal),
            },
            Request::Status { service } => self.status(service.as_ref(), speaker).await,
            Request::Timeline { service, last } => self.timeline(&service, last, speaker).await,
            Request::Team { service } => self.team(&service, speaker),
            Request::Plan { service, kind, to } => match self.core(&service).await {
                Ok(core) => plan::of(&core, kind, to.as_ref(), self.runtime.now())
                    .map(|plan| Answer::Plan(Box::new(plan)))
                    .map_err(|reason| Refusal::NoPlan { service, reason }),
                Err(refusal) => Err(refusal),
            },
            Request::Check { service } => self
                .controller
                .check(&service)
                .await
                .map(Answer::Check)
                .map_err(|e| Self::refuse(&e)),
            Request::Backups { service } => self.backups(&service).await,
            Request::VerifyBackup { service, choice } => self.try_backup(&service, &choice).await,
            Request::BackupVerified { service, result } => {
                let told = self
                    .controller
                    .tell(&service, Event::BackupVerified(result.clone()));
                told.map(|()| Answer::BackupVerified(result))
                    .map_err(|e| Self::refuse(&e))
            }
            Request::BackupTaken { service, result } => {
                let told = self
                    .controller
                    .tell(&service, Event::BackupTaken(result.clone()));
                told.map(|()| Answer::BackupTaken(result))
                    .map_err(|e| Self::refuse(&e))
            }
            Request::Preview {
                service,
                phases,
                text,
            } => self.preview(&service, &phases, text).await,
            Request::Command { services, wish } => self.command(services, &wish, speaker).await,
            Request::Try { service, wish } => self.possible(&service, &wish, speaker).await,
        };
        (answered.unwrap_or_else(Answer::Refused), None)
    }

    /// Whether the speaker may ask this at all. What another process of the controller's host did is taken from there alone.
    fn admit(&self, request: &Request, speaker: &Speaker) -> Result<(), Refusal> {
        if let Some(name) = request.service() {
            self.seen(name, speaker)?;
        }
        let is_of_host = matches!(speaker, Speaker::Local { .. });
        match request {
            Request::BackupVerified { .. } | Request::BackupTaken { .. } if !is_of_host => {
                Err(Refusal::Engine {
                    reason: "this is taken from the controller's own host alone".to_owned(),
                })
            }
            Request::Check { service } | Request::VerifyBackup { service, .. } => {
                let service = self.seen(service, speaker)?;
                match speaker.person(&service) {
                    Some(person) if !person.may(Role::Operator) => Err(Refusal::Engine {
                        reason: "a viewer only looks, and this tries things out".to_owned(),
                    }),
                    Some(_) | None => Ok(()),
                }
            }
            Request::Status { .. }
            | Request::Timeline { .. }
            | Request::Team { .. }
            | Request::Plan { .. }
            | Request::Backups { .. }
            | Request::BackupVerified { .. }
            | Request::BackupTaken { .. }
            | Request::Preview { .. }
            | Request::Command { .. }
            | Request::Try { .. }
            | Request::Watch { .. } => Ok(()),
        }
    }

    async fn core(&self, service: &ServiceName) -> Result<Box<crate::decide::core::Core>, Refusal> {
        self.controller
            .show(service)
            .await
            .map_err(|e| Self::refuse(&e))
    }

    async fn timeline(
        &self,
        service: &ServiceName,
        last: usize,
        speaker: &Speaker,
    ) -> Result<Answer, Refusal> {
        self.seen(service, speaker)?;
        let records = self.controller.records(service, last.min(LONGEST)).await;
        records
            .map(Answer::Timeline)
            .map_err(|error| Self::refuse(&error))
    }

    fn team(&self, service: &ServiceName, speaker: &Speaker) -> Result<Answer, Refusal> {
        let service = self.seen(service, speaker)?;
        let policy = &service.approvals;
        let member = |person: &Person| Member {
            name: person.name.clone(),
            role: person.role,
            phone: person.phone.clone(),
            groups: person.groups.clone(),
            approves: policy.approvers.contains(&person.name),
            breaks_glass: policy.break_glass.contains(&person.name),
        };
        Ok(Answer::Team(
            service.team.people.iter().map(member).collect(),
        ))
    }

    async fn status(
        &self,
        service: Option<&ServiceName>,
        speaker: &Speaker,
    ) -> Result<Answer, Refusal> {
        let mut reports = Vec::new();
        for name in self.named(service.map_or(&[], std::slice::from_ref), speaker)? {
            let core = self.core(&name.name).await?;
            reports.push(explain::report(&core, self.runtime.now()));
        }
        Ok(Answer::Status(reports))
    }

    async fn backups(&self, service: &ServiceName) -> Result<Answer, Refusal> {
        let survey = backups::look(&self.controller, service).await;
        let survey = survey.map_err(|e| Self::refuse(&e))?;
        Ok(Answer::Backups(survey.map(Box::new)))
    }

    async fn try_backup(
        &self,
        service: &ServiceName,
        choice: &backups::Choice,
    ) -> Result<Answer, Refusal> {
        let tried = backups::try_one(&self.controller, service, choice).await;
        match tried.map_err(|e| Self::refuse(&e))? {
            Ok(result) => Ok(Answer::BackupVerified(Box::new(result))),
            Err(error) => Err(Refusal::Engine {
                reason: cause::in_full(&error),
            }),
        }
    }

    async fn preview(
        &self,
        service: &ServiceName,
        phases: &[crate::model::announcement::Phase],
        text: Option<String>,
    ) -> Result<Answer, Refusal> {
        let core = self.core(service).await?;
        let channels = self
            .controller
            .channels(service)
            .map_err(|e| Self::refuse(&e))?;
        let now = self.runtime.now();
        let items = preview::of(&core, &channels, phases, text.as_deref(), now).await;
        Ok(Answer::Preview(items))
    }

    /// Records as they are written, from now on.
    ///
    /// # Errors
    /// Where there is no such service.
    pub fn watch(
        self: &Arc<Self>,
        service: Option<&ServiceName>,
        speaker: &Speaker,
    ) -> Result<Events, Refusal> {
        let mut all = Vec::new();
        for service in self.named(service.map_or(&[], std::slice::from_ref), speaker)? {
            let records = self
                .controller
                .follow(&service.name)
                .map_err(|e| Self::refuse(&e))?;
            let clerk = Arc::clone(self);
            let events = records.filter_map(move |record| {
                let clerk = Arc::clone(&clerk);
                async move {
                    let core = clerk.controller.show(&record.chain).await.ok()?;
                    let report = Box::new(explain::report(&core, clerk.runtime.now()));
                    Some(Followed { record, report })
                }
            });
            all.push(events.boxed());
        }
        Ok(stream::select_all(all).boxed())
    }

    async fn command(
        &self,
        services: Vec<ServiceName>,
        wish: &Wish,
        speaker: &Speaker,
    ) -> Result<Answer, Refusal> {
        let services = self.named(&services, speaker)?;
        // Everybody is asked before anything is done, so that a kill switch works everywhere or nowhere.
        let mut speakers = Vec::with_capacity(services.len());
        for service in &services {
            speakers.push(speaker.named(service, wish)?);
        }
        let alone = services.len() == 1;
        let (mut done, mut refused) = (BTreeMap::new(), BTreeMap::new());
        for (service, by) in services.iter().zip(speakers) {
            match self.give(service, wish, by).await {
                Ok(said) => {
                    done.insert(service.name.clone(), said);
                }
                Err(refusal) if alone => return Err(refusal),
                Err(Refusal::Engine { reason }) => {
                    refused.insert(service.name.clone(), reason);
                }
                Err(other) => return Err(other),
            }
        }
        Ok(Answer::Done { done, refused })
    }

    /// Whether a command would be taken as things stand.
    async fn possible(
        &self,
        service: &ServiceName,
        wish: &Wish,
        speaker: &Speaker,
    ) -> Result<Answer, Refusal> {
        let core = self.core(service).await?;
        let by = speaker.named(core.service(), wish)?;
        let wanted = self.wanted(core.service(), wish, by).await?;
        let (state, view) = (core.state(), core.view());
        match command::take(core.service(), state, view, &wanted, self.runtime.now()) {
            Ok(_) => Ok(Answer::Possible),
            Err(refusal) => {
                let reason = refusal.to_string();
                // The command itself would have been written down.
                self.turned_away(service, wanted.by().as_str(), &reason)
                    .await;
                Err(Refusal::Engine { reason })
            }
        }
    }

    async fn give(
        &self,
        service: &Service,
        wish: &Wish,
        by: PersonName,
    ) -> Result<String, Refusal> {
        let wanted = self.wanted(service, wish, by).await?;
        match self.controller.command(&service.name, wanted).await {
            Ok(Reply::Ok(said)) => Ok(said),
            Ok(Reply::Refused(refusal)) => Err(Refusal::Engine {
                reason: refusal.to_string(),
            }),
            Err(error) => Err(Self::refuse(&error)),
        }
    }

    /// The command that a wish comes to.
    async fn wanted(
        &self,
        service: &Service,
        wish: &Wish,
        by: PersonName,
    ) -> Result<Command, Refusal> {
        let engine = |reason: String| Refusal::Engine { reason };
        let mut drill = None;
        match wish {
            Wish::Abort { run, .. } => {
                let core = self.core(&service.name).await?;
                let open = core.state().run.as_ref().map(|r| &r.id);
                drill = core.state().drills.open.as_ref().map(|d| d.id.clone());
                if drill.as_ref() != Some(run) && open != Some(run) {
                    return Err(engine(format!("run {run} is not in progress")));
                }
            }
            Wish::Open { .. }
            | Wish::Approve { .. }
            | Wish::Deny { .. }
            | Wish::Pause { .. }
            | Wish::Resume
            | Wish::Acknowledge { .. }
            | Wish::Announce { .. }
            | Wish::Moved { .. }
            | Wish::TakeOver { .. }
            | Wish::Drill { .. }
            | Wish::Note { .. }
            | Wish::Declare { .. }
            | Wish::Resolve { .. }
            | Wish::TakeDuty { .. }
            | Wish::HandOver { .. }
            | Wish::Accept
            | Wish::SetMode { .. } => {}
        }
        Ok(match (wish, &drill) {
            (Wish::Abort { run, reason }, Some(open)) if run == open => Command::StopDrill {
                by,
                reason: reason.clone(),
            },
            _ => command_of(wish.clone(), by),
        })
    }

    /// The services that are named; all of them that the speaker may see where none is.
    fn named(
        &self,
        names: &[ServiceName],
        speaker: &Speaker,
    ) -> Result<Vec<Arc<Service>>, Refusal> {
        if names.is_empty() {
            return Ok(self.visible(speaker));
        }
        let seen = names.iter().map(|name| self.seen(name, speaker));
        seen.collect()
    }

    /// Has it written down that a front end turned somebody away.
    pub async fn turned_away(&self, service: &ServiceName, who: &str, reason: &str) {
        let command = Command::TurnedAway {
            by: PersonName::new(who),
            reason: reason.to_owned(),
        };
        if let Err(error) = self.controller.command(service, command).await {
            tracing::warn!(%service, who, reason, %error, "a refusal could not be written down");
        }
    }

    /// The services that a speaker may look at.
    #[must_use]
    pub fn visible(&self, speaker: &Speaker) -> Vec<Arc<Service>> {
        let mut services = self.controller.services();
        services.retain(|service| speaker.sees(service));
        services
    }

    /// A service, where the speaker may look at it. Whoever may not is told what is told of one that does not exist.
    fn seen(&self, name: &ServiceName, speaker: &Speaker) -> Result<Arc<Service>, Refusal> {
        let visible = self.visible(speaker);
        let found = visible.iter().find(|s| s.name == *name).cloned();
        found.ok_or_else(|| Refusal::NoService {
            name: name.to_string(),
            known: visible.iter().map(|s| s.name.to_string()).collect(),
        })
    }

    fn refuse(error: &CommandError) -> Refusal {
        match error {
            CommandError::NoService(name) => Refusal::NoService {
                name: name.to_string(),
                known: Vec::new(),
            },
            CommandError::Ended(_) | CommandError::Journal(_) | CommandError::Unread(_) => {
                Refusal::Engine {
                    reason: error.to_string(),
                }
            }
        }
    }
}

fn command_of(wish: Wish, by: PersonName) -> Command {
    match wish {
        Wish::Open {
            kind,
            to,
            reason,
            plan,
        } => Command::Open {
            kind,
            to,
            plan: plan.as_deref().map(PlanHash::from),
            by,
            reason,
        },
        Wish::Approve {
            ask,
            reason,
            break_glass,
        } => Command::Approve {
            ask: Some(ask),
            by,
            user: None,
            reason,
            break_glass,
        },
        Wish::Deny { ask, reason } => Command::Deny {
            ask: Some(ask),
            by,
            reason,
        },
        Wish::Pause { reason } => Command::Pause { by, reason },
        Wish::Resume => Command::Resume { by },
        Wish::Abort { reason, .. } => Command::Abort { by, reason },
        Wish::Acknowledge { page } => Command::Acknowledge { page, by },
        Wish::Announce { phase, text } => Command::Announce { phase, text, by },
        Wish::Drill { policy, reason } => Command::Drill { policy, by, reason },
        Wish::TakeOver { reason } => Command::TakeOver { by, reason },
        Wish::Moved { site, reason } => Command::Moved { site, by, reason },
        Wish::SetMode { mode, reason } => Command::SetMode { mode, by, reason },
        Wish::Note { text } => Command::Note { by, text },
        Wish::Declare { reason } => Command::Declare { by, reason },
        Wish::Resolve { reason } => Command::Resolve { by, reason },
        Wish::TakeDuty { duty, person } => Command::TakeDuty { duty, person, by },
        Wish::HandOver { to } => Command::HandOver { to, by },
        Wish::Accept => Command::Accept { by },
    }
}
