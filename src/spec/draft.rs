//! The commented document that `failover init` writes from what it found.

use std::{fmt::Write as _, net::IpAddr};

use crate::model::service::RecordKind;

/// The environment variable that the written document reads the database's password from.
pub const PASSWORD_VARIABLE: &str = "FAILOVER_DB_PASSWORD";

/// What was found of a service.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The service's name: lower-case letters, digits and dashes.
    pub service: String,
    /// The public name that users follow.
    pub public_name: String,
    /// The zone it lies in, where it was found; else the name without its first label is taken.
    pub zone: Option<String>,
    /// Names of the zone's servers, to guess the provider.
    pub name_servers: Vec<String>,
    /// The live TTL in seconds, the longest where there are several.
    pub live_ttl: Option<u32>,
    /// The URL that tells whether the application is well.
    pub health_url: String,
    /// The primary.
    pub primary: DraftSite,
    /// The standby.
    pub standby: DraftSite,
    /// The primary's host as the standby's replication names it.
    pub sender: Option<String>,
    /// Whether commits wait for the standby.
    pub synchronous: bool,
    /// What somebody should look at, a sentence each.
    pub remarks: Vec<String>,
}

/// A site as it was found.
#[derive(Clone, Debug)]
pub struct DraftSite {
    /// How to connect to its database, without a password.
    pub connection: String,
    /// Its public addresses.
    pub addresses: Vec<IpAddr>,
    /// The URL by which it is reached without DNS having changed, where it is known.
    pub url: Option<String>,
}

impl Draft {
    /// The document: in the mode `observe`, with a comment at everything that a person has to decide.
    #[must_use]
    pub fn document(&self) -> String {
        [
            self.head(),
            self.sites(),
            self.watch(),
            self.dns(),
            Self::people(),
            self.steps(),
        ]
        .concat()
    }

    fn head(&self) -> String {
        let mut text = String::from(
            "# Written by `failover init` from what it found. Read every line marked CHANGE.\n\
             #\n\
             # In `observe` nothing is done and nobody outside the team is told: it watches, and records what it\n\
             # would have done. `failover check` says what is missing. Go on to `ask`, then to `automatic`.\n",
        );
        for remark in &self.remarks {
            let _ = writeln!(text, "#\n# Look at this: {}", one_line(remark));
        }
        let (rpo, why) = if self.synchronous {
            ("0s", "commits wait for the standby: nothing is lost")
        } else {
            (
                "1m",
                "replication is asynchronous: the last writes may be lost",
            )
        };
        let _ = write!(
            text,
            "apiVersion: failover.rs/v1alpha1\n\
             kind: ProtectedService\n\
             metadata:\n\
             \x20 name: {name}\n\
             spec:\n\
             \x20 title: {title}  # CHANGE: as customers know it\n\
             \x20 mode: observe\n\
             \x20 objectives:\n\
             \x20   rto: 15m  # CHANGE: what you promise\n\
             \x20   rpo: {rpo}  # CHANGE: what you promise; {why}\n\n",
            name = quoted(&self.service),
            title = quoted(&bare(&self.public_name)),
        );
        text
    }

    fn sites(&self) -> String {
        let mut text = "  sites:\n".to_owned();
        for (role, site) in [("primary", &self.primary), ("standby", &self.standby)] {
            let addresses: Vec<_> = site
                .addresses
                .iter()
                .map(|a| quoted(&a.to_string()))
                .collect();
            let guess = format!("https://{role}.{}/", bare(&self.public_name));
            let (url, remark) = match &site.url {
                Some(url) => (url, ""),
                None => (
                    &guess,
                    "  # CHANGE: the address of this site that works without DNS having changed",
                ),
            };
            let _ = write!(
                text,
                "    - name: {role}-site\n\
                 \x20     role: {role}\n\
                 \x20     location: {{}}  # region, country (two letters) and provider, such as {{country: GB}}\n\
                 \x20     addresses: [{addresses}]\n\
                 \x20     url: {url}{remark}\n",
                addresses = addresses.join(", "),
                url = quoted(url),
            );
        }
        text.push('\n');
        text
    }

    fn watch(&self) -> String {
        let sender = self.sender.as_ref().map_or_else(String::new, |sender| {
            format!("\n            sender: {}", quoted(sender))
        });
        format!(
            "\x20 # CHANGE: one place that looks is one voice. For `automatic` add one in another network (via a proxy),\n\
             \x20 # and sentinels: things that are surely up and not yours.\n\
             \x20 vantagePoints:\n\
             \x20   - name: local\n\
             \x20     network: local\n\
             \x20     sentinels:\n\
             \x20       - uses: probe/tcp\n\
             \x20         with: {{host: one.one.one.one, port: 443}}\n\
             \x20       - uses: probe/tcp\n\
             \x20         with: {{host: dns.google, port: 443}}\n\n\
             \x20 components:\n\
             \x20   - name: application\n\
             \x20     kind: application\n\
             \x20     probes:\n\
             \x20       - id: application\n\
             \x20         uses: probe/http\n\
             \x20         with:\n\
             \x20           url: {url}\n\
             \x20   - name: database\n\
             \x20     kind: database\n\
             \x20     probes:\n\
             \x20       - id: primary-database\n\
             \x20         uses: probe/postgres\n\
             \x20         site: primary-site\n\
             \x20         with:\n\
             \x20           connection: {primary}\n\
             \x20           password: {{env: {PASSWORD_VARIABLE}}}\n\
             \x20       - id: replication\n\
             \x20         uses: probe/postgres-standby\n\
             \x20         site: standby-site\n\
             \x20         with:\n\
             \x20           connection: {standby}\n\
             \x20           password: {{env: {PASSWORD_VARIABLE}}}{sender}\n\n",
            url = quoted(&self.health_url),
            primary = quoted(&self.primary.connection),
            standby = quoted(&self.standby.connection),
        )
    }

