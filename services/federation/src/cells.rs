//! Other cells: tasks that nobody here can do are handed to them, and theirs are taken. Each replica keeps a stream to each
//! cell; what a cell says is kept only if it is news, so that it does not matter who heard it.

mod dial;
mod send;
mod serve;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tonic::transport::Channel;
use waystation_domain::federation::{CapabilityName, Delegation, PeerLink, ToldSummary, abroad, cell_id, cell_of};
use waystation_domain::{DelegationId, OrchestratorId, OrganizationId, Timestamp};
use waystation_proto::federation::v1::peer_service_client::PeerServiceClient;
use waystation_proto::federation::v1::peer_service_server::PeerServiceServer;
use waystation_proto::federation::v1::{self as wire, ListPeersResponse};
use waystation_rpc::convert::timestamp_to;
use waystation_rpc::{Caller, Fault, Gate, GrpcServer, Services, channel};
use waystation_runtime::settings::SettingsError;
use waystation_runtime::{Context, KnownPeer, Reach, TlsSettings};
use waystation_token::Verifier;

use crate::{Parts, views};
pub(crate) use send::send;

/// How this cell works with others.
#[derive(Clone, Debug)]
pub struct CellsConfig {
    /// What it is called among them: 1 to 59 of `[A-Za-z0-9._-]`.
    pub name: String,
    /// Where they call.
    pub listen: SocketAddr,
    /// What it shows them of itself; always mutual.
    pub tls: TlsSettings,
    /// Those that it works with.
    pub peers: Vec<PeerConfig>,
}

/// Another cell.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerConfig {
    /// What it is called here: 1 to 59 of `[A-Za-z0-9._-]`.
    pub name: String,
    /// Where it is, as `https://federation.b.example:8794`.
    pub address: String,
    /// The URI in its certificates, as `spiffe://b.example/waystation/federation`.
    pub identity: String,
    /// PEM: its authorities.
    pub ca_file: PathBuf,
    /// What ours may use of it.
    #[serde(default)]
    pub uses: Vec<Use>,
    /// What it may use here.
    #[serde(default)]
    pub serves: Vec<Serve>,
}

/// An organization of this cell that may use another cell.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Use {
    /// Which.
    pub organization: OrganizationId,
    /// Only these; empty: all.
    #[serde(default)]
    pub capabilities: Vec<CapabilityName>,
}

/// An organization of another cell that may use this one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serve {
    /// As the other cell calls it.
    pub organization: OrganizationId,
    /// Whose orchestrators of ours do its tasks; the one of the same name if it is absent.
    #[serde(rename = "as")]
    pub ours: Option<OrganizationId>,
    /// Only these, of which a task must need one; empty: all.
    #[serde(default)]
    pub capabilities: Vec<CapabilityName>,
}

impl Serve {
    fn ours(&self) -> &OrganizationId {
        self.ours.as_ref().unwrap_or(&self.organization)
    }
}

/// An attempt that another cell works on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Watched {
    organization: OrganizationId,
    delegation: DelegationId,
    attempt: u32,
}

impl Watched {
    fn to_wire(&self) -> wire::PeerTask {
        wire::PeerTask {
            organization_id: self.organization.to_string(),
            task_id: format!("{}.{}", self.delegation, self.attempt),
        }
    }

    fn of_wire(task: &wire::PeerTask) -> Option<Watched> {
        let (delegation, attempt) = task.task_id.rsplit_once('.')?;
        Some(Watched {
            organization: task.organization_id.parse().ok()?,
            delegation: delegation.parse().ok()?,
            attempt: attempt.parse().ok()?,
        })
    }
}

/// Another cell as this process knows it.
pub(crate) struct Peer {
    id: OrchestratorId,
    config: PeerConfig,
    client: PeerServiceClient<Channel>,
    known: Mutex<Known>,
    /// Rung when there is more to watch.
    more: Notify,
}

struct Known {
    link: PeerLink,
    summaries: HashMap<OrganizationId, ToldSummary>,
    watched: HashSet<Watched>,
}

impl Peer {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, watched: Watched) {
        if self.lock().watched.insert(watched) {
            self.more.notify_one();
        }
    }
}

/// All other cells. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Cells(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// This cell.
    own: Option<OrchestratorId>,
    peers: BTreeMap<OrchestratorId, Arc<Peer>>,
}

/// What listens to other cells, until it is started.
pub(crate) struct Door {
    listener: TcpListener,
    context: Context,
}

