//! The command contract: what programs are given, what their ends mean, and how they are ended.

use std::{fs, path::PathBuf, time::Duration};

use failover::{
    driver::registry::kinds,
    model::{
        check::CheckStatus,
        observation::Sight,
        service::Via,
        span::Span,
        step::{Presence, Rung, StepResult},
    },
    port::{kind::Wiring, probe::LookContext},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::stand::{
    postgres::until,
    wiring::{action, look, probe, step, wiring},
};

/// For programs that end by themselves.
const LONG: Span = Span::from_secs(30);
/// For programs that do not.
const SHORT: Span = Span::from_secs(1);

struct Desk {
    folder: TempDir,
    wiring: Wiring,
}

impl Desk {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let wiring = wiring(folder.path());
        Self { folder, wiring }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What `file` holds once it is there.
    fn text(&self, name: &str) -> String {
        until(name, || {
            fs::read_to_string(self.file(name)).is_ok_and(|t| t.ends_with('\n'))
        });
        fs::read_to_string(self.file(name)).unwrap()
    }

    async fn perform(&self, script: &str, timeout: Span) -> StepResult {
        let with = self.steps(script, "exit 1");
        action("command/promote", &with, &self.wiring)
            .perform(&step(timeout))
            .await
    }

    async fn observe(&self, script: &str) -> Presence {
        let with = self.steps("exit 1", script);
        action("command/fence", &with, &self.wiring)
            .observe(&step(LONG))
            .await
    }

    fn steps(&self, perform: &str, observe: &str) -> Value {
        json!({"perform": self.sh(perform), "observe": self.sh(observe)})
    }

    /// A script whose first argument is the folder.
    fn sh(&self, script: &str) -> Value {
        json!(["sh", "-c", script, "sh", self.folder.path()])
    }
}

fn alive(pid: &str) -> bool {
    // A process that nobody has waited for yet is dead all the same.
    fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn the_end_of_perform_says_what_it_came_to() {
    let desk = Desk::new();
    for (script, expected) in [
        ("exit 0", "done"),
        ("exit 1", "failed"),
        ("exit 75", "indeterminate"),
        ("exit 2", "indeterminate"),
        ("exit 126", "indeterminate"),
        ("no-such-program", "indeterminate"),
        ("kill -9 $$", "indeterminate"),
    ] {
        let result = desk.perform(script, LONG).await;
        let found = match &result {
            StepResult::Done(_) => "done",
            StepResult::Failed { .. } => "failed",
            StepResult::Indeterminate { .. } => "indeterminate",
        };
        assert_eq!(found, expected, "{script}: {result:?}");
    }
    let missing = json!({"perform": ["/nonexistent/program"], "observe": ["true"]});
    let result = action("command/promote", &missing, &desk.wiring)
        .perform(&step(LONG))
        .await;
    let StepResult::Indeterminate { reason } = result else {
        panic!("{result:?}")
    };
    assert!(
        reason.contains("cannot start /nonexistent/program"),
        "{reason}"
    );
}

#[tokio::test]
async fn the_end_of_observe_says_what_is_there() {
    let desk = Desk::new();
    for (script, expected) in [
        ("exit 0", "in place"),
        ("exit 1", "absent"),
        ("exit 75", "unknown"),
        ("exit 2", "unknown"),
        ("no-such-program", "unknown"),
        ("kill -15 $$", "unknown"),
    ] {
        let presence = desk.observe(script).await;
        let found = match &presence {
            Presence::InPlace(proof) => {
                assert_eq!(proof.rung, Some(Rung::Infrastructure));
                "in place"
            }
            Presence::Absent { .. } => "absent",
            Presence::Unknown { .. } => "unknown",
        };
        assert_eq!(found, expected, "{script}: {presence:?}");
    }
}

#[tokio::test]
async fn a_program_gets_the_context_and_nothing_else() {
    let desk = Desk::new();
    let result = desk
        .perform("env > \"$1/env\"; cat > \"$1/json\"; exit 0", LONG)
        .await;
    assert!(matches!(result, StepResult::Done(_)), "{result:?}");
    let env = fs::read_to_string(desk.file("env")).unwrap();
    for line in [
        "FAILOVER_VERB=perform",
        "FAILOVER_SERVICE=shop",
        "FAILOVER_RUN=shop-r7",
        "FAILOVER_STEP=step",
        "FAILOVER_ATTEMPT=1",
        "FAILOVER_EPOCH=2",
        "FAILOVER_KEY=shop-r7.step.e2",
        "FAILOVER_KIND=failover",
        "FAILOVER_FROM=a",
        "FAILOVER_TO=b",
        "FAILOVER_TIMEOUT=30",
        "FAILOVER_FACT_FENCE_INSTANCE=i-1",
    ] {
        assert!(env.lines().any(|l| l == line), "{line} in {env}");
    }
    for line in env.lines() {
        let name = line.split('=').next().unwrap();
        // The shell adds the last three.
        let known = ["PATH", "HOME", "LANG", "TZ", "PWD", "SHLVL", "_"];
        assert!(
            name.starts_with("FAILOVER_") || known.contains(&name),
            "{line}"
        );
    }
    let json: Value = serde_json::from_slice(&fs::read(desk.file("json")).unwrap()).unwrap();
    assert_eq!(json["verb"], "perform");
    assert_eq!(json["from"]["addresses"], json!(["192.0.2.1"]));
    assert_eq!(json["to"]["url"], "https://b.example.com/");
    assert_eq!(json["facts"]["fence.instance"], "i-1");
    assert_eq!(json["epoch"], 2);
}

#[tokio::test]
async fn facts_and_the_last_words_are_kept_without_secrets() {
    let desk = Desk::new();
    fs::write(desk.file("token"), "s3cret\n").unwrap();
    let mut with = desk.steps(
        "echo failover: lsn=0/3000148; echo 'failover: told=I know s3cret'; echo failover: no fact; \
         echo first line >&2; i=0; while [ $i -lt 9 ]; do echo \"line $i $TOKEN\" >&2; i=$((i+1)); done; \
         head -c 100000 /dev/zero | tr '\\0' x >&2; printf s3cret >&2; exit 0",
        "exit 1",
    );
    with["env"] = json!({"TOKEN": {"file": desk.file("token")}});
    let result = action("command/promote", &with, &desk.wiring)
        .perform(&step(LONG))
        .await;
    let StepResult::Done(proof) = &result else {
        panic!("{result:?}")
    };
    assert_eq!(proof.facts["lsn"], "0/3000148");
    assert_eq!(proof.facts["told"], "I know ***");
    assert!(!format!("{result:?}").contains("s3cret"), "{result:?}");
    assert!(!proof.summary.contains("first line"), "{}", proof.summary);
    assert!(proof.summary.len() < 1000, "{}", proof.summary);

    let short = desk
        .perform("echo to stdout; echo broken pipe >&2; exit 1", LONG)
        .await;
    let StepResult::Failed { reason } = short else {
        panic!("{short:?}")
    };
    assert_eq!(reason, "exit status 1: broken pipe");

    with["env"] = json!({"TOKEN": {"file": "/nonexistent/token"}});
    let result = action("command/promote", &with, &desk.wiring)
        .perform(&step(LONG))
        .await;
    assert!(matches!(result, StepResult::Failed { .. }), "{result:?}");
    let presence = action("command/promote", &with, &desk.wiring)
        .observe(&step(LONG))
        .await;
    assert!(matches!(presence, Presence::Unknown { .. }), "{presence:?}");
}

const FAMILY: &str =
    "sleep 1000 & echo $! > \"$1/child\"; echo $$ > \"$1/leader\"; echo waiting >&2; wait";

#[tokio::test]
async fn at_the_time_out_the_whole_group_is_killed() {
    let desk = Desk::new();
    let result = desk.perform(FAMILY, SHORT).await;
    let StepResult::Indeterminate { reason } = result else {
        panic!("{result:?}")
    };
    assert!(reason.contains("no end within"), "{reason}");
    assert!(reason.contains("waiting"), "{reason}");
    for who in ["leader", "child"] {
        let pid = desk.text(who);
        until("it is gone", || !alive(&pid));
    }
}

#[tokio::test]
async fn a_cancelled_step_leaves_nobody() {
    let desk = Desk::new();
    {
        let running = desk.perform(FAMILY, LONG);
        tokio::pin!(running);
        while !desk.file("leader").exists() {
            let step = timeout(Duration::from_millis(20), &mut running).await;
            assert!(step.is_err(), "it ended by itself");
        }
    }
    for who in ["leader", "child"] {
        let pid = desk.text(who);
        until("it is gone", || !alive(&pid));
    }
}

#[tokio::test]
async fn who_stays_in_the_background_is_not_waited_for() {
    let desk = Desk::new();
    let script = "sleep 1000 & echo $! > \"$1/child\"; echo failover: pid=1; exit 0";
    let result = desk.perform(script, LONG).await;
    let StepResult::Done(proof) = result else {
        panic!("{result:?}")
    };
    assert_eq!(proof.facts["pid"], "1");
    let pid = desk.text("child");
    assert!(alive(&pid));
    kill(Pid::from_raw(pid.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn a_program_need_not_listen() {
    let desk = Desk::new();
    let mut step = step(LONG);
    // More than a pipe holds.
    step.facts.insert("a.long".into(), "x".repeat(100_000));
    let with = desk.steps("exec <&-; exit 0", "exit 1");
    let result = action("command/promote", &with, &desk.wiring)
        .perform(&step)
        .await;
    assert!(matches!(result, StepResult::Done(_)), "{result:?}");
}

#[tokio::test]
async fn a_fence_is_proved_by_its_observe() {
    let desk = Desk::new();
    let fence = |perform: &str, observe: &str| {
        action("command/fence", &desk.steps(perform, observe), &desk.wiring)
    };
    // The third look sees it.
    let slow =
        "echo x >> \"$1/looks\"; echo failover: instance=i-1; [ $(wc -l < \"$1/looks\") -ge 3 ]";
    let result = fence("echo failover: stopped=yes", slow)
        .perform(&step(LONG))
        .await;
    let StepResult::Done(proof) = result else {
        panic!("{result:?}")
    };
    assert_eq!(proof.rung, Some(Rung::Infrastructure));
    assert_eq!(proof.facts["stopped"], "yes");
    assert_eq!(proof.facts["instance"], "i-1");
    for observe in ["exit 1", "exit 3"] {
        let result = fence("exit 0", observe).perform(&step(SHORT)).await;
        assert!(
            matches!(result, StepResult::Indeterminate { .. }),
            "{result:?}"
        );
    }
    // What is stopped already cannot be stopped again.
    let result = fence("exit 1", "exit 0").perform(&step(LONG)).await;
    assert!(matches!(result, StepResult::Done(_)), "{result:?}");
    let result = fence("exit 1", "exit 1").perform(&step(LONG)).await;
    assert!(matches!(result, StepResult::Failed { .. }), "{result:?}");
    let left = fence("exit 0", "exit 0").undo(&step(LONG)).await;
    assert!(matches!(left, Some(StepResult::Failed { .. })), "{left:?}");
    let mut with = desk.steps("exit 0", "exit 0");
    with["undo"] = desk.sh("echo $FAILOVER_VERB > \"$1/undone\"");
    let undone = action("command/fence", &with, &desk.wiring)
        .undo(&step(LONG))
        .await;
    assert!(matches!(undone, Some(StepResult::Done(_))), "{undone:?}");
    assert_eq!(desk.text("undone"), "undo\n");
}

#[tokio::test]
async fn a_drain_is_seen_to_be_done_and_proves_nothing() {
    let desk = Desk::new();
    let drain = |perform: &str, observe: &str| {
        let mut with = desk.steps(perform, observe);
        with["undo"] = desk.sh("exit 0");
        action("command/drain", &with, &desk.wiring)
    };
    // Without `undo` a run that goes back would leave production stopped.
    let strands = (kinds().get("command/drain").unwrap().check)(&desk.steps("exit 0", "exit 0"));
    assert!(strands[0].message.contains("undo"), "{strands:?}");
    let result = drain("exit 0", "echo failover: lsn=0/3000028")
        .perform(&step(LONG))
        .await;
    let StepResult::Done(proof) = result else {
        panic!("{result:?}")
    };
    // Whoever likes may start that database again.
    assert_eq!(proof.rung, None);
    assert_eq!(proof.facts["lsn"], "0/3000028");
    let seen = drain("exit 0", "exit 0").observe(&step(LONG)).await;
    let Presence::InPlace(proof) = seen else {
        panic!("{seen:?}")
    };
    assert_eq!(proof.rung, None);
    // The database is stopped, and the other site has not got the log to its end.
    let result = drain("exit 0", "exit 1").perform(&step(SHORT)).await;
    let StepResult::Indeterminate { reason } = result else {
        panic!("{result:?}")
    };
    assert!(reason.contains("the database is stopped, but"), "{reason}");
}

#[tokio::test]
async fn check_wants_observe_to_say_not_in_place() {
    let desk = Desk::new();
    let step = step(LONG);
    for (observe, status) in [
        ("[ $FAILOVER_VERB = check ] && exit 1", CheckStatus::Ok),
        ("exit 0", CheckStatus::Fail),
        ("exit 2", CheckStatus::Fail),
    ] {
        for kind in ["command/fence", "command/promote"] {
            let with = desk.steps("touch \"$1/performed\"", observe);
            let items = action(kind, &with, &desk.wiring)
                .check(&step.from, &step.to)
                .await;
            assert_eq!(items.len(), 1);
            assert_eq!(items[0].status, status, "{observe}: {items:?}");
        }
    }
    assert!(!desk.file("performed").exists());
}

#[tokio::test]
async fn a_program_looks() {
    let desk = Desk::new();
    for (script, sight) in [
        ("exit 0", Sight::Up),
        ("echo queue is full; exit 1", Sight::Down),
        ("exit 3", Sight::Unknown),
        ("sleep 1000", Sight::Unknown),
    ] {
        let probe = probe(
            "probe/command",
            &json!({"run": desk.sh(script)}),
            &desk.wiring,
        );
        let seen = probe.look(&look(SHORT)).await;
        assert_eq!(seen.sight, sight, "{script}: {}", seen.detail);
        if sight == Sight::Down {
            assert_eq!(seen.detail, "exit status 1: queue is full");
        }
    }
    let script = "[ $FAILOVER_SOURCE_ADDRESS = 192.0.2.9 ]";
    let probe = probe(
        "probe/command",
        &json!({"run": desk.sh(script)}),
        &desk.wiring,
    );
    let seen = probe
        .look(&LookContext {
            via: Via::SourceAddress([192, 0, 2, 9].into()),
            timeout: LONG,
        })
        .await;
    assert_eq!(seen.sight, Sight::Up, "{}", seen.detail);
}

#[test]
fn what_cannot_work_is_found_before() {
    let problems = |kind: &str, with: &Value| -> Vec<String> {
        let kind = kinds().get(kind).unwrap();
        (kind.check)(with).into_iter().map(|p| p.path).collect()
    };
    assert_eq!(
        problems("command/fence", &json!({"perform": ["true"]})),
        [""],
        "observe is compulsory"
    );
    let with = json!({
        "perform": [],
        "observe": ["stop-primary --is-stopped"],
        "undo": ["true", "a\u{0}b"],
        "env": {"FAILOVER_RUN": {"env": "A"}, "PATH": {"env": "A"}, "1A": {"env": "A"}, "OK": {"env": "A"}},
    });
    assert_eq!(
        problems("command/promote", &with),
        [
            "perform",
            "observe[0]",
            "undo[1]",
            "env.1A",
            "env.FAILOVER_RUN",
            "env.PATH"
        ]
    );
    assert_eq!(problems("probe/command", &json!({"run": [""]})), ["run[0]"]);
}
