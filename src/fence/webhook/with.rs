//! Settings of `webhook/fence`.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    model::secret::SecretRef,
    port::{
        endpoint,
        kind::{Problem, With},
    },
};

/// Settings of `webhook/fence`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookWith {
    /// Where the fence is asked for. A status of 2xx means "done, or under way"; 408, 409, 425, 429 and whatever is not
    /// 4xx that it may have happened, so it is asked for again; any other that it was refused.
    pub url: String,
    /// Where it is asked whether the old primary is fenced, which changes nothing. Status 200 with the JSON
    /// `{"fenced": true, "summary": "…"}` or `{"fenced": false, "summary": "…"}`; any other answer tells nothing.
    pub observe: String,
    /// Where it is asked to take the fence back, with `url`'s statuses; without it the fence stays.
    #[serde(default)]
    pub undo: Option<String>,
    /// The key that requests are signed with, as Standard Webhooks has it: the base64 of 24 to 64 bytes, with or
    /// without `whsec_` before it.
    pub key: SecretRef,
}

impl WebhookWith {
    fn urls(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let undo = self.undo.as_deref().map(|url| ("undo", url));
        [("url", self.url.as_str()), ("observe", &self.observe)]
            .into_iter()
            .chain(undo)
    }
}

impl With for WebhookWith {
    fn problems(&self) -> Vec<Problem> {
        self.urls()
            .filter_map(|(field, url)| endpoint::problem(field, url))
            .collect()
    }

    fn hosts(&self) -> Vec<String> {
        let hosts = self.urls().filter_map(|(_, url)| endpoint::host(url));
        hosts.collect::<BTreeSet<_>>().into_iter().collect()
    }
}
