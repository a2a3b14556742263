//! The rows. A method, call or frame that has none cannot be used.

use super::Callers::{
    Anyone, Backends, BackendsAndDaemons, BackendsAndInternal, Cells, Daemons, DaemonsAndUsers, Internal,
    InternalAndOperators, TokenHolders,
};
use super::{Callers, Rule, Tenancy};
use crate::Scope;

/// A row without a scope.
const fn rule(callers: Callers, tenancy: Tenancy) -> Rule {
    Rule { callers, scope: None, tenancy }
}

/// Backends of the organization, and operators, whose token has the scope.
const fn own(scope: Scope) -> Rule {
    Rule { callers: Backends, scope: Some(scope), tenancy: Tenancy::Own }
}

/// The same, and federation, which acts for every organization.
const fn own_and_federation(scope: Scope) -> Rule {
    Rule { callers: BackendsAndInternal(&["federation"]), scope: Some(scope), tenancy: Tenancy::Own }
}

/// Whoever hands tasks on or takes them.
const fn delegating(scope: Scope) -> Rule {
    Rule { callers: BackendsAndDaemons, scope: Some(scope), tenancy: Tenancy::Own }
}

/// Those who may act for every organization.
const fn everywhere(scope: Scope) -> Rule {
    Rule { callers: Backends, scope: Some(scope), tenancy: Tenancy::All }
}

const PUBLIC: Rule = rule(Anyone, Tenancy::None);
const GATEWAYS: Rule = rule(Internal(&["gateway"]), Tenancy::All);
const ROUTERS: Rule = rule(Internal(&["router"]), Tenancy::All);
const ROUTERS_AND_OPERATORS: Rule = rule(InternalAndOperators(&["router"]), Tenancy::All);
const VERIFIERS: Rule = rule(Internal(&["gateway", "router", "federation"]), Tenancy::All);
const DAEMONS: Rule = rule(Daemons, Tenancy::Own);
const WRITING_DAEMONS: Rule = Rule { callers: Daemons, scope: Some(Scope::MessagesWrite), tenancy: Tenancy::Own };
const DELEGATING_DAEMONS: Rule = Rule { callers: Daemons, scope: Some(Scope::FederationWrite), tenancy: Tenancy::Own };
const ASKING_DAEMONS: Rule = Rule { callers: Daemons, scope: Some(Scope::FederationRead), tenancy: Tenancy::Own };
const WRITERS: Rule = Rule { callers: DaemonsAndUsers, scope: Some(Scope::MessagesWrite), tenancy: Tenancy::Own };

/// Watching events by the conductor's dialect.
pub const CONDUCTOR: Rule = Rule { callers: TokenHolders, scope: Some(Scope::EventsRead), tenancy: Tenancy::Own };

/// What a cell does for others; whose things it touches follows from what the cell is granted.
const CELLS: Rule = rule(Cells, Tenancy::All);

/// Connecting as a peer of the older federation.
pub const PEER: Rule = DELEGATING_DAEMONS;

