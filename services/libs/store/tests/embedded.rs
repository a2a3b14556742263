//! The embedded store passes the conformance suite, in memory and with its journal.
#![allow(clippy::unwrap_used, missing_docs)]

use waystation_store::{Config, Store, open};

fn in_memory() -> Store {
    open(&Config::Memory, 7).unwrap()
}

fn journaled(fsync: bool) -> Store {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap().keep();
    // A small file, so that the suite also begins new ones.
    open(&Config::Journal { dir, fsync, file_bytes: 4_096 }, 7).unwrap()
}

mod memory {
    waystation_store::conformance_suite!(super::super::in_memory());
}

mod page_cache {
    waystation_store::conformance_suite!(super::super::journaled(false));
}

mod fsync {
    waystation_store::conformance_suite!(super::super::journaled(true));
}
