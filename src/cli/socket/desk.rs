//! What the controller answers: each request read from a running controller, each command given to it under the name of
//! the person who speaks.

use std::{collections::BTreeMap, sync::Arc};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use nix::unistd::{Uid, User};

use super::message::{Answer, Envelope, Event as Followed, Refusal, Request, Wish};
use crate::{
    cli::{preview, token, view},
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
        id::{PersonName, PlanHash, ServiceName},
        secret::Secret,
        service::Service,
    },
    port::{cause, runtime::SharedRuntime},
};

/// Answers for a controller.
pub struct Desk {
    /// The controller.
    pub controller: Arc<Controller>,
    /// Its time.
    pub runtime: SharedRuntime,
}

/// Events for a client that watches.
pub type Events = BoxStream<'static, Followed>;

impl Desk {
    /// Answers one request of a local user.
    pub async fn answer(
        self: &Arc<Self>,
        envelope: Envelope,
        peer: Uid,
    ) -> (Answer, Option<Events>) {
        let token = envelope.token.map(|t| t.secret());
        let answered = match envelope.request {
            Request::Watch { service } => match self.watch(service.as_ref()) {
                Ok(events) => return (Answer::Watching, Some(events)),
                Err(refusal) => Err(refusal),
            },
            Request::Status { service } => self.status(service.as_ref()).await,
            Request::Plan { service, kind, to } => match self.core(&service).await {
                Ok(core) => view::plan(&core, kind, to.as_ref(), self.runtime.now())
                    .map(|plan| Answer::Plan(Box::new(plan)))
                    .map_err(|reason| Refusal::NoPlan { service, reason }),
                Err(refusal) => Err(refusal),
            },
            Request::Check { service } => self
                .controller
                .check(&service)
                .await
                .map(Answer::Check)
                .map_err(|e| self.refuse(&e)),
            Request::Backups { service } => self.backups(&service).await,
            Request::VerifyBackup { service, choice } => self.try_backup(&service, &choice).await,
            Request::BackupVerified { service, result } => {
                let told = self
                    .controller
                    .tell(&service, Event::BackupVerified(result.clone()));
                told.map(|()| Answer::BackupVerified(result))
                    .map_err(|e| self.refuse(&e))
            }
            Request::BackupTaken { service, result } => {
                let told = self
                    .controller
                    .tell(&service, Event::BackupTaken(result.clone()));
                told.map(|()| Answer::BackupTaken(result))
                    .map_err(|e| self.refuse(&e))
            }
            Request::Preview {
                service,
                phases,
                text,
            } => self.preview(&service, &phases, text).await,
            Request::Command { services, wish } => {
                self.command(services, &wish, token.as_ref(), peer).await
            }
            Request::Try { service, wish } => {
                self.possible(&service, &wish, token.as_ref(), peer).await
            }
        };
        (answered.unwrap_or_else(Answer::Refused), None)
    }

    async fn core(&self, service: &ServiceName) -> Result<Box<crate::decide::core::Core>, Refusal> {
        self.controller
            .show(service)
            .await
            .map_err(|e| self.refuse(&e))
    }

    async fn status(&self, service: Option<&ServiceName>) -> Result<Answer, Refusal> {
        let mut reports = Vec::new();
        for name in self.named(service.cloned().into_iter().collect())? {
            let core = self.core(&name.name).await?;
            reports.push(explain::report(&core, self.runtime.now()));
        }
        Ok(Answer::Status(reports))
    }

    async fn backups(&self, service: &ServiceName) -> Result<Answer, Refusal> {
        let survey = backups::look(&self.controller, service).await;
        let survey = survey.map_err(|e| self.refuse(&e))?;
        Ok(Answer::Backups(survey.map(Box::new)))
    }

