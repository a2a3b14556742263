//! Other cells: each is an orchestrator of a reserved name, which takes tasks for all that it has.

use std::sync::Arc;

use crate::{IdError, OrchestratorId};

/// Names that begin so are cells'.
const PREFIX: &str = "cell.";

/// The orchestrator that stands for a cell.
///
/// # Errors
/// If the name holds what no id may, or is longer than 59 characters.
pub fn cell_id(name: &str) -> Result<OrchestratorId, IdError> {
    OrchestratorId::try_from(Arc::from(format!("{PREFIX}{name}")))
}

/// The name of the cell that an orchestrator stands for; `None`: it is one of ours.
pub fn cell_of(orchestrator: &OrchestratorId) -> Option<&str> {
    orchestrator.as_str().strip_prefix(PREFIX)
}

/// Somebody of a cell as other cells know it: told apart from theirs. What is too long is the cell.
pub fn abroad(cell: &OrchestratorId, orchestrator: &OrchestratorId) -> OrchestratorId {
    if cell_of(orchestrator).is_some() {
        return orchestrator.clone();
    }
    let named = format!("{cell}.{orchestrator}");
    OrchestratorId::try_from(Arc::from(named)).unwrap_or_else(|_| cell.clone())
}
