//! Gateways and their leases.

use std::sync::PoisonError;

use waystation_domain::{IncarnationId, Timestamp};

use super::keys::{GATEWAYS, META, Place};
use super::reply;
use super::scripts::Script;
use super::{Args, Disagreed, Redis};
use crate::mailbox::{IncarnationInfo, Now, RenewIncarnation, Renewed};
use crate::{Unavailable, limits};

impl Redis {
    pub(super) async fn renew_lease(&self, renew: RenewIncarnation, now: Now) -> Result<Renewed, Unavailable> {
        let mut args = Args::default();
        let lease = renew.lease.min(limits::LEASE);
        args.text(renew.incarnation.as_str()).text(&renew.address).number(u8::from(renew.draining));
        args.number(lease.as_millis());
        let answer = self.run(Place::Gateways, Script::Renew, &[GATEWAYS], args, now).await?;
        Ok(if reply::number(answer)? == 1 { Renewed::Live } else { Renewed::Expired })
    }

    /// Reads the table, and with it whether this deployment still is the one that uses the Redis.
    pub(super) async fn gateway_table(&self, now: Now) -> Result<Vec<IncarnationInfo>, Unavailable> {
        let args = Args::default();
        let answer = self.run(Place::Gateways, Script::GatewayTable, &[GATEWAYS, META], args, now).await?;
        let mut answer = reply::list(answer)?;
        let partitions = reply::number(reply::next(&mut answer)?)?;
        let checked = match partitions {
            // A Redis that has forgotten everything: agree anew.
            0 => self.forget_agreement().await,
            found => self.check_partitions(found),
        };
        checked.map_err(|disagreed| match disagreed {
            Disagreed::Unfit(why) | Disagreed::Unavailable(why) => Unavailable(why),
        })?;
        let moment = Timestamp::from_millis(reply::number(reply::next(&mut answer)?)?);
        let gateways = answer.map(|gateway| {
            let mut fields = reply::list(gateway)?;
            let incarnation: IncarnationId = reply::parse(&reply::text(reply::next(&mut fields)?)?)?;
            let lease_until = Timestamp::from_millis(reply::number(reply::next(&mut fields)?)?);
            let draining = reply::number(reply::next(&mut fields)?)? == 1;
            let address = reply::text(reply::next(&mut fields)?)?;
            Ok(IncarnationInfo { incarnation, address, gone: lease_until <= moment, draining, lease_until })
        });
        let mut gateways: Vec<IncarnationInfo> = gateways.collect::<Result<_, Unavailable>>()?;
        gateways.sort_unstable_by(|a, b| a.incarnation.cmp(&b.incarnation));
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        *leases = gateways.iter().map(|gateway| (gateway.incarnation.clone(), gateway.lease_until)).collect();
        Ok(gateways)
    }

    /// The end of a gateway's lease as this process knows it.
    pub(super) fn known_lease(&self, incarnation: &IncarnationId) -> Option<Timestamp> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).get(incarnation).copied()
    }

    /// Forgets a gateway without sessions whose lease has ended; answers whether it was there.
    pub(super) async fn forget_gateway(&self, incarnation: &IncarnationId, now: Now) -> Result<bool, Unavailable> {
        let mut args = Args::default();
        args.text(incarnation.as_str());
        let answer = self.run(Place::Gateways, Script::ForgetGateway, &[GATEWAYS], args, now).await?;
        Ok(reply::number(answer)? == 1)
    }
}
