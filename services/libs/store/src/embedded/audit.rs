//! Chains of audit events.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::audit::{AuditRecord, Chain};
use crate::limits;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Audit {
    chains: BTreeMap<Chain, VecDeque<AuditRecord>>,
}

impl Audit {
    pub(super) fn append(&mut self, chain: Chain, after: u64, records: Vec<AuditRecord>) -> bool {
        let chain = self.chains.entry(chain).or_default();
        if chain.back().map_or(0, |last| last.sequence) != after {
            return false;
        }
        chain.extend(records);
        let beyond = chain.len().saturating_sub(limits::AUDIT_EVENTS);
        chain.drain(..beyond);
        true
    }

    pub(super) fn head(&self, chain: &Chain) -> Option<AuditRecord> {
        self.chains.get(chain)?.back().cloned()
    }

    pub(super) fn after(&self, chain: &Chain, after: u64, most: usize) -> Vec<AuditRecord> {
        let all = self.chains.get(chain).into_iter().flatten();
        all.skip_while(|record| record.sequence <= after).take(most).cloned().collect()
    }
}
