//! Pages: which should be open follows from the state. Who is sent them when is `escalation`.

use super::{
    budget,
    detect::{self, Need},
    escalation,
    event::{Trouble, answers, subject_words},
    incident, phase, readiness,
    state::{Question, Run, State},
    terms, turn,
    view::View,
};
use crate::model::{
    announcement::Phase,
    approval::{AskSubject, OnTimeout},
    check::CheckStatus,
    drill::DrillOutcome,
    id::{AskId, IncidentId, PageId, PersonName},
    page::{Page, PageTopic, Severity},
    readiness::Readiness,
    record::{RecordBody, RunOutcome},
    service::{Mode, Service},
    time::Time,
    verdict::Verdict,
};

/// Pages that should be open but are not, and pages whose cause is gone.
#[must_use]
pub fn turn(service: &Service, state: &State, view: &View, now: Time) -> Vec<RecordBody> {
    let wanted = wanted(service, state, view, now);
    let mut out = Vec::new();
    for (id, paged) in &state.pages {
        let stays = if lasting(&paged.page.topic) {
            wanted.iter().any(|p| p == &paged.page)
        } else {
            let told_once = paged.page.severity == Severity::Info
                && escalation::is_sent(service, state, view, id);
            paged.acknowledged.is_none() && !told_once
        };
        if !stays {
            out.push(RecordBody::PageClosed {
                page: id.clone(),
                by: None,
            });
        }
    }
    for page in wanted {
        if !state.pages.values().any(|p| p.page == page) {
            out.push(RecordBody::PageRaised {
                page: Box::new(page),
            });
        }
    }
    out
}

/// Whether a topic's page stays open as long as its cause lasts; others end when acknowledged.
fn lasting(topic: &PageTopic) -> bool {
    match topic {
        PageTopic::Ask(_)
        | PageTopic::Hold
        | PageTopic::Run(_)
        | PageTopic::WouldAct
        | PageTopic::NotReady
        | PageTopic::TwoWriters
        | PageTopic::UpdateDue
        | PageTopic::Doubt(_)
        | PageTopic::TakenOver
        | PageTopic::Guards
        | PageTopic::Backups
        | PageTopic::Drill(_)
        | PageTopic::Incident => true,
        PageTopic::ChannelBroken(_)
        | PageTopic::Restarted
        | PageTopic::Journal
        | PageTopic::Documents
        | PageTopic::BreakGlass(_) => false,
    }
}

fn wanted(service: &Service, state: &State, view: &View, now: Time) -> Vec<Page> {
    let mut out: Vec<Page> = state
        .asks
        .iter()
        .filter(|(_, q)| !q.granted)
        .map(|(id, q)| ask(service, id, q))
        .collect();
    out.extend(outage(service, state, now));
    out.extend(run(service, state, now));
    out.extend(update_due(service, state, now));
    out.extend(taken_over(service, state));
    out.extend(guards(service, state, view, now));
    out.extend(doubts(service, state, view, now));
    out.extend(not_ready(service, state, now));
    out.extend(backups(service, state));
    out.extend(drills(service, state));
    out.extend(two_writers(service, state, view, now));
    out
}

/// A copy of a journal may lack its last records: a person has to see that the service runs where it says.
fn taken_over(service: &Service, state: &State) -> Option<Page> {
    let (by, reason) = state.taken_over.as_ref()?;
    let active = state.active.as_ref()?;
    Some(Page {
        topic: PageTopic::TakenOver,
        severity: Severity::Critical,
        title: format!("{}: this controller took over", service.title),
        body: vec![
            format!("{by}: {reason}"),
            format!(
                "The journal says that {active} serves. Its last records may be missing: see that it is so."
            ),
            "Until that is acknowledged every run is asked for first.".to_owned(),
        ],
        commands: vec![
            format!("failover explain {}", service.name),
            format!("failover ack {}", service.name),
            format!("failover moved {} SITE --reason \"…\"", service.name),
        ],
    })
}

/// Guards that say something else than the journal, or that were not heard: leases that end wait for that.
fn guards(service: &Service, state: &State, view: &View, now: Time) -> Option<Page> {
    let settled = view
        .started
        .is_some_and(|at| now.since(at) >= incident::QUIET);
    let doubt = terms::doubt(service, state, view).filter(|_| settled)?;
    let mut commands = vec![
        format!("failover explain {}", service.name),
        format!("failover check {}", service.name),
    ];
    if terms::stranger(service, state, view).is_some() {
        commands.push(format!("failover takeover {} --reason \"…\"", service.name));
    }
    Some(Page {
        topic: PageTopic::Guards,
        severity: Severity::Critical,
        title: format!("{}: no lease is granted", service.title),
        body: vec![doubt],
        commands,
    })
}

