//! The weighted length of a text on X (twitter-text, configuration v3).
//!
//! Never less than what X counts: where it cannot be told whether X takes something for a link, the heavier reading
//! counts. Source: <https://github.com/twitter/twitter-text/blob/master/config/v3.json>.

use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

/// The longest post.
pub const LONGEST: usize = 280;

/// What a link weighs, however long it is.
const LINK: usize = 23;

/// Top-level domains of countries. Source: <https://www.iana.org/domains/root/db>.
const COUNTRIES: &str = "ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bw by bz ca cc \
    cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er es et eu fi fj fk fm fo fr ga \
    gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp \
    ke kg kh ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq mr ms \
    mt mu mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro \
    rs ru rw sa sb sc sd se sg sh si sk sl sm sn so sr st su sv sx sy sz tc td tf tg th tj tk tl tm tn to tr tt tv \
    tw tz ua ug uk us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw";

/// Other top-level domains whose links surely weigh [`LINK`] only.
const DOMAINS: &[&str] = &[
    "academy",
    "agency",
    "app",
    "bank",
    "biz",
    "blog",
    "business",
    "center",
    "cloud",
    "club",
    "com",
    "community",
    "company",
    "coop",
    "dev",
    "digital",
    "edu",
    "email",
    "energy",
    "finance",
    "global",
    "gov",
    "group",
    "health",
    "help",
    "host",
    "hosting",
    "info",
    "int",
    "link",
    "live",
    "ltd",
    "media",
    "mil",
    "mobi",
    "money",
    "museum",
    "name",
    "net",
    "network",
    "news",
    "online",
    "org",
    "page",
    "plus",
    "pro",
    "report",
    "services",
    "shop",
    "site",
    "social",
    "software",
    "solutions",
    "space",
    "store",
    "studio",
    "support",
    "systems",
    "team",
    "tech",
    "technology",
    "today",
    "tools",
    "top",
    "travel",
    "website",
    "wiki",
    "work",
    "works",
    "world",
    "xyz",
    "zone",
];

/// What a text weighs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Against [`LONGEST`].
    pub length: usize,
    /// What X takes, or may take, for a link.
    pub links: usize,
}

/// Weighs a text.
#[must_use]
pub fn weigh(text: &str) -> Weight {
    let text: String = text.nfc().collect();
    let mut weight = Weight::default();
    let mut from = 0;
    let mut at = 0;
    while let Some(found) = text[at..].find("://") {
        at += found + "://".len();
        let Some((start, end)) = link(&text, at) else {
            continue;
        };
        if start >= from {
            plain(&text[from..start], &mut weight);
            weight.length += LINK;
            weight.links += 1;
            (from, at) = (end, end);
        }
    }
    plain(&text[from..], &mut weight);
    weight
}

/// Where the link lies whose `://` ends at `at`, if X surely takes it for one.
fn link(text: &str, at: usize) -> Option<(usize, usize)> {
    let before = &text[..at - "://".len()];
    let scheme = ["https", "http"].into_iter().find(|s| {
        before.len() >= s.len()
            && before.is_char_boundary(before.len() - s.len())
            && before[before.len() - s.len()..].eq_ignore_ascii_case(s)
    })?;
    let start = before.len() - scheme.len();
    // What stands close before it may be part of something that X takes for a link, or tries to.
    let before = text[..start].trim_end_matches(['(', '"', '[', '<']);
    let free = before.chars().next_back().is_none_or(char::is_whitespace);
    let host = span(&text[at..], |c| {
        c.is_ascii_alphanumeric() || matches!(c, '.' | '-')
    });
    let host = host.trim_end_matches(['.', '-']);
    if !free || !is_host(host) {
        return None;
    }
    let end = end_of(text, at + host.len());
    let next = text[end..].chars().next();
    // With one of these after its name it is none for X.
    let ends = next.is_none_or(|c| c.is_whitespace() || (c.is_ascii() && !"-_+@".contains(c)));
    ends.then_some((start, end))
}

