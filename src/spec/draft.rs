//! The commented document that `failover init` writes from what it found.

use std::{fmt::Write as _, net::IpAddr};

use super::scope::is_label;
use crate::model::service::RecordKind;

/// The environment variable that the written document reads the database's password from.
pub const PASSWORD_VARIABLE: &str = "FAILOVER_DB_PASSWORD";

/// Whether a text can be the name of a service: a label of lower-case letters, digits and dashes.
#[must_use]
pub fn is_name(text: &str) -> bool {
    is_label(text)
}

/// What was found of a service.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The service's name: lower-case letters, digits and dashes.
    pub service: String,
    /// The public name that users follow, where there is one.
    pub public: Option<DraftName>,
    /// The URL that tells whether the application is well, where it is known.
    pub health_url: Option<String>,
    /// The primary.
    pub primary: DraftSite,
    /// The standby.
    pub standby: DraftSite,
    /// The primary's host as the standby's replication names it.
    pub sender: Option<String>,
    /// Whether commits wait for the standby.
    pub synchronous: bool,
    /// What was seen, a line each.
    pub found: Vec<String>,
    /// What somebody should look at, a sentence each.
    pub remarks: Vec<String>,
}

/// The public name as DNS answers it now.
#[derive(Clone, Debug)]
pub struct DraftName {
    /// The name.
    pub name: String,
    /// The zone it lies in, where it was found; else the name without its first label is taken.
    pub zone: Option<String>,
    /// The zone's primary server, as its SOA record names it.
    pub primary_server: Option<String>,
    /// Names of the zone's servers, to guess the provider.
    pub servers: Vec<String>,
    /// The live TTL in seconds, the longest where there are several.
    pub ttl: Option<u32>,
    /// The server that was asked instead of public resolvers.
    pub resolver: Option<String>,
}

