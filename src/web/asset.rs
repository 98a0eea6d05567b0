//! The desk's own files: one style sheet, one script and one icon, built into the program.

use axum::{
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    response::{IntoResponse, Response},
};

/// The style sheet: the status page's colours, whose contrast is tested there, and the desk's own rules.
pub const CSS: &str = concat!(
    include_str!("../publish/palette.css"),
    include_str!("desk.css")
);
/// The script: it puts new parts of a page in the place of old ones. Every page works without it.
pub const SCRIPT: &str = include_str!("desk.js");
const ICON: &str = include_str!("icon.svg");

/// Short: an update of the program brings files of its own.
const CACHE: &str = "private, max-age=60";

/// The style sheet.
pub async fn css() -> Response {
    file("text/css; charset=utf-8", CSS)
}

/// The script.
pub async fn script() -> Response {
    file("text/javascript; charset=utf-8", SCRIPT)
}

/// The icon.
pub async fn icon() -> Response {
    file("image/svg+xml", ICON)
}

fn file(content_type: &'static str, text: &'static str) -> Response {
    ([(CONTENT_TYPE, content_type), (CACHE_CONTROL, CACHE)], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sheet_loads_nothing_and_takes_its_colours_from_the_palette() {
        assert!(!CSS.contains("url(") && !CSS.contains("@import"));
        let rules = include_str!("desk.css");
        assert!(
            !rules.contains(": #") && !rules.contains("rgb("),
            "colours outside the palette escape the contrast test"
        );
    }
}
