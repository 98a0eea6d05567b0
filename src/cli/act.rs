//! The commands that change something, each under the name of the person whose token they bring.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    arguments::{self, Identity, ModeName, PhaseName},
    client::Client,
    identity, look,
    output::Output,
    place::Place,
};
use crate::{
    desk::message::{Answer, PreviewItem, Request, Wish},
    error::Error,
    model::{
        announcement::Phase,
        id::{AskId, PageId, RunId, ServiceName, SiteName},
        secret::Secret,
        service::Mode,
    },
};

/// A command that changes something.
pub struct Deed<'a> {
    /// For which services; none: for every one.
    services: Vec<ServiceName>,
    wish: Wish,
    identity: &'a Identity,
    /// Whether to stay until the run ends.
    watch: bool,
}

impl<'a> Deed<'a> {
    /// A command that is given and not watched.
    #[must_use]
    pub fn new(services: Vec<ServiceName>, wish: Wish, identity: &'a Identity) -> Self {
        Self {
            services,
            wish,
            identity,
            watch: false,
        }
    }
}

/// Gives a command.
///
/// # Errors
/// Where it is refused.
pub async fn act(deed: Deed<'_>, place: &Place, output: Output) -> Result<(), Error> {
    let token = identity::given(deed.identity)?;
    let place = &place.with_token(token.clone());
    // Followed from before the command, so that nothing is missed.
    let watcher = if deed.watch {
        let service = deed.services.first().cloned();
        Some(super::watch::Watcher::connect(place, service).await?)
    } else {
        None
    };
    let request = Request::Command {
        services: deed.services,
        wish: deed.wish,
    };
    let advice = request.advice();
    let answer = match ask(place, request.clone(), token.as_ref()).await {
        Err(Error::TokenNeeded { what }) => match identity::asked()? {
            Some(token) => ask(place, request, Some(&token)).await,
            None => Err(Error::TokenNeeded { what }),
        },
        other => other,
    };
    let Answer::Done { done, refused } = answer? else {
        return Err(look::unexpected());
    };
    said(&done, &refused, output)?;
    if let Some((service, reason)) = refused.into_iter().next() {
        return Err(Error::Refused {
            reason: format!("{service}: not done: {reason}"),
            help: advice,
        });
    }
    match watcher {
        Some(watcher) => watcher.until_run_ends(output).await,
        None => Ok(()),
    }
}

/// `failover failover`.
///
/// # Errors
/// Where it is not confirmed, or refused.
pub async fn failover(
    args: &arguments::Failover,
    place: &Place,
    output: Output,
) -> Result<(), Error> {
    let service = ServiceName::from(args.service.as_str());
    let kind = look::run_kind(args.kind);
    let to = args.to.as_deref().map(SiteName::from);
    let begin = &args.begin;
    let mut wish = Wish::Open {
        kind,
        to: to.clone(),
        reason: begin.reason.clone(),
        plan: begin.plan.clone(),
    };
    if !begin.yes {
        possible(place, &service, &wish, &begin.identity).await?;
        let place = &place.with_token(identity::given(&begin.identity)?);
        let mut client = Client::connect(place).await?;
        let view = look::plan_of(&mut client, service.clone(), kind, to).await?;
        output.note(&look::plan_text(&view, output));
        identity::confirm("Begin exactly this?")?;
        if let Wish::Open { plan, .. } = &mut wish {
            plan.get_or_insert_with(|| view.hash.to_string());
        }
    }
    let deed = Deed {
        services: vec![service],
        wish,
        identity: &begin.identity,
        watch: begin.watch,
    };
    act(deed, place, output).await
}

/// `failover approve`.
///
/// # Errors
/// Where the id is none of a question.
pub fn approve(args: &arguments::Approve) -> Result<Deed<'_>, Error> {
    Ok(Deed {
        services: vec![owner(&args.id, 'a')?],
        wish: Wish::Approve {
            ask: AskId::new(args.id.clone()),
            reason: args.reason.clone(),
            break_glass: args.break_glass,
        },
        identity: &args.identity,
        watch: args.watch,
    })
}

/// `failover deny`.
///
/// # Errors
/// Where the id is none of a question.
pub fn deny(args: &arguments::Deny) -> Result<Deed<'_>, Error> {
    let wish = Wish::Deny {
        ask: AskId::new(args.id.clone()),
        reason: args.reason.clone(),
    };
    Ok(Deed::new(vec![owner(&args.id, 'a')?], wish, &args.identity))
}