/// Where port and path end that surely belong to the link whose host ends at `end`.
fn end_of(text: &str, mut end: usize) -> usize {
    if let Some(port) = text[end..].strip_prefix(':') {
        let digits = span(port, |c| c.is_ascii_digit());
        if digits.starts_with('0') || !(2..=5).contains(&digits.len()) {
            return end;
        }
        end += 1 + digits.len();
    }
    for opening in ['/', '?'] {
        if text[end..].starts_with(opening) {
            let part = span(&text[end + 1..], |c| {
                c.is_ascii_alphanumeric() || "/_-.=%+~&".contains(c)
            });
            let sure =
                part.trim_end_matches(|c: char| !c.is_ascii_alphanumeric() && !"/=_-".contains(c));
            if opening == '/' || !sure.is_empty() {
                end += 1 + sure.len();
            }
        }
    }
    end
}

/// Whether X surely takes this host for one; its own shortener has rules of its own.
fn is_host(host: &str) -> bool {
    let labels: Vec<&str> = host.split('.').collect();
    let well_formed = labels
        .iter()
        .all(|l| !l.is_empty() && !l.starts_with('-') && !l.ends_with('-'));
    let Some(top) = labels.last().map(|l| l.to_ascii_lowercase()) else {
        return false;
    };
    let known = COUNTRIES.split(' ').any(|c| c == top) || DOMAINS.contains(&top.as_str());
    labels.len() > 1 && well_formed && known && !host.eq_ignore_ascii_case("t.co")
}

fn span(text: &str, fits: impl Fn(char) -> bool) -> &str {
    let end = text.find(|c| !fits(c)).unwrap_or(text.len());
    &text[..end]
}

/// Weighs what is surely no whole link; a bare `example.com` may still be one.
fn plain(text: &str, weight: &mut Weight) {
    let mut run = String::new();
    for cluster in text.graphemes(true) {
        if is_emoji(cluster) {
            host_run(&mut run, weight);
            weight.length += 2;
            continue;
        }
        for c in cluster.chars() {
            if in_host(c) {
                run.push(c);
            } else {
                host_run(&mut run, weight);
                weight.length += character(c);
            }
        }
    }
    host_run(&mut run, weight);
}

fn host_run(run: &mut String, weight: &mut Weight) {
    let length = run.chars().map(character).sum::<usize>();
    if may_be_host(run) {
        // The link may end where letters of another script follow its name, and those weigh beside it.
        let (_, after_dot) = run.split_once('.').unwrap_or_default();
        let tail = after_dot.chars().skip_while(char::is_ascii);
        let with_tail = LINK + tail.map(character).sum::<usize>();
        weight.length += length.max(with_tail);
        weight.links += 1;
    } else {
        weight.length += length;
    }
    run.clear();
}

/// Letters and digits of names (Latin and Cyrillic) and the dot between them.
fn in_host(c: char) -> bool {
    c == '.' || (c.is_alphanumeric() && u32::from(c) < 0x530)
}

fn may_be_host(run: &str) -> bool {
    let labels: Vec<&str> = run.split('.').collect();
    labels.windows(2).any(|pair| {
        !pair[0].is_empty() && pair[1].chars().filter(|c| c.is_alphabetic()).count() > 1
    })
}

fn character(c: char) -> usize {
    match u32::from(c) {
        0..=0x10FF | 0x2000..=0x200D | 0x2010..=0x201F | 0x2032..=0x2037 => 1,
        _ => 2,
    }
}

/// Whether a grapheme cluster has the shape of an emoji sequence.
fn is_emoji(cluster: &str) -> bool {
    let mut chars = cluster.chars();
    let Some(first) = chars.next() else {
        return false;
    };
    let flag = |c: char| ('\u{1F1E6}'..='\u{1F1FF}').contains(&c);
    if flag(first) {
        return chars.next().is_some_and(flag) && chars.next().is_none();
    }
    if first.is_ascii_digit() || first == '#' || first == '*' {
        return cluster.ends_with('\u{20E3}');
    }
    is_pictograph(first)
        && chars.all(|c| {
            is_pictograph(c)
                || matches!(c, '\u{FE0F}' | '\u{200D}' | '\u{1F3FB}'..='\u{1F3FF}' | '\u{E0020}'..='\u{E007F}')
        })
}

