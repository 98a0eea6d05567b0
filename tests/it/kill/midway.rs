//! The controller dies when an effect was made, and before it can know: the other side kills it, or keeps silent until
//! somebody does.

use std::os::unix::process::ExitStatusExt;

use tokio::process::Child;

use super::{SIGKILL, aftermath, world::World};
use crate::stand::{
    bind::Bind,
    patience::until,
    slow_dns::{Fate, Relay},
    smtp::SILENCE,
    telegram::Chat,
    webhook, x,
};
/// Waits until the effect was made, kills the controller if nobody else does, and lives on once `heal` was called.
async fn survives(
    world: &World,
    bind: &Bind,
    mut controller: Child,
    made: impl AsyncFn() -> bool,
    heal: impl FnOnce(),
) {
    until("the effect is made", async || made().await).await;
    // One that is dead already stays dead.
    let _ = controller.start_kill();
    let ended = controller.wait().await.unwrap();
    assert_eq!(ended.signal(), Some(SIGKILL), "{}", world.log());
    aftermath::records(world);
    heal();
    let ended = world.live(None).await;
    assert!(ended.success(), "{}", world.log());
    aftermath::all_is_well(world, bind).await;
}

async fn fenced(bind: &Bind) {
    let world = World::new(bind.address, "fenced.test").await;
    world.make_fence_fatal();
    let controller = world.begin(None);
    let made = async || !world.fences().is_empty();
    survives(&world, bind, controller, made, || {}).await;
}

async fn promoted(bind: &Bind) {
    let world = World::new(bind.address, "promoted.test").await;
    let controller = world.begin(None);
    world.make_promotion_fatal(&controller);
    let made = async || !world.promotions().is_empty();
    survives(&world, bind, controller, made, || {}).await;
}

/// The server applies every update and never answers; the TTL's comes before the address's.
async fn repointed(bind: &Bind) {
    let relay = Relay::start(bind.address).await;
    relay.updates(Fate::Swallow);
    let world = World::new(relay.address, "repointed.test").await;
    let controller = world.begin(None);
    let made = async || bind.serial(&world.zone) == 9;
    survives(&world, bind, controller, made, || relay.updates(Fate::Pass)).await;
}

async fn posted(bind: &Bind) {
    let world = World::new(bind.address, "posted.test").await;
    world.x.next([x::Turn::PostedInSilence]);
    let controller = world.begin(None);
    let made = async || !world.x.posts().is_empty();
    survives(&world, bind, controller, made, || {}).await;
    assert!(
        world.x.asked() > world.x.posts().len(),
        "it was asked again"
    );
}

async fn hooked(bind: &Bind) {
    let world = World::new(bind.address, "hooked.test").await;
    world.hook.next([webhook::Turn::TakenInSilence]);
    let controller = world.begin(None);
    let made = async || !world.hook.seen.lock().unwrap().taken.is_empty();
    survives(&world, bind, controller, made, || {}).await;
    let seen = world.hook.seen.lock().unwrap();
    assert!(seen.ids.len() > seen.taken.len(), "it was sent again");
}

/// Telegram cannot tell: what was shown is not sent again.
async fn shown(bind: &Bind) {
    let world = World::new(bind.address, "shown.test").await;
    world.telegram.chat(super::world::CHAT, Chat::Silent);
    let controller = world.begin(None);
    let made = async || !world.telegram.shown().is_empty();
    let heal = || world.telegram.chat(super::world::CHAT, Chat::Open);
    survives(&world, bind, controller, made, heal).await;
    assert_eq!(world.telegram.shown().len(), 3);
}

/// A mail server cannot tell either: what it took after the final dot is not sent again.
async fn mailed(bind: &Bind) {
    let world = World::new(bind.address, "mailed.test").await;
    world.mail.next([(".", SILENCE)]);
    let controller = world.begin(None);
    let taken = || world.mail.taken.lock().unwrap().len();
    survives(&world, bind, controller, async || taken() > 0, || {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_survives_sigkill_between_an_effect_and_its_record() {
    let names = [
        "fenced",
        "promoted",
        "repointed",
        "posted",
        "hooked",
        "shown",
        "mailed",
    ];
    let bind = Bind::with_zones(&names.map(|n| format!("{n}.test"))).await;
    tokio::join!(
        fenced(&bind),
        promoted(&bind),
        repointed(&bind),
        posted(&bind),
        hooked(&bind),
        shown(&bind),
        mailed(&bind),
    );
}
