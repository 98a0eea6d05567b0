//! Secrets that stand in a document as values: found by the names of their keys and by their shape.

use std::ops::Range;

use serde_json::Value;

use super::{
    path::FieldPath,
    tree::{Data, Node},
};

/// Keys that hold secrets, in lower case without dashes and underscores.
const KEYS: [&str; 20] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "apitoken",
    "accesstoken",
    "accesstokensecret",
    "accesssecret",
    "secretkey",
    "secretaccesskey",
    "clientsecret",
    "consumersecret",
    "signingsecret",
    "signingkey",
    "privatekey",
    "bottoken",
    "bearer",
    "credentials",
];

/// A secret in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leak {
    /// Where it stands.
    pub path: FieldPath,
    /// Whether it is only a part of the text there.
    pub within: bool,
}

/// The secrets at and below a node.
#[must_use]
pub fn find(root: &Node) -> Vec<Leak> {
    let mut found = Vec::new();
    walk(root, None, &FieldPath::root(), &mut found);
    found
}

fn walk(node: &Node, key: Option<&str>, path: &FieldPath, found: &mut Vec<Leak>) {
    match &node.data {
        Data::Scalar(Value::String(text)) => {
            let whole = key.is_some_and(is_key) && !text.is_empty();
            if whole || is_secret(key, text) {
                found.push(Leak {
                    path: path.clone(),
                    within: !whole,
                });
            }
        }
        Data::Scalar(_) => {}
        Data::List(items) => {
            for (n, item) in items.iter().enumerate() {
                walk(item, key, &path.index(n), found);
            }
        }
        Data::Map(entries) => {
            for entry in entries {
                walk(&entry.value, Some(&entry.key), &path.key(&entry.key), found);
            }
        }
    }
}

fn is_key(key: &str) -> bool {
    let bare: String = key
        .chars()
        .filter(|c| !matches!(c, '-' | '_'))
        .collect::<String>()
        .to_lowercase();
    KEYS.contains(&bare.as_str())
}

/// Whether a text has the shape of a secret, or holds one.
fn is_secret(key: Option<&str>, text: &str) -> bool {
    has_password(text)
        || (text.contains("-----BEGIN") && text.contains("PRIVATE KEY"))
        || text.starts_with("whsec_")
        || is_bot_token(text)
        || key.is_some_and(|k| k.eq_ignore_ascii_case("authorization"))
        || text
            .split_whitespace()
            .any(|word| word.to_ascii_lowercase().starts_with("password="))
}

/// `scheme://user:password@host`.
fn has_password(text: &str) -> bool {
    text.match_indices("://").any(|(at, _)| {
        let rest = &text[at + 3..];
        let authority = rest.split(['/', '?', '#', ' ']).next().unwrap_or("");
        authority
            .rsplit_once('@')
            .and_then(|(user, _)| user.split_once(':'))
            .is_some_and(|(_, password)| !password.is_empty())
    })
}

/// Telegram's `123456789:AA…`.
fn is_bot_token(text: &str) -> bool {
    text.split_once(':').is_some_and(|(id, rest)| {
        (6..=12).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_digit())
            && rest.len() >= 30
            && rest
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    })
}

/// Where a text that is no YAML probably holds secrets: behind keys that have such names, to the end of the line, and
/// in the lines that are indented below them.
#[must_use]
pub fn in_broken(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut below: Option<usize> = None;
    let mut begin = 0;
    for line in text.split_inclusive('\n') {
        let body = line.trim_end();
        let indent = body.len() - body.trim_start().len();
        if below.is_some_and(|key| indent > key) && !body.is_empty() {
            found.push(begin..begin + body.len());
        } else {
            below = None;
            if let Some(at) = secret_value(body) {
                found.push(begin + at..begin + body.len());
                below = Some(indent);
            }
        }
        begin += line.len();
    }
    found
}

/// Where in a line a value begins that is probably a secret.
fn secret_value(line: &str) -> Option<usize> {
    line.match_indices(':').find_map(|(at, _)| {
        let key = line[..at]
            .trim_end_matches(['"', '\'', ' '])
            .rsplit(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_'))
            .next()
            .unwrap_or("");
        let rest = &line[at + 1..];
        let value = rest.trim_start();
        let is_reference = value.starts_with('{');
        let secret = (is_key(key) && !is_reference) || is_secret(Some(key), value);
        secret.then(|| at + 1 + rest.len() - value.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::tree;

    fn paths(text: &str) -> Vec<String> {
        let forest = tree::read(text);
        find(&forest.documents[0])
            .iter()
            .map(|leak| leak.path.to_string())
            .collect()
    }

    #[test]
    fn finds_secrets_by_name_and_shape() {
        assert_eq!(
            paths(
                "a: {password: x, url: 'postgres://u:p@h/db', ok: 'postgres://u@h/db'}\n\
                 b: [{token: {env: T}}, {api_key: x}]\n\
                 c: 123456789:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n\
                 d: host=h password=x\n\
                 e: {authorization: Bearer x, tokenHash: 'sha256:00'}\n"
            ),
            [
                "a.password",
                "a.url",
                "b[1].api_key",
                "c",
                "d",
                "e.authorization"
            ]
        );
    }

    #[test]
    fn finds_secrets_in_what_is_no_yaml() {
        let text = "a: [\n  password: \"hunter2\n  token: {env: T}\nb: {name: x, secret: y}}\nc:\n  api-key: |\n    zz\nd: 1\n";
        let found: Vec<_> = in_broken(text).into_iter().map(|r| &text[r]).collect();
        assert_eq!(found, ["\"hunter2", "y}}", "|", "    zz"]);
    }
}
