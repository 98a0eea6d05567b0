//! The messages of each channel as they would go out.

use std::collections::BTreeMap;

use super::message::PreviewItem;
use crate::{
    announce::template,
    decide::{core::Core, incident, phase},
    model::{
        announcement::{Announcement, Phase},
        id::{AnnouncementId, ChannelName, IncidentId, Seq},
        service::Channel,
        time::Time,
    },
    port::channel::{Notice, SharedChannel},
};

/// The messages of some phases on each channel that speaks of them.
pub async fn of(
    core: &Core,
    channels: &BTreeMap<ChannelName, SharedChannel>,
    phases: &[Phase],
    text: Option<&str>,
    now: Time,
) -> Vec<PreviewItem> {
    let service = core.service();
    let mut items = Vec::new();
    for phase in phases {
        let announcement = announcement(core, *phase, text, now);
        let notice = Notice::Announcement {
            template: template::of(&service.announcements, *phase),
            announcement: Box::new(announcement),
        };
        for channel in service
            .announcements
            .channels
            .iter()
            .filter(|c| c.phases.contains(phase))
        {
            if let Some(made) = channels.get(&channel.name) {
                items.push(item(channel, made, *phase, &notice).await);
            }
        }
    }
    items
}

async fn item(
    channel: &Channel,
    made: &SharedChannel,
    phase: Phase,
    notice: &Notice,
) -> PreviewItem {
    let message = made.compile(notice);
    let recipients = match made.known().await {
        Ok(list) if list.len() == 1 => "1 recipient".to_owned(),
        Ok(list) => format!("{} recipients", list.len()),
        Err(error) => format!("no list of recipients: {error}"),
    };
    PreviewItem {
        channel: channel.name.to_string(),
        uses: channel.action.uses.to_string(),
        phase,
        recipients,
        subject: message.subject,
        text: message.text,
        remarks: message.remarks,
    }
}

/// The facts of the open incident, or of one that would begin now.
fn announcement(core: &Core, phase: Phase, text: Option<&str>, now: Time) -> Announcement {
    let (service, state) = (core.service(), core.state());
    let open = state.incident.as_ref();
    let incident = open.map_or_else(|| IncidentId::of(&service.name, Seq(0)), |i| i.id.clone());
    let standby = state
        .active
        .as_ref()
        .and_then(|active| incident::target(service, active))
        .and_then(|name| service.site(&name)?.url.clone());
    let serves = matches!(phase, Phase::OnStandby | Phase::Correction) && phase::publishes(service);
    let cadence = open.map_or(service.announcements.cadence, |i| {
        phase::cadence(service, i, now)
    });
    Announcement {
        id: AnnouncementId::new(format!("{incident}-preview")),
        incident,
        phase,
        at: now,
        started: open.map_or(now, |i| i.since),
        title: service.title.clone(),
        symptom: service.announcements.symptom.clone(),
        fallback_url: open
            .and_then(|i| phase::fallback(state, i, phase))
            .or(standby.filter(|_| serves)),
        data_safety: open.and_then(|i| phase::data_safety(state, i, phase)),
        next_update: (phase != Phase::Recovered).then(|| now.after(cadence)),
        less_often: open.and_then(|i| phase::less_often(service, state, i, now)),
        status_url: service.publication.as_ref().and_then(|p| p.url.clone()),
        drill: false,
        text: text.map(str::to_owned),
        channels: Vec::new(),
    }
}