/// A site as it was found.
#[derive(Clone, Debug)]
pub struct DraftSite {
    /// How to connect to its database, without a password.
    pub connection: String,
    /// Its public addresses, or the one host name that a CNAME leads to.
    pub addresses: Vec<String>,
    /// What is doubtful about the addresses.
    pub doubt: Option<String>,
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
        if !self.found.is_empty() {
            text.push_str("#\n# Found:\n");
        }
        for line in &self.found {
            let _ = writeln!(text, "#   {}", one_line(line));
        }
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
            title = quoted(
                &self
                    .public
                    .as_ref()
                    .map_or_else(|| self.service.clone(), |p| bare(&p.name))
            ),
        );
        text
    }

    fn sites(&self) -> String {
        let mut text = "  sites:\n".to_owned();
        for (role, site) in [("primary", &self.primary), ("standby", &self.standby)] {
            let _ = write!(
                text,
                "    - name: {role}-site\n\
                 \x20     role: {role}\n\
                 \x20     location: {{}}  # region, country (two letters) and provider, such as {{country: GB}}\n"
            );
            if !site.addresses.is_empty() {
                let addresses: Vec<_> = site.addresses.iter().map(|a| quoted(a)).collect();
                let doubt = site.doubt.as_ref().map_or_else(String::new, |doubt| {
                    format!("  # CHANGE: {}", one_line(doubt))
                });
                let _ = writeln!(text, "      addresses: [{}]{doubt}", addresses.join(", "));
            }
            let remark = "CHANGE: the address of this site that works without DNS having changed";
            let _ = match &self.public {
                Some(public) => {
                    let guess = quoted(&format!("https://{role}.{}/", bare(&public.name)));
                    writeln!(text, "      url: {guess}  # {remark}")
                }
                None => writeln!(text, "      # url: https://…  # {remark}"),
            };
        }
        text.push('\n');
        text
    }

    fn watch(&self) -> String {
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
             {components}",
            components = self.components(),
        )
    }

    fn components(&self) -> String {
        let sender = self.sender.as_ref().map_or_else(String::new, |sender| {
            format!("\n            sender: {}", quoted(sender))
        });
        let mut text = "  components:\n".to_owned();
        text.push_str(&self.application());
        let _ = write!(
            text,
            "\x20   - name: database\n\
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
             \x20           password: {{env: {PASSWORD_VARIABLE}}}{sender}\n\
             \x20       - id: standby-database  # what shows after a failover that it serves\n\
             \x20         uses: probe/postgres\n\
             \x20         site: standby-site\n\
             \x20         with:\n\
             \x20           connection: {standby}\n\
             \x20           password: {{env: {PASSWORD_VARIABLE}}}\n\n",
            primary = quoted(&self.primary.connection),
            standby = quoted(&self.standby.connection),
        );
        text
    }

    fn application(&self) -> String {
        self.health_url.as_ref().map_or_else(
            || {
                "\x20   # CHANGE: what users see of it; without it only the database is watched.\n\
                 \x20   # - name: application\n\
                 \x20   #   kind: application\n\
                 \x20   #   probes:\n\
                 \x20   #     - {id: application, uses: probe/http, with: {url: \"https://…\"}}\n"
                    .to_owned()
            },
            |url| {
                format!(
                    "\x20   - name: application\n\
                     \x20     kind: application\n\
                     \x20     probes:\n\
                     \x20       - id: application\n\
                     \x20         uses: probe/http\n\
                     \x20         with:\n\
                     \x20           url: {}\n",
                    quoted(url)
                )
            },
        )
    }

    /// The section, or why there is none.
    fn dns(&self) -> String {
        let Some(public) = &self.public else {
            return "  # CHANGE: no public name was given, so DNS is left alone and users are led over by other means.\n\
                    \x20 # dns: …\n\n"
                .to_owned();
        };
        let section = self.section(public);
        if self.repoints() {
            return section;
        }
        let mut text = String::from(
            "  # CHANGE: nothing can be repointed yet, because the sites have no kind of address in common. Give the\n\
             \x20 # standby its addresses above, take this section in, and below the runbook postgres-failover.\n",
        );
        for line in section.trim_end().lines() {
            let _ = writeln!(text, "  # {}", line.strip_prefix("  ").unwrap_or(line));
        }
        text.push('\n');
        text
    }

    /// Whether there is a record that both sites have values for.
    fn repoints(&self) -> bool {
        self.public.is_some()
            && RECORDS
                .into_iter()
                .any(|kind| has(&self.primary, kind) && has(&self.standby, kind))
    }

    fn section(&self, public: &DraftName) -> String {
        let name = bare(&public.name);
        let parent = name
            .split_once('.')
            .map_or(name.as_str(), |(_, parent)| parent);
        let (zone, doubt) = public.zone.as_deref().map_or_else(
            || (parent.to_owned(), "  # CHANGE: the zone was not found"),
            |zone| (bare(zone), ""),
        );
        let live = public.ttl.map_or_else(String::new, |ttl| {
            format!("  # it is {ttl}s now, and would be lowered outside of observe")
        });
        let resolvers = public.resolver.as_ref().map_or_else(
            || "1.1.1.1, 8.8.8.8, 9.9.9.9".to_owned(),
            |resolver| quoted(resolver),
        );
        format!(
            "  dns:\n{provider}    zone: {zone}{doubt}\n    ttl: 60s{live}\n    records:\n{records}    \
             resolvers: [{resolvers}]\n\n",
            provider = provider(public),
            zone = quoted(&zone),
            records = self.records(&name),
        )
    }

    /// Records that both sites have addresses for; the others as a warning.
    fn records(&self, name: &str) -> String {
        let name = quoted(name);
        let mut text = String::new();
        for kind in RECORDS {
            let _ = match (has(&self.primary, kind), has(&self.standby, kind)) {
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
        text
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
            "\x20 runbook: {runbook}\n\
             \x20 steps:\n\
             \x20   # CHANGE: a program that stops the old primary or cuts it off, and one that tells whether it is.\n\
             \x20   # Exit status 0 done, 1 failed, 75 cannot tell. It is not stopped again where it is stopped already: let\n\
             \x20   # the first succeed then, too. Without `undo` a run that is aborted leaves the primary stopped.\n\
             \x20   stop-primary:\n\
             \x20     with:\n\
             \x20       perform: [/usr/local/sbin/stop-primary]\n\
             \x20       observe: [/usr/local/sbin/is-primary-stopped]\n\
             \x20       # undo: [/usr/local/sbin/start-primary]\n\
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
            runbook = if self.repoints() {
                "postgres-failover"
            } else {
                "postgres-promote  # the standby takes over; DNS is left alone"
            },
            primary = quoted(&self.primary.connection),
            standby = quoted(&self.standby.connection),
        )
    }
}

fn provider(public: &DraftName) -> String {
    let cloudflare = public
        .servers
        .iter()
        .any(|n| bare(n).ends_with(".ns.cloudflare.com"));
    if cloudflare {
        return "    provider:\n\
                \x20     uses: dns/cloudflare\n\
                \x20     with:\n\
                \x20       token: {env: CLOUDFLARE_TOKEN}  # a token that may edit this zone's DNS, nothing else\n"
            .to_owned();
    }
    let server = public
        .primary_server
        .as_deref()
        .map_or_else(|| "127.0.0.1".to_owned(), bare);
    format!(
        "    # CHANGE: where the zone is kept. For Cloudflare: uses: dns/cloudflare, with: {{token: {{env: …}}}}\n\
         \x20   provider:\n\
         \x20     uses: dns/rfc2136\n\
         \x20     with:\n\
         \x20       server: {}  # CHANGE: the server that takes updates\n\
         \x20       key: {{name: failover-key, secret: {{env: FAILOVER_DNS_KEY}}}}\n",
        quoted(&server)
    )
}

/// The types of record that lead users to a site.
const RECORDS: [RecordKind; 3] = [RecordKind::A, RecordKind::AAAA, RecordKind::CNAME];

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

/// Whether a site has a value for this type of record.
fn has(site: &DraftSite, kind: RecordKind) -> bool {
    site.addresses
        .iter()
        .any(|address| match (kind, address.parse::<IpAddr>()) {
            (RecordKind::A, Ok(address)) => address.is_ipv4(),
            (RecordKind::AAAA, Ok(address)) => address.is_ipv6(),
            (RecordKind::CNAME, found) => found.is_err(),
            (RecordKind::A | RecordKind::AAAA, Err(_)) => false,
        })
}
