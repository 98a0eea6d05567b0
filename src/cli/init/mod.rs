//! `failover init`: looks at a PostgreSQL pair and at live DNS, and writes documents. It changes nothing it looks at.

use std::net::IpAddr;

use serde::Serialize;

use super::{arguments, output::Output};
use crate::{
    driver::registry,
    error::Error,
    port::postgres::Host,
    promote::{Grants, grants_sql},
    spec::{
        self, Severity,
        draft::{Draft, DraftName, DraftSite, PASSWORD_VARIABLE, is_name},
    },
};

mod files;
mod login;
mod name;
mod pair;
mod server;

use files::NewFile;
use login::Given;
use name::{PublicName, Resolvers};
use pair::Pair;

/// The document.
const DOCUMENT: &str = "service.yaml";
/// The SQL of the least-privileged role.
const GRANTS: &str = "grants.sql";

/// What was written and found, for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    service: &'a str,
    files: Vec<String>,
    found: &'a [String],
    remarks: &'a [String],
    next: &'a [String],
}

/// `failover init`.
///
/// # Errors
/// Where the servers are no pair, the name cannot be looked up, or a file is in the way.
pub async fn init(args: &arguments::Init, output: Output) -> Result<(), Error> {
    let service = service_name(args)?;
    files::refuse_to_overwrite(&args.out, &[GRANTS, DOCUMENT])?;
    refuse_second(args, &service)?;
    let primary = Given::read("primary", &args.primary, &args.role)?;
    let standby = Given::read("standby", &args.standby, &args.role)?;
    let pair = Pair::look(primary, standby).await?;
    let (public, standby_addresses) = match &args.host {
        None => (None, Addresses::default()),
        Some(host) => {
            let resolvers = Resolvers::new(args.dns_server.as_deref(), host)?;
            let public = resolvers.look(host).await?;
            let addresses = standby_addresses(args, &pair, &public, &resolvers).await;
            (Some(public), addresses)
        }
    };
    let draft = draft(args, service, &pair, public.as_ref(), standby_addresses);
    let text = draft.document();
    prove(args, &text, output)?;
    // The documents come last: whoever sees them finds everything that they speak of.
    let new = [
        NewFile {
            name: GRANTS,
            text: grants(args, &pair),
        },
        NewFile {
            name: DOCUMENT,
            text,
        },
    ];
    let written = files::write(&args.out, &new)?;
    let next = next(args, &pair, &draft);
    if output.json() {
        return output.value(&Report {
            service: &draft.service,
            files: written.iter().map(|p| p.display().to_string()).collect(),
            found: &draft.found,
            remarks: &draft.remarks,
            next: &next,
        });
    }
    for path in written {
        output.line(&format!("wrote {}", path.display()))?;
    }
    section(output, "Found", "  ", &draft.found)?;
    section(output, "Look at this", "  - ", &draft.remarks)?;
    section(output, "Next", "  ", &next)
}

fn section(output: Output, title: &str, before: &str, lines: &[String]) -> Result<(), Error> {
    if lines.is_empty() {
        return Ok(());
    }
    let title = output.paint(title, owo_colors::Style::new().bold());
    output.line(&format!("\n{title}"))?;
    for line in lines {
        output.line(&format!("{before}{line}"))?;
    }
    Ok(())
}

fn service_name(args: &arguments::Init) -> Result<String, Error> {
    if let Some(name) = &args.name {
        return if is_name(name) {
            Ok(name.clone())
        } else {
            Err(Error::Usage(format!(
                "--name: {name:?} cannot be a service's name: expected lower-case letters, digits and dashes"
            )))
        };
    }
    let guess = match &args.host {
        Some(host) => host.split('.').next().unwrap_or_default().to_lowercase(),
        None => crate::port::postgres::keys(&args.primary)
            .ok()
            .and_then(|mut keys| keys.remove("dbname"))
            .unwrap_or_default(),
    };
    if is_name(&guess) {
        Ok(guess)
    } else {
        Err(Error::Usage(
            "name the service with --name: lower-case letters, digits and dashes".to_owned(),
        ))
    }
}

/// Two services of one name in one folder would make both unusable.
fn refuse_second(args: &arguments::Init, service: &str) -> Result<(), Error> {
    if !args.out.is_dir() {
        return Ok(());
    }
    let there = spec::load(std::slice::from_ref(&args.out), registry::kinds());
    if there.services.iter().any(|s| s.name.to_string() == service) {
        return Err(Error::Usage(format!(
            "the documents in {} have a service {service:?} already: give another --name or --out",
            args.out.display()
        )));
    }
    Ok(())
}

/// Where users would be led, and what is doubtful about it.
#[derive(Default)]
struct Addresses {
    values: Vec<String>,
    doubt: Option<String>,
}

/// As they were given; else those of the standby's database, which is only a guess.
async fn standby_addresses(
    args: &arguments::Init,
    pair: &Pair,
    public: &PublicName,
    resolvers: &Resolvers,
) -> Addresses {
    if !args.standby_address.is_empty() {
        return Addresses {
            values: args.standby_address.clone(),
            doubt: None,
        };
    }
    let values = match &pair.standby.login.conninfo.host {
        Host::Socket(_) => Vec::new(),
        Host::Address(address, _) => vec![address.to_string()],
        Host::Name(name) => match name.parse::<IpAddr>() {
            Ok(address) => vec![address.to_string()],
            Err(_) => resolvers.addresses(name).await,
        },
    };
    if public.alias.is_some() || values.iter().any(|v| public.addresses.contains(v)) {
        return Addresses::default();
    }
    Addresses {
        values,
        doubt: Some(
            "a guess: the standby's database answers here. Does its application, for users?"
                .to_owned(),
        ),
    }
}