/// Every method of gRPC.
const METHODS: &[(&str, Rule)] = &[
    ("/waystation.router.v1.RouterService/RouteMessage", own_and_federation(Scope::MessagesWrite)),
    ("/waystation.router.v1.RouterService/RouteMessages", own_and_federation(Scope::MessagesWrite)),
    ("/waystation.router.v1.RouterService/PublishEvent", own_and_federation(Scope::EventsWrite)),
    ("/waystation.router.v1.RouterService/PublishEvents", own_and_federation(Scope::EventsWrite)),
    ("/waystation.router.v1.RouterService/WatchEvents", own(Scope::EventsRead)),
    ("/waystation.router.v1.RouterService/GetMessage", own(Scope::MessagesRead)),
    ("/waystation.router.v1.RouterService/GetMailbox", own(Scope::MessagesRead)),
    ("/waystation.router.v1.RouterService/GetPresence", own(Scope::PresenceRead)),
    ("/waystation.router.v1.RouterService/ListSessions", own(Scope::PresenceRead)),
    ("/waystation.router.v1.RouterService/ListMessages", own(Scope::MessagesRead)),
    ("/waystation.router.v1.RouterService/PurgeMailbox", own(Scope::AdminWrite)),
    ("/waystation.router.v1.RouterService/ListDeadLetters", own(Scope::MessagesRead)),
    ("/waystation.router.v1.RouterService/RedriveDeadLetters", own(Scope::AdminWrite)),
    ("/waystation.router.v1.RouterService/GetSession", own(Scope::PresenceRead)),
    ("/waystation.router.v1.RouterService/TerminateSession", own(Scope::AdminWrite)),
    ("/waystation.router.v1.RouterService/WatchPresence", own_and_federation(Scope::PresenceRead)),
    ("/waystation.router.v1.RouterService/WatchActivity", own(Scope::AdminRead)),
    ("/waystation.router.v1.RouterService/GetStats", own(Scope::AdminRead)),
    ("/waystation.router.v1.RouterService/GetHealth", own(Scope::AdminRead)),
    ("/waystation.router.v1.SessionService/RenewGateway", GATEWAYS),
    ("/waystation.router.v1.SessionService/OpenSession", GATEWAYS),
    ("/waystation.router.v1.SessionService/CompareHeads", GATEWAYS),
    ("/waystation.router.v1.SessionService/ReadMailbox", GATEWAYS),
    ("/waystation.router.v1.SessionService/Acknowledge", GATEWAYS),
    ("/waystation.router.v1.SessionService/CloseSession", GATEWAYS),
    ("/waystation.router.v1.SessionService/UpdateInterest", GATEWAYS),
    ("/waystation.router.v1.SessionService/CompareFeeds", GATEWAYS),
    ("/waystation.router.v1.SessionService/ReadFeed", GATEWAYS),
    ("/waystation.router.v1.SessionService/SendMessages", GATEWAYS),
    ("/waystation.router.v1.SessionService/ListChannelMessages", GATEWAYS),
    ("/waystation.router.v1.SessionService/ReportDaemon", GATEWAYS),
    ("/waystation.router.v1.SessionService/RegisterDaemon", GATEWAYS),
    ("/waystation.router.v1.SessionService/UnregisterDaemon", GATEWAYS),
    ("/waystation.router.v1.SessionService/ListDaemonSessions", GATEWAYS),
    ("/waystation.router.v1.SessionService/EndDaemonSessions", GATEWAYS),
    ("/waystation.gateway.v1.GatewayService/Deliver", ROUTERS),
    ("/waystation.gateway.v1.GatewayService/CloseSessions", ROUTERS_AND_OPERATORS),
    ("/waystation.gateway.v1.GatewayService/ListConnections", ROUTERS_AND_OPERATORS),
    ("/waystation.gateway.v1.GatewayService/GetStats", ROUTERS_AND_OPERATORS),
    ("/waystation.gateway.v1.GatewayService/Drain", ROUTERS_AND_OPERATORS),
    ("/waystation.federation.v1.FederationService/RegisterOrchestrator", delegating(Scope::FederationWrite)),
    ("/waystation.federation.v1.FederationService/DeregisterOrchestrator", delegating(Scope::FederationWrite)),
    ("/waystation.federation.v1.FederationService/GetOrchestrator", delegating(Scope::FederationRead)),
    ("/waystation.federation.v1.FederationService/ListOrchestrators", delegating(Scope::FederationRead)),
    ("/waystation.federation.v1.FederationService/DelegateTask", delegating(Scope::FederationWrite)),
    ("/waystation.federation.v1.FederationService/RespondToDelegation", delegating(Scope::FederationWrite)),
    ("/waystation.federation.v1.FederationService/ReportProgress", delegating(Scope::FederationWrite)),
    ("/waystation.federation.v1.FederationService/CompleteDelegation", delegating(Scope::FederationWrite)),
    ("/waystation.federation.v1.FederationService/CancelDelegation", delegating(Scope::FederationWrite)),
    ("/waystation.federation.v1.FederationService/GetDelegation", delegating(Scope::FederationRead)),
    ("/waystation.federation.v1.FederationService/ListDelegations", delegating(Scope::FederationRead)),
    ("/waystation.federation.v1.FederationService/WatchDelegation", delegating(Scope::FederationRead)),
    ("/waystation.federation.v1.FederationService/ExplainDelegation", delegating(Scope::FederationRead)),
    ("/waystation.federation.v1.FederationService/GetContext", delegating(Scope::FederationRead)),
    ("/waystation.federation.v1.FederationService/PutContext", delegating(Scope::FederationWrite)),
    ("/waystation.federation.v1.FederationService/ReportHeartbeat", delegating(Scope::FederationWrite)),
    ("/waystation.federation.v1.FederationService/Broadcast", delegating(Scope::FederationWrite)),
    ("/waystation.federation.v1.FederationService/ListPeers", own(Scope::FederationRead)),
    ("/waystation.federation.v1.PeerService/Exchange", CELLS),
    ("/waystation.federation.v1.PeerService/OfferTask", CELLS),
    ("/waystation.federation.v1.PeerService/WithdrawTask", CELLS),
    ("/waystation.auth.v1.AuthService/IssueToken", PUBLIC),
    ("/waystation.auth.v1.AuthService/IssueServiceToken", PUBLIC),
    ("/waystation.auth.v1.AuthService/RefreshToken", PUBLIC),
    ("/waystation.auth.v1.AuthService/GetKeySet", PUBLIC),
    ("/waystation.auth.v1.AuthService/ValidateToken", own(Scope::AdminRead)),
    ("/waystation.auth.v1.AuthService/RevokeToken", own(Scope::AdminWrite)),
    ("/waystation.auth.v1.AuthService/WatchRevocations", VERIFIERS),
    ("/waystation.auth.v1.AuthService/GetProfile", GATEWAYS),
    ("/waystation.auth.v1.CredentialService/CreateOrganization", everywhere(Scope::AdminAll)),
    ("/waystation.auth.v1.CredentialService/CreateOrchestrator", own(Scope::AdminWrite)),
    ("/waystation.auth.v1.CredentialService/ListOrchestrators", own(Scope::AdminRead)),
    ("/waystation.auth.v1.CredentialService/SetOrchestratorStatus", own(Scope::AdminWrite)),
    ("/waystation.auth.v1.CredentialService/CreateApiKey", own(Scope::AdminWrite)),
    ("/waystation.auth.v1.CredentialService/RotateApiKey", own(Scope::AdminWrite)),
    ("/waystation.auth.v1.CredentialService/RevokeApiKey", own(Scope::AdminWrite)),
    ("/waystation.auth.v1.CredentialService/ListApiKeys", own(Scope::AdminRead)),
    ("/waystation.auth.v1.CredentialService/RotateSigningKey", everywhere(Scope::AdminAll)),
    ("/waystation.auth.v1.CredentialService/ListAuditEvents", own(Scope::AdminRead)),
    ("/waystation.auth.v1.CredentialService/VerifyAuditEvents", own(Scope::AdminRead)),
    ("/waystation.auth.v1.CredentialService/GetOrganizationSettings", own(Scope::AdminRead)),
    ("/waystation.auth.v1.CredentialService/UpdateOrganizationSettings", everywhere(Scope::AdminAll)),
    ("/grpc.health.v1.Health/Check", PUBLIC),
    ("/grpc.health.v1.Health/Watch", PUBLIC),
    ("/grpc.health.v1.Health/List", PUBLIC),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", PUBLIC),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", PUBLIC),
];

