//! The page as an Atom feed: one entry for each update, with ids that never change.

use atom_syndication::{Content, Entry, Feed, FixedDateTime, Link, Person, Text};
use url::Url;

use super::view::{IncidentView, StatusView, UpdateView};
use crate::model::time::Time;

/// As many entries as the feed holds, newest first.
const ENTRIES: usize = 100;

/// The date part of every `tag:` URI (RFC 4151): a day on which the page's host belonged to its owner. It stays what
/// it is, or every feed reader would show all entries anew.
const TAG_DATE: &str = "2026";

/// The feed as XML.
#[must_use]
pub fn feed(view: &StatusView) -> String {
    let mut said: Vec<(&IncidentView, &UpdateView)> = view
        .incidents
        .iter()
        .flat_map(|i| i.updates.iter().map(move |u| (i, u)))
        .collect();
    said.sort_by_key(|(_, u)| std::cmp::Reverse(u.at));
    said.truncate(ENTRIES);
    let host = host(view);
    let names: Vec<&str> = view.services.iter().map(|s| s.name.as_str()).collect();
    let mut feed = Feed {
        title: Text::plain(&view.title),
        id: format!("tag:{host},{TAG_DATE}:status/{}", names.join("+")),
        updated: fixed(said.first().map_or_else(|| view.changed(), |(_, u)| u.at)),
        authors: vec![author(view)],
        entries: said.iter().map(|(i, u)| entry(view, &host, i, u)).collect(),
        ..Feed::default()
    };
    if let Some(url) = &view.url {
        feed.links.push(link("alternate", "text/html", url.clone()));
        if let Ok(own) = Url::parse(url).and_then(|u| u.join("feed.atom")) {
            feed.links
                .push(link("self", "application/atom+xml", own.to_string()));
        }
    }
    feed.to_string()
}

fn entry(view: &StatusView, host: &str, i: &IncidentView, u: &UpdateView) -> Entry {
    let mark = if i.drill { "[DRILL] " } else { "" };
    Entry {
        title: Text::plain(format!("{mark}{} ({})", i.title, u.phase)),
        id: format!("tag:{host},{TAG_DATE}:announcement/{}", u.id),
        updated: fixed(u.at),
        published: Some(fixed(u.at)),
        links: view
            .url
            .iter()
            .map(|url| link("alternate", "text/html", format!("{url}#{}", i.id)))
            .collect(),
        content: Some(Content {
            content_type: Some("text".into()),
            value: Some(u.text.clone()),
            ..Content::default()
        }),
        ..Entry::default()
    }
}

fn author(view: &StatusView) -> Person {
    Person {
        name: view.title.clone(),
        ..Person::default()
    }
}

fn link(rel: &str, media: &str, href: String) -> Link {
    Link {
        rel: rel.into(),
        mime_type: Some(media.into()),
        href,
        ..Link::default()
    }
}

/// The host that names the tags; `localhost` for a page without a public URL.
fn host(view: &StatusView) -> String {
    view.url
        .as_deref()
        .and_then(|url| Url::parse(url).ok())
        .and_then(|url| url.host_str().map(str::to_owned))
        .unwrap_or_else(|| "localhost".into())
}

fn fixed(time: Time) -> FixedDateTime {
    time.to_string().parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{super::view::tests as views, *};

    #[test]
    fn one_entry_for_each_update_newest_first() {
        let feed: Feed = feed(&views::recovered()).parse().unwrap();
        assert_eq!(feed.id, "tag:status.example.com,2026:status/shop");
        assert_eq!(feed.updated.to_rfc3339(), "2026-11-21T15:10:00+00:00");
        let ids: Vec<&str> = feed.entries.iter().map(|e| e.id.as_str()).collect();
        assert_eq!(
            ids,
            [
                "tag:status.example.com,2026:announcement/shop-i12-recovered",
                "tag:status.example.com,2026:announcement/shop-i12-onStandby",
                "tag:status.example.com,2026:announcement/shop-i12-failingOver",
                "tag:status.example.com,2026:announcement/shop-i12-investigating",
            ]
        );
        assert_eq!(
            feed.entries[0].links[0].href,
            "https://status.example.com/#shop-i12"
        );
        assert_eq!(
            feed.entries[0].content.as_ref().unwrap().value.as_deref(),
            Some("Everything is as usual again. No data loss is known.")
        );
        assert!(
            feed.links
                .iter()
                .any(|l| l.rel == "self" && l.href == "https://status.example.com/feed.atom")
        );
    }

    #[test]
    fn later_updates_leave_earlier_entries_as_they_were() {
        let before: Feed = feed(&views::outage()).parse().unwrap();
        let after: Feed = feed(&views::recovered()).parse().unwrap();
        assert_eq!(before.entries[..], after.entries[2..]);
    }

    #[test]
    fn text_is_escaped_and_a_drill_is_marked() {
        let mut view = views::outage();
        view.incidents[0].drill = true;
        view.incidents[0].updates[0].text = "a < b & \"c\" ]]> <script>".into();
        let xml = feed(&view);
        assert!(!xml.contains("<script>"));
        let read: Feed = xml.parse().unwrap();
        assert_eq!(
            read.entries[0].content.as_ref().unwrap().value.as_deref(),
            Some("a < b & \"c\" ]]> <script>")
        );
        assert!(read.entries[0].title.value.starts_with("[DRILL] "));
    }
}
