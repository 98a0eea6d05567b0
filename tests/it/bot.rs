//! The bot against a Telegram that behaves as its documentation says, and people who do not.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::stand::{
    controller::{Stand, text, until},
    telegram::{Chat, TOKEN, Telegram},
};

/// The group that the documents list.
const GROUP: i64 = -100_777;
/// One that they do not.
const OTHER: i64 = -100_888;
const ANN: i64 = 11;
const BEN: i64 = 22;
const CLEO: i64 = 33;
/// Nobody of the team.
const EVE: i64 = 66;

/// A shop whose team has a chat, and a controller that runs.
async fn running() -> (Stand, Telegram) {
    let telegram = Telegram::start().await;
    telegram.chat(&GROUP.to_string(), Chat::Open);
    for person in [ANN, BEN, CLEO, EVE] {
        telegram.chat(&person.to_string(), Chat::Open);
    }
    let mut stand = Stand::new().await;
    stand.more = vec![
        (
            "ann",
            format!(", telegram: {ANN}, phone: \"+44 20 7946 0001\""),
        ),
        ("ben", format!(", telegram: {BEN}")),
        ("cleo", format!(", telegram: {CLEO}, role: viewer")),
    ];
    stand.file("telegram", TOKEN);
    stand.chat = format!(
        "    chat:\n      uses: chat/telegram\n      with: {{token: {}, chats: [\"{GROUP}\"], baseUrl: \"{}\", timeout: 2s, poll: 4s}}\n",
        stand.reference("telegram"),
        telegram.url,
    );
    let document = stand.document().replace(
        "approvers: [ann, ben, cleo]",
        "approvers: [ann, ben], breakGlass: [ann]",
    );
    stand.write(&document);
    stand.start(&[]);
    (stand, telegram)
}

/// Waits until a chat shows these words; the whole message.
fn shows(telegram: &Telegram, chat: i64, words: &str) -> String {
    let mut found = None;
    let began = Instant::now();
    while found.is_none() {
        found = telegram.saying(chat, words);
        assert!(
            began.elapsed() < Duration::from_mins(1),
            "never said: {words:?}; said {:#?}",
            telegram.messages(chat)
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    found.unwrap()
}

/// What the bot has written down of its messages.
fn kept(folder: &Path) -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            all.push_str(&kept(&entry.path()));
        } else if entry.file_name() == "chat-shown.json" {
            all.push_str(&std::fs::read_to_string(entry.path()).unwrap_or_default());
        }
    }
    all
}

