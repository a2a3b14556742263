//! What is shared about delegations.

use waystation_domain::federation::NotShared;
use waystation_domain::{DelegationId, EntryName, OrganizationId};
use waystation_proto::common::v1::ErrorReason;
use waystation_proto::federation::v1::{
    ContextEntry, GetContextRequest, GetContextResponse, PutContextRequest, PutContextResponse,
};
use waystation_rpc::convert::{parse, parse_optional};
use waystation_rpc::{Caller, Fault};
use waystation_store::federation::Entry;

use crate::{Parts, desk, request};

/// Entries that a request names.
const NAMES: usize = 64;
/// Bytes of a page: it fits into a frame.
const PAGE: usize = 192 * 1024;

/// Why something is not shared, in the words of the contract.
fn refused(refused: NotShared) -> Fault {
    match refused {
        // As if there were none: whose it is, is nobody else's matter.
        NotShared::NotYours => Fault::not_found("delegation"),
        NotShared::Ended(state) => desk::ended(state),
        NotShared::OtherVersion(_) => Fault::new(ErrorReason::OtherVersion, refused.to_string()),
        NotShared::EntryTooLarge | NotShared::TooLarge | NotShared::TooMany => Fault::field("value", refused),
    }
}

/// The next page of the entries that were asked for.
pub(crate) async fn get(
    parts: &Parts,
    caller: &Caller,
    organization: &OrganizationId,
    id: &DelegationId,
    wanted: &GetContextRequest,
) -> Result<GetContextResponse, Fault> {
    if wanted.names.len() > NAMES {
        return Err(Fault::field("names", format!("must have at most {NAMES} elements")));
    }
    let named = wanted.names.iter().enumerate().map(|(at, name)| parse(&format!("names[{at}]"), name));
    let named: Vec<EntryName> = named.collect::<Result<_, _>>()?;
    let after: Option<EntryName> = parse_optional("page_token", &wanted.page_token)?;
    let delegation = desk::find(parts, organization, id).await?.delegation;
    if request::own(caller).is_some_and(|own| !delegation.may_read(own)) {
        return Err(Fault::not_found("delegation"));
    }
    let fits = |name: &&EntryName| {
        (named.is_empty() || named.contains(name)) && after.as_ref().is_none_or(|after| *name > after)
    };
    let mut names = delegation.context.names().filter(fits).peekable();
    let (mut page, mut bytes) = (Vec::new(), 0);
    while let Some(name) = names.next_if(|name| page.is_empty() || bytes + delegation.context.bytes_of(name) <= PAGE) {
        bytes += delegation.context.bytes_of(name);
        page.push(name.clone());
    }
    let last = names.peek().and(page.last()).map(ToString::to_string);
    let entries = parts.store.federation.entries(organization, id, &page, None).await.map_err(Fault::unavailable)?;
    let shown = |Entry { name, version, value }| ContextEntry { name: name.to_string(), value: value.into(), version };
    Ok(GetContextResponse {
        entries: entries.into_iter().map(shown).collect(),
        next_page_token: last.unwrap_or_default(),
    })
}

/// Writes an entry.
pub(crate) async fn put(
    parts: &Parts,
    caller: &Caller,
    organization: &OrganizationId,
    id: &DelegationId,
    wanted: PutContextRequest,
) -> Result<PutContextResponse, Fault> {
    let by = request::speaker(caller, "orchestrator_id", &wanted.orchestrator_id)?;
    let (written, value) = request::entry(&wanted.name, &wanted.value, |member| member.to_owned())?;
    let put = desk::change_with(parts, organization, id, |delegation, _| {
        let version = delegation.put(by.as_ref(), written.clone(), wanted.version);
        let version = version.map_err(refused)?;
        Ok((version, vec![Entry { name: written.name.clone(), version, value: value.clone() }]))
    });
    Ok(PutContextResponse { version: put.await? })
}
