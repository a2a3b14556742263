//! Who may do what: one table for every door, whether gRPC, REST or a frame on a WebSocket. What is not in it is refused.

mod table;

use serde::{Deserialize, Serialize};

use crate::{Scope, ScopeSet};
pub use table::{CONDUCTOR, FrameKind, PEER, RestCall, methods, of_method};

/// What kind of holder a token is for. Each has a `typ` of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenClass {
    /// A daemon's access token.
    Access,
    /// A backend's or an internal service's.
    Service,
    /// An operator's.
    Operator,
    /// A person's, whose browser the platform gave it to.
    User,
}

impl TokenClass {
    /// `type` of the claims.
    pub fn name(self) -> &'static str {
        match self {
            TokenClass::Access => "access",
            TokenClass::Service => "service",
            TokenClass::Operator => "operator",
            TokenClass::User => "user",
        }
    }
}

/// Who may come through a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callers {
    /// Anybody: the call brings its own credentials, or needs none.
    Anyone,
    /// Whoever has a token of an organization.
    TokenHolders,
    /// Daemons.
    Daemons,
    /// Daemons, and people's browsers.
    DaemonsAndUsers,
    /// Backends and operators. A daemon's scopes are for the daemon protocol; they open nothing here.
    Backends,
    /// Backends and operators with the scope, and internal services of these names, which need none.
    BackendsAndInternal(&'static [&'static str]),
    /// Backends, operators, and daemons for their own orchestrator.
    BackendsAndDaemons,
    /// Internal services of these names.
    Internal(&'static [&'static str]),
    /// Internal services of these names, and operators.
    InternalAndOperators(&'static [&'static str]),
    /// Other cells, by their certificates.
    Cells,
}

/// Whose things a call may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tenancy {
    /// It is about no organization, or about whatever its own credentials say.
    None,
    /// Only those of the caller's organization: another's are answered as if they were not there. Operators, and
    /// services that are bound to no organization, name one.
    Own,
    /// Those of every organization.
    All,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Who.
    pub callers: Callers,
    /// What the token must allow.
    pub scope: Option<Scope>,
    /// Whose things.
    pub tenancy: Tenancy,
}

/// Who calls, as far as the rules ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    /// Its kind.
    pub class: TokenClass,
    /// Orchestrator, service, operator or person.
    pub name: &'a str,
    /// What it may do.
    pub scopes: ScopeSet,
}

/// Why a caller is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// It is of another kind, whatever its scopes.
    #[error("this token does not allow this call")]
    Caller,
    /// It lacks a scope.
    #[error("the token lacks {0}")]
    Scope(Scope),
}

/// Whether that is an internal service of one of these names. Those have no scopes: a backend that is given their name has
/// some, and stays a backend.
pub fn is_internal(caller: Identity<'_>, names: &[&str]) -> bool {
    caller.class == TokenClass::Service && caller.scopes.is_empty() && names.contains(&caller.name)
}

impl Rule {
    /// Whether anybody may, without a token.
    pub fn is_public(self) -> bool {
        self.callers == Callers::Anyone
    }

    /// Judges a caller.
    ///
    /// # Errors
    /// Why it may not.
    pub fn check(self, caller: Identity<'_>) -> Result<(), Forbidden> {
        let is_operator = caller.class == TokenClass::Operator && caller.scopes.contains(Scope::AdminAll);
        let fits = match self.callers {
            Callers::Anyone | Callers::TokenHolders => true,
            Callers::Daemons => caller.class == TokenClass::Access,
            Callers::DaemonsAndUsers => matches!(caller.class, TokenClass::Access | TokenClass::User),
            Callers::BackendsAndInternal(names) if is_internal(caller, names) => return Ok(()),
            Callers::Backends | Callers::BackendsAndInternal(_) => {
                matches!(caller.class, TokenClass::Service | TokenClass::Operator)
            }
            Callers::BackendsAndDaemons => caller.class != TokenClass::User,
            Callers::Internal(names) => is_internal(caller, names),
            Callers::InternalAndOperators(names) => is_internal(caller, names) || is_operator,
            Callers::Cells => is_internal(caller, &[caller.name]) && caller.name.starts_with("cell."),
        };
        if !fits {
            return Err(Forbidden::Caller);
        }
        match self.scope {
            Some(scope) if !caller.scopes.allows(scope) => Err(Forbidden::Scope(scope)),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(class: TokenClass, name: &'static str, scopes: &[Scope]) -> Identity<'static> {
        Identity { class, name, scopes: scopes.iter().copied().collect() }
    }

    #[test]
    fn what_is_not_in_the_table_is_refused() {
        assert_eq!(of_method("/waystation.router.v1.RouterService/DropEverything"), None);
        assert_eq!(of_method(""), None);
    }

    #[test]
    fn a_scope_opens_only_the_doors_of_its_kind() {
        let route = of_method("/waystation.router.v1.RouterService/RouteMessage").unwrap();
        let writes = &[Scope::MessagesWrite];
        assert_eq!(route.check(caller(TokenClass::Service, "platform", writes)), Ok(()));
        assert_eq!(route.check(caller(TokenClass::Access, "orla", writes)), Err(Forbidden::Caller));
        let lacking = route.check(caller(TokenClass::Service, "platform", &[Scope::MessagesRead]));
        assert_eq!(lacking, Err(Forbidden::Scope(Scope::MessagesWrite)));
        let send = FrameKind::Send.rule();
        assert_eq!(send.check(caller(TokenClass::Access, "orla", writes)), Ok(()));
        assert_eq!(send.check(caller(TokenClass::Operator, "ada", &[Scope::AdminAll])), Err(Forbidden::Caller));
    }

    #[test]
    fn a_name_alone_makes_nobody_internal() {
        let open = of_method("/waystation.router.v1.SessionService/OpenSession").unwrap();
        assert_eq!(open.check(caller(TokenClass::Service, "gateway", &[])), Ok(()));
        assert_eq!(open.check(caller(TokenClass::Service, "router", &[])), Err(Forbidden::Caller));
        assert_eq!(open.check(caller(TokenClass::Service, "gateway", &[Scope::AdminRead])), Err(Forbidden::Caller));
        assert_eq!(open.check(caller(TokenClass::Access, "gateway", &[])), Err(Forbidden::Caller));
        assert_eq!(open.check(caller(TokenClass::Operator, "gateway", &[Scope::AdminAll])), Err(Forbidden::Caller));
    }

    #[test]
    fn every_call_of_a_table_is_there_once() {
        let mut methods: Vec<_> = methods().collect();
        let mut calls: Vec<_> = RestCall::ALL.iter().map(|call| (call.method(), call.path())).collect();
        let (all_methods, all_calls) = (methods.len(), calls.len());
        methods.sort_unstable();
        methods.dedup();
        calls.sort_unstable();
        calls.dedup();
        assert_eq!((methods.len(), calls.len()), (all_methods, all_calls));
    }
}
