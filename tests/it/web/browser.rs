//! The desk in headless Chromium: with and without JavaScript, wide and narrow, in the light and in the dark.

use serde_json::json;

use super::{chromium::Chromium, desk, token, until};

/// What a page has to have so that it can be read by ear and used by keyboard.
const FAULTS: &str = r#"
    const faults = [];
    const all = (css) => [...document.querySelectorAll(css)];
    if (all("h1").length !== 1) faults.push(`${all("h1").length} h1`);
    for (const landmark of ["header", "main", "footer", "nav"])
        if (all(landmark).length !== 1) faults.push(`no ${landmark}`);
    if (!document.documentElement.lang) faults.push("no language");
    for (const field of all("input:not([type=hidden]), textarea, select"))
        if (!field.labels.length) faults.push(`no label: ${field.outerHTML}`);
    for (const button of all("button, a[href], summary"))
        if (!(button.textContent.trim() || button.ariaLabel)) faults.push(`no name: ${button.outerHTML}`);
    for (const picture of all("svg"))
        if (!picture.getAttribute("aria-label") && picture.getAttribute("aria-hidden") !== "true") faults.push("mute picture");
    for (const table of all("table"))
        if (!table.querySelector("th[scope=col]")) faults.push("a table without headings");
    const ids = all("[id]").map((e) => e.id);
    if (new Set(ids).size !== ids.length) faults.push(`ids twice: ${ids.filter((id, n) => ids.indexOf(id) !== n)}`);
    for (const e of all("[aria-labelledby], [aria-describedby]"))
        for (const name of ["aria-labelledby", "aria-describedby"])
            for (const id of (e.getAttribute(name) || "").split(" ").filter(Boolean))
                if (!document.getElementById(id) && !e.hidden) faults.push(`${name} leads nowhere: ${id}`);
    const levels = all("h1, h2, h3").filter((h) => h.offsetParent).map((h) => +h.tagName[1]);
    levels.forEach((level, n) => { if (n && level > levels[n - 1] + 1) faults.push(`h${levels[n - 1]} before h${level}`); });
    if (document.documentElement.scrollWidth > document.documentElement.clientWidth)
        faults.push(`wider than the screen: ${document.documentElement.scrollWidth}`);
    return faults;
"#;

async fn is_sound(browser: &Chromium, what: &str) {
    assert_eq!(browser.ask(FAULTS).await, json!([]), "{what}");
}

/// The page as it looks on a desk and on a phone, in the light and in the dark.
async fn pictures(browser: &Chromium, name: &str) {
    for (width, height, device) in [(1280, 900, "desk"), (360, 740, "phone")] {
        browser.wide(width, height).await;
        for scheme in ["light", "dark"] {
            browser.scheme(scheme).await;
            is_sound(browser, &format!("{name}, {device}, {scheme}")).await;
            let path = browser.picture(&format!("{name}-{device}-{scheme}")).await;
            assert!(
                std::fs::metadata(path).unwrap().len() > 5_000,
                "an empty picture"
            );
        }
    }
    browser.wide(1280, 900).await;
    browser.scheme("light").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_is_asked_for_approved_and_followed_in_browsers() {
    let (stand, url) = desk().await;
    let (ann, ben) = (Chromium::at(&url).await, Chromium::at(&url).await);
    ann.go("/services/shop").await;
    assert_eq!(ann.path().await, "/login");
    pictures(&ann, "login").await;
    ann.write("#token", "fot_wrong").await;
    ann.click(".login button").await;
    ann.until_read("This token is nobody's").await;
    ann.write("#token", token("ann")).await;
    ann.click(".login button").await;
    ann.until_read("The shop works, served from east").await;
    assert_eq!(
        ann.path().await,
        "/services/shop",
        "where one was about to go"
    );
    assert_eq!(
        ann.ask("return document.cookie").await,
        "",
        "no script reads the session"
    );
    ann.until_read("This page changes by itself").await;
    pictures(&ann, "service").await;
    ann.go("/").await;
    pictures(&ann, "overview").await;

    ben.login(token("ben")).await;
    ben.go("/services/shop").await;
    ben.until_read("This page changes by itself").await;

    ann.go("/services/shop").await;
    ann.click("a[href$='kind=failover']").await;
    ann.until_read("Name of the site that serves afterwards")
        .await;
    pictures(&ann, "plan").await;
    ann.write("#reason", "east is on fire").await;
    ann.write("#confirm", "wset").await;
    ann.click(".begin button").await;
    ann.until_read("wset was typed").await;
    assert_eq!(stand.question(), None);
    ann.go("/services/shop/plan?kind=failover").await;
    ann.write("#reason", "east is on fire").await;
    ann.write("#confirm", "west").await;
    ann.click(".begin button").await;
    ann.until_read("asked for by ann").await;

    // The other one sees it without doing anything.
    ben.until_read("asked for by ann").await;
    ben.until_read("If nobody answers").await;
    pictures(&ben, "question").await;
    ben.write("#asks textarea", "I see the smoke").await;
    let question = stand.question().unwrap();
    let approved = stand.cli_as("cleo", &["approve", &question]);
    assert!(approved.status.success());
    ann.until_read("1 of 2 said yes: cleo").await;
    // What one is writing stays, whatever else happens.
    let written = ben
        .ask("return document.querySelector('#asks textarea').value")
        .await;
    assert_eq!(written, "I see the smoke");
    ben.click("#asks button[value=approve]").await;
    ann.until_read("served from west").await;
    until("the run ends", || {
        stand.timeline().contains("run ended done")
    });
    assert_eq!(stand.effects(), "stop promote");
    assert!(stand.timeline().contains("I see the smoke"));
    ann.find("#run .step.done").await;
    pictures(&ann, "run").await;
    ann.go("/services/shop/timeline").await;
    is_sound(&ann, "timeline").await;
    ann.picture("timeline-desk-light").await;
    ann.close().await;
    ben.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_without_javascript_and_by_keyboard() {
    let (stand, url) = desk().await;
    let ann = Chromium::at(&url).await;
    ann.scripts(false).await;
    ann.login(token("ann")).await;
    ann.until_read("No incident is open").await;
    ann.click(".card a").await;
    ann.until_read("Load this page again to see what is new")
        .await;
    ann.picture("without-javascript").await;
    ann.click("#pause summary").await;
    ann.write("#pause-reason", "work on the network").await;
    ann.click("#pause button").await;
    ann.until_read("Done.").await;
    assert!(stand.shows(&["status"]).contains("paused     by ann"));
    ann.click("form:has(input[value=resume]) button").await;
    ann.until_read("Done.").await;
    assert!(!stand.shows(&["status"]).contains("paused     by ann"));
    ann.click(".who button").await;
    ann.find("#token").await;

    // By keyboard alone: the first stop skips what every page begins with, and the login needs no mouse.
    ann.scripts(true).await;
    ann.go("/login").await;
    ann.write("#token", &format!("{}\u{e007}", token("ben")))
        .await;
    ann.until_read("No incident is open").await;
    ann.write("body", "\u{e004}").await;
    let first = ann.ask("return document.activeElement.textContent").await;
    assert_eq!(first, "Skip to the content");
    let seen = ann
        .ask("return document.activeElement.getBoundingClientRect().left >= 0")
        .await;
    assert_eq!(seen, true, "what has the focus is seen");
    ann.close().await;
}
