//! The documented ports.

use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpListener;

use crate::{StartError, io};

/// Listeners of all services.
pub(crate) struct Bound {
    pub(crate) gateway: waystation_gateway::Listeners,
    pub(crate) router: waystation_router::Listeners,
    pub(crate) auth: waystation_auth::Listeners,
    pub(crate) federation: waystation_federation::Listeners,
}

/// Where services are.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    pub(crate) public: SocketAddr,
    pub(crate) gateway_grpc: String,
    pub(crate) router: String,
    pub(crate) auth: String,
    pub(crate) federation: String,
    pub(crate) gateway_admin: String,
    pub(crate) router_admin: String,
    pub(crate) auth_admin: String,
    pub(crate) federation_admin: String,
}

impl Bound {
    pub(crate) async fn bind(address: IpAddr, any_ports: bool) -> Result<Bound, StartError> {
        let bind = async |port: u16| {
            let address = SocketAddr::new(address, if any_ports { 0 } else { port });
            TcpListener::bind(address).await.map_err(io(format!("bind {address}")))
        };
        Ok(Bound {
            gateway: waystation_gateway::Listeners {
                public: bind(8780).await?,
                grpc: bind(8781).await?,
                admin: bind(9780).await?,
            },
            router: waystation_router::Listeners { grpc: bind(8782).await?, admin: bind(9782).await? },
            auth: waystation_auth::Listeners { grpc: bind(8783).await?, admin: bind(9783).await? },
            federation: waystation_federation::Listeners { grpc: bind(8784).await?, admin: bind(9784).await? },
        })
    }

    pub(crate) fn endpoints(&self) -> Result<Endpoints, StartError> {
        let address = |listener: &TcpListener| listener.local_addr().map_err(io("learn an address"));
        let uri = |listener: &TcpListener| Ok::<_, StartError>(format!("http://{}", address(listener)?));
        Ok(Endpoints {
            public: address(&self.gateway.public)?,
            gateway_grpc: uri(&self.gateway.grpc)?,
            router: uri(&self.router.grpc)?,
            auth: uri(&self.auth.grpc)?,
            federation: uri(&self.federation.grpc)?,
            gateway_admin: uri(&self.gateway.admin)?,
            router_admin: uri(&self.router.admin)?,
            auth_admin: uri(&self.auth.admin)?,
            federation_admin: uri(&self.federation.admin)?,
        })
    }
}
