//! Limits that several routers share.

use std::time::Duration;

use async_trait::async_trait;
use waystation_domain::OrganizationId;

use super::scripts::Script;
use super::{Args, Redis, reply};
use crate::Unavailable;
use crate::mailbox::Now;
use crate::quota::{QuotaStore, Slice};

#[async_trait]
impl QuotaStore for Redis {
    async fn slice(
        &self,
        organization: &OrganizationId,
        a_second: u32,
        wanted: u32,
        now: Now,
    ) -> Result<Slice, Unavailable> {
        let mut args = Args::default();
        args.text(organization.as_str()).number(a_second).number(wanted);
        let partition = self.places.partition_of_organization(organization);
        let mut answer = reply::list(self.run_in(partition, Script::Slice, args, now).await?)?;
        let granted = u32::try_from(reply::number(reply::next(&mut answer)?)?).map_err(reply::odd)?;
        Ok(Slice { granted, again: Duration::from_millis(reply::number(reply::next(&mut answer)?)?) })
    }
}
