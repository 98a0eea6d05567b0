//! Lists that the server gives page by page.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::api::ListParams;

/// What to ask for after this page; none after the last one.
#[must_use]
pub fn next_page(page: ListParams, listed: &ListMeta) -> Option<ListParams> {
    let token = listed
        .continue_
        .as_ref()
        .filter(|token| !token.is_empty())?;
    Some(page.continue_token(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_token_is_the_end_as_none_is() {
        let listed = |token: Option<&str>| ListMeta {
            continue_: token.map(str::to_owned),
            ..ListMeta::default()
        };
        let page = || ListParams::default().limit(5);
        let next = next_page(page(), &listed(Some("more"))).unwrap();
        assert_eq!(next.continue_token.as_deref(), Some("more"));
        assert_eq!(next.limit, Some(5));
        for last in [None, Some("")] {
            assert!(next_page(page(), &listed(last)).is_none());
        }
    }
}
