//! One history, drawn from a seed.

use std::collections::BTreeMap;

use failover::model::guard::Grantor;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use stateright::{Expectation, Model};

use super::{
    action::{Action, Leader, Proof},
    world::Plan,
};

/// Steps of a history.
const STEPS: usize = 60;

/// Plays a history; tells what may never be and was, and in which step.
pub fn walk(plan: Plan, seed: u64) -> Option<(&'static str, usize)> {
    let mut random = StdRng::seed_from_u64(seed);
    let weights = Weights::draw(&mut random);
    let properties = plan.properties();
    let mut world = plan.init_states().remove(0);
    for step in 1..=STEPS {
        let mut actions = Vec::new();
        plan.actions(&world, &mut actions);
        let mut kinds: BTreeMap<Kind, Vec<Action>> = BTreeMap::new();
        for action in actions {
            kinds.entry(Kind::of(&action)).or_default().push(action);
        }
        let sum: u32 = kinds.keys().map(|k| weights.of(*k)).sum();
        let mut drawn = random.random_range(0..sum);
        let (_, mut actions) = kinds
            .into_iter()
            .find(|(kind, _)| {
                let is_drawn = drawn < weights.of(*kind);
                drawn = drawn.saturating_sub(weights.of(*kind));
                is_drawn
            })
            .expect("one of them");
        let action = actions.swap_remove(random.random_range(0..actions.len()));
        if let Some(next) = plan.next_state(&world, action) {
            world = next;
        }
        let broken = properties
            .iter()
            .filter(|p| matches!(p.expectation, Expectation::Always))
            .find(|p| !(p.condition)(&plan, &world));
        if let Some(property) = broken {
            return Some((property.name, step));
        }
    }
    None
}

/// Kinds of actions: each is as likely as its weight, however many actions there are of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Time,
    Work,
    AskController,
    AskDeposed,
    AskDeputy,
    GrantByController,
    GrantByDeputy,
    Fence,
    Promote,
    OpenFence,
    OpenSame,
    OpenOther,
    Death,
    Freeze,
    StateLost,
    TakeOver,
    ByHand,
    Planned,
    Repair,
}

impl Kind {
    fn of(action: &Action) -> Self {
        match action {
            Action::Pass => Self::Time,
            Action::Complete(_) => Self::Work,
            Action::AskController(Leader::Current, _) => Self::AskController,
            Action::AskController(Leader::Deposed, _) => Self::AskDeposed,
            Action::AskDeputy(..) => Self::AskDeputy,
            Action::Grant(_, (_, _, _, Grantor::Controller)) => Self::GrantByController,
            Action::Grant(_, (_, _, _, Grantor::Deputy)) => Self::GrantByDeputy,
            Action::Fence(..) => Self::Fence,
            Action::Promote(..) => Self::Promote,
            Action::OpenFence(_) => Self::OpenFence,
            Action::OpenEpoch(_, _, Proof::Same) => Self::OpenSame,
            Action::OpenEpoch(_, _, Proof::Acknowledged | Proof::Lease | Proof::None) => {
                Self::OpenOther
            }
            Action::TakeOver => Self::TakeOver,
            Action::DatabaseDies(_) | Action::GuardDies(_) | Action::HostDies(_) => Self::Death,
            Action::Drain(..) | Action::Resync(_) => Self::Planned,
            Action::Freeze(_) => Self::Freeze,
            Action::StateLost(_) => Self::StateLost,
            Action::StartedByHand(_) => Self::ByHand,
            Action::GuardStarts(_) | Action::Thaw(_) => Self::Repair,
        }
    }
}

/// How likely each kind is in one history: some never happen, others crowd.
struct Weights(BTreeMap<Kind, u32>);

impl Weights {
    fn draw(random: &mut StdRng) -> Self {
        const ALL: [Kind; 19] = [
            Kind::Time,
            Kind::Work,
            Kind::AskController,
            Kind::AskDeposed,
            Kind::AskDeputy,
            Kind::GrantByController,
            Kind::GrantByDeputy,
            Kind::Fence,
            Kind::Promote,
            Kind::OpenFence,
            Kind::OpenSame,
            Kind::OpenOther,
            Kind::Death,
            Kind::Freeze,
            Kind::StateLost,
            Kind::TakeOver,
            Kind::ByHand,
            Kind::Planned,
            Kind::Repair,
        ];
        let mut weights = ALL.map(|kind| (kind, [0, 1, 2, 4, 8, 16][random.random_range(0..6)]));
        // Time never stands still.
        weights[0].1 = weights[0].1.max(1);
        Self(weights.into())
    }

    fn of(&self, kind: Kind) -> u32 {
        self.0[&kind]
    }
}
