//! What a mail server's refusal means for the recipient and for the channel.

use std::collections::BTreeSet;

use super::{
    address,
    smtp::{Failure, Stage},
};
use crate::{
    model::span::Span,
    port::channel::{Recipient, Sent},
};

/// Wait after the server could not be reached, or slows everybody down.
const EVERYONE: Span = Span::from_secs(30);

/// Wait after the server put off one recipient; greylisting wants a minute and more.
const ONE: Span = Span::from_secs(60);

/// So many refusals for policy in a row, with nothing accepted before, mean that everybody is refused.
const ALL_AT_FIRST: u32 = 5;

/// The same once something was accepted.
const ALL_AT_LAST: u32 = 20;

/// Refusals for policy (spam, relaying) in one mailing since something was accepted: one may lie in the recipient, many
/// do not.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    accepted: bool,
    in_a_row: u32,
    refused: BTreeSet<Recipient>,
}

impl Policy {
    /// A mail was accepted.
    pub fn accepted(&mut self) {
        *self = Self {
            accepted: true,
            ..Self::default()
        };
    }

    fn refused(&mut self, to: &Recipient, reason: String) -> Sent {
        self.in_a_row += 1;
        self.refused.insert(to.clone());
        let all = if self.accepted {
            ALL_AT_LAST
        } else {
            ALL_AT_FIRST
        };
        if self.in_a_row >= all {
            let whom = match self.refused.len() {
                1 => "1 recipient".to_owned(),
                n => format!("{n} recipients"),
            };
            Sent::Broken {
                reason: format!("{reason} ({} times in a row, for {whom})", self.in_a_row),
            }
        } else if self.accepted {
            Sent::Refused {
                reason,
                suppress: false,
            }
        } else {
            Sent::Later {
                after: EVERYONE,
                everyone: false,
                reason,
            }
        }
    }
}

/// What a failure to send to somebody means.
pub fn judge(failure: &Failure, to: &Recipient, policy: &mut Policy) -> Sent {
    match failure {
        Failure::Setup { reason } => Sent::Broken {
            reason: reason.clone(),
        },
        Failure::Address { reason } => Sent::Refused {
            reason: reason.clone(),
            suppress: false,
        },
        Failure::Lost {
            stage: Stage::End,
            what,
        } => Sent::Unknown {
            reason: format!("the mail was handed over whole, but the mail server {what}"),
        },
        Failure::Lost { what, .. } => Sent::Later {
            after: EVERYONE,
            everyone: true,
            reason: format!("the mail server {what}"),
        },
        Failure::Answer { stage, code, text } => answer(*stage, *code, text, to, policy),
    }
}

fn answer(stage: Stage, code: u16, text: &str, to: &Recipient, policy: &mut Policy) -> Sent {
    let said: String = address::hide(text).chars().take(200).collect();
    let reason = format!("the mail server answered {code} {said}");
    if !(500..600).contains(&code) {
        let everyone = is_throttling(stage, code, text);
        return Sent::Later {
            after: if everyone { EVERYONE } else { ONE },
            everyone,
            reason,
        };
    }
    let relaying = || text.to_ascii_lowercase().contains("relay");
    match (stage, enhanced(text)) {
        // 5.1.7 and 5.1.8 speak of the sender's address.
        (Stage::Connect | Stage::Login | Stage::Sender, _)
        | (Stage::Recipient, Some((1, 7 | 8))) => Sent::Broken { reason },
        (Stage::Recipient, Some((1, _))) => Sent::Refused {
            reason,
            suppress: true,
        },
        (Stage::Recipient, None) if says_unknown(text) => Sent::Refused {
            reason,
            suppress: true,
        },
        (Stage::Data | Stage::End, _) | (Stage::Recipient, Some((7, _))) => {
            policy.refused(to, reason)
        }
        (Stage::Recipient, None) if relaying() => policy.refused(to, reason),
        (Stage::Recipient, _) => Sent::Refused {
            reason,
            suppress: false,
        },
    }
}

/// Whether a "not now" is meant for everybody.
fn is_throttling(stage: Stage, code: u16, text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    stage < Stage::Recipient
        || matches!(code, 421 | 454)
        || [
            "throttl",
            "rate limit",
            "transmit rate",
            "too many",
            "too fast",
            "slow down",
        ]
        .iter()
        .any(|word| text.contains(word))
}

/// Subject and detail of an enhanced status code (RFC 3463) at the beginning of a text.
fn enhanced(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().next()?.split('.').map(str::parse);
    let _class: u16 = numbers.next()?.ok()?;
    let (subject, detail) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    numbers.next().is_none().then_some((subject, detail))
}