/// Waits for the answer to a press.
fn answer(telegram: &Telegram, query: &str) -> String {
    let mut found = None;
    until(&format!("{query} is answered"), || {
        found = telegram.answered(query);
        found.is_some()
    });
    found.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_led_from_the_chat() {
    let (stand, telegram) = running().await;
    telegram.write(GROUP, ANN, "/status");
    let status = shows(&telegram, GROUP, "The shop works, served from east");
    assert!(
        status.contains("app healthy") && status.contains("Mode ask."),
        "{status}"
    );
    telegram.write(GROUP, ANN, "/oncall");
    let contacts = shows(&telegram, GROUP, "whom to call");
    assert!(
        contacts.contains("ann · +44 20 7946 0001 · approves, may decide alone"),
        "{contacts}"
    );
    telegram.write(GROUP, ANN, "/plan shop to west");
    shows(&telegram, GROUP, "a failover from east to west");

    // The card comes by itself and is edited in place.
    stand.east_is_up(false);
    let asked = shows(&telegram, GROUP, "❓ The shop: the ");
    for words in [
        "Expected loss:",
        "Forecast:",
        "If nobody answers by",
        "2 different people must approve",
    ] {
        assert!(asked.contains(words), "{words:?} in {asked}");
    }
    let card = shows(&telegram, GROUP, "RTO 5m: ");
    assert!(card.contains("Nobody leads yet"), "{card}");
    telegram.write(GROUP, BEN, "/role commander");
    shows(&telegram, GROUP, "👤 ben leads");

    let first = telegram.press(GROUP, BEN, "Approve");
    assert_eq!(answer(&telegram, &first), "Done.");
    shows(&telegram, GROUP, "approved by ben so far");
    let data = telegram.button(GROUP, "Approve").unwrap();
    let again = telegram.press_data(GROUP, BEN, &data);
    assert_eq!(
        answer(&telegram, &again),
        "Not done: ben has already approved; another person is needed"
    );
    assert_eq!(stand.effects(), "");
    // Its button was used up by that, and there is a new one.
    until("the button was renewed", || {
        telegram.button(GROUP, "Approve") != Some(data.clone())
    });
    let second = telegram.press(GROUP, ANN, "Approve");
    assert_eq!(answer(&telegram, &second), "Done.");
    shows(&telegram, GROUP, "is approved");
    assert_eq!(
        telegram.button(GROUP, "Approve"),
        None,
        "a question that is over has no button"
    );
    let done = shows(&telegram, GROUP, "✓ Promote");
    assert!(done.contains("from east to west"), "{done}");
    until("the run ends", || {
        stand.timeline().contains("run ended done")
    });
    assert_eq!(stand.effects(), "stop promote");
    let cards = |messages: &[crate::stand::telegram::Shown]| {
        let live = |m: &&crate::stand::telegram::Shown| m.text.contains("\nAs of ");
        messages.iter().filter(live).count()
    };
    assert_eq!(
        cards(&telegram.messages(GROUP)),
        1,
        "{:#?}",
        telegram.messages(GROUP)
    );

    telegram.write(GROUP, BEN, "/handoff @ann");
    shows(&telegram, GROUP, "ben asks ann to lead");
    let wrong = telegram.press(GROUP, BEN, "ann: I lead");
    assert_eq!(answer(&telegram, &wrong), "This button is somebody else's.");
    let right = telegram.press(GROUP, ANN, "ann: I lead");
    assert_eq!(answer(&telegram, &right), "Done.");
    shows(&telegram, GROUP, "👤 ann leads");
    telegram.write(GROUP, ANN, "/note the east side burnt down");
    until("the note is written", || {
        stand.timeline().contains("ann: the east side burnt down")
    });
    let timeline = stand.timeline();
    for line in [
        "ben approved",
        "ann approved",
        "ben wanted to approve",
        "ann is commander",
        "ann: the east side burnt down",
    ] {
        assert!(timeline.contains(line), "{line:?} in {timeline}");
    }
    telegram.write(GROUP, ANN, "/resolve");
    shows(
        &telegram,
        GROUP,
        "is over as soon as every component has been well",
    );
    shows(&telegram, GROUP, "✅ The shop: Incident shop-i");
    assert_eq!(stand.leaks(), [""; 0]);
    assert!(!stand.log().contains(TOKEN));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_asked_for_as_the_plan_stands_and_by_who_was_shown_it() {
    let (stand, telegram) = running().await;
    telegram.write(GROUP, BEN, "/failover to west the power goes at noon");
    let plan = shows(&telegram, GROUP, "a failover from east to west");
    assert!(plan.contains("It would lose:"), "{plan}");
    let wrong = telegram.press(GROUP, ANN, "Begin the failover to west");
    assert_eq!(answer(&telegram, &wrong), "This button is somebody else's.");
    let right = telegram.press(GROUP, BEN, "Begin the failover to west");
    assert_eq!(answer(&telegram, &right), "Done.");
    shows(&telegram, GROUP, "→ ben: shop: it must be approved first");
    assert_eq!(telegram.button(GROUP, "Begin the failover"), None);
    let asked = shows(&telegram, GROUP, "ben asked for it.");
    assert!(
        asked.contains("ben asked for a failover: the power goes at noon"),
        "{asked}"
    );

    let own = telegram.press(GROUP, BEN, "Approve");
    assert!(answer(&telegram, &own).contains("cannot approve what ben asked for"));
    let id = stand.question().unwrap();
    telegram.write(GROUP, BEN, &format!("/breakglass {id} nobody else is up"));
    shows(&telegram, GROUP, "Not done: ben may not break the glass");
    telegram.write(GROUP, ANN, "/breakglass nobody else is up");
    shows(&telegram, GROUP, &format!("name the question: {id}"));
    assert_eq!(stand.effects(), "");
    telegram.write(GROUP, ANN, &format!("/deny {id} not today"));
    shows(&telegram, GROUP, "was denied by ann: not today");
    assert_eq!(stand.question(), None);

    // A plan that is another one by now is not begun.
    telegram.write(GROUP, BEN, "/failover again");
    until("there is a button", || {
        telegram.button(GROUP, "Begin the failover").is_some()
    });
    let data = telegram.button(GROUP, "Begin the failover").unwrap();
    let changed = std::fs::read_to_string(stand.documents().join("shop.yaml")).unwrap();
    stand.write(&changed.replace("timeout: 50s", "timeout: 49s"));
    until("the document is in force", || {
        stand.timeline().contains("the documents changed")
    });
    let late = telegram.press_data(GROUP, BEN, &data);
    assert!(
        answer(&telegram, &late).contains("Not done: the plan is"),
        "{:?}",
        telegram.answered(&late)
    );

    telegram.write(GROUP, ANN, "/declare people cannot pay");
    shows(&telegram, GROUP, "is open and ann leads it");
    telegram.write(
        GROUP,
        ANN,
        "/announce investigating We look into failing payments.",
    );
    let preview = shows(&telegram, GROUP, "customers would read");
    assert!(
        preview.contains("We look into failing payments."),
        "{preview}"
    );
    let send = telegram.press(GROUP, ANN, "Tell customers");
    assert_eq!(answer(&telegram, &send), "Done.");
    until("customers hear of it", || {
        let (_, page) = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(stand.page("/"))
        });
        page.contains("We look into failing payments.")
    });
    shows(&telegram, GROUP, "Customers heard last: investigating");
    // What a person declared does not end by itself.
    std::thread::sleep(Duration::from_secs(2));
    assert!(
        !stand.timeline().contains("recovered"),
        "{}",
        stand.timeline()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_turned_away_and_written_down() {
    let (stand, telegram) = running().await;
    let hear = |count: usize| until("everything was heard", || telegram.unheard() <= count);
    telegram.write(GROUP, EVE, "/pause I want to");
    shows(&telegram, GROUP, "You are nobody of the team here");
    telegram.write(GROUP, EVE, "/whoami");
    shows(
        &telegram,
        GROUP,
        &format!("Your number at Telegram is {EVE}."),
    );
    telegram.write(GROUP, CLEO, "/pause I want to");
    shows(
        &telegram,
        GROUP,
        "Not done: cleo is viewer here, and this takes operator",
    );
    telegram.write(GROUP, CLEO, "/status");
    shows(&telegram, GROUP, "The shop works");
    // In private whoever is of the team may speak, and nobody else.
    telegram.write(ANN, ANN, "/note in private");
    shows(&telegram, ANN, "shop: noted");
    telegram.write(EVE, EVE, "/status");
    shows(&telegram, EVE, "You are nobody of the team here");

    // The right person in a room that nobody listed.
    telegram.write(OTHER, ANN, "/pause from elsewhere");
    // What was written long ago, forwarded, edited, or by nobody who can be known.
    telegram.say(GROUP, ANN, "/pause stale", &json!({"date": 1_795_000_000}));
    shows(&telegram, GROUP, "ago and is not done");
    let origin = json!({"type": "user", "date": 1, "sender_user": {"id": BEN, "is_bot": false, "first_name": "x"}});
    telegram.say(
        GROUP,
        ANN,
        "/pause forwarded",
        &json!({"forward_origin": origin}),
    );
    shows(&telegram, GROUP, "That is not done: it was forwarded.");
    telegram.push(
        "edited_message",
        json!({
            "message_id": 5, "date": 1_795_000_000, "edit_date": 1_795_000_001, "text": "/pause edited",
            "chat": {"id": GROUP, "type": "supergroup", "title": "x"},
            "from": {"id": ANN, "is_bot": false, "first_name": "x"},
        }),
    );
    shows(&telegram, GROUP, "it was edited after it was sent");
    let anonymous: Value = json!({"id": 1_087_968_824, "is_bot": true, "first_name": "Group"});
    telegram.say(
        GROUP,
        ANN,
        "/pause anonymous",
        &json!({"from": anonymous, "sender_chat": {"id": GROUP, "type": "supergroup", "title": "x"}}),
    );
    shows(&telegram, GROUP, "stays anonymous cannot be known");
    telegram.write(GROUP, ANN, "/pasue now");
    shows(
        &telegram,
        GROUP,
        "There is no command /pasue: did you mean /pause?",
    );
    telegram.write(GROUP, ANN, "/pause");
    shows(&telegram, GROUP, "Not done: write /pause [SERVICE] WHY");

    // Forged, replayed, and a thousand at once.
    let forged = telegram.press_data(GROUP, ANN, "0123456789abcdef0123456789abcdef");
    assert!(answer(&telegram, &forged).contains("not valid any more"));
    telegram.write(GROUP, BEN, "/failover now");
    until("there is a button", || {
        telegram.button(GROUP, "Do nothing").is_some()
    });
    let data = telegram.button(GROUP, "Do nothing").unwrap();
    let used = telegram.press_data(GROUP, BEN, &data);
    assert_eq!(answer(&telegram, &used), "Nothing is done.");
    let replayed = telegram.press_data(GROUP, BEN, &data);
    assert!(answer(&telegram, &replayed).contains("was used"));
    until("that nothing is done is written down", || {
        stand
            .timeline()
            .contains("ben: decided in the chat not to go on: Begin the failover")
    });
    let flood: Vec<String> = (0..1_000)
        .map(|_| telegram.press_data(GROUP, EVE, &data))
        .collect();
    hear(0);
    telegram.write(GROUP, BEN, "/status");
    until("somebody else is answered", || {
        let said = telegram.messages(GROUP);
        said.iter()
            .filter(|m| m.text.contains("The shop works"))
            .count()
            == 2
    });
    let answered = flood
        .iter()
        .filter(|q| telegram.answered(q).is_some())
        .count();
    assert!(
        answered <= 21,
        "{answered} of a thousand presses were answered"
    );

    let timeline = stand.timeline();
    assert!(!timeline.contains("paused"), "{timeline}");
    for line in [
        "telegram/stranger wanted to speak here: is nobody of the team",
        "cleo wanted to pause: cleo is viewer here",
        "ann wanted to speak here: spoke in a room that no document lists",
        "telegram/unknown wanted to speak here",
    ] {
        assert!(timeline.contains(line), "{line:?} in {timeline}");
    }
    assert!(timeline.lines().count() < 60, "{timeline}");
    assert!(telegram.messages(OTHER).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_that_moves_and_wants_slower_words_is_followed() {
    let (stand, telegram) = running().await;
    let moved = -100_999;
    telegram.chat(&moved.to_string(), Chat::Open);
    telegram.chat(&GROUP.to_string(), Chat::Moved(moved));
    telegram.write(moved, ANN, "/status");
    std::thread::sleep(Duration::from_millis(300));
    assert!(
        telegram.messages(moved).is_empty(),
        "a room that nobody listed hears nothing"
    );
    telegram.say(
        GROUP,
        ANN,
        "",
        &json!({"text": null, "migrate_to_chat_id": moved}),
    );
    until("it was heard", || telegram.unheard() == 0);
    telegram.flood_before(0, 1);
    telegram.write(moved, ANN, "/status");
    shows(&telegram, moved, "The shop works");
    assert_eq!(telegram.seen.lock().unwrap().too_early, 0);

    // Every change, and not what does not change.
    telegram.write(moved, ANN, "/stalk");
    shows(&telegram, moved, "every change is said here");
    let before = telegram.messages(moved).len();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(telegram.messages(moved).len(), before);
    let paused = stand.cli_as(
        "ann",
        &["pause", "shop", "--reason", "a * look_around [now]"],
    );
    assert_eq!(paused.status.code(), Some(0), "{}", text(&paused));
    shows(&telegram, moved, "a * look_around [now]");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_hears_nothing_twice_and_shows_what_is_open() {
    let (mut stand, telegram) = running().await;
    telegram.write(GROUP, ANN, "/note once");
    shows(&telegram, GROUP, "shop: noted");
    stand.east_is_up(false);
    shows(&telegram, GROUP, "❓ The shop: the ");
    shows(&telegram, GROUP, "RTO 5m: ");
    let old = telegram.button(GROUP, "Approve").unwrap();
    until("what is shown is written down", || {
        let kept = kept(&stand.path("state"));
        kept.contains("question") && kept.contains("incident")
    });
    stand.signal(nix::sys::signal::Signal::SIGKILL);
    stand.ended();
    // Said while nobody listened, and just now.
    telegram.write(GROUP, BEN, "/note meanwhile");
    let before = telegram.messages(GROUP).len();
    stand.start_until("\"down\"", &[]);
    until("what was said meanwhile is heard", || {
        stand.timeline().contains("ben: meanwhile")
    });
    until("the question has new buttons", || {
        telegram
            .button(GROUP, "Approve")
            .is_some_and(|new| new != old)
    });
    // The old messages are edited: nothing stands twice.
    let fresh = telegram.messages(GROUP).split_off(before);
    for words in ["❓ The shop: the ", "RTO 5m: "] {
        assert!(!fresh.iter().any(|m| m.text.contains(words)), "{fresh:#?}");
    }
    let stale = telegram.press_data(GROUP, ANN, &old);
    assert!(answer(&telegram, &stale).contains("not valid any more"));
    let fresh = telegram.press(GROUP, ANN, "Approve");
    assert_eq!(answer(&telegram, &fresh), "Done.");
    assert_eq!(stand.timeline().matches("ann: once").count(), 1);
    assert_eq!(stand.timeline().matches("ben: meanwhile").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_meant_for_something_else_is_not_done_here() {
    let (stand, telegram) = running().await;
    // Another bot's command, in whatever words.
    telegram.write(GROUP, ANN, "/pause@other_bot by mistake");
    telegram.write(GROUP, ANN, "/status@Shop_Status_Bot");
    shows(&telegram, GROUP, "The shop works");
    // A question of before is not the one of now.
    stand.east_is_up(false);
    shows(&telegram, GROUP, "❓ The shop: the ");
    let id = stand.question().unwrap();
    telegram.write(GROUP, ANN, "/approve shop-a1 yes");
    shows(
        &telegram,
        GROUP,
        &format!("Not done: name the question: {id}"),
    );
    telegram.write(GROUP, ANN, "/resume billing");
    shows(&telegram, GROUP, "Not done: write /resume [SERVICE]");
    // Alone, with a reason: everybody hears of it at once.
    telegram.write(GROUP, ANN, &format!("/breakglass {id} nobody else is up"));
    let told = shows(&telegram, GROUP, "ann broke the glass for");
    assert!(told.contains("nobody else is up"), "{told}");
    until("the run ends", || {
        stand.timeline().contains("run ended done")
    });
    until("the team is paged", || {
        stand.timeline().contains("ann broke the glass")
    });
    // Who is to lead is told in a room of the team what its number is.
    telegram.chat(&OTHER.to_string(), Chat::Open);
    telegram.write(OTHER, EVE, "/whoami");
    telegram.write(OTHER, ANN, "/whoami");
    shows(&telegram, OTHER, &format!("This room's number is {OTHER}"));
    assert_eq!(telegram.messages(OTHER).len(), 1);
    let timeline = stand.timeline();
    assert!(!timeline.contains("paused"), "{timeline}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_heard_is_confirmed_before_it_is_done() {
    let (stand, telegram) = running().await;
    telegram.deny_confirmations(true);
    telegram.write(GROUP, ANN, "/note heard");
    until("it was handed out", || telegram.refused_polls() > 0);
    assert!(!stand.timeline().contains("ann: heard"));
    telegram.deny_confirmations(false);
    until("it is done", || stand.timeline().contains("ann: heard"));
    assert_eq!(stand.timeline().matches("ann: heard").count(), 1);
}