    async fn try_backup(
        &self,
        service: &ServiceName,
        choice: &backups::Choice,
    ) -> Result<Answer, Refusal> {
        let tried = backups::try_one(&self.controller, service, choice).await;
        match tried.map_err(|e| self.refuse(&e))? {
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
            .map_err(|e| self.refuse(&e))?;
        let now = self.runtime.now();
        let items = preview::of(&core, &channels, phases, text.as_deref(), now).await;
        Ok(Answer::Preview(items))
    }

    /// Records as they are written, from now on.
    ///
    /// # Errors
    /// Where there is no such service.
    pub fn watch(self: &Arc<Self>, service: Option<&ServiceName>) -> Result<Events, Refusal> {
        let mut all = Vec::new();
        for service in self.named(service.cloned().into_iter().collect())? {
            let records = self
                .controller
                .follow(&service.name)
                .map_err(|e| self.refuse(&e))?;
            let desk = Arc::clone(self);
            let events = records.filter_map(move |record| {
                let desk = Arc::clone(&desk);
                async move {
                    let core = desk.controller.show(&record.chain).await.ok()?;
                    let report = Box::new(explain::report(&core, desk.runtime.now()));
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
        token: Option<&Secret>,
        peer: Uid,
    ) -> Result<Answer, Refusal> {
        let services = self.named(services)?;
        // Everybody is asked before anything is done, so that a kill switch works everywhere or nowhere.
        let mut speakers = Vec::with_capacity(services.len());
        for service in &services {
            speakers.push(speaker(service, wish, token, peer)?);
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
        token: Option<&Secret>,
        peer: Uid,
    ) -> Result<Answer, Refusal> {
        let core = self.core(service).await?;
        let by = speaker(core.service(), wish, token, peer)?;
        let wanted = self.wanted(core.service(), wish, by).await?;
        let (state, view) = (core.state(), core.view());
        match command::take(core.service(), state, view, &wanted, self.runtime.now()) {
            Ok(_) => Ok(Answer::Possible),
            Err(refusal) => Err(Refusal::Engine {
                reason: refusal.to_string(),
            }),
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
            Err(error) => Err(self.refuse(&error)),
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

    /// The services that are named; all of them where none is.
    fn named(&self, names: Vec<ServiceName>) -> Result<Vec<Arc<Service>>, Refusal> {
        let all = self.controller.services();
        if names.is_empty() {
            return Ok(all);
        }
        names
            .into_iter()
            .map(|name| {
                all.iter()
                    .find(|s| s.name == name)
                    .cloned()
                    .ok_or_else(|| self.unknown(&name))
            })
            .collect()
    }

    fn unknown(&self, name: &ServiceName) -> Refusal {
        Refusal::NoService {
            name: name.to_string(),
            known: self
                .controller
                .services()
                .iter()
                .map(|s| s.name.to_string())
                .collect(),
        }
    }

    fn refuse(&self, error: &CommandError) -> Refusal {
        match error {
            CommandError::NoService(name) => self.unknown(name),
            CommandError::Ended(_) | CommandError::Journal(_) => Refusal::Engine {
                reason: error.to_string(),
            },
        }
    }
}

/// Who speaks. A pause needs no token: whoever can reach the socket could stop the controller as well, and the brake has
/// to work at once. Nor does a service whose team has no tokens; then it is the local user who is written down.
fn speaker(
    service: &Service,
    wish: &Wish,
    token: Option<&Secret>,
    peer: Uid,
) -> Result<PersonName, Refusal> {
    let people = &service.team.people;
    let brake = matches!(wish, Wish::Pause { .. });
    if let Some(token) = token {
        match token::owner(people, token) {
            Some(person) => return Ok(person),
            None if brake => {}
            None => {
                return Err(Refusal::TokenUnknown {
                    service: service.name.clone(),
                });
            }
        }
    }
    if !brake && people.iter().any(|p| p.token_hash.is_some()) {
        return Err(Refusal::TokenNeeded);
    }
    let name = User::from_uid(peer)
        .ok()
        .flatten()
        .map_or_else(|| peer.to_string(), |user| user.name);
    Ok(PersonName::new(format!("local/{name}")))
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
    }
}
