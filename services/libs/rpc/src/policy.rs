//! Who may call what: one table, deny by default.

use waystation_domain::Scope;
use waystation_token::{Claims, TokenClass};

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody: the call brings its own credentials, or needs none.
    Public,
    /// Backends and operators whose token has the scope.
    Scope(Scope),
    /// Internal services of these names.
    Services(&'static [&'static str]),
    /// Internal services of these names, and operators.
    ServicesAndOperators(&'static [&'static str]),
}

const GATEWAYS: Access = Access::Services(&["gateway"]);
const ROUTERS: Access = Access::Services(&["router"]);
const ROUTERS_AND_OPERATORS: Access = Access::ServicesAndOperators(&["router"]);
const VERIFIERS: Access = Access::Services(&["gateway", "router", "federation"]);

/// Every method. What is not here cannot be called.
const TABLE: &[(&str, Access)] = &[
    ("/waystation.router.v1.RouterService/RouteMessage", Access::Scope(Scope::MessagesWrite)),
    ("/waystation.router.v1.RouterService/RouteMessages", Access::Scope(Scope::MessagesWrite)),
    ("/waystation.router.v1.RouterService/GetMessage", Access::Scope(Scope::MessagesRead)),
    ("/waystation.router.v1.RouterService/GetMailbox", Access::Scope(Scope::MessagesRead)),
    ("/waystation.router.v1.RouterService/GetPresence", Access::Scope(Scope::PresenceRead)),
    ("/waystation.router.v1.RouterService/ListSessions", Access::Scope(Scope::PresenceRead)),
    ("/waystation.router.v1.RouterService/ListMessages", Access::Scope(Scope::MessagesRead)),
    ("/waystation.router.v1.RouterService/PurgeMailbox", Access::Scope(Scope::AdminWrite)),
    ("/waystation.router.v1.RouterService/ListDeadLetters", Access::Scope(Scope::MessagesRead)),
    ("/waystation.router.v1.RouterService/RedriveDeadLetters", Access::Scope(Scope::AdminWrite)),
    ("/waystation.router.v1.RouterService/GetSession", Access::Scope(Scope::PresenceRead)),
    ("/waystation.router.v1.RouterService/TerminateSession", Access::Scope(Scope::AdminWrite)),
    ("/waystation.router.v1.RouterService/WatchPresence", Access::Scope(Scope::PresenceRead)),
    ("/waystation.router.v1.RouterService/WatchActivity", Access::Scope(Scope::AdminRead)),
    ("/waystation.router.v1.RouterService/GetStats", Access::Scope(Scope::AdminRead)),
    ("/waystation.router.v1.SessionService/RenewGateway", GATEWAYS),
    ("/waystation.router.v1.SessionService/OpenSession", GATEWAYS),
    ("/waystation.router.v1.SessionService/CompareHeads", GATEWAYS),
    ("/waystation.router.v1.SessionService/ReadMailbox", GATEWAYS),
    ("/waystation.router.v1.SessionService/Acknowledge", GATEWAYS),
    ("/waystation.router.v1.SessionService/CloseSession", GATEWAYS),
    ("/waystation.router.v1.SessionService/UpdateInterest", GATEWAYS),
    ("/waystation.router.v1.SessionService/SendMessages", GATEWAYS),
    ("/waystation.gateway.v1.GatewayService/Deliver", ROUTERS),
    ("/waystation.gateway.v1.GatewayService/CloseSessions", ROUTERS_AND_OPERATORS),
    ("/waystation.gateway.v1.GatewayService/ListConnections", ROUTERS_AND_OPERATORS),
    ("/waystation.gateway.v1.GatewayService/GetStats", ROUTERS_AND_OPERATORS),
    ("/waystation.gateway.v1.GatewayService/Drain", ROUTERS_AND_OPERATORS),
    ("/waystation.auth.v1.AuthService/IssueToken", Access::Public),
    ("/waystation.auth.v1.AuthService/IssueServiceToken", Access::Public),
    ("/waystation.auth.v1.AuthService/RefreshToken", Access::Public),
    ("/waystation.auth.v1.AuthService/GetKeySet", Access::Public),
    ("/waystation.auth.v1.AuthService/ValidateToken", Access::Scope(Scope::AdminRead)),
    ("/waystation.auth.v1.AuthService/RevokeToken", Access::Scope(Scope::AdminWrite)),
    ("/waystation.auth.v1.AuthService/WatchRevocations", VERIFIERS),
    ("/waystation.auth.v1.CredentialService/CreateOrganization", Access::Scope(Scope::AdminAll)),
    ("/waystation.auth.v1.CredentialService/CreateOrchestrator", Access::Scope(Scope::AdminWrite)),
    ("/waystation.auth.v1.CredentialService/CreateApiKey", Access::Scope(Scope::AdminWrite)),
    ("/waystation.auth.v1.CredentialService/GetOrganizationSettings", Access::Scope(Scope::AdminRead)),
    ("/waystation.auth.v1.CredentialService/UpdateOrganizationSettings", Access::Scope(Scope::AdminAll)),
    ("/grpc.health.v1.Health/Check", Access::Public),
    ("/grpc.health.v1.Health/Watch", Access::Public),
    ("/grpc.health.v1.Health/List", Access::Public),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Access::Public),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Access::Public),
];

/// Who may call a method; `None`: nobody.
pub fn access_to(method: &str) -> Option<Access> {
    TABLE.iter().find(|(name, _)| *name == method).map(|(_, access)| *access)
}

/// Every method that can be called.
pub fn methods() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}

impl Access {
    /// Whether a token allows it.
    pub fn allows(self, claims: &Claims) -> bool {
        match self {
            Access::Public => true,
            // A daemon's scopes are for the daemon protocol; they open nothing here.
            Access::Scope(scope) => claims.class != TokenClass::Access && claims.scopes.allows(scope),
            Access::Services(names) => is_service(claims, names),
            Access::ServicesAndOperators(names) => {
                is_service(claims, names)
                    || claims.class != TokenClass::Access && claims.scopes.contains(Scope::AdminAll)
            }
        }
    }
}

fn is_service(claims: &Claims, names: &[&str]) -> bool {
    claims.class == TokenClass::Service && claims.scopes.is_empty() && names.contains(&claims.subject.as_str())
}
