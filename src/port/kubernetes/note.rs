//! What was there before, written on the object itself in the very change that it is about: it outlives this process,
//! and a journal that was lost.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::id::IdempotencyKey;

/// What stood there before a step scaled a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    /// Which step's effect it is.
    pub key: IdempotencyKey,
    /// As many replicas were wanted before.
    pub before: u32,
    /// Where it is fenced: the Pods whose end is not proved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
}

/// Pods that are to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ending {
    /// The version of the list that they were on: everything that becomes of them comes after it.
    pub since: String,
    /// By their UIDs, where each is.
    pub pods: BTreeMap<String, String>,
    /// Whether the nodes were Ready for so long that what was deleted by force beforehand has ended too.
    #[serde(default)]
    pub is_settled: bool,
    /// Who sets the number of replicas back by itself, although it was taken by force.
    #[serde(default)]
    pub rivals: Vec<String>,
}

impl Note {
    /// The annotation that holds it.
    pub const NAME: &'static str = "failover.rs/scaled";

    /// What an object says; none where it says nothing that can be understood.
    #[must_use]
    pub fn read(annotations: Option<&BTreeMap<String, String>>) -> Option<Self> {
        serde_json::from_str(annotations?.get(Self::NAME)?).ok()
    }

    /// As the annotation's value.
    #[must_use]
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_nothing_else() {
        let note = Note {
            key: IdempotencyKey::new("shop-r1.scale"),
            before: 1,
            ending: Some(Ending {
                since: "12".to_owned(),
                pods: [("u1".to_owned(), "shop-a on node-0".to_owned())].into(),
                is_settled: true,
                rivals: vec!["Argo CD (argocd-controller)".to_owned()],
            }),
        };
        let of = |text: &str| BTreeMap::from([(Note::NAME.to_owned(), text.to_owned())]);
        assert_eq!(Note::read(Some(&of(&note.text()))), Some(note));
        assert_eq!(Note::read(Some(&of("3"))), None);
        assert_eq!(Note::read(None), None);
    }
}