fn is_pictograph(c: char) -> bool {
    matches!(
        u32::from(c),
        0xA9 | 0xAE
            | 0x203C
            | 0x2049
            | 0x2122
            | 0x2139
            | 0x2194..=0x21AA
            | 0x231A..=0x23FF
            | 0x24C2
            | 0x25AA..=0x27BF
            | 0x2934..=0x2935
            | 0x2B05..=0x2B55
            | 0x3030
            | 0x303D
            | 0x3297
            | 0x3299
            | 0x1F004..=0x1FAFF
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the reference counts.
    fn reference(text: &str) -> usize {
        let result = twitter_text::parse(text, twitter_text_config::config_v3(), true);
        usize::try_from(result.weighted_length).unwrap()
    }

    #[test]
    fn vectors() {
        let ten = "http://test.co ".repeat(10);
        for (text, length) in [
            ("Hi http://test.co", 26),
            ("http://test.co", 23),
            (ten.as_str(), 240),
            ("H🐱☺👨‍👩‍👧‍👦", 7),
            ("🙋🏽👨‍🎤", 4),
            ("サービス", 8),
            ("cafe\u{301}", 4),
            ("🇿🇦 1️⃣", 5),
            ("https://shop.standby.example.com/a/b?c=d&e=f", 23),
        ] {
            assert_eq!(weigh(text).length, length, "{text}");
            assert_eq!(reference(text), length, "the reference on {text}");
        }
    }

    #[test]
    fn in_doubt_the_heavier_reading_counts() {
        assert_eq!(weigh("see example.com").length, 4 + 23);
        assert_eq!(weigh("see example.com").links, 1);
        let unknown = "https://status.example/a-rather-long-path-that-is-no-link";
        assert!(weigh(unknown).length >= unknown.len());
        assert_eq!(weigh("at 14:03. Then 1.5 s").links, 0);
        let no_country = "http://shop.elsewhere.da/";
        assert!(weigh(no_country).length >= no_country.len());
        let glued = "http://aa.comтвüивäив";
        assert_eq!(weigh(glued).length, "http://".len() + 23 + 8);
        assert_eq!(reference(glued), 23 + 8);
    }

    fn emoji() -> impl Strategy<Value = String> {
        prop::sample::select(vec![
            "🙂",
            "👍🏽",
            "👨‍👩‍👧‍👦",
            "🇿🇦",
            "❤️",
            "☺",
            "1️⃣",
            "🏴‍☠️",
            "©️",
            "⚠️",
        ])
        .prop_map(str::to_owned)
    }

    fn address() -> impl Strategy<Value = String> {
        (
            "https?",
            "[a-z]{2,9}(-[a-z]{1,5})?",
            "com|net|io|app|example|za|cloud",
            "(:[0-9]{2,4})?(/[a-zA-Z0-9_.~?=&#%()-]{0,30})?",
        )
            .prop_map(|(scheme, host, top, path)| format!("{scheme}://{host}.{top}{path}"))
    }

    fn sentence() -> impl Strategy<Value = String> {
        prop::collection::vec(
            prop_oneof![
                4 => "[ A-Za-z0-9,.:;!?'\"()\\[\\]/#$%&*+=_-]{0,16}",
                1 => "[äöüéñ語話中文приветमु ]{0,8}",
                1 => address(),
                1 => emoji().prop_map(|e| format!(" {e} ")),
                1 => Just(" ".to_owned()),
            ],
            0..12,
        )
        .prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn never_lighter_than_the_reference(text in sentence()) {
            prop_assert!(weigh(&text).length >= reference(&text), "{} < {} for {text:?}", weigh(&text).length, reference(&text));
        }

        #[test]
        fn like_the_reference_on_words_links_and_emoji(
            words in prop::collection::vec(prop_oneof!["[a-zA-Z]{1,9}", "[あ-んア-ン一-龠]{1,6}", "https://[a-z]{2,9}\\.com/[a-z0-9]{0,40}", emoji()], 1..20)
        ) {
            let text = words.join(" ");
            prop_assert_eq!(weigh(&text).length, reference(&text));
        }
    }
}