/// The row of a method, as `/waystation.router.v1.RouterService/RouteMessage`; `None`: nobody may call it.
pub fn of_method(method: &str) -> Option<Rule> {
    METHODS.iter().find(|(name, _)| *name == method).map(|(_, rule)| *rule)
}

/// Every method that can be called.
pub fn methods() -> impl Iterator<Item = &'static str> {
    METHODS.iter().map(|(name, _)| *name)
}

macro_rules! rest_calls {
    ($($(#[$doc:meta])* $name:ident = $method:literal $path:literal, $rule:expr;)*) => {
        /// Every call of the daemons' REST interface.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum RestCall { $($(#[$doc])* $name,)* }

        impl RestCall {
            /// All there are.
            pub const ALL: &[RestCall] = &[$(RestCall::$name,)*];

            /// The HTTP method.
            pub fn method(self) -> &'static str {
                match self { $(RestCall::$name => $method,)* }
            }

            /// The path; `{…}` stands for one segment.
            pub fn path(self) -> &'static str {
                match self { $(RestCall::$name => $path,)* }
            }

            /// Its row.
            pub fn rule(self) -> Rule {
                match self { $(RestCall::$name => $rule,)* }
            }
        }
    };
}

rest_calls! {
    /// A login by API key.
    LogIn = "POST" "/api/daemon/auth", PUBLIC;
    /// The next token of a login.
    Refresh = "POST" "/api/daemon/auth/refresh", PUBLIC;
    /// Is alive.
    Heartbeat = "POST" "/api/daemon/heartbeat", DAEMONS;
    /// What it is doing.
    SetStatus = "PUT" "/api/daemon/status", DAEMONS;
    /// How it wants to be seen.
    SetPresence = "PUT" "/api/daemon/presence", DAEMONS;
    /// Who it is, and how it should behave.
    GetConfig = "GET" "/api/daemon/config", DAEMONS;
    /// Serves an orchestrator from now on: brings its key.
    Register = "POST" "/api/daemon/register", PUBLIC;
    /// Does not any more: brings its key.
    Unregister = "POST" "/api/daemon/unregister", PUBLIC;
    /// The live sessions of its orchestrator.
    ListSessions = "GET" "/api/daemon/sessions", DAEMONS;
    /// Ends sessions of its orchestrator.
    EndSessions = "DELETE" "/api/daemon/sessions", DAEMONS;
    /// Messages and events, by a poll or as a stream.
    GetEvents = "GET" "/api/daemon/events", rule(DaemonsAndUsers, Tenancy::Own);
    /// Has processed messages.
    AckEvents = "DELETE" "/api/daemon/events", DAEMONS;
    /// Sends a message.
    SendMessage = "POST" "/api/daemon/messages", WRITERS;
    /// The newest messages of a channel.
    ListMessages = "GET" "/api/daemon/messages", rule(DaemonsAndUsers, Tenancy::Own);
    /// Who watches by the conductor's dialect.
    GetConductorStatus = "GET" "/api/websocket/status", CONDUCTOR;
    /// How an orchestrator's daemons are.
    GetHealth = "GET" "/api/daemon/health/{orchestratorId}", own(Scope::AdminRead);
    /// Who takes tasks.
    ListFederation = "GET" "/api/federation/orchestrators", delegating(Scope::FederationRead);
    /// Hands a task on.
    Delegate = "POST" "/api/federation/delegate", delegating(Scope::FederationWrite);
    /// How a task does.
    GetDelegation = "GET" "/api/federation/delegations/{delegationId}/status", delegating(Scope::FederationRead);
    /// How those who take tasks do, in all.
    GetFederation = "GET" "/api/federation/cluster/status", delegating(Scope::FederationRead);
    /// The public keys.
    GetKeys = "GET" "/.well-known/jwks.json", PUBLIC;
}

