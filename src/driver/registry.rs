//! Every kind that this build knows.

use std::sync::LazyLock;

use crate::{
    announce, backup, chat, dns, drill,
    driver::verify,
    fence,
    port::kind::{Kind, Kinds},
    probe, promote, publish,
};

static ALL: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    [
        probe::KINDS,
        fence::KINDS,
        promote::KINDS,
        dns::KINDS,
        announce::KINDS,
        chat::KINDS,
        publish::KINDS,
        backup::KINDS,
        drill::KINDS,
        verify::KINDS,
    ]
    .concat()
});

/// Every kind that this build knows.
pub fn kinds() -> Kinds {
    Kinds(&ALL)
}