/// `failover pause`.
#[must_use]
pub fn pause(args: &arguments::Pause) -> Deed<'_> {
    let wish = Wish::Pause {
        reason: args.reason.clone(),
    };
    Deed::new(named(args.service.as_ref()), wish, &args.identity)
}

/// `failover resume`.
#[must_use]
pub fn resume(args: &arguments::Resume) -> Deed<'_> {
    Deed::new(named(args.service.as_ref()), Wish::Resume, &args.identity)
}

/// `failover abort`.
///
/// # Errors
/// Where the id is none of a run.
pub fn abort(args: &arguments::Abort) -> Result<Deed<'_>, Error> {
    let wish = Wish::Abort {
        run: RunId::new(args.run.clone()),
        reason: args.reason.clone(),
    };
    Ok(Deed::new(
        vec![owner(&args.run, 'r')?],
        wish,
        &args.identity,
    ))
}

/// `failover mode`.
#[must_use]
pub fn mode(args: &arguments::Mode) -> Deed<'_> {
    let wish = Wish::SetMode {
        mode: match args.mode {
            ModeName::Observe => Mode::Observe,
            ModeName::Ask => Mode::Ask,
            ModeName::Automatic => Mode::Automatic,
        },
        reason: args.reason.clone(),
    };
    let service = ServiceName::from(args.service.as_str());
    Deed::new(vec![service], wish, &args.identity)
}

/// `failover moved`.
#[must_use]
pub fn moved(args: &arguments::Moved) -> Deed<'_> {
    let wish = Wish::Moved {
        site: SiteName::from(args.site.as_str()),
        reason: args.reason.clone(),
    };
    let service = ServiceName::from(args.service.as_str());
    Deed::new(vec![service], wish, &args.identity)
}

/// `failover takeover SERVICE`.
#[must_use]
pub fn take_over<'a>(service: &str, args: &'a arguments::Takeover) -> Deed<'a> {
    let wish = Wish::TakeOver {
        reason: args.reason.clone(),
    };
    Deed::new(vec![ServiceName::from(service)], wish, &args.identity)
}

/// `failover ack`.
///
/// # Errors
/// Where it is refused.
pub async fn ack(args: &arguments::Ack, place: &Place, output: Output) -> Result<(), Error> {
    // A page where it looks like one and there is no service of that name.
    let place = &place.with_token(identity::given(&args.identity)?);
    let mut client = Client::connect(place).await?;
    let known = look::reports(&mut client, None).await?;
    let is_service = known.iter().any(|r| r.service.as_str() == args.id);
    let (service, page) = match owner(&args.id, 'p') {
        Ok(service) if !is_service => (service, Some(PageId::new(args.id.clone()))),
        Ok(_) | Err(_) => (ServiceName::from(args.id.as_str()), None),
    };
    let wish = Wish::Acknowledge { page };
    let deed = Deed::new(vec![service], wish, &args.identity);
    act(deed, place, output).await
}

/// `failover announce preview`.
///
/// # Errors
/// Where no controller answers and no documents are given.
pub async fn preview(
    args: &arguments::AnnouncePreview,
    place: &Place,
    output: Output,
) -> Result<(), Error> {
    let service = ServiceName::from(args.service.as_str());
    let phases = match args.phase {
        Some(name) => vec![phase(name)],
        None => vec![
            Phase::Investigating,
            Phase::FailingOver,
            Phase::OnStandby,
            Phase::Recovered,
            Phase::Correction,
            Phase::Maintenance,
            Phase::MaintenanceOver,
        ],
    };
    let items = if args.file.is_empty() {
        let mut client = Client::connect(place).await?;
        messages(&mut client, service, phases, None).await?
    } else {
        super::offline::Offline::new(&args.file, &service, place, output)?
            .preview(&phases)
            .await?
    };
    if output.json() {
        output.value(&serde_json::json!({ "messages": items }))
    } else {
        output.text(&items.iter().map(message).collect::<Vec<_>>().join("\n"))
    }
}