impl Cells {
    /// The cells of a configuration; nobody is called yet.
    pub(crate) async fn new(config: CellsConfig, context: &Context) -> Result<(Cells, Door), Fault> {
        let named = |field: &str, name: &str| cell_id(name).map_err(|error| Fault::field(field, error));
        let unusable = |error: SettingsError| Fault::unavailable(error);
        let own = named("cells.name", &config.name)?;
        let mut known = Vec::new();
        let mut peers = BTreeMap::new();
        for peer in config.peers {
            let id = named("cells.peers.name", &peer.name)?;
            let whom =
                KnownPeer { name: peer.name.clone(), identity: peer.identity.clone(), ca_file: peer.ca_file.clone() };
            if !peer.address.starts_with("https://") {
                return Err(Fault::field("cells.peers.address", "must begin with https://"));
            }
            let tls = config.tls.open_for("cells", &["h2"], std::slice::from_ref(&whom), context).map_err(unusable)?;
            // Never through memory: whoever is at the other end must show who it is.
            let reach = Reach { tls: Some(tls), ..Reach::default() };
            let client = PeerServiceClient::new(channel(&peer.address, &reach)?);
            let link = PeerLink::new(context.clock.now());
            let known_of = Known { link, summaries: HashMap::new(), watched: HashSet::new() };
            let one = Peer { id: id.clone(), config: peer, client, known: Mutex::new(known_of), more: Notify::new() };
            if peers.insert(id, Arc::new(one)).is_some() {
                return Err(Fault::field("cells.peers.name", format!("{} is there twice", whom.name)));
            }
            known.push(whom);
        }
        let tls = config.tls.open_for("cells", &["h2"], &known, context).map_err(unusable)?;
        let reach = Reach { tls: Some(tls), connection_age: context.reach.connection_age, ..Reach::default() };
        let context = Context { reach, ..context.clone() };
        let listener = TcpListener::bind(config.listen).await;
        let listener = listener.map_err(|error| Fault::field("cells.listen", error))?;
        Ok((Cells(Arc::new(Inner { own: Some(own), peers })), Door { listener, context }))
    }

    /// Calls other cells, and answers theirs.
    pub(crate) async fn start(parts: &Parts, door: Door) {
        for peer in parts.cells.0.peers.values() {
            dial::start(parts.clone(), peer.clone());
        }
        let services = Services::default().with(PeerServiceServer::new(serve::PeerApi(parts.clone())));
        // No token is good here: only certificates are.
        let gate = Gate::new(Verifier::default(), parts.context.clock);
        let server = GrpcServer { gate, reflection: false };
        server.serve("federation-cells", door.listener, services, &door.context).await;
    }

    fn peer(&self, id: &OrchestratorId) -> Option<&Arc<Peer>> {
        self.0.peers.get(id)
    }

    /// Watches what a delegation has become, if another cell works on it.
    pub(crate) fn watch(&self, organization: &OrganizationId, delegation: &Delegation) {
        let Some(attempt) = delegation.current() else { return };
        if let Some(peer) = self.peer(&attempt.assignee) {
            let (organization, delegation) = (organization.clone(), delegation.id.clone());
            peer.watch(Watched { organization, delegation, attempt: attempt.number });
        }
    }

    /// Who has handed a task on, as other cells know them.
    fn hops(&self, delegation: &Delegation) -> Vec<OrchestratorId> {
        let Some(own) = &self.0.own else { return Vec::new() };
        let before = delegation.request.hops.iter().chain(&delegation.request.from);
        before.map(|hop| abroad(own, hop)).collect()
    }

    /// All of them, for a caller who may see them.
    pub(crate) fn list(&self, caller: &Caller, now: Timestamp) -> ListPeersResponse {
        let own = caller.0.organization.as_ref();
        let may_use =
            |config: &PeerConfig| own.is_none_or(|own| config.uses.iter().any(|grant| grant.organization == *own));
        let shown = self.0.peers.values().filter(|peer| may_use(&peer.config)).map(|peer| {
            let known = peer.lock();
            let lag = known.link.heard().and_then(|heard| prost_types::Duration::try_from(now.since(heard)).ok());
            let mut summaries: Vec<_> = known
                .summaries
                .iter()
                .filter(|(organization, _)| own.is_none_or(|own| own == *organization))
                .map(|(organization, told)| views::summary(organization, told))
                .collect();
            summaries.sort_by(|a, b| a.organization_id.cmp(&b.organization_id));
            wire::PeerStatus {
                name: peer.config.name.clone(),
                address: peer.config.address.clone(),
                standing: views::peer_standing(known.link.standing()).into(),
                since: Some(timestamp_to(known.link.since())),
                lag,
                last_error: known.link.error().to_owned(),
                summaries,
                watched: u32::try_from(known.watched.len()).unwrap_or(u32::MAX),
            }
        });
        ListPeersResponse { peers: shown.collect() }
    }
}

/// A name that only a cell may have.
pub(crate) fn check_own(field: &str, id: &OrchestratorId) -> Result<(), Fault> {
    match cell_of(id) {
        Some(_) => Err(Fault::field(field, "must not begin with `cell.`: those names are other cells'")),
        None => Ok(()),
    }
}
