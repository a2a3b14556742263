//! Names of keys. Ids hold only letters, digits, `.`, `_` and `-`, so no two tenants can share one.

use waystation_domain::OrganizationId;

use crate::mailbox::MailboxKey;

/// Keys that live on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A partition of the mailboxes.
    Partition(usize),
    /// Gateways and meta data.
    Gateways,
    /// Credentials.
    Credentials,
}

pub(super) const META: &str = "g:{g}:meta";
pub(super) const GATEWAYS: &str = "g:{g}:leases";
pub(super) const CREDENTIALS: &str = "a:{a}";

/// All places of a deployment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    pub(super) partitions: usize,
}

impl Places {
    pub(super) fn count(self) -> usize {
        self.partitions + 2
    }

    pub(super) fn index(self, place: Place) -> usize {
        match place {
            Place::Partition(number) => number,
            Place::Gateways => self.partitions,
            Place::Credentials => self.partitions + 1,
        }
    }

    /// A key of each place.
    pub(super) fn keys(self) -> impl Iterator<Item = String> {
        let partitions = (0..self.partitions).map(partition_key);
        partitions.chain([GATEWAYS.to_owned(), CREDENTIALS.to_owned()])
    }

    /// Computed for every message: without putting the name together first.
    pub(super) fn partition_of(self, key: &MailboxKey) -> usize {
        let parts = [key.organization.as_str(), "/", key.orchestrator.as_str()];
        let sum = parts.iter().fold(0, |sum, part| crc32c::crc32c_append(sum, part.as_bytes()));
        sum as usize % self.partitions
    }

    /// Where what belongs to a whole organization is.
    pub(super) fn partition_of_organization(&self, organization: &OrganizationId) -> usize {
        crc32c::crc32c(organization.as_str().as_bytes()) as usize % self.partitions
    }
}

/// What scripts know a partition by.
pub(super) fn partition_key(number: usize) -> String {
    format!("m:{{p{number:04}}}")
}

/// What scripts know a mailbox by.
pub(super) fn name_of(key: &MailboxKey) -> String {
    format!("{}/{}", key.organization, key.orchestrator)
}

/// The mailbox of a name.
pub(super) fn key_of(name: &str) -> Option<MailboxKey> {
    let (organization, orchestrator) = name.split_once('/')?;
    Some(MailboxKey { organization: organization.parse().ok()?, orchestrator: orchestrator.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_where_the_design_says() {
        let key = key_of("acme/orla").unwrap();
        let places = Places { partitions: 64 };
        assert_eq!(places.partition_of(&key), crc32c::crc32c(b"acme/orla") as usize % 64);
        assert_eq!(partition_key(7), "m:{p0007}");
        assert_eq!(places.keys().count(), places.count());
    }

    #[test]
    fn a_name_leads_back_to_its_mailbox() {
        let key = key_of("a.b-c/d_e").unwrap();
        assert_eq!(key_of(&name_of(&key)), Some(key));
        for forged in ["acme", "acme/", "acme/or/la", "a{c}me/orla", "acme:x/orla"] {
            assert_eq!(key_of(forged), None, "{forged}");
        }
    }
}
