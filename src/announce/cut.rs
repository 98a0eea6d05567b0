//! Cutting a text to a length at a word, keeping its URLs.

use unicode_segmentation::UnicodeSegmentation;

/// Marks where something was left out.
const ELLIPSIS: &str = "…";

/// A word with more graphemes than this is cut within, such as a sentence in a script without spaces.
const LONG_WORD: usize = 24;

struct Word<'a> {
    space: &'a str,
    text: &'a str,
}

impl Word<'_> {
    fn is_url(&self) -> bool {
        let text = self.text.trim_start_matches(['(', '<', '"']);
        text.starts_with("https://") || text.starts_with("http://")
    }
}

/// The text shortened until it fits: words go from the end, URLs last. Nothing is left where nothing fits.
pub fn cut(text: &str, fits: impl Fn(&str) -> bool) -> String {
    cut_marked(text, ELLIPSIS, fits)
}

/// The same with another mark where something was left out.
pub fn cut_marked(text: &str, mark: &str, fits: impl Fn(&str) -> bool) -> String {
    if fits(text) {
        return text.to_owned();
    }
    let words = words(text);
    let mut keep = vec![true; words.len()];
    let plain = (0..words.len()).rev().filter(|&i| !words[i].is_url());
    let urls = (0..words.len()).rev().filter(|&i| words[i].is_url());
    for drop in plain.chain(urls) {
        keep[drop] = false;
        let shorter = join(&words, &keep, mark, None);
        if fits(&shorter) {
            return longest_part(&words, &keep, drop, mark, &fits).unwrap_or(shorter);
        }
    }
    String::new()
}

/// The text with as much of the long word `at` as fits.
fn longest_part(
    words: &[Word<'_>],
    keep: &[bool],
    at: usize,
    mark: &str,
    fits: &impl Fn(&str) -> bool,
) -> Option<String> {
    let ends: Vec<usize> = words[at]
        .text
        .grapheme_indices(true)
        .map(|(start, _)| start)
        .skip(1)
        .collect();
    if words[at].is_url() || ends.len() < LONG_WORD {
        return None;
    }
    let part = |end: usize| join(words, keep, mark, Some((at, &words[at].text[..end])));
    let most = ends.partition_point(|&end| fits(&part(end)));
    most.checked_sub(1).map(|last| part(ends[last]))
}

fn words(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut rest = text.trim_end();
    while !rest.is_empty() {
        let start = rest
            .find(|c: char| !c.is_whitespace())
            .unwrap_or(rest.len());
        let (space, tail) = rest.split_at(start);
        let end = tail.find(char::is_whitespace).unwrap_or(tail.len());
        let (text, tail) = tail.split_at(end);
        words.push(Word { space, text });
        rest = tail;
    }
    words
}

fn join(words: &[Word<'_>], keep: &[bool], mark: &str, part: Option<(usize, &str)>) -> String {
    let mut out = String::new();
    let mut marked = false;
    for (i, word) in words.iter().enumerate() {
        if keep[i] {
            out.push_str(word.space);
            out.push_str(word.text);
        } else if !marked {
            if let Some((_, text)) = part.filter(|&(at, _)| at == i) {
                out.push_str(word.space);
                out.push_str(text);
            }
            out.push_str(mark);
            marked = true;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn to(text: &str, most: usize) -> String {
        cut(text, |t| t.chars().count() <= most)
    }

    #[test]
    fn cuts_at_a_word_and_keeps_urls() {
        assert_eq!(to("short enough", 20), "short enough");
        assert_eq!(to("one two three four", 12), "one two…");
        assert_eq!(
            to("we are working on it, see https://a.example/x for more", 36),
            "we are working… https://a.example/x"
        );
        assert_eq!(
            to("line one\nline two https://a.example/x\nline three", 32),
            "line one… https://a.example/x"
        );
    }

    #[test]
    fn a_script_without_spaces_is_cut_within() {
        let text = "サービスは現在待機サイトで動作していますのでしばらくお待ちください";
        assert_eq!(to(text, 10), "サービスは現在待機…");
    }

    #[test]
    fn urls_go_last_of_all() {
        assert_eq!(
            to("a https://one.example/ b https://two.example/", 27),
            "… https://one.example/"
        );
        assert_eq!(to("https://one.example/", 3), "…");
        assert_eq!(to("https://one.example/", 0), "");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_comes_out_fits(text in "(\\PC{0,12}[ \n]){0,30}(https://example.com/[a-z]{0,9} ?)?", most in 0_usize..120) {
            prop_assert!(to(&text, most).chars().count() <= most);
        }
    }
}