    fn dns(&self) -> String {
        let name = bare(&self.public_name);
        let parent = name
            .split_once('.')
            .map_or(name.as_str(), |(_, parent)| parent);
        let zone = self.zone.as_deref().map_or_else(|| parent.to_owned(), bare);
        let live = self.live_ttl.map_or_else(String::new, |ttl| {
            format!("  # it is {ttl}s now, and would be lowered outside of observe")
        });
        let mut text = "  dns:\n".to_owned();
        text.push_str(self.provider());
        let _ = write!(
            text,
            "    zone: {}\n    ttl: 60s{live}\n    records:\n{}",
            quoted(&zone),
            self.records(&name)
        );
        text.push_str("    resolvers: [1.1.1.1, 8.8.8.8, 9.9.9.9]\n\n");
        text
    }

    /// Records that both sites have addresses for; the others as a warning.
    fn records(&self, name: &str) -> String {
        let name = quoted(name);
        let mut text = String::new();
        for kind in [RecordKind::A, RecordKind::AAAA] {
            let fits = |site: &DraftSite| site.addresses.iter().any(|a| fits(kind, a));
            let _ = match (fits(&self.primary), fits(&self.standby)) {
                (true, true) => writeln!(text, "      - {{name: {name}, type: {kind}}}"),
                (true, false) => write!(
                    text,
                    "      # CHANGE: the {kind} record leads to the primary, and the standby has no such address:\n\
                     \x20     # users would still be led there. Give the standby one, or take the record out of DNS.\n\
                     \x20     # - {{name: {name}, type: {kind}}}\n"
                ),
                (false, _) => Ok(()),
            };
        }
        if !text.contains("\n      - ") && !text.starts_with("      - ") {
            text.push_str("      []  # CHANGE: the two sites have no kind of address in common\n");
        }
        text
    }

    fn provider(&self) -> &'static str {
        let cloudflare = self
            .name_servers
            .iter()
            .any(|n| bare(n).ends_with(".ns.cloudflare.com"));
        if cloudflare {
            "    provider:\n\
             \x20     uses: dns/cloudflare\n\
             \x20     with:\n\
             \x20       token: {env: CLOUDFLARE_TOKEN}  # a token that may edit this zone's DNS, nothing else\n"
        } else {
            "    # CHANGE: where the zone is kept. For Cloudflare: uses: dns/cloudflare, with: {token: {env: …}}\n\
             \x20   provider:\n\
             \x20     uses: dns/rfc2136\n\
             \x20     with:\n\
             \x20       server: 127.0.0.1  # CHANGE: the primary name server\n\
             \x20       key: {name: failover-key, secret: {env: FAILOVER_DNS_KEY}}\n"
        }
    }

    fn people() -> String {
        "  # CHANGE: `failover token` makes a token for each person and prints the hash to write here.\n\
         \x20 # team:\n\
         \x20 #   people:\n\
         \x20 #     - {name: ann, tokenHash: \"sha256:…\"}\n\
         \x20 #   channels:\n\
         \x20 #     - name: on-call\n\
         \x20 #       uses: announce/telegram\n\
         \x20 #       with: {token: {env: TELEGRAM_TOKEN}, chats: [\"-1001234567890\"]}\n\n\
         \x20 # CHANGE: who is told when it is down, and where the status page lies (outside both sites).\n\
         \x20 # publication:\n\
         \x20 #   url: https://status.example.net/\n\
         \x20 #   targets:\n\
         \x20 #     - {uses: publish/folder, with: {path: /srv/www/status}}\n\
         \x20 # announcements:\n\
         \x20 #   symptom: The application does not open.\n\
         \x20 #   channels:\n\
         \x20 #     - name: users\n\
         \x20 #       uses: announce/email\n\
         \x20 #       with: {…}  # `failover help announce/email`\n\n"
            .to_owned()
    }

    fn steps(&self) -> String {
        format!(
            "\x20 runbook: postgres-failover\n\
             \x20 steps:\n\
             \x20   # CHANGE: a program that stops the old primary or cuts it off, and one that tells whether it is.\n\
             \x20   # Exit status 0 done, 1 failed, 75 cannot tell.\n\
             \x20   stop-primary:\n\
             \x20     with:\n\
             \x20       perform: [/usr/local/sbin/stop-primary]\n\
             \x20       observe: [/usr/local/sbin/is-primary-stopped]\n\
             \x20   refuse-writers:\n\
             \x20     with: &old-primary\n\
             \x20       connection: {primary}\n\
             \x20       password: {{env: {PASSWORD_VARIABLE}}}\n\
             \x20   write-attempt:\n\
             \x20     with: *old-primary\n\
             \x20   promote:\n\
             \x20     with:\n\
             \x20       connection: {standby}\n\
             \x20       password: {{env: {PASSWORD_VARIABLE}}}\n",
            primary = quoted(&self.primary.connection),
            standby = quoted(&self.standby.connection),
        )
    }
}

/// A text in double quotes, as JSON and YAML read it alike.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A text that cannot leave the comment it stands in.
fn one_line(text: &str) -> String {
    text.split(char::is_control).collect::<Vec<_>>().join(" ")
}

/// A name without its last dot, in small letters.
fn bare(name: &str) -> String {
    name.trim_end_matches('.').to_lowercase()
}

const fn fits(kind: RecordKind, address: &IpAddr) -> bool {
    match kind {
        RecordKind::A => address.is_ipv4(),
        RecordKind::AAAA => address.is_ipv6(),
        RecordKind::CNAME => false,
    }
}