/// `failover announce send`.
///
/// # Errors
/// Where it is not confirmed, or refused.
pub async fn announce(
    args: &arguments::AnnounceSend,
    place: &Place,
    output: Output,
) -> Result<(), Error> {
    let service = ServiceName::from(args.service.as_str());
    let phase = phase(args.phase);
    let wish = Wish::Announce {
        phase,
        text: args.text.clone(),
    };
    if !args.yes {
        possible(place, &service, &wish, &args.identity).await?;
        let place = &place.with_token(identity::given(&args.identity)?);
        let mut client = Client::connect(place).await?;
        let text = args.text.clone();
        let items = messages(&mut client, service.clone(), vec![phase], text).await?;
        for item in &items {
            output.note(&message(item));
        }
        identity::confirm("Send these?")?;
    }
    let deed = Deed::new(vec![service], wish, &args.identity);
    act(deed, place, output).await
}

async fn messages(
    client: &mut Client,
    service: ServiceName,
    phases: Vec<Phase>,
    text: Option<String>,
) -> Result<Vec<PreviewItem>, Error> {
    let request = Request::Preview {
        service,
        phases,
        text,
    };
    let Answer::Preview(items) = client.ask(request, None).await? else {
        return Err(look::unexpected());
    };
    Ok(items)
}

fn message(item: &PreviewItem) -> String {
    let mut text = format!(
        "== {} on {} ({}), {}\n",
        item.phase, item.channel, item.uses, item.recipients
    );
    for remark in &item.remarks {
        let _ = writeln!(text, "   {remark}");
    }
    if let Some(subject) = &item.subject {
        let _ = writeln!(text, "Subject: {subject}");
    }
    text.push_str(item.text.trim_end());
    text.push('\n');
    text
}

/// Whether a command would be taken, so that nobody confirms what is refused.
async fn possible(
    place: &Place,
    service: &ServiceName,
    wish: &Wish,
    identity: &Identity,
) -> Result<(), Error> {
    let request = Request::Try {
        service: service.clone(),
        wish: wish.clone(),
    };
    let token = identity::given(identity)?;
    let place = &place.with_token(token.clone());
    match ask(place, request, token.as_ref()).await {
        // Whoever has to type the token does so once, with the command itself.
        Ok(_) | Err(Error::TokenNeeded { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Gives a command; asks for the token on the terminal where the controller wants one and none was given. The
/// controller is called anew after a person was asked: it does not wait for people on an open line.
async fn ask(place: &Place, request: Request, token: Option<&Secret>) -> Result<Answer, Error> {
    Client::connect(place).await?.ask(request, token).await
}

type Replies = BTreeMap<ServiceName, String>;

fn said(done: &Replies, refused: &Replies, output: Output) -> Result<(), Error> {
    if output.json() {
        return output.value(&serde_json::json!({ "done": done, "refused": refused }));
    }
    for (service, said) in done {
        output.line(&format!("{service}: {said}"))?;
    }
    for (service, reason) in refused {
        output.line(&format!("{service}: not done: {reason}"))?;
    }
    Ok(())
}

fn named(service: Option<&String>) -> Vec<ServiceName> {
    service
        .map(|s| ServiceName::new(s.clone()))
        .into_iter()
        .collect()
}

/// The service that an id such as `shop-a12` belongs to.
///
/// # Errors
/// Where it is none of this kind.
pub fn owner(id: &str, letter: char) -> Result<ServiceName, Error> {
    let found = id.rsplit_once('-').filter(|(service, rest)| {
        let digits = rest.strip_prefix(letter).unwrap_or_default();
        !service.is_empty() && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    });
    match found {
        Some((service, _)) => Ok(ServiceName::from(service)),
        None => Err(Error::Usage(format!(
            "{id:?} is no id of this kind: expected something like shop-{letter}12, as 'failover status' shows it"
        ))),
    }
}

fn phase(name: PhaseName) -> Phase {
    match name {
        PhaseName::Investigating => Phase::Investigating,
        PhaseName::FailingOver => Phase::FailingOver,
        PhaseName::OnStandby => Phase::OnStandby,
        PhaseName::Recovered => Phase::Recovered,
        PhaseName::Correction => Phase::Correction,
        PhaseName::Maintenance => Phase::Maintenance,
        PhaseName::MaintenanceOver => Phase::MaintenanceOver,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_its_service() {
        assert_eq!(owner("web-shop-a12", 'a').unwrap().as_str(), "web-shop");
        for wrong in ["shop", "shop-r12", "shop-a", "-a1", "shop-a1x"] {
            assert!(owner(wrong, 'a').is_err(), "{wrong}");
        }
    }
}
