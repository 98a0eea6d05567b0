//! The status page: what it shows, how it is rendered, where it is written to. Knows `port/` and `model/` only.

pub mod atom;
pub mod folder;
pub mod html;
pub mod json;
pub mod listener;
pub mod s3;
pub mod style;
pub mod view;

use serde::Serialize;

use crate::port::{kind::Kind, target::PageFile};
use view::StatusView;

/// The kinds of this room; a new one is a line here.
pub const KINDS: &[Kind] = &[folder::KIND, s3::KIND];

/// Media type of the page.
const HTML: &str = "text/html; charset=utf-8";
/// Media type of the files for programs.
const JSON: &str = "application/json";
/// Media type of the feed.
const ATOM: &str = "application/atom+xml";

/// Every file of the page, `index.html` last. The same view gives the same bytes.
///
/// `fallback.json` is there where the page shows one service; `fallback/<service>.json` always is. The files that
/// Statuspage clients read are there twice: beside the page, and under `api/v2/` where such clients look.
#[must_use]
pub fn render(view: &StatusView) -> Vec<PageFile> {
    let mut files = Vec::new();
    let mut twice = |name: &str, bytes: Vec<u8>| {
        files.push(file(&format!("api/v2/{name}"), JSON, bytes.clone()));
        files.push(file(name, JSON, bytes));
    };
    twice("summary.json", to_json(&json::summary(view)));
    twice("status.json", to_json(&json::status(view)));
    twice("components.json", to_json(&json::components(view)));
    twice("incidents.json", to_json(&json::incidents(view)));
    files.push(file(
        "api/v2/incidents/unresolved.json",
        JSON,
        to_json(&json::unresolved(view)),
    ));
    for service in &view.services {
        let bytes = to_json(&json::fallback(view, service));
        if view.services.len() == 1 {
            files.push(file("fallback.json", JSON, bytes.clone()));
        }
        files.push(file(
            &format!("fallback/{}.json", service.name),
            JSON,
            bytes,
        ));
    }
    files.push(file("feed.atom", ATOM, atom::feed(view).into_bytes()));
    files.push(file("index.html", HTML, html::page(view).into_bytes()));
    files
}

fn file(path: &str, content_type: &'static str, bytes: Vec<u8>) -> PageFile {
    PageFile {
        path: path.to_owned(),
        content_type,
        bytes,
    }
}

/// These types hold text, numbers and lists only, which always serialise.
fn to_json(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::{view::tests as views, *};

    #[test]
    fn every_example_is_valid() {
        for kind in KINDS {
            let with: serde_json::Value = serde_saphyr::from_str(kind.example).unwrap();
            assert_eq!((kind.check)(&with), [], "{}", kind.name);
        }
    }

    #[test]
    fn renders_every_file_with_the_page_last() {
        let files = render(&views::on_standby());
        let paths: Vec<&str> = files.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "api/v2/summary.json",
                "summary.json",
                "api/v2/status.json",
                "status.json",
                "api/v2/components.json",
                "components.json",
                "api/v2/incidents.json",
                "incidents.json",
                "api/v2/incidents/unresolved.json",
                "fallback.json",
                "fallback/shop.json",
                "feed.atom",
                "index.html",
            ]
        );
        assert!(files.iter().all(|f| !f.bytes.is_empty()));
        assert_eq!(files, render(&views::on_standby()));
    }
}