fn ask(service: &Service, id: &AskId, question: &Question) -> Page {
    let ask = &question.ask;
    let mut body = ask.reasons.clone();
    body.push(format!("Expected loss: {}.", ask.loss));
    body.push(format!("Forecast: {}.", ask.forecast));
    body.push(format!("Plan: {}.", ask.plan.short()));
    body.push(format!(
        "Needs {} of: {}.",
        ask.required,
        names(&service.approvals.approvers)
    ));
    let timeout = otherwise(service, question);
    body.push(format!(
        "If nobody answers by {}: {timeout}.",
        question.expires.clock()
    ));
    Page {
        topic: PageTopic::Ask(id.clone()),
        severity: Severity::Critical,
        title: format!(
            "{}: your answer is needed on {}",
            service.title,
            subject_words(&ask.subject)
        ),
        body,
        commands: answers(id, &ask.subject),
    }
}

/// A person decided alone: everybody hears of it at once.
#[must_use]
pub fn broke_glass(
    service: &Service,
    id: &AskId,
    question: &Question,
    by: &PersonName,
    reason: &str,
) -> Page {
    let subject = subject_words(&question.ask.subject);
    Page {
        topic: PageTopic::BreakGlass(id.clone()),
        severity: Severity::Critical,
        title: format!("{}: {by} broke the glass for {subject}", service.title),
        body: vec![format!("{reason}.")],
        commands: vec![format!("failover status {}", service.name)],
    }
}

/// What happens if nobody answers a question.
#[must_use]
pub fn otherwise(service: &Service, question: &Question) -> &'static str {
    match (service.approvals.on_timeout, &question.ask.subject) {
        (OnTimeout::Proceed, AskSubject::Open { .. }) if question.ask.requester.is_none() => {
            "it then goes on by itself, if nothing speaks against it"
        }
        (OnTimeout::Proceed | OnTimeout::Hold, _) => "nothing is done, and you are paged again",
    }
}

/// The mode in force, and why it is not the documents'.
fn mode_words(service: &Service, state: &State, now: Time) -> String {
    let mode = readiness::mode(service, state, now);
    if mode == state.wanted {
        format!("The mode is {mode}.")
    } else if state.lowered.is_some_and(|lowered| lowered == mode) {
        format!(
            "The mode is {mode}: a person lowered it from {}.",
            state.wanted
        )
    } else {
        format!("The mode is {mode}: {} is not earned.", state.wanted)
    }
}

fn outage(service: &Service, state: &State, now: Time) -> Vec<Page> {
    let Some(incident) = &state.incident else {
        return Vec::new();
    };
    let status = vec![format!("failover explain {}", service.name)];
    let mut out = Vec::new();
    // What a person asked for is no outage.
    if !incident.components.is_empty()
        && state.unacknowledged.is_none()
        && !state
            .last_run
            .as_ref()
            .is_some_and(|run| has_met(run, &incident.id))
    {
        out.push(Page {
            topic: PageTopic::Incident,
            severity: Severity::Critical,
            title: format!("{}: outage since {}", service.title, incident.since.clock()),
            body: vec![incident.reason.clone(), mode_words(service, state, now)],
            commands: status.clone(),
        });
    }
    // What waits for its turn goes on by itself; those ahead page for what is theirs.
    if !incident.held.is_empty() && state.run.is_none() && !turn::waits(service, state) {
        out.push(Page {
            topic: PageTopic::Hold,
            severity: Severity::Critical,
            title: format!("{}: the failover is held back", service.title),
            body: incident.held.clone(),
            commands: status
                .iter()
                .cloned()
                .chain(by_hand(service, state))
                .collect(),
        });
    }
    if incident.would_act.is_some() {
        out.push(Page {
            topic: PageTopic::WouldAct,
            severity: Severity::Critical,
            title: format!(
                "{}: it would have failed over now, but the mode is observe",
                service.title
            ),
            body: vec![
                incident.reason.clone(),
                "Nothing was touched. The journal holds the plan that would have run.".to_owned(),
            ],
            commands: vec![format!("failover plan {}", service.name), status[0].clone()],
        });
    }
    out
}