fn draft(
    args: &arguments::Init,
    service: String,
    pair: &Pair,
    public: Option<&PublicName>,
    standby: Addresses,
) -> Draft {
    let mut found = vec![format!(
        "looked at {}",
        jiff::Timestamp::now().strftime("%F %H:%M UTC")
    )];
    found.extend(pair.found());
    let mut remarks = pair.remarks();
    if let Some(public) = public {
        found.extend(told(public));
        if !public.whole_ttl {
            remarks.push(format!(
                "no server of the zone of {} could be asked: its TTL is what a resolver had left, the real one may be \
                 longer",
                public.name
            ));
        }
        if standby.values.is_empty() {
            remarks.push(
                "the standby's public address is not known: give it with --standby-address, or write it into the \
                 document"
                    .to_owned(),
            );
        }
    }
    Draft {
        service,
        health_url: args
            .url
            .clone()
            .or_else(|| public.map(|p| format!("https://{}/", p.name))),
        public: public.map(|p| DraftName {
            name: p.name.clone(),
            zone: p.zone.clone(),
            primary_server: p.primary_server.clone(),
            servers: p.servers.clone(),
            ttl: p.ttl,
            resolver: args.dns_server.clone(),
        }),
        primary: DraftSite {
            connection: pair.primary.document.clone(),
            addresses: public.map_or_else(Vec::new, |p| match &p.alias {
                Some(alias) => vec![alias.clone()],
                None => p.addresses.clone(),
            }),
            doubt: None,
        },
        standby: DraftSite {
            connection: pair.standby.document.clone(),
            addresses: standby.values,
            doubt: standby.doubt,
        },
        sender: pair.sender(),
        synchronous: pair.is_synchronous(),
        found,
        remarks,
    }
}

/// A public name, a line each.
fn told(public: &PublicName) -> Vec<String> {
    let ttl = public
        .ttl
        .map_or_else(String::new, |ttl| format!(", TTL {ttl}s"));
    let leads = public.alias.as_ref().map_or_else(
        || public.addresses.join(", "),
        |alias| format!("CNAME {alias} ({})", public.addresses.join(", ")),
    );
    let zone = match (&public.zone, &public.primary_server) {
        (Some(zone), Some(server)) => format!(
            "zone {zone}: primary server {server}, name servers {}",
            public.servers.join(", ")
        ),
        (Some(_) | None, _) => "its zone was not found".to_owned(),
    };
    vec![format!("{}: {leads}{ttl}", public.name), zone]
}

/// What is written must be right: `failover validate` is the next thing that anybody does.
fn prove(args: &arguments::Init, text: &str, output: Output) -> Result<(), Error> {
    let name = args.out.join(DOCUMENT).display().to_string();
    let loaded = spec::read_text(&name, text, registry::kinds());
    for diagnostic in &loaded.diagnostics {
        output.note(&super::documents::drawn(diagnostic, output.live));
    }
    let errors = loaded.diagnostics.iter();
    let errors = errors.filter(|d| d.severity == Severity::Error).count();
    if errors == 0 {
        return Ok(());
    }
    Err(Error::Documents {
        errors: super::documents::counted(errors, "error"),
        files: format!("{name}, which was not written"),
    })
}

/// The SQL, whole or not at all, in the right database only.
fn grants(args: &arguments::Init, pair: &Pair) -> String {
    let database = &pair.first.database;
    let sql = grants_sql(&Grants {
        role: &args.role,
        database,
        promote: true,
        fence: pair.can_refuse_writers(),
    });
    let literal = database.replace('\'', "''");
    let from = pair.first.from.as_deref().unwrap_or("ADDRESS/32");
    let access = pair.first.access;
    let shown = |text: &str| text.replace(char::is_control, " ");
    format!(
        "-- Written by `failover init`: what the role of probes, promotion and fence may do, and nothing else.\n\
         -- pg_hba.conf of both servers must let it in from where the controller runs, such as from here:\n\
         --   {access} {database} {role} {from} scram-sha-256\n\
         BEGIN;\n\
         DO $$ BEGIN\n  \
           IF current_database() <> '{literal}' THEN\n    \
             RAISE EXCEPTION 'run this in the database that the documents name';\n  \
           END IF;\n\
         END $$;\n\
         {sql}COMMIT;\n",
        database = shown(database),
        role = shown(&args.role),
    )
}

/// What a person does next.
fn next(args: &arguments::Init, pair: &Pair, draft: &Draft) -> Vec<String> {
    let folder = args.out.display();
    let at = &pair.primary.login.conninfo;
    let who = if pair.first.superuser {
        "on the primary"
    } else {
        "on the primary, as a superuser"
    };
    let psql = quoted(&at.to_string());
    let role = &args.role;
    vec![
        format!("psql {psql} -f {folder}/{GRANTS}    {who}"),
        format!("psql {psql} -c '\\password {role}'    then: export {PASSWORD_VARIABLE}=…"),
        format!("read every line marked CHANGE in {folder}/{DOCUMENT}"),
        format!("failover validate {folder}"),
        format!("failover check -f {folder} {}", draft.service),
        format!("failover run -f {folder}"),
    ]
}

/// For a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
