//! Text messages through Twilio's API, or one that is compatible with it.
//!
//! The API has no idempotency key, and its list of messages lags behind and shows by the day what was sent: a message
//! that is not in it may still have been taken. What got no answer is therefore unknown and never sent again. A page's
//! next repeat is another message.

use async_trait::async_trait;
use reqwest::RequestBuilder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::answer::{Answer, NoAnswer, ask, retry_after};
use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        id::IdempotencyKey,
        secret::{Secret, SecretRef},
        span::Span,
        time::Time,
    },
    port::{
        channel::{Channel, Compiled, Notice, Recipient, RecipientsError, Sent, SharedChannel},
        endpoint,
        kind::{Kind, Make, MakeError, Problem, Wiring, With, read},
    },
};

pub mod segment;
mod text;

/// `announce/sms`.
pub const KIND: Kind = Kind::new::<SmsWith>(
    "announce/sms",
    "text message (SMS) through Twilio",
    "accountSid: {env: TWILIO_ACCOUNT_SID}\nauthToken: {env: TWILIO_AUTH_TOKEN}\nfrom: \"+12025550143\"\nto: [\"+442079460001\"]\n",
    Make::Channel(make),
);

/// Wait where a 429 does not say how long: Twilio's limits are by the second.
const PAUSE: Span = Span::from_secs(5);

/// Wait where the sender's queue is full.
const QUEUE: Span = Span::from_secs(60);

/// Twilio joins no more segments than this.
const MOST_SEGMENTS: usize = 10;

/// How many messages are handed over at once.
const WORKERS: usize = 4;

/// Settings of `announce/sms`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SmsWith {
    /// The account's SID, such as `AC…`.
    pub account_sid: SecretRef,
    /// The account's auth token.
    pub auth_token: SecretRef,
    /// The sender, where no service picks it: a number, a short code, or a name of at most 11 letters.
    #[serde(default)]
    pub from: Option<String>,
    /// The messaging service that picks the sender, such as `MG…`. This or `from`.
    #[serde(default)]
    pub messaging_service_sid: Option<String>,
    /// Who gets it: numbers in E.164, which is `+`, country code and number without spaces.
    pub to: Vec<String>,
    /// Most segments of a message, each charged for each number: 153 characters, or 67 beyond GSM-7.
    #[serde(default = "segments")]
    pub segments: usize,
    /// Where the API is.
    #[serde(default = "base_url")]
    pub base_url: String,
    /// Time-out of one request.
    #[serde(default = "timeout")]
    pub timeout: Span,
}

fn segments() -> usize {
    3
}

fn base_url() -> String {
    "https://api.twilio.com".to_owned()
}

fn timeout() -> Span {
    Span::from_secs(15)
}

impl With for SmsWith {
    fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = endpoint::problem("baseUrl", &self.base_url)
            .into_iter()
            .collect();
        problems.extend(self.sender_problem());
        if !(1..=MOST_SEGMENTS).contains(&self.segments) {
            problems.push(Problem::new(
                "segments",
                format!("is {}, expected 1 to {MOST_SEGMENTS}", self.segments),
            ));
        }
        if self.to.is_empty() {
            problems.push(Problem::new("to", "is empty, expected at least one number"));
        }
        // Errors of documents are logged, and numbers are not: the place says which one it is.
        for (i, number) in self.to.iter().enumerate() {
            let path = format!("to[{i}]");
            if !is_e164(number) {
                problems.push(Problem::new(path, "is no number in E.164").hint(
                    "write + and the country code, then the number without its leading 0, no spaces: \"+442079460001\"",
                ));
            } else if let Some(first) = self.to[..i].iter().position(|n| n == number) {
                problems.push(Problem::new(
                    path,
                    format!("is the same number as to[{first}]"),
                ));
            }
        }
        problems
    }

    fn hosts(&self) -> Vec<String> {
        endpoint::host(&self.base_url).into_iter().collect()
    }
}

impl SmsWith {
    fn sender_problem(&self) -> Option<Problem> {
        match (&self.from, &self.messaging_service_sid) {
            (None, None) => Some(
                Problem::new("from", "is missing")
                    .hint("set from, or messagingServiceSid, to say who sends"),
            ),
            (Some(_), Some(_)) => Some(
                Problem::new("from", "stands beside messagingServiceSid")
                    .hint("the service picks the sender: take one of them out"),
            ),
            (Some(from), None) => (!is_sender(from)).then(|| {
                Problem::new("from", "is no sender").hint(
                    "write a number in E.164, a short code, or a name of at most 11 letters, digits and spaces",
                )
            }),
            (None, Some(sid)) => (!is_sid(sid) || !sid.starts_with("MG")).then(|| {
                Problem::new("messagingServiceSid", "is no messaging service's SID")
                    .hint("it begins with MG; Twilio's console shows it")
            }),
        }
    }
}

