//! Email addresses as lists hold them, and as they are written.

use lettre::Address;

/// The address as it is kept: its host in lower case and in ASCII form, nothing around it. `None` where it is none.
#[must_use]
pub fn normal(text: &str) -> Option<String> {
    let text = text.trim();
    let text = match (text.rfind('<'), text.strip_suffix('>')) {
        (Some(open), Some(inner)) => &inner[open + 1..],
        (None | Some(_), _) => text,
    };
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) || text.len() > 320 {
        return None;
    }
    let (user, host) = text.rsplit_once('@')?;
    let host = match url::Host::parse(host).ok()? {
        url::Host::Domain(host) if host.contains('.') || host == "localhost" => host,
        url::Host::Domain(_) | url::Host::Ipv4(_) | url::Host::Ipv6(_) => return None,
    };
    let address = Address::new(user, host).ok()?;
    Some(address.to_string())
}

/// The text without anything that looks like an address, for messages that leave the ledger.
#[must_use]
pub fn hide(text: &str) -> String {
    text.split(' ')
        .map(|word| {
            if word.contains('@') {
                "<address>"
            } else {
                word
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_lower_case_and_ascii() {
        for (text, expected) in [
            (" Ann@Example.COM ", "Ann@example.com"),
            ("Ann <ann@example.com>", "ann@example.com"),
            ("jörg@müller.example", "jörg@xn--mller-kva.example"),
            (
                "o'brien+list@mail.example.org",
                "o'brien+list@mail.example.org",
            ),
        ] {
            assert_eq!(normal(text).as_deref(), Some(expected));
        }
    }

    #[test]
    fn what_is_no_address_is_none() {
        for text in [
            "",
            "ann",
            "ann@",
            "@example.com",
            "ann@host",
            "ann@[127.0.0.1]",
            "ann@127.0.0.1",
            "ann@example.com\r\nBcc: eve@example.com",
            "ann@example.com, eve@example.com",
            "ann eve@example.com",
            "<ann@example.com",
            "ann>@example.com>",
        ] {
            assert_eq!(normal(text), None, "{text:?}");
        }
    }

    #[test]
    fn addresses_do_not_leave_the_ledger() {
        assert_eq!(
            hide("550 5.1.1 <ann@example.com>: Recipient address rejected"),
            "550 5.1.1 <address> Recipient address rejected"
        );
    }
}
