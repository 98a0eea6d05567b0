//! The documents of the demo: written for this stage, and read by the same program as a user's.

use std::{fmt::Write as _, fs, io, path::PathBuf};

use super::{
    address::Spot,
    stage::{CHAT, ROLE, Stage, TEAM_CHAT},
};
use crate::{
    cli::arguments::Scenario,
    desk::token::TokenHash,
    model::{secret::Secret, span::Span},
};

mod planned;

pub use planned::drill;

/// The service's name.
pub const SERVICE: &str = "shop";
/// The public name that customers follow.
pub const NAME: &str = "shop.demo.test";
/// The site that serves at first.
pub const PRIMARY: &str = "east";
/// The site that stands by.
pub const STANDBY: &str = "west";
/// How many customers are on the mailing list.
pub const CUSTOMERS: usize = 25;

/// The RPO that it is promised.
pub const RPO: Span = Span::from_secs(3);

/// What a scenario changes in the documents.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// How long the primary may take to come back by itself; none: it is not waited for.
    pub patience: Option<&'static str>,
    /// What is shown.
    pub scenario: Scenario,
}

/// Writes the documents and the list of customers. Gives the documents' folder.
///
/// # Errors
/// Where they cannot be written.
pub fn write(stage: &Stage, tuning: Tuning) -> io::Result<PathBuf> {
    let folder = stage.folder().join("documents");
    fs::create_dir(&folder)?;
    let mut list = String::from("name,email\n");
    for n in 1..=CUSTOMERS {
        let _ = writeln!(list, "Customer {n},customer{n}@example.com");
    }
    fs::write(stage.folder().join("customers.csv"), list)?;
    let text = [
        head(stage, tuning),
        sites(stage),
        vantage_points(stage),
        components(stage),
        names(stage),
        outlets(stage),
        team(stage)?,
        steps(stage, tuning.scenario)?,
        planned::of(stage, tuning.scenario)?,
    ]
    .concat();
    fs::write(folder.join("shop.yaml"), text)?;
    Ok(folder)
}

fn head(stage: &Stage, tuning: Tuning) -> String {
    let runbook = match (tuning.scenario, &stage.standby) {
        (Scenario::Switchover, _) => planned::RUNBOOK,
        (_, Some(_)) => "postgres-failover",
        (_, None) => "stateless-failover",
    };
    let trigger = match tuning.patience {
        Some(patience) => format!("{{budget: {{patience: {patience}}}}}"),
        None => "{immediate: {}}".to_owned(),
    };
    format!(
        "# Written by 'failover demo' for one run of it. The probes are much quicker than you would want them.
apiVersion: failover.rs/v1alpha1
kind: ProtectedService
metadata:
  name: {SERVICE}
spec:
  title: The demo shop
  mode: automatic
  runbook: {runbook}
  objectives:
    rto: 1m
    rpo: {RPO}
  trigger: {trigger}
  fencing:
    require: infrastructure
"
    )
}

fn sites(stage: &Stage) -> String {
    let site = |name: &str, role: &str, spot: Spot| {
        format!(
            "    - name: {name}
      role: {role}
      addresses: [{}]
      url: {}
",
            stage.block.at(spot),
            stage.url(spot)
        )
    };
    format!(
        "  sites:\n{}{}",
        site(PRIMARY, "primary", Spot::Primary),
        site(STANDBY, "standby", Spot::Standby)
    )
}

fn vantage_points(stage: &Stage) -> String {
    let mut text = String::from(
        "  # Three places that look, each in a network of its own; two of them must agree.
  quorum:
    failures: 2
  vantagePoints:
",
    );
    for (n, name) in (1..).zip(["north", "south", "sea"]) {
        let _ = write!(
            text,
            "    - name: {name}
      network: net-{name}
      via: {{sourceAddress: {}}}
      sentinels:
        - uses: probe/tcp
          with: {{host: {}, port: {}}}
",
            stage.block.at(Spot::Vantage(n)),
            stage.addresses.mail.ip(),
            stage.addresses.mail.port()
        );
    }
    text
}

