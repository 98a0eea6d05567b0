//! A mailing to ten thousand through a real server, by the real controller, which is killed in the middle of it.

use std::{collections::BTreeMap, fmt::Write, path::Path, time::Instant};

use nix::sys::signal::Signal;
use rusqlite::{Connection, OpenFlags};

use crate::stand::{
    controller::{Stand, until},
    smtp::Exim,
};

/// Everybody on the list.
const PEOPLE: usize = 10_000;
/// The controller dies when the server has taken so many mails.
const DEATHS: [usize; 3] = [1_000, 4_000, 7_000];
/// Mails that are under way at once.
const WORKERS: usize = 8;

/// Where everybody stands in the ledger.
fn standing(ledger: &Path) -> BTreeMap<String, String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let Ok(file) = Connection::open_with_flags(ledger, flags) else {
        return BTreeMap::new();
    };
    let query =
        "SELECT recipient, state FROM delivery JOIN mailing ON mailing.id = delivery.mailing
                 WHERE channel = 'mail'";
    let Ok(mut rows) = file.prepare(query) else {
        return BTreeMap::new();
    };
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.unwrap().map(Result::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_are_told_once_by_a_controller_that_is_killed_three_times() {
    let began = Instant::now();
    let exim = Exim::start_keeping().await;
    let mut stand = Stand::new().await;
    let mut list = "email\n".to_owned();
    for n in 0..PEOPLE {
        writeln!(list, "user{n}@example.com").unwrap();
    }
    stand.file("customers.csv", &list);
    stand.file("leave", "0123456789abcdef");
    let mail = format!(
        "    channels:
      - name: mail
        uses: announce/email
        phases: [investigating]
        with:
          smtp: {{host: 127.0.0.1, port: {}, tls: none, timeout: 20s}}
          from: The shop <status@shop.example>
          list: {{csv: \"{}\"}}
          unsubscribe: {{url: \"https://status.shop.example\", key: {}}}
          workers: {WORKERS}
      - name: hook",
        exim.port,
        stand.path("customers.csv").display(),
        stand.reference("leave"),
    );
    let document = stand.document();
    stand.write(&document.replacen("    channels:\n      - name: hook", &mail, 1));
    stand.start(&[]);
    let lists = stand.path("state").join("services/shop/lists");
    until("the list was fetched", || {
        std::fs::read_dir(&lists).is_ok_and(|files| files.count() > 0)
    });
    stand.east_is_up(false);
    for taken in DEATHS {
        until(&format!("{taken} mails are taken"), || {
            exim.taken().len() >= taken
        });
        stand.signal(Signal::SIGKILL);
        stand.ended();
        assert!(
            exim.taken().len() < PEOPLE,
            "it was too late to be killed: nothing is shown"
        );
        stand.start_until("\"down\"", &[]);
    }
    let ledger = stand.path("state").join("ledger.sqlite");
    let open = || {
        let standing = standing(&ledger);
        let is_open = |state: &&String| ["queued", "sending"].contains(&state.as_str());
        standing.values().filter(is_open).count()
    };
    // More than one patience: the machine may have other things to do.
    for left in [5_000, 2_500, 1_000, 0] {
        until(&format!("{left} are left"), || open() <= left);
    }
    let (standing, taken) = (standing(&ledger), exim.taken());
    assert_eq!(standing.len(), PEOPLE, "the ledger knows everybody");
    let twice: Vec<_> = taken.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "told twice: {twice:?}");
    let mut unknown = 0;
    for (person, state) in &standing {
        match state.as_str() {
            "sent" => assert!(taken.contains_key(person), "{person} is missing"),
            // Its answer was cut off by a death: it is never sent again, and is said to be so.
            "unknown" => unknown += 1,
            other => panic!("{person} is {other}"),
        }
    }
    assert!(unknown <= DEATHS.len() * WORKERS, "{unknown} are unknown");
    eprintln!(
        "{} taken, {unknown} unknown, {:?}",
        taken.len(),
        began.elapsed()
    );
}
