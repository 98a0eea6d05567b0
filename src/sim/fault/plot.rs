//! Plots: faults that belong together.

use super::{Anchor, Away, By, FIRST, Fault, Mishap, Planned, Wish, one};
use crate::{
    model::{plan::StepPhase, span::Span},
    sim::{chance::Chance, network::Party},
};

/// People move the service to another site and back while everything works; what goes wrong mostly waits for their runs.
pub(super) fn planned_work(chance: &mut Chance, sites: usize) -> Vec<Planned> {
    let standby = 1 + chance.index(sites - 1);
    let mut at = chance.millis(FIRST.as_millis(), 45_000);
    let wishes = [
        Wish::Switchover(standby),
        *chance.pick(&[Wish::Failback, Wish::Failback, Wish::Switchover(0)]),
        Wish::Switchover(standby),
    ];
    let many = 1 + chance.index(wishes.len());
    let mut plan = Vec::new();
    for wish in &wishes[..many] {
        plan.push(Planned {
            from: Anchor::Beginning,
            at,
            lasts: Span::from_secs(1),
            fault: Fault::Wishes(*wish),
        });
        at = at.saturating_add(chance.millis(60_000, 240_000));
    }
    plan
}

/// What matters to guards lies close together: whoever grants loses sight of the primary, somebody takes over, and
/// something happens to those who have a part in it just then.
pub(super) fn plot(chance: &mut Chance, sites: usize) -> Vec<Planned> {
    let (customer, standby) = (chance.index(2), 1 + chance.index(sites - 1));
    let began = chance.millis(FIRST.as_millis(), 60_000);
    let near = |chance: &mut Chance, least, most| {
        began
            .saturating_add(chance.millis(least, most))
            .saturating_sub(Span::from_secs(3))
    };
    let parted = *chance.pick(&[
        Some(Fault::Severed(0, customer)),
        Some(Fault::Severed(0, customer)),
        Some(Fault::Island(0, customer)),
        Some(Fault::CutOff(0)),
        Some(Fault::Cut((Party::Controller, Party::Site(0)))),
        None,
    ]);
    let mut plan = Vec::new();
    let mut add = |from, at, lasts, fault| {
        plan.push(Planned {
            from,
            at,
            lasts,
            fault,
        });
    };
    if let Some(parted) = parted {
        let lasts = chance.millis(10_000, 120_000);
        add(Anchor::Beginning, began, lasts, parted);
    }
    let wishes = Fault::Wishes(Wish::Failover(standby));
    add(
        Anchor::Beginning,
        near(chance, 3_000, 12_000),
        Span::from_secs(1),
        wishes,
    );
    if chance.percent(30) {
        let at = chance.millis(0, 6_000);
        let dies = Fault::ControllerDies(u32::try_from(chance.below(20)).unwrap_or(0));
        add(Anchor::Run, at, chance.millis(100, 3_000), dies);
    }
    if chance.percent(30) {
        let at = chance.millis(0, 500);
        add(
            Anchor::Epoch,
            at,
            chance.millis(50, 1_000),
            Fault::GuardDies(standby),
        );
    }
    if chance.percent(15) {
        let at = chance.millis(2_000, 30_000);
        let loses = Fault::GuardLosesState(standby);
        add(Anchor::Epoch, at, chance.millis(100, 5_000), loses);
    }
    if chance.percent(40) {
        let at = near(chance, 0, 6_000);
        let lasts = chance.millis(10_000, 120_000);
        let fault = *chance.pick(&[Fault::GuardFreezes(0), Fault::GuardDies(0)]);
        add(Anchor::Beginning, at, lasts, fault);
    }
    if chance.percent(30) {
        let fault = *chance.pick(&[Fault::Doubling, Fault::Slow, Fault::Lossy]);
        let at = Span::from_millis(chance.below(2) * near(chance, 0, 3_000).as_millis());
        add(Anchor::Beginning, at, chance.millis(30_000, 120_000), fault);
    }
    if chance.percent(20) {
        let at = began.saturating_sub(Span::from_secs(15));
        add(
            Anchor::Beginning,
            at,
            Span::from_secs(120),
            Fault::Slews(0, -100_000),
        );
    }
    if chance.percent(10) {
        let at = chance.millis(100, 20_000);
        add(
            Anchor::Run,
            at,
            Span::from_secs(1),
            Fault::Wishes(Wish::Abort),
        );
        let again = near(chance, 20_000, 60_000);
        add(Anchor::Beginning, again, Span::from_secs(1), wishes);
    }
    plan
}