/// Servers without enhanced codes say in words that there is no such mailbox.
fn says_unknown(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    [
        "user unknown",
        "unknown user",
        "no such user",
        "no such mailbox",
        "mailbox not found",
        "does not exist",
        "invalid recipient",
    ]
    .iter()
    .any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn kind(sent: &Sent) -> &'static str {
        match sent {
            Sent::Accepted { .. } => "accepted",
            Sent::Unknown { .. } => "unknown",
            Sent::Unsure { .. } => "unsure",
            Sent::Later { everyone: true, .. } => "everyone later",
            Sent::Later { .. } => "later",
            Sent::Refused { suppress: true, .. } => "suppressed",
            Sent::Refused { .. } => "refused",
            Sent::Broken { .. } => "broken",
        }
    }

    fn somebody() -> Recipient {
        Recipient("ann@example.com".to_owned())
    }

    fn judged(stage: Stage, code: u16, text: &str) -> Sent {
        let failure = Failure::Answer {
            stage,
            code,
            text: text.to_owned(),
        };
        judge(&failure, &somebody(), &mut Policy::default())
    }

    #[rstest]
    #[case(
        Stage::Recipient,
        550,
        "5.1.1 <ann@example.com>: user unknown",
        "suppressed"
    )]
    #[case(
        Stage::Recipient,
        556,
        "5.1.10 recipient domain has null MX",
        "suppressed"
    )]
    #[case(Stage::Recipient, 550, "Invalid recipient", "suppressed")]
    #[case(Stage::Recipient, 550, "5.2.1 mailbox disabled", "refused")]
    #[case(Stage::Recipient, 552, "5.2.2 mailbox full", "refused")]
    #[case(
        Stage::Recipient,
        550,
        "5.1.8 sender's domain does not exist",
        "broken"
    )]
    #[case(Stage::Recipient, 550, "5.7.1 blocked", "later")]
    #[case(Stage::Recipient, 550, "relaying denied", "later")]
    #[case(Stage::Recipient, 550, "no", "refused")]
    #[case(Stage::End, 554, "5.7.1 spam", "later")]
    #[case(Stage::Sender, 550, "5.7.1 not yours", "broken")]
    #[case(Stage::Login, 535, "5.7.8 authentication failed", "broken")]
    #[case(Stage::Connect, 554, "no service", "broken")]
    #[case(Stage::Recipient, 450, "4.2.0 greylisted", "later")]
    #[case(Stage::Recipient, 452, "4.2.2 over quota", "later")]
    #[case(
        Stage::Sender,
        450,
        "4.7.0 Transmit rate limit exceeded",
        "everyone later"
    )]
    #[case(
        Stage::Recipient,
        450,
        "4.7.0 Transmit rate limit exceeded",
        "everyone later"
    )]
    #[case(
        Stage::End,
        454,
        "Throttling failure: Maximum sending rate exceeded.",
        "everyone later"
    )]
    #[case(Stage::Data, 421, "4.3.2 shutting down", "everyone later")]
    #[case(
        Stage::Login,
        454,
        "4.7.0 temporary authentication failure",
        "everyone later"
    )]
    fn answers(
        #[case] stage: Stage,
        #[case] code: u16,
        #[case] text: &str,
        #[case] expected: &str,
    ) {
        assert_eq!(kind(&judged(stage, code, text)), expected);
    }

    #[test]
    fn only_after_the_final_dot_is_it_unknown() {
        for stage in [
            Stage::Connect,
            Stage::Login,
            Stage::Sender,
            Stage::Recipient,
            Stage::Data,
        ] {
            let what = "closed the connection".to_owned();
            let sent = judge(
                &Failure::Lost { stage, what },
                &somebody(),
                &mut Policy::default(),
            );
            assert_eq!(kind(&sent), "everyone later");
        }
        let what = "closed the connection".to_owned();
        let lost = Failure::Lost {
            stage: Stage::End,
            what,
        };
        let sent = judge(&lost, &somebody(), &mut Policy::default());
        assert_eq!(kind(&sent), "unknown");
    }

    #[test]
    fn a_policy_that_hits_everybody_breaks_the_channel() {
        let mut policy = Policy::default();
        let no = |policy: &mut Policy| {
            kind(&answer(
                Stage::Recipient,
                554,
                "5.7.1 relay access denied",
                &somebody(),
                policy,
            ))
        };
        let first: Vec<_> = (0..5).map(|_| no(&mut policy)).collect();
        assert_eq!(first, ["later", "later", "later", "later", "broken"]);
        policy.accepted();
        let then: Vec<_> = (0..20).map(|_| no(&mut policy)).collect();
        assert!(then[..19].iter().all(|k| *k == "refused"));
        assert_eq!(then[19], "broken");
    }

    #[test]
    fn one_recipient_that_is_tried_again_stays_one() {
        let mut policy = Policy::default();
        let mut last = None;
        for _ in 0..5 {
            let text = "5.7.1 relay access denied";
            last = Some(answer(
                Stage::Recipient,
                554,
                text,
                &somebody(),
                &mut policy,
            ));
        }
        assert!(
            matches!(&last, Some(Sent::Broken { reason }) if reason.ends_with("(5 times in a row, for 1 recipient)")),
            "{last:?}"
        );
    }

    #[test]
    fn no_address_shows() {
        let sent = judged(Stage::Recipient, 550, "5.1.1 <ann@example.com>: unknown");
        assert!(matches!(&sent, Sent::Refused { reason, .. } if !reason.contains("ann")));
    }
}