/// Whether a run did something about an incident: one that went back before it promoted anybody left the outage as it was.
fn has_met(run: &Run, incident: &IncidentId) -> bool {
    let is_done = matches!(run.ended, Some((RunOutcome::Done, _, _)));
    run.incident.as_ref() == Some(incident) && (is_done || run.epoch.is_some())
}

/// The command that begins by hand what is held back.
fn by_hand(service: &Service, state: &State) -> Option<String> {
    let kind = match detect::need(service, &state.verdicts) {
        Need::Failover => "",
        Need::Redirect => " --kind redirect",
        Need::Nothing | Need::Unclear => return None,
    };
    Some(format!(
        "failover failover {}{kind} --reason \"…\"",
        service.name
    ))
}

fn run(service: &Service, state: &State, now: Time) -> Vec<Page> {
    let ack = format!("failover ack {}", service.name);
    if let Some(run) = &state.run {
        if let Some(page) = unclear_promotion(service, run, now) {
            return vec![page];
        }
        return vec![Page {
            topic: PageTopic::Run(run.id.clone()),
            severity: Severity::Warning,
            title: format!(
                "{}: a {} from {} to {} is running",
                service.title, run.kind, run.plan.from, run.plan.to
            ),
            body: vec![run.reason.clone(), format!("Expected loss: {}.", run.loss)],
            commands: vec![
                format!("failover status {} --watch", service.name),
                format!("failover abort {} --reason \"…\"", run.id),
            ],
        }];
    }
    let Some(run) = &state.last_run else {
        return Vec::new();
    };
    let Some((outcome, reason, _)) = &run.ended else {
        return Vec::new();
    };
    let topic = PageTopic::Run(run.id.clone());
    match outcome {
        RunOutcome::Stuck | RunOutcome::Aborted if state.stuck.as_ref() == Some(&run.id) => {
            let word = if *outcome == RunOutcome::Stuck {
                "is stuck"
            } else {
                "was stopped"
            };
            vec![Page {
                topic,
                severity: Severity::Critical,
                title: format!("{}: the {} {word}", service.title, run.kind),
                body: vec![
                    reason.clone(),
                    "Nothing more is begun automatically until this is acknowledged.".to_owned(),
                ],
                commands: vec![
                    format!("failover timeline {}", service.name),
                    format!("failover moved {} SITE --reason \"…\"", service.name),
                    ack,
                ],
            }]
        }
        RunOutcome::Done if state.unacknowledged.as_ref() == Some(&run.id) => vec![Page {
            topic,
            severity: Severity::Warning,
            title: format!("{}: {} to {} is done", service.title, run.kind, run.plan.to),
            body: done_words(run, reason),
            commands: vec![
                ack,
                format!("failover announce send {} recovered", service.name),
            ],
        }],
        RunOutcome::Done if run.epoch.is_none() && ends_incident(state, run) => vec![Page {
            topic,
            severity: Severity::Warning,
            title: format!("{}: {} to {} is done", service.title, run.kind, run.plan.to),
            body: vec![
                reason.clone(),
                "The incident ends when customers are told that all is as usual again.".to_owned(),
            ],
            commands: vec![
                format!("failover announce send {} recovered", service.name),
                format!("failover timeline {}", service.name),
            ],
        }],
        RunOutcome::Done | RunOutcome::Unwound | RunOutcome::Stuck | RunOutcome::Aborted => {
            Vec::new()
        }
    }
}

/// What fails without being surely down, or cannot be seen at all, for longer than evidence takes to become clear.
/// Nothing is done by itself then, so people have to look.
fn doubts(service: &Service, state: &State, view: &View, now: Time) -> Vec<Page> {
    let (Some(started), None) = (view.started, &state.run) else {
        return Vec::new();
    };
    let patience = budget::slowest_detection(service).saturating_mul(2);
    let patience = patience.max(incident::QUIET);
    let doubtful = service.components.iter().filter_map(|component| {
        let (verdict, since) = state.verdicts.get(&component.name).copied()?;
        let (severity, what) = match verdict {
            Verdict::Suspect => (
                Severity::Critical,
                "fails, but it is not certain to be down",
            ),
            Verdict::Inconclusive => (Severity::Warning, "cannot be seen"),
            Verdict::Healthy | Verdict::Degraded | Verdict::Down => return None,
        };
        (now.since(since.max(started)) >= patience).then(|| Page {
            topic: PageTopic::Doubt(component.name.clone()),
            severity,
            title: format!("{}: {} {what}", service.title, component.title),
            body: vec![
                format!("It has been so since {}.", since.clock()),
                "Nothing is done by itself while that lasts: look yourself.".to_owned(),
            ],
            commands: vec![
                format!("failover explain {}", service.name),
                format!("failover failover {} --reason \"…\"", service.name),
            ],
        })
    });
    doubtful.collect()
}