fn components(stage: &Stage) -> String {
    let http = |site: &str, spot: Spot| {
        format!(
            "        - id: app-{site}
          uses: probe/http
          with: {{url: \"{}health\"}}
          site: {site}
          every: 500ms
          timeout: 450ms
",
            stage.url(spot)
        )
    };
    let mut text = format!(
        "  components:
    - name: app
      kind: application
      probes:
{}{}",
        http(PRIMARY, Spot::Primary),
        http(STANDBY, Spot::Standby)
    );
    if stage.standby.is_some() {
        let probe = |id: &str, uses: &str, site: &str, connection: &str, more: &str| {
            format!(
                "        - id: {id}
          uses: {uses}
          with:
            connection: {connection}
            password: {}
{more}          site: {site}
          every: 500ms
          timeout: 450ms
",
                secret(stage, "failover")
            )
        };
        let (primary, standby) = (
            connection(stage, PRIMARY, ROLE),
            connection(stage, STANDBY, ROLE),
        );
        text.push_str("    - name: database\n      kind: database\n      probes:\n");
        text.push_str(&probe("db-east", "probe/postgres", PRIMARY, &primary, ""));
        text.push_str(&probe("db-west", "probe/postgres", STANDBY, &standby, ""));
        text.push_str(&probe(
            "stream",
            "probe/postgres-standby",
            STANDBY,
            &standby,
            "            heardWithin: 3s\n",
        ));
    }
    text
}

fn names(stage: &Stage) -> String {
    let dns = stage.addresses.dns;
    format!(
        "  dns:
    # A small name server within the controller; production wants dns/rfc2136 or dns/cloudflare.
    provider:
      uses: dns/embedded
      with:
        listen: {dns}
        nameServers:
          - name: ns.demo.test.
            addresses: [{}]
    zone: demo.test
    records:
      - name: {NAME}
        type: A
    ttl: 2s
    authorities: [\"{dns}\"]
    resolvers: [\"{dns}\"]
",
        dns.ip()
    )
}

fn outlets(stage: &Stage) -> String {
    let at = &stage.addresses;
    format!(
        "  publication:
    url: http://{page}/
    targets:
      - uses: publish/folder
        with: {{path: {pages}}}
  announcements:
    symptom: Orders cannot be placed.
    channels:
      - name: email
        uses: announce/email
        with:
          smtp: {{host: {mail_host}, port: {mail_port}, tls: none}}
          from: The demo shop <status@demo.test>
          list: {{csv: {list}}}
          unsubscribe: {{url: \"http://{page}\", key: {unsubscribe}}}
      - name: x
        uses: announce/x
        with:
          apiKey: {api_key}
          apiSecret: {api_secret}
          accessToken: {access_token}
          accessSecret: {access_secret}
          baseUrl: http://{x}
      - name: telegram
        uses: announce/telegram
        with: {{token: {telegram_token}, chats: [\"{CHAT}\"], baseUrl: \"http://{telegram}\"}}
",
        page = at.page,
        pages = quoted(&stage.folder().join("page")),
        mail_host = at.mail.ip(),
        mail_port = at.mail.port(),
        list = quoted(&stage.folder().join("customers.csv")),
        unsubscribe = secret(stage, "unsubscribe"),
        api_key = secret(stage, "x-api-key"),
        api_secret = secret(stage, "x-api-secret"),
        access_token = secret(stage, "x-access-token"),
        access_secret = secret(stage, "x-access-secret"),
        x = at.x,
        telegram_token = secret(stage, "telegram"),
        telegram = at.telegram,
    )
}

fn team(stage: &Stage) -> io::Result<String> {
    let mut text = String::from("  team:\n    people:\n");
    for name in ["ann", "bob"] {
        let token = Secret::new(fs::read_to_string(stage.secret(name))?);
        let _ = writeln!(
            text,
            "      - {{name: {name}, tokenHash: \"{}\"}}",
            TokenHash::of(&token).as_str()
        );
    }
    let _ = write!(
        text,
        "    channels:
      - name: team
        uses: announce/telegram
        with: {{token: {}, chats: [\"{TEAM_CHAT}\"], baseUrl: \"http://{}\"}}
  approvals:
    required: 1
    approvers: [ann, bob]
",
        secret(stage, "telegram"),
        stage.addresses.telegram
    );
    Ok(text)
}

/// What no runbook can know: how this primary is stopped, and how one connects.
fn steps(stage: &Stage, scenario: Scenario) -> io::Result<String> {
    let program = quoted(&std::env::current_exe()?);
    let agent = stage.addresses.agent;
    let mut text = format!(
        "  steps:
    stop-primary:
      with:
        perform: [{program}, part-of-demo, fence, perform, --agent, \"{agent}\"]
        observe: [{program}, part-of-demo, fence, observe, --agent, \"{agent}\"]
      timeout: 5s
"
    );
    if stage.standby.is_some() {
        let mut login = |step: &str, site: &str, timeout: &str, more: &str| {
            let _ = write!(
                text,
                "    {step}:
      with:
        connection: {}
        password: {}
{more}      timeout: {timeout}
",
                connection(stage, site, ROLE),
                secret(stage, "failover")
            );
        };
        if scenario != Scenario::Switchover {
            login("refuse-writers", PRIMARY, "2s", "");
        }
        login("write-attempt", PRIMARY, "2s", "        within: 1s\n");
        login("promote", STANDBY, "10s", "");
    } else {
        let _ = write!(
            text,
            "    promote:
      with:
        url: \"{0}promote\"
        observe: {{url: \"{0}promote\"}}
      timeout: 5s
",
            stage.standby_url()
        );
    }
    text.push_str(
        "    repoint:
      timeout: 3s
    cutover:
      timeout: 10s
    verify:
      timeout: 10s
",
    );
    if scenario != Scenario::Switchover {
        text.push_str(
            "    fallback:
      with: {path: /, contains: The shop is open}
      timeout: 10s
",
        );
    }
    Ok(text)
}

fn connection(stage: &Stage, site: &str, role: &str) -> String {
    let at = if site == PRIMARY {
        stage.addresses.primary_database
    } else {
        stage.addresses.standby_database
    };
    format!(
        "host={} port={} user={role} dbname=shop sslmode=disable",
        at.ip(),
        at.port()
    )
}

fn secret(stage: &Stage, name: &str) -> String {
    format!("{{file: {}}}", quoted(&stage.secret(name)))
}

/// A path as YAML takes it: JSON's strings are YAML's.
fn quoted(path: &std::path::Path) -> String {
    serde_json::to_string(&path.to_string_lossy()).unwrap_or_default()
}
