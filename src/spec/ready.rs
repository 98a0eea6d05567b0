//! The ready-made runbooks, usable by name where no document of that name is given.

use std::collections::BTreeSet;

use super::{
    complaint::DocId,
    document::RunbookDocument,
    outline::outline,
    runbook::{Run, StepSpec},
    scope::Scope,
};
use crate::{
    model::{plan::StepPhase, span::Span},
    port::kind::Kinds,
};

/// A ready-made runbook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyMade {
    /// Its name.
    pub name: &'static str,
    /// The document.
    pub text: &'static str,
}

/// Every ready-made runbook.
pub const RUNBOOKS: [ReadyMade; 7] = [
    ReadyMade {
        name: "postgres-drill",
        text: include_str!("../../runbooks/postgres-drill.yaml"),
    },
    ReadyMade {
        name: "postgres-failover",
        text: include_str!("../../runbooks/postgres-failover.yaml"),
    },
    ReadyMade {
        name: "postgres-guarded",
        text: include_str!("../../runbooks/postgres-guarded.yaml"),
    },
    ReadyMade {
        name: "postgres-promote",
        text: include_str!("../../runbooks/postgres-promote.yaml"),
    },
    ReadyMade {
        name: "postgres-restore",
        text: include_str!("../../runbooks/postgres-restore.yaml"),
    },
    ReadyMade {
        name: "redirect",
        text: include_str!("../../runbooks/redirect.yaml"),
    },
    ReadyMade {
        name: "stateless-failover",
        text: include_str!("../../runbooks/stateless-failover.yaml"),
    },
];

/// A step of a ready-made runbook, with what its document leaves to the defaults.
#[derive(Clone, Debug)]
pub struct ReadyStep {
    /// As written.
    pub spec: StepSpec,
    /// The part of the run.
    pub phase: StepPhase,
    /// Steps that must be done before.
    pub needs: Vec<String>,
    /// The kinds of run it takes part in.
    pub runs: BTreeSet<Run>,
    /// Time-out of one attempt.
    pub timeout: Span,
}

impl ReadyMade {
    /// Its title and steps; none where its text cannot be read, which no released one is.
    #[must_use]
    pub fn steps(&self, kinds: Kinds) -> Option<(String, Vec<ReadyStep>)> {
        let document: RunbookDocument = serde_saphyr::from_str(self.text).ok()?;
        let mut complaints = Vec::new();
        let mut scope = Scope {
            doc: DocId(0),
            kinds,
            tainted: &BTreeSet::new(),
            complaints: &mut complaints,
        };
        let outline = outline(&mut scope, &document);
        let steps = outline.steps.iter().map(|step| ReadyStep {
            spec: step.spec.clone(),
            phase: step.phase,
            needs: step.needs.clone(),
            runs: step.runs.clone(),
            timeout: step.timeout,
        });
        Some((outline.title.to_owned(), steps.collect()))
    }
}