fn done_words(run: &Run, reason: &str) -> Vec<String> {
    let mut body = vec![
        reason.to_owned(),
        format!(
            "The old primary at {} must stay off until it is rejoined as a standby.",
            run.plan.from
        ),
    ];
    if run.verified.is_none() {
        body.push(
            "It was not verified, and customers were not told of it: look yourself, then announce on-standby."
                .to_owned(),
        );
    }
    body.push("Another automatic failover waits for this to be acknowledged.".to_owned());
    body.push("The incident ends when customers are told that all is as usual again.".to_owned());
    body
}

/// Whether only a person's word is missing for the end of the incident that a run belongs to.
fn ends_incident(state: &State, run: &Run) -> bool {
    state
        .incident
        .as_ref()
        .is_some_and(|i| run.incident.as_ref() == Some(&i.id) && i.phase != Some(Phase::Recovered))
}

/// A promotion whose outcome cannot be told is looked for on and on; after its time a person has to look as well.
fn unclear_promotion(service: &Service, run: &Run, now: Time) -> Option<Page> {
    let (step, reason) = run.unclear_promotion(now)?;
    Some(Page {
        topic: PageTopic::Run(run.id.clone()),
        severity: Severity::Critical,
        title: format!(
            "{}: whether {} was promoted cannot be told",
            service.title, run.plan.to
        ),
        body: vec![
            format!("Step {} ({}): {reason}.", step.id, step.name),
            format!(
                "It is looked for again every half minute; the run goes on as soon as it is seen. {} must stay off.",
                run.plan.from
            ),
            format!(
                "Where {} is lost for good, end the run with `failover abort`, and fail over to another site then.",
                run.plan.to
            ),
        ],
        commands: vec![
            format!("failover status {} --watch", service.name),
            format!("failover explain {}", service.name),
            format!("failover abort {} --reason '…'", run.id),
        ],
    })
}

/// Customers were promised news by now.
fn update_due(service: &Service, state: &State, now: Time) -> Option<Page> {
    let incident = state.incident.as_ref()?;
    let last = phase::heard_last(state, incident)?;
    let due = last.next_update.filter(|at| *at <= now)?;
    Some(Page {
        topic: PageTopic::UpdateDue,
        severity: Severity::Warning,
        title: format!(
            "{}: customers were promised an update at {}",
            service.title,
            due.clock()
        ),
        body: vec![
            format!("They heard last: {}.", last.phase),
            "Tell them where things stand; that also promises the next update.".to_owned(),
        ],
        commands: vec![
            format!(
                "failover announce send {} {} --text \"…\"",
                service.name,
                last.phase.word()
            ),
            format!("failover announce send {} recovered", service.name),
        ],
    })
}

fn not_ready(service: &Service, state: &State, now: Time) -> Option<Page> {
    let (verdict, reason) = readiness::verdict(service, state, now);
    let automatic_unearned = state.wanted == Mode::Automatic && verdict != Readiness::Ready;
    let red = verdict == Readiness::NotReady || state.check.as_ref().is_some_and(|c| !c.green);
    if !automatic_unearned && !red {
        return None;
    }
    let mut body = Vec::new();
    if automatic_unearned {
        body.push(format!(
            "Automatic is not earned: {reason}. It asks instead."
        ));
    } else if verdict == Readiness::NotReady {
        body.push(format!("It is not ready: {reason}."));
    }
    let problems = state.check.iter().flat_map(|c| &c.problems);
    for problem in problems.filter(|p| !p.aside) {
        body.push(match problem.status {
            CheckStatus::Ok | CheckStatus::Warn => {
                format!("{} is {}.", problem.name, problem.status)
            }
            CheckStatus::Fail | CheckStatus::Unknown => {
                format!(
                    "{} is {}: {}.",
                    problem.name, problem.status, problem.detail
                )
            }
        });
    }
    Some(Page {
        topic: PageTopic::NotReady,
        severity: Severity::Warning,
        title: match verdict {
            Readiness::NotReady => format!("{}: not ready to fail over", service.title),
            Readiness::Unknown => format!(
                "{}: whether it is ready to fail over is not known",
                service.title
            ),
            Readiness::Ready => format!("{}: the last check was not green", service.title),
        },
        body,
        commands: vec![format!("failover check {}", service.name)],
    })
}

