//! The page's one style sheet, and the policy that lets nothing else in.

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

/// The style sheet, as it stands in the page.
pub const CSS: &str = concat!(include_str!("palette.css"), include_str!("page.css"));

/// Content security policy of the page: its own style sheet and nothing else.
pub static POLICY: LazyLock<String> = LazyLock::new(|| {
    let digest = STANDARD.encode(Sha256::digest(CSS.as_bytes()));
    format!("default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'")
});

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The colour variables of the block that begins with `head`.
    fn palette(head: &str) -> BTreeMap<&'static str, [f64; 3]> {
        let block = CSS.split_once(head).unwrap().1.split_once('}').unwrap().0;
        block
            .lines()
            .filter_map(|line| {
                let (name, colour) = line.trim().strip_prefix("--")?.split_once(": #")?;
                let n = u32::from_str_radix(colour.trim_end_matches(';'), 16).unwrap();
                Some((name, [16, 8, 0].map(|shift| linear(n >> shift & 0xff))))
            })
            .collect()
    }

    /// WCAG 2.2, relative luminance: one channel in linear light.
    fn linear(channel: u32) -> f64 {
        let c = f64::from(channel) / 255.0;
        if c <= 0.04045 {
            c / 12.92
        } else {
            ((c + 0.055) / 1.055).powf(2.4)
        }
    }

    /// WCAG 2.2, contrast ratio.
    fn contrast(a: [f64; 3], b: [f64; 3]) -> f64 {
        let [a, b] = [a, b].map(|[r, g, b]| 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05);
        a.max(b) / a.min(b)
    }

    #[test]
    fn contrast_is_measured_as_wcag_does() {
        assert!((contrast([1.0; 3], [0.0; 3]) - 21.0).abs() < 1e-9);
        let grey = [linear(0x76); 3];
        assert!((contrast(grey, [1.0; 3]) - 4.54).abs() < 0.01);
    }

    #[test]
    fn every_text_colour_has_contrast_aa_in_light_and_dark() {
        let dark_head = "@media (prefers-color-scheme: dark) {\n  :root {";
        for (scheme, colours) in [("light", palette(":root {")), ("dark", palette(dark_head))] {
            assert_eq!(colours.len(), 13, "{scheme}: every colour is a variable");
            let on_paper = ["ink", "soft", "link", "ok", "info", "warn", "bad"];
            let pairs = on_paper
                .into_iter()
                .flat_map(|text| [(text, "paper"), (text, "card")])
                .chain([("call-ink", "call"), ("call-soft", "call")]);
            for (text, ground) in pairs {
                let ratio = contrast(colours[text], colours[ground]);
                assert!(
                    ratio >= 4.5,
                    "{scheme}: {text} on {ground} has {ratio:.2}, AA wants 4.5"
                );
            }
        }
    }

    #[test]
    fn the_sheet_loads_nothing_and_names_colours_once() {
        assert!(!CSS.contains("url(") && !CSS.contains("@import") && !CSS.contains("</"));
        let rules = CSS.split_once("*, *::before").unwrap().1;
        assert!(
            !rules.contains(": #"),
            "colours outside the palette escape the contrast test"
        );
    }
}
