//! Chains of audit events. They live with the credentials.

use async_trait::async_trait;
use redis::Value;

use super::keys::{CREDENTIALS, Place};
use super::reply::{self, odd};
use super::scripts::Script;
use super::{Args, Redis};
use crate::Unavailable;
use crate::audit::{AuditLog, AuditRecord, AuditStore, Chain};
use crate::mailbox::Now;

/// What keys are named by; no organization has an empty id.
fn name_of(chain: &Chain) -> String {
    let log = match chain.log {
        AuditLog::Changes => "changes",
        AuditLog::Logins => "logins",
    };
    format!("{log}:{}", chain.organization.as_ref().map_or("", |organization| organization.as_str()))
}

fn records(answer: Value) -> Result<Vec<AuditRecord>, Unavailable> {
    reply::list(answer)?.map(reply::json).collect()
}

#[async_trait]
impl AuditStore for Redis {
    async fn append_audit(
        &self,
        chain: &Chain,
        after: u64,
        records: Vec<AuditRecord>,
        now: Now,
    ) -> Result<bool, Unavailable> {
        let mut args = Args::default();
        args.push(name_of(chain)).number(after);
        for record in &records {
            args.push(serde_json::to_string(record).map_err(odd)?);
        }
        let answer = self.run(Place::Credentials, Script::AppendAudit, &[CREDENTIALS], args, now).await?;
        Ok(reply::number(answer)? == 1)
    }

    async fn audit_head(&self, chain: &Chain) -> Result<Option<AuditRecord>, Unavailable> {
        let mut args = Args::default();
        args.push(name_of(chain)).text("").number(1);
        Ok(records(self.run(Place::Credentials, Script::Audit, &[CREDENTIALS], args, None).await?)?.pop())
    }

    async fn audit(&self, chain: &Chain, after: u64, most: usize) -> Result<Vec<AuditRecord>, Unavailable> {
        let mut args = Args::default();
        args.push(name_of(chain)).number(after).number(most);
        records(self.run(Place::Credentials, Script::Audit, &[CREDENTIALS], args, None).await?)
    }
}