/// What the second line lacks. A failover is none the worse for it.
fn backups(service: &Service, state: &State) -> Option<Page> {
    service.backups.as_ref()?;
    let breaches = &state.backups.breaches;
    if breaches.is_empty() {
        return None;
    }
    let certain = breaches.iter().any(|b| b.certain);
    let what = if certain {
        "the backups break their policy"
    } else {
        "whether the backups keep their policy cannot be told"
    };
    Some(Page {
        topic: PageTopic::Backups,
        severity: Severity::Warning,
        title: format!("{}: {what}", service.title),
        body: breaches.iter().map(|b| format!("{}.", b.text)).collect(),
        commands: vec![format!("failover backups {}", service.name)],
    })
}

/// Drills whose last time was not passed, though nobody stopped it; and what one could not take back.
fn drills(service: &Service, state: &State) -> Vec<Page> {
    let ended = state.drills.ended.iter();
    let bad = ended.filter(|(_, e)| e.outcome == DrillOutcome::Failed || !e.left.is_empty());
    bad.map(|(name, e)| Page {
        topic: PageTopic::Drill(name.clone()),
        severity: Severity::Warning,
        title: if e.left.is_empty() {
            format!("{}: drill {name} failed", service.title)
        } else {
            format!("{}: drill {name} left something behind", service.title)
        },
        body: e
            .reasons
            .iter()
            .chain(&e.left)
            .map(|r| format!("{r}."))
            .collect(),
        commands: vec![
            format!("failover report {}", e.id),
            format!("failover drill {} --name {name}", service.name),
        ],
    })
    .collect()
}

/// A database that takes writes at a site which is not the active one: the worst that can be seen.
fn two_writers(service: &Service, state: &State, view: &View, now: Time) -> Vec<Page> {
    let Some(active) = detect::writer(state) else {
        return Vec::new();
    };
    detect::writing_elsewhere(service, state, view, now)
        .into_iter()
        .map(|site| Page {
            topic: PageTopic::TwoWriters,
            severity: Severity::Critical,
            title: format!(
                "{}: the database at {site} takes writes, but {active} is the active site",
                service.title
            ),
            body: vec![
                format!(
                    "Stop the database at {site} now: what is written there is lost to {active}."
                ),
                "Keep its data: it may hold writes that exist nowhere else.".to_owned(),
            ],
            commands: vec![format!("failover explain {}", service.name)],
        })
        .collect()
}

/// The page for something that the driver noticed.
#[must_use]
pub fn trouble(service: &Service, trouble: &Trouble) -> Option<Page> {
    match trouble {
        Trouble::Documents(reason) => Some(Page {
            topic: PageTopic::Documents,
            severity: Severity::Warning,
            title: format!(
                "{}: the documents changed but cannot be used",
                service.title
            ),
            body: vec![
                reason.clone(),
                "The documents as they were before stay in force.".to_owned(),
            ],
            commands: vec!["failover validate DIR".to_owned()],
        }),
        Trouble::Channel { channel, reason } => Some(Page {
            topic: PageTopic::ChannelBroken(channel.clone()),
            severity: Severity::Critical,
            title: format!("{}: channel {channel} cannot send", service.title),
            body: vec![reason.clone()],
            commands: vec![format!("failover check {}", service.name)],
        }),
        Trouble::DocumentsFixed | Trouble::Ttl { .. } => None,
    }
}

/// The page that says that a controller took up a chain that had been taken up before.
#[must_use]
pub fn restarted(service: &Service, state: &State) -> Page {
    let run = state.run.as_ref().map_or_else(
        || "No run was in progress.".to_owned(),
        |r| format!("Run {} goes on.", r.id),
    );
    Page {
        topic: PageTopic::Restarted,
        severity: Severity::Info,
        title: format!("{}: the controller was started again", service.title),
        body: vec![run],
        commands: vec![format!("failover status {}", service.name)],
    }
}

fn names(people: &[crate::model::id::PersonName]) -> String {
    people
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The id of the page that a person means, or all open ones.
#[must_use]
pub fn named(state: &State, page: Option<&PageId>) -> Vec<PageId> {
    match page {
        Some(id) => state
            .pages
            .get_key_value(id)
            .filter(|(_, p)| p.acknowledged.is_none())
            .map(|(id, _)| vec![id.clone()])
            .unwrap_or_default(),
        None => state
            .pages
            .iter()
            .filter(|(_, p)| p.acknowledged.is_none())
            .map(|(id, _)| id.clone())
            .collect(),
    }
}