/// A number as ITU-T E.164 has it: at most 15 digits with the country code, which never begins with 0.
fn is_e164(number: &str) -> bool {
    number.strip_prefix('+').is_some_and(|digits| {
        (7..=15).contains(&digits.len())
            && digits.bytes().all(|b| b.is_ascii_digit())
            && !digits.starts_with('0')
    })
}

fn is_sender(from: &str) -> bool {
    let short_code = (3..=8).contains(&from.len()) && from.bytes().all(|b| b.is_ascii_digit());
    let name = (1..=11).contains(&from.len())
        && from.bytes().all(|b| b.is_ascii_alphanumeric() || b == b' ')
        && from.bytes().any(|b| b.is_ascii_alphabetic())
        && from.trim() == from;
    is_e164(from) || short_code || name
}

/// Whether a text is fit for a part of a URL's path.
fn is_sid(sid: &str) -> bool {
    (1..=64).contains(&sid.len()) && sid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedChannel, MakeError> {
    let with: SmsWith = read(with)?;
    let base_url =
        Url::parse(&with.base_url).map_err(|e| MakeError(format!("with.baseUrl: {e}")))?;
    Ok(std::sync::Arc::new(Sms {
        with,
        base_url,
        wiring: wiring.clone(),
    }))
}

struct Sms {
    with: SmsWith,
    base_url: Url,
    wiring: Wiring,
}

#[async_trait]
impl Channel for Sms {
    fn compile(&self, notice: &Notice) -> Compiled {
        let (text, was_cut) = text::compose(notice, self.with.segments);
        let size = segment::measure(&text);
        let numbers = self.with.to.len();
        let mut remarks = vec![
            format!(
                "{} of {} segments, {} units of {}",
                size.segments, self.with.segments, size.units, size.alphabet
            ),
            format!(
                "cost: {} segments ({} each for {numbers} numbers)",
                size.segments * numbers,
                size.segments
            ),
        ];
        if was_cut {
            remarks.push("cut to length".to_owned());
        }
        if size.alphabet == segment::Alphabet::Ucs2 {
            remarks.push(
                "a character that GSM-7 lacks makes each segment less than half as long".to_owned(),
            );
        }
        Compiled {
            text,
            remarks,
            ..Compiled::default()
        }
    }

    async fn recipients(&self) -> Result<Vec<Recipient>, RecipientsError> {
        Ok(self.with.to.iter().cloned().map(Recipient).collect())
    }

    async fn send(&self, message: &Compiled, to: &Recipient, _key: &IdempotencyKey) -> Sent {
        let mut form = vec![("To", to.0.as_str()), ("Body", message.text.as_str())];
        form.extend(self.with.from.as_deref().map(|from| ("From", from)));
        let service = self.with.messaging_service_sid.as_deref();
        form.extend(service.map(|sid| ("MessagingServiceSid", sid)));
        let request = match self.request(&["Messages.json"], |url| self.wiring.http.post(url)) {
            Ok(request) => request.form(&form),
            Err(reason) => return Sent::Broken { reason },
        };
        let name = self.name();
        match ask(request, &name, self.with.timeout).await {
            Ok(answer) => judge(&answer, &name, self.wiring.runtime.wall()),
            Err(NoAnswer::Unreachable(reason)) => Sent::Later {
                after: PAUSE,
                everyone: true,
                reason,
            },
            Err(NoAnswer::Lost(reason)) => Sent::Unknown { reason },
        }
    }

    fn workers(&self) -> usize {
        self.with.to.len().clamp(1, WORKERS)
    }

    async fn check(&self) -> Vec<CheckItem> {
        vec![self.check_account().await]
    }
}

impl Sms {
    /// A request for what lies below the account, or for the account itself.
    fn request(
        &self,
        below: &[&str],
        method: impl Fn(Url) -> RequestBuilder,
    ) -> Result<RequestBuilder, String> {
        let secret = |at: &SecretRef| -> Result<Secret, String> {
            let read = self.wiring.secrets.read(at);
            read.map_err(|e| format!("a credential of {} cannot be read: {e}", self.name()))
        };
        let (sid, token) = (
            secret(&self.with.account_sid)?,
            secret(&self.with.auth_token)?,
        );
        let sid = sid.expose().trim();
        if !is_sid(sid) {
            return Err(
                "the account's SID holds what no SID holds: Twilio's begin with AC".to_owned(),
            );
        }
        let mut url = self.base_url.clone();
        let account = if below.is_empty() {
            format!("{sid}.json")
        } else {
            sid.to_owned()
        };
        url.path_segments_mut()
            .map_err(|()| "baseUrl has no path".to_owned())?
            .pop_if_empty()
            .extend(["2010-04-01", "Accounts", &account])
            .extend(below);
        Ok(method(url).basic_auth(sid, Some(token.expose().trim())))
    }

    async fn check_account(&self) -> CheckItem {
        const NAME: &str = "announce/sms/account";
        const CREDENTIALS: &str =
            "set the account's SID and its auth token as the console shows them";
        let name = self.name();
        let fail = |reason: String, fix: &str| CheckItem::bad(NAME, CheckStatus::Fail, reason, fix);
        let request = match self.request(&[], |url| self.wiring.http.get(url)) {
            Ok(request) => request,
            Err(reason) => return fail(reason, CREDENTIALS),
        };
        let answer = match ask(request, &name, self.with.timeout).await {
            Ok(answer) => answer,
            Err(NoAnswer::Unreachable(reason) | NoAnswer::Lost(reason)) => {
                return CheckItem::bad(
                    NAME,
                    CheckStatus::Unknown,
                    reason,
                    format!("check the network from this host to {name}"),
                );
            }
        };
        let text = |field| answer.body.get(field).and_then(Value::as_str);
        match answer.status.as_u16() {
            200 => match (text("status"), text("type")) {
                (Some("active"), Some("Trial")) => CheckItem::bad(
                    NAME,
                    CheckStatus::Warn,
                    "this is a trial account: it only reaches numbers that were verified by hand",
                    "upgrade the account",
                ),
                (Some("active"), _) => {
                    CheckItem::ok(NAME, format!("{} numbers", self.with.to.len()))
                }
                (Some(status), _) => fail(
                    format!("the account is {}", plain_word(status)),
                    "see why in the console: it sends nothing",
                ),
                (None, _) => fail(
                    format!("{name} answered 200 with no account"),
                    "check the baseUrl",
                ),
            },
            429 | 500.. => CheckItem::bad(
                NAME,
                CheckStatus::Unknown,
                said(&answer, &name),
                "check again later",
            ),
            _ => fail(said(&answer, &name), CREDENTIALS),
        }
    }

    fn name(&self) -> String {
        endpoint::host(&self.with.base_url).unwrap_or_default()
    }
}

/// What an answer to a message means. Codes: <https://www.twilio.com/docs/api/errors>.
fn judge(answer: &Answer, name: &str, now: Time) -> Sent {
    let reason = said(answer, name);
    let refused = |why: &str, suppress| Sent::Refused {
        reason: format!("{reason}: {why}"),
        suppress,
    };
    match (answer.status.as_u16(), code(answer)) {
        (200..=299, _) => match answer.body.get("sid").and_then(Value::as_str) {
            Some(sid) => Sent::Accepted {
                reference: Some(sid.chars().take(64).collect()),
            },
            None => Sent::Unknown {
                reason: format!("{reason} without a message's SID"),
            },
        },
        (429, _) => Sent::Later {
            after: retry_after(&answer.headers, now).unwrap_or(PAUSE),
            everyone: true,
            reason,
        },
        (408 | 500.., _) => Sent::Unknown { reason },
        (_, Some(21610)) => refused("whoever has the number answered STOP", true),
        (_, Some(21211 | 21614)) => refused("no message can reach such a number", true),
        (_, Some(21408)) => refused("the account may not send to that country", false),
        (_, Some(21608)) => refused("a trial account only reaches verified numbers", false),
        (_, Some(21612)) => refused("this sender does not reach that number", false),
        (_, Some(21611)) => Sent::Later {
            after: QUEUE,
            everyone: true,
            reason,
        },
        (_, Some(20003 | 20005 | 20404)) => Sent::Broken {
            reason: format!("{reason}: the account's SID or token is wrong, or it is suspended"),
        },
        (_, Some(21212 | 21603 | 21606 | 21659 | 21660 | 21701 | 21703 | 21704)) => Sent::Broken {
            reason: format!("{reason}: from or messagingServiceSid is none of the account's"),
        },
        (300..=399 | 401..=405, _) => Sent::Broken { reason },
        (_, _) => Sent::Refused {
            reason,
            suppress: false,
        },
    }
}

fn code(answer: &Answer) -> Option<u64> {
    answer.body.get("code").and_then(Value::as_u64)
}

/// The answer without its message, which holds the number.
fn said(answer: &Answer, name: &str) -> String {
    let status = answer.status.as_u16();
    match code(answer) {
        Some(code) => format!("{name} answered {status}, code {code}"),
        None => format!("{name} answered {status}"),
    }
}

/// A word of another's answer, fit to be shown.
fn plain_word(word: &str) -> String {
    word.chars()
        .filter(char::is_ascii_alphanumeric)
        .take(32)
        .collect()
}

#[cfg(test)]
mod tests {
    use reqwest::{StatusCode, header::HeaderMap};
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn judged(status: u16, body: &str) -> Sent {
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: serde_json::from_str(body).unwrap_or(Value::Null),
        };
        judge(&answer, "api.twilio.com", Time::default())
    }

    fn kind(sent: &Sent) -> &'static str {
        match sent {
            Sent::Accepted { .. } => "accepted",
            Sent::Unknown { .. } => "unknown",
            Sent::Unsure { .. } => "unsure",
            Sent::Later { .. } => "later",
            Sent::Refused { suppress: true, .. } => "suppressed",
            Sent::Refused { .. } => "refused",
            Sent::Broken { .. } => "broken",
        }
    }

    #[rstest]
    #[case(201, r#"{"sid":"SM17","status":"queued"}"#, "accepted")]
    #[case(200, "<html>sign in</html>", "unknown")]
    #[case(302, "", "broken")]
    #[case(400, r#"{"code":21211}"#, "suppressed")]
    #[case(400, r#"{"code":21610}"#, "suppressed")]
    #[case(400, r#"{"code":21614}"#, "suppressed")]
    #[case(400, r#"{"code":21408}"#, "refused")]
    #[case(400, r#"{"code":21606}"#, "broken")]
    #[case(400, r#"{"code":21611}"#, "later")]
    #[case(400, r#"{"code":99999}"#, "refused")]
    #[case(400, "", "refused")]
    #[case(401, r#"{"code":20003}"#, "broken")]
    #[case(403, "", "broken")]
    #[case(404, r#"{"code":20404}"#, "broken")]
    #[case(408, "", "unknown")]
    #[case(429, r#"{"code":20429}"#, "later")]
    #[case(500, "", "unknown")]
    #[case(503, "", "unknown")]
    fn answers(#[case] status: u16, #[case] body: &str, #[case] expected: &str) {
        assert_eq!(kind(&judged(status, body)), expected);
    }

    #[test]
    fn what_the_answer_says_of_the_number_goes_nowhere() {
        for code in [21211, 21610, 99999] {
            let message = "The 'To' number +442079460001 is not valid.";
            let body = json!({"code": code, "message": message, "status": 400}).to_string();
            let shown = format!("{:?}", judged(400, &body));
            assert!(!shown.contains("2079460001"), "{shown}");
            assert!(shown.contains(&code.to_string()), "{shown}");
        }
    }

    fn problems(change: &Value) -> Vec<Problem> {
        let mut with = json!({
            "accountSid": {"env": "A"}, "authToken": {"env": "B"},
            "from": "+12025550143", "to": ["+442079460001"],
        });
        for (field, value) in change.as_object().unwrap() {
            with[field] = value.clone();
        }
        serde_json::from_value::<SmsWith>(with).unwrap().problems()
    }

    #[rstest]
    #[case(json!({"to": ["+442079460001", "442079460002"]}), "to[1]")]
    #[case(json!({"to": ["+44 20 7946 0001"]}), "to[0]")]
    #[case(json!({"to": ["+0442079460001"]}), "to[0]")]
    #[case(json!({"to": ["+4420794600011234"]}), "to[0]")]
    #[case(json!({"to": ["+44207946٣٣٣٣"]}), "to[0]")]
    #[case(json!({"to": ["+442079460001\nBody=x"]}), "to[0]")]
    #[case(json!({"to": ["+442079460001", "+442079460002", "+442079460001"]}), "to[2]")]
    #[case(json!({"to": []}), "to")]
    #[case(json!({"from": null}), "from")]
    #[case(json!({"from": "+1 202"}), "from")]
    #[case(json!({"from": "TwelveLetters"}), "from")]
    #[case(json!({"messagingServiceSid": "MG1"}), "from")]
    #[case(json!({"from": null, "messagingServiceSid": "AC1"}), "messagingServiceSid")]
    #[case(json!({"segments": 0}), "segments")]
    #[case(json!({"segments": 11}), "segments")]
    #[case(json!({"baseUrl": "http://sms.example.net"}), "baseUrl")]
    fn a_wrong_setting_is_named_and_no_number_shown(#[case] change: Value, #[case] path: &str) {
        let found = problems(&change);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].path, path);
        assert!(!found[0].message.contains("2079"), "{found:?}");
    }

    #[rstest]
    #[case(json!({}))]
    #[case(json!({"from": "12345"}))]
    #[case(json!({"from": "Shop Alerts"}))]
    #[case(json!({"from": null, "messagingServiceSid": "MG0123456789abcdef"}))]
    fn a_right_setting_has_no_problem(#[case] change: Value) {
        assert_eq!(problems(&change), []);
    }
}
