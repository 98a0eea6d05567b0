//! "Did you mean": the known word that is nearest to a wrong one.

/// The nearest of the known words, where one is near enough to be meant.
#[must_use]
pub fn nearest<'a, S: AsRef<str>>(word: &str, known: &'a [S]) -> Option<&'a str> {
    let lower = word.to_lowercase();
    known
        .iter()
        .map(AsRef::as_ref)
        .map(|k| (strsim::damerau_levenshtein(&lower, &k.to_lowercase()), k))
        .filter(|(distance, k)| *distance <= reach(&lower, k))
        .min()
        .map(|(_, k)| k)
}

/// How many letters may be wrong: a third of the longer word, at most three.
fn reach(word: &str, known: &str) -> usize {
    (word.chars().count().max(known.chars().count()) / 3).clamp(1, 3)
}

/// The nearest known word as a hint.
#[must_use]
pub fn hint<S: AsRef<str>>(word: &str, known: &[S]) -> Option<String> {
    nearest(word, known).map(|k| format!("did you mean `{k}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let known = ["probe/http", "probe/tcp", "postgres/promote"];
        assert_eq!(nearest("probe/htpp", &known), Some("probe/http"));
        assert_eq!(nearest("postgres/promot", &known), Some("postgres/promote"));
        assert_eq!(nearest("redis/promote", &known), None);
        assert_eq!(nearest("RTO", &["rto", "rpo"]), Some("rto"));
    }
}