macro_rules! frames {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $rule:expr;)*) => {
        /// Every frame that a daemon may send.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum FrameKind { $($(#[$doc])* $name,)* }

        impl FrameKind {
            /// All there are.
            pub const ALL: &[FrameKind] = &[$(FrameKind::$name,)*];

            /// `type` of the frame.
            pub fn name(self) -> &'static str {
                match self { $(FrameKind::$name => $text,)* }
            }

            /// Its row.
            pub fn rule(self) -> Rule {
                match self { $(FrameKind::$name => $rule,)* }
            }
        }
    };
}

frames! {
    /// A login: brings its token.
    Auth = "auth", PUBLIC;
    /// Is alive.
    Heartbeat = "heartbeat", DAEMONS;
    /// Wants events.
    Subscribe = "subscribe", DAEMONS;
    /// Does not want them any more.
    Unsubscribe = "unsubscribe", DAEMONS;
    /// Has processed events.
    Ack = "ack", DAEMONS;
    /// Could not process one now.
    Nack = "nack", DAEMONS;
    /// Can never process one.
    Reject = "reject", DAEMONS;
    /// Is still working on one.
    Extend = "extend", DAEMONS;
    /// Sends a message.
    Send = "send", WRITING_DAEMONS;
    /// Has a new token: brings it.
    AuthRefresh = "auth_refresh", DAEMONS;
    /// Ends.
    Goodbye = "goodbye", DAEMONS;
    /// Says what it can do.
    Register = "register", DELEGATING_DAEMONS;
    /// Takes no tasks any more.
    Deregister = "deregister", DELEGATING_DAEMONS;
    /// Asks who can do something.
    QueryCapabilities = "query_capabilities", ASKING_DAEMONS;
    /// Hands a task on.
    Delegate = "delegate", DELEGATING_DAEMONS;
    /// Says whether it wants a task.
    DelegationResponse = "delegation_response", DELEGATING_DAEMONS;
    /// Says how a task goes.
    DelegationProgress = "delegation_progress", DELEGATING_DAEMONS;
    /// Has done a task, or failed.
    DelegationResult = "delegation_result", DELEGATING_DAEMONS;
    /// Does not want a task done any more.
    DelegationCancel = "delegation_cancel", DELEGATING_DAEMONS;
    /// Asks for what is shared about a task.
    ContextGet = "context_get", ASKING_DAEMONS;
    /// Shares something about a task.
    ContextPut = "context_put", DELEGATING_DAEMONS;
    /// Says something to many.
    Broadcast = "broadcast", DELEGATING_DAEMONS;
}