/// A failover is stopped while it fences, and begun again when the primary is out of reach.
pub(super) fn second_thoughts(chance: &mut Chance) -> Vec<Planned> {
    let began = chance.millis(FIRST.as_millis(), 30_000);
    let wish = |after: u64| Planned {
        from: Anchor::Beginning,
        at: began.saturating_add(Span::from_millis(after)),
        lasts: Span::from_secs(1),
        fault: Fault::Wishes(Wish::Failover(1)),
    };
    let hangs = Planned {
        from: Anchor::Beginning,
        at: began,
        lasts: chance.millis(8_000, 20_000),
        fault: Fault::Step(StepPhase::Fence, Mishap::Swallowed),
    };
    let aborts = Planned {
        from: Anchor::Run,
        at: chance.millis(1_000, 8_000),
        lasts: Span::from_secs(1),
        fault: Fault::Wishes(Wish::Abort),
    };
    let severed = Planned {
        from: Anchor::Beginning,
        at: began.saturating_add(chance.millis(60_000, 90_000)),
        lasts: chance.millis(30_000, 120_000),
        fault: Fault::Severed(0, chance.index(2)),
    };
    vec![
        wish(100),
        hangs,
        aborts,
        severed,
        wish(92_000),
        wish(97_000),
    ]
}

/// People move the service, and something happens to its new site when that is alone no more: until the old one follows, it
/// has a lease without an end.
#[must_use]
pub fn lone(chance: &mut Chance) -> Vec<Planned> {
    let moved = chance.millis(FIRST.as_millis(), 45_000);
    let parts = chance.millis(0, 4_000);
    let wished = parts.saturating_add(chance.millis(10, 2_000));
    let customer = chance.index(2);
    let parted = *chance.pick(&[
        Fault::Severed(1, customer),
        Fault::Island(1, customer),
        Fault::CutOff(1),
    ]);
    let person = |from, at, wish| Planned {
        from,
        at,
        lasts: Span::from_secs(1),
        fault: Fault::Wishes(wish),
    };
    vec![
        person(Anchor::Beginning, moved, Wish::Switchover(1)),
        Planned {
            from: Anchor::Bounded,
            at: parts,
            lasts: chance.millis(30_000, 120_000),
            fault: parted,
        },
        person(Anchor::Bounded, wished, Wish::Failover(0)),
    ]
}

/// The controller is away while another one comes after it, mostly close to whatever else goes wrong first. By itself, or
/// in the way that a test has planted.
#[must_use]
pub fn succession(chance: &mut Chance, faults: &[Planned], planted: Option<By>) -> Vec<Planned> {
    let begins = |p: &&Planned| p.from == Anchor::Beginning;
    let first = faults.iter().filter(begins).map(|p| p.at).min();
    let (from, at) = match (chance.below(3), first) {
        (0, _) => (Anchor::Run, chance.millis(0, 15_000)),
        (1, Some(first)) => (
            Anchor::Beginning,
            first.saturating_sub(chance.millis(0, 20_000)),
        ),
        _ => (Anchor::Beginning, chance.millis(FIRST.as_millis(), 90_000)),
    };
    let by = planted.unwrap_or(*chance.pick(&[By::Takeover, By::Election]));
    let away = match by {
        By::Takeover => *chance.pick(&[Away::Frozen, Away::Dead, Away::CutOff, Away::WithPrimary]),
        By::Election => {
            *chance.pick(&[Away::Frozen, Away::Frozen, Away::CutOff, Away::WithPrimary])
        }
    };
    let (at, lasts) = (at.max(Span::from_secs(1)), chance.millis(10_000, 180_000));
    let mut plan = vec![Planned {
        from,
        at,
        lasts,
        fault: Fault::Succeeded(by, away),
    }];
    // Nothing tells the one that comes back that another one leads: the store does not answer it.
    if chance.percent(30) {
        let cut = |way| Planned {
            from,
            at,
            lasts: lasts.saturating_add(Span::from_secs(60)),
            fault: Fault::Cut(way),
        };
        plan.push(cut((Party::Former, Party::Store)));
    }
    plan
}

/// Troubles of the controller, and of nobody else.
#[must_use]
pub fn of_controller(chance: &mut Chance) -> Vec<Planned> {
    let many = 1 + chance.below(4);
    let mut plan: Vec<_> = (0..many)
        .map(|_| Planned {
            from: Anchor::Beginning,
            at: chance.millis(30_000, 150_000),
            lasts: chance.millis(1_000, 180_000),
            fault: {
                let kind = 11 + chance.below(5);
                one(chance, kind, 1, 1)
            },
        })
        .collect();
    plan.sort_by_key(|p| (p.from, p.at, p.lasts, p.fault));
    plan
}
