//! The commands that change something, each under the name of the person whose token they bring.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    arguments::{self, Identity, ModeName, PhaseName},
    identity, look,
    output::Output,
    place::Place,
    socket::{
        client::Client,
        message::{Answer, PreviewItem, Request, Wish},
    },
};
use crate::{
    error::Error,
    model::{
        announcement::Phase,
        id::{AskId, PageId, RunId, ServiceName},
        service::Mode,
    },
};

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
    let to = args.to.as_deref().map(crate::model::id::SiteName::from);
    let mut client = Client::connect(&place.socket).await?;
    let mut plan = args.plan.clone();
    if !args.yes {
        let view = look::plan_of(&mut client, service.clone(), kind, to.clone()).await?;
        output.note(&look::plan_text(&view, output));
        identity::confirm("Begin exactly this?")?;
        plan.get_or_insert_with(|| view.hash.to_string());
    }
    let wish = Wish::Open {
        kind,
        to,
        reason: args.reason.clone(),
        plan,
    };
    // Followed from before the command, so that nothing is missed.
    let watcher = if args.watch {
        Some(super::watch::Watcher::connect(place, Some(service.clone())).await?)
    } else {
        None
    };
    give(
        &mut client,
        vec![service.clone()],
        wish,
        &args.identity,
        output,
    )
    .await?;
    match watcher {
        Some(watcher) => watcher.until_run_ends(output).await,
        None => Ok(()),
    }
}

/// `failover approve`.
///
/// # Errors
/// Where it is refused.
pub async fn approve(
    args: &arguments::Approve,
    place: &Place,
    output: Output,
) -> Result<(), Error> {
    let service = owner(&args.id, 'a')?;
    let mut client = Client::connect(&place.socket).await?;
    let wish = Wish::Approve {
        ask: AskId(args.id.clone()),
        reason: args.reason.clone(),
        break_glass: args.break_glass,
    };
    let watcher = if args.watch {
        Some(super::watch::Watcher::connect(place, Some(service.clone())).await?)
    } else {
        None
    };
    give(
        &mut client,
        vec![service.clone()],
        wish,
        &args.identity,
        output,
    )
    .await?;
    match watcher {
        Some(watcher) => watcher.until_run_ends(output).await,
        None => Ok(()),
    }
}

/// `failover deny`.
///
/// # Errors
/// Where it is refused.
pub async fn deny(args: &arguments::Deny, place: &Place, output: Output) -> Result<(), Error> {
    let wish = Wish::Deny {
        ask: AskId(args.id.clone()),
        reason: args.reason.clone(),
    };
    let service = owner(&args.id, 'a')?;
    simple(place, vec![service], wish, &args.identity, output).await
}

/// `failover pause`.
///
/// # Errors
/// Where it is refused.
pub async fn pause(args: &arguments::Pause, place: &Place, output: Output) -> Result<(), Error> {
    let wish = Wish::Pause {
        reason: args.reason.clone(),
    };
    simple(
        place,
        named(args.service.as_ref()),
        wish,
        &args.identity,
        output,
    )
    .await
}

/// `failover resume`.
///
/// # Errors
/// Where it is refused.
pub async fn resume(args: &arguments::Resume, place: &Place, output: Output) -> Result<(), Error> {
    let services = named(args.service.as_ref());
    simple(place, services, Wish::Resume, &args.identity, output).await
}

/// `failover abort`.
///
/// # Errors
/// Where it is refused.
pub async fn abort(args: &arguments::Abort, place: &Place, output: Output) -> Result<(), Error> {
    let wish = Wish::Abort {
        run: RunId(args.run.clone()),
        reason: args.reason.clone(),
    };
    let service = owner(&args.run, 'r')?;
    simple(place, vec![service], wish, &args.identity, output).await
}

/// `failover ack`.
///
/// # Errors
/// Where it is refused.
pub async fn ack(args: &arguments::Ack, place: &Place, output: Output) -> Result<(), Error> {
    // A page where it looks like one and there is no service of that name.
    let mut client = Client::connect(&place.socket).await?;
    let known = look::reports(&mut client, None).await?;
    let is_service = known.iter().any(|r| r.service.as_str() == args.id);
    let (service, page) = match owner(&args.id, 'p') {
        Ok(service) if !is_service => (service, Some(PageId(args.id.clone()))),
        Ok(_) | Err(_) => (ServiceName::from(args.id.as_str()), None),
    };
    let wish = Wish::Acknowledge { page };
    give(&mut client, vec![service], wish, &args.identity, output).await
}

/// `failover mode`.
///
/// # Errors
/// Where it is refused.
pub async fn mode(args: &arguments::Mode, place: &Place, output: Output) -> Result<(), Error> {
    let wish = Wish::SetMode {
        mode: match args.mode {
            ModeName::Observe => Mode::Observe,
            ModeName::Ask => Mode::Ask,
            ModeName::Automatic => Mode::Automatic,
        },
        reason: args.reason.clone(),
    };
    let service = ServiceName::from(args.service.as_str());
    simple(place, vec![service], wish, &args.identity, output).await
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
        ],
    };
    let items = if args.file.is_empty() {
        let mut client = Client::connect(&place.socket).await?;
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
    let mut client = Client::connect(&place.socket).await?;
    if !args.yes {
        let text = args.text.clone();
        let items = messages(&mut client, service.clone(), vec![phase], text).await?;
        for item in &items {
            output.note(&message(item));
        }
        identity::confirm("Send these?")?;
    }
    let wish = Wish::Announce {
        phase,
        text: args.text.clone(),
    };
    give(&mut client, vec![service], wish, &args.identity, output).await
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

async fn simple(
    place: &Place,
    services: Vec<ServiceName>,
    wish: Wish,
    identity: &Identity,
    output: Output,
) -> Result<(), Error> {
    let mut client = Client::connect(&place.socket).await?;
    give(&mut client, services, wish, identity, output).await
}

/// Gives a command; asks for the token on the terminal where the controller wants one and none was given.
async fn give(
    client: &mut Client,
    services: Vec<ServiceName>,
    wish: Wish,
    identity: &Identity,
    output: Output,
) -> Result<(), Error> {
    let request = Request::Command { services, wish };
    let token = identity::given(identity)?;
    let answer = match client.ask(request.clone(), token.as_ref()).await {
        Err(Error::TokenNeeded { what }) => match identity::asked()? {
            Some(token) => client.ask(request, Some(&token)).await,
            None => Err(Error::TokenNeeded { what }),
        },
        other => other,
    };
    let Answer::Done(done) = answer? else {
        return Err(look::unexpected());
    };
    said(&done, output)
}

fn said(done: &BTreeMap<ServiceName, String>, output: Output) -> Result<(), Error> {
    if output.json() {
        return output.value(&serde_json::json!({ "done": done }));
    }
    for (service, said) in done {
        output.line(&format!("{service}: {said}"))?;
    }
    Ok(())
}

fn named(service: Option<&String>) -> Vec<ServiceName> {
    service
        .map(|s| ServiceName(s.clone()))
        .into_iter()
        .collect()
}

/// The service that an id such as `shop-a12` belongs to.
fn owner(id: &str, letter: char) -> Result<ServiceName, Error> {
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
