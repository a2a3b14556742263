//! A deployment of real processes over a real Redis: some routers, some gateways, one auth.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use http::Request;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tonic::Status;
use waystation_proto::auth::v1::auth_service_client::AuthServiceClient;
use waystation_proto::auth::v1::{CreateApiKeyRequest, CreateOrganizationRequest, IssueServiceTokenRequest};
use waystation_standalone::DevFile;
use waystation_test_redis::{MASTER, RedisOptions, RedisServer, RedisTrio, free_port};

use crate::kept::Kept;
use crate::tls::Authority;
use crate::{Backend, PATIENCE, eventually, http};

/// The tenant of the deployment.
pub const ORGANIZATION: &str = "acme";
/// Given to services and backends; each process reads it as an operator would give it.
const SECRET: &str = "a-secret-of-tests-0123456789abcdef";

/// Who may call routers, as auth's configuration says it.
const BACKENDS: &str = r#"
[[services]]
name = "platform"
secret_file = "SECRET"
organization = "acme"
scopes = [
    "messages:read", "messages:write", "presence:read", "events:read", "events:write", "federation:read", "federation:write",
]
"#;

/// What its daemons may do.
const DAEMON_SCOPES: [&str; 5] =
    ["messages:read", "messages:write", "events:read", "federation:read", "federation:write"];

/// One process of the deployment; it keeps its ports over restarts.
pub struct ServiceProcess {
    pub name: &'static str,
    /// Of its main listener, as `127.0.0.1:8780`.
    pub address: String,
    pub admin: String,
    environment: Vec<(String, String)>,
    /// What it is started with beside its environment.
    pub config: Option<PathBuf>,
    child: Option<Child>,
}

/// A deployment.
pub struct Fleet {
    pub redis: Kept,
    pub auths: Vec<ServiceProcess>,
    pub routers: Vec<ServiceProcess>,
    pub gateways: Vec<ServiceProcess>,
    pub federations: Vec<ServiceProcess>,
    api_key: (String, String),
    service_token: String,
    /// What daemons connect to in place of a gateway.
    front: Option<String>,
    /// Plain addresses behind which secured ones are.
    doors: HashMap<String, String>,
    _secrets: TempDir,
}

/// What a deployment over TLS needs.
pub struct Security<'a> {
    pub authority: &'a Authority,
    /// Where Redis is, by TLS.
    pub redis: SocketAddr,
}

/// How many there are of each.
#[derive(Clone, Copy)]
pub struct Size {
    pub auths: usize,
    pub routers: usize,
    pub gateways: usize,
    pub federations: usize,
}

impl Default for Size {
    fn default() -> Size {
        Size { auths: 1, routers: 2, gateways: 2, federations: 0 }
    }
}

/// What differs between deployments.
struct Shape<'a> {
    size: Size,
    scheme: &'a str,
    durability: &'a str,
    /// The URL of Redis for a service.
    redis: &'a str,
    /// Further settings of a service.
    more: &'a dyn Fn(&str) -> Vec<(String, String)>,
}

/// The binary of a service, built once in the profile of this test.
pub fn service_binary(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let dir = BUILT.get_or_init(|| {
        let mut build = std::process::Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--locked"]);
        for service in ["gateway", "router", "auth", "federation"] {
            build.args(["-p", &format!("waystation-{service}")]);
        }
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
        assert!(built.success(), "the binaries build");
        let here = std::env::current_exe().unwrap();
        here.ancestors().find(|dir| dir.join("waystation-router").is_file()).unwrap().to_owned()
    });
    dir.join(format!("waystation-{name}"))
}

fn free_address() -> String {
    format!("127.0.0.1:{}", free_port())
}

impl ServiceProcess {
    fn new(name: &'static str, main_key: &str, environment: &[(&str, &str)]) -> ServiceProcess {
        let (address, admin) = (free_address(), free_address());
        let own = [(main_key, address.as_str()), ("admin", &admin), ("process__log", "text")];
        let key = |key: &str| format!("WAYSTATION_{}__{}", name.to_uppercase(), key.to_uppercase());
        let environment = own.iter().chain(environment).map(|(name, value)| (key(name), (*value).to_owned()));
        let environment = environment.collect();
        ServiceProcess { name, address, admin, environment, config: None, child: None }
    }

    /// Another setting, from its next start on.
    pub fn configure(&mut self, key: &str, value: &str) {
        let key = format!("WAYSTATION_{}__{}", self.name.to_uppercase(), key.to_uppercase());
        self.environment.push((key, value.to_owned()));
    }

    /// Stops it, and starts it with another setting.
    pub async fn reconfigure(&mut self, key: &str, value: &str) {
        self.configure(key, value);
        assert_eq!(self.terminate().await, 0);
        self.start().await;
    }

    /// A variable that is none of its settings, from its next start on.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Starts it; does not wait.
    pub fn spawn(&mut self) {
        let mut command = Command::new(service_binary(self.name));
        command
            .envs(self.environment.iter().cloned())
            .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "error".to_owned()));
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        self.child = Some(command.stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap());
    }

    /// Starts it and waits until it wants traffic.
    pub async fn start(&mut self) {
        self.spawn();
        self.ready().await;
    }

    /// Waits until it wants traffic.
    pub async fn ready(&self) {
        eventually(&format!("{} is ready", self.name), async || (self.page("/readyz").await == 200).then_some(()))
            .await;
    }

    /// The status of one of its admin pages; 0 if it does not answer.
    pub async fn page(&self, path: &str) -> u16 {
        if tokio::net::TcpStream::connect(&self.admin).await.is_err() {
            return 0;
        }
        let request = Request::get(path).body(String::new()).unwrap();
        http(&format!("http://{}", self.admin), request).await.status().as_u16()
    }

    /// One of its admin pages.
    pub async fn text(&self, path: &str) -> String {
        self.body(Request::get(path)).await
    }

    /// Its metrics, for those who know exemplars.
    pub async fn open_metrics(&self) -> String {
        self.body(Request::get("/metrics").header("accept", "application/openmetrics-text")).await
    }

    async fn body(&self, request: http::request::Builder) -> String {
        let answer = crate::http(&format!("http://{}", self.admin), request.body(String::new()).unwrap()).await;
        String::from_utf8(answer.into_body()).unwrap()
    }

    /// kill -9
    pub async fn kill(&mut self) {
        self.child.take().unwrap().kill().await.unwrap();
    }

    /// SIGTERM; answers the exit code.
    pub async fn terminate(&mut self) -> i32 {
        self.signal("-TERM");
        let ended = tokio::time::timeout(2 * PATIENCE, self.child.take().unwrap().wait_with_output()).await;
        ended.expect("it ends in time").unwrap().status.code().unwrap_or(-1)
    }

    /// Sends a signal, as `-STOP`.
    pub fn signal(&self, signal: &str) {
        let id = self.child.as_ref().unwrap().id().unwrap().to_string();
        assert!(std::process::Command::new("kill").arg(signal).arg(id).status().unwrap().success());
    }
}

impl Fleet {
    /// Two routers, two gateways, one auth, over a Redis that writes each answer to the disk.
    pub async fn start() -> Fleet {
        Fleet::start_over(RedisOptions { append_fsync: Some("always"), ..RedisOptions::default() }).await
    }

    pub async fn start_over(redis: RedisOptions) -> Fleet {
        Fleet::start_sized(redis, Size::default()).await
    }

    /// One auth, and so many of the others.
    pub async fn start_sized(redis: RedisOptions, size: Size) -> Fleet {
        let durability = if redis.append_fsync.is_some() { "page_cache" } else { "process" };
        let redis = RedisServer::start(redis);
        let url = redis.url();
        // Large fleets log in at once, with one key.
        let many = || vec![("logins_per_key_per_minute".to_owned(), "1000000".to_owned())];
        let more = |service: &str| if service == "auth" { many() } else { Vec::new() };
        let shape = Shape { size, scheme: "http", durability, redis: &url, more: &more };
        let mut fleet = Fleet::spawn(Kept::One(redis), shape).await;
        fleet.meet().await;
        fleet
    }

    /// Whose services tell a collector what its callers trace.
    pub async fn start_traced(collector: &str) -> Fleet {
        let redis = RedisServer::start(RedisOptions::default());
        let url = redis.url();
        let more = |_: &str| vec![("process__traces__endpoint".to_owned(), collector.to_owned())];
        let shape = Shape { size: Size::default(), scheme: "http", durability: "process", redis: &url, more: &more };
        let mut fleet = Fleet::spawn(Kept::One(redis), shape).await;
        fleet.meet().await;
        fleet
    }

    /// Over a master that sentinels may replace. What is answered is on a replica too.
    pub async fn start_watched() -> Fleet {
        let trio = RedisTrio::start(&[("min-replicas-to-write", "1"), ("min-replicas-max-lag", "10")]);
        let urls = trio.urls().join(",");
        let more = |service: &str| match service {
            "gateway" => Vec::new(),
            _ => vec![("redis__sentinel_master".to_owned(), MASTER.to_owned())],
        };
        let shape =
            Shape { size: Size::default(), scheme: "http", durability: "replicated", redis: &urls, more: &more };
        let mut fleet = Fleet::spawn(Kept::Trio(trio), shape).await;
        fleet.meet().await;
        fleet
    }

    /// The same over TLS. The tasks carry what plain clients say to it.
    pub async fn start_secured(redis: RedisServer, security: &Security<'_>, tasks: &mut JoinSet<()>) -> Fleet {
        let authority = security.authority;
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let public = authority.host("public");
        let more = |service: &str| {
            // Routers reach gateways by the name of the service alone; the clients of tests ask for the host.
            let here = service != "gateway";
            let own = if here { authority.service_here(service) } else { authority.service(service) };
            let mut settings = vec![
                ("tls__certificate_file".to_owned(), path(&own.certificate)),
                ("tls__key_file".to_owned(), path(&own.key)),
                ("tls__ca_file".to_owned(), path(&authority.file())),
            ];
            if service == "gateway" {
                settings.push(("public_tls__certificate_file".to_owned(), path(&public.certificate)));
                settings.push(("public_tls__key_file".to_owned(), path(&public.key)));
            } else {
                let password = authority.file().with_file_name(format!("{service}.password"));
                std::fs::write(&password, format!("{service}-password\n")).unwrap();
                settings.push(("redis__ca_file".to_owned(), path(&authority.file())));
                settings.push(("redis__username".to_owned(), service.to_owned()));
                settings.push(("redis__password_file".to_owned(), path(&password)));
            }
            settings
        };
        let url = format!("rediss://{}", security.redis);
        let shape = Shape {
            size: Size { federations: 1, ..Size::default() },
            scheme: "https",
            durability: "page_cache",
            redis: &url,
            more: &more,
        };
        let mut fleet = Fleet::spawn(Kept::One(redis), shape).await;
        // Tests are no service: their bridges show a certificate that names the machine.
        let host = authority.host("tests");
        let mut secured: Vec<(String, &str)> = vec![(fleet.auths[0].address.clone(), "h2")];
        secured.extend(fleet.routers.iter().map(|router| (router.address.clone(), "h2")));
        secured.extend(fleet.federations.iter().map(|federation| (federation.address.clone(), "h2")));
        secured.extend(fleet.gateways.iter().map(|gateway| (gateway.address.clone(), "http/1.1")));
        for (address, protocol) in secured {
            let door = authority.to_secured(&address, protocol, Some(&host), tasks).await;
            fleet.doors.insert(address, door);
        }
        fleet.meet().await;
        fleet
    }

    async fn spawn(redis: Kept, shape: Shape<'_>) -> Fleet {
        let secrets = tempfile::tempdir().unwrap();
        let config = secrets.path().join("secret");
        std::fs::write(&config, SECRET).unwrap();
        let file = config.to_str().unwrap();
        let scheme = shape.scheme;
        let process = |name: &'static str, main_key: &str, settings: &[(&str, &str)]| {
            let more = (shape.more)(name);
            let more = more.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            let mut settings = settings.to_vec();
            settings.extend(more);
            if name != "gateway" {
                settings.extend([("redis__urls", shape.redis), ("redis__durability", shape.durability)]);
            }
            ServiceProcess::new(name, main_key, &settings)
        };
        let of_auth = [
            ("pepper_file", file),
            ("gateway_secret_file", file),
            ("router_secret_file", file),
            ("federation_secret_file", file),
            ("bootstrap_token_file", file),
        ];
        let backends = secrets.path().join("auth.toml");
        std::fs::write(&backends, BACKENDS.replace("SECRET", file)).unwrap();
        let auth = || ServiceProcess { config: Some(backends.clone()), ..process("auth", "grpc", &of_auth) };
        let mut auths: Vec<_> = (0..shape.size.auths).map(|_| auth()).collect();
        let auth_urls: Vec<String> = auths.iter().map(|auth| format!("{scheme}://{}", auth.address)).collect();
        let auth_url = auth_urls.join(",");
        let router = || process("router", "grpc", &[("secret_file", file), ("auth", auth_url.as_str())]);
        let mut routers: Vec<_> = (0..shape.size.routers).map(|_| router()).collect();
        let router_urls: Vec<String> = routers.iter().map(|router| format!("{scheme}://{}", router.address)).collect();
        let router_urls = router_urls.join(",");
        let federation = || {
            let settings = [("secret_file", file), ("auth", auth_url.as_str()), ("routers", router_urls.as_str())];
            process("federation", "grpc", &settings)
        };
        let mut federations: Vec<_> = (0..shape.size.federations).map(|_| federation()).collect();
        let federation_urls: Vec<String> =
            federations.iter().map(|federation| format!("{scheme}://{}", federation.address)).collect();
        let federation_urls = federation_urls.join(",");
        let gateway = || {
            let grpc = free_address();
            let mut settings = vec![
                ("secret_file", file),
                ("auth", auth_url.as_str()),
                ("routers", router_urls.as_str()),
                ("grpc", grpc.as_str()),
                ("limits__drain_spread_seconds", "1"),
                ("process__stop_grace_seconds", "5"),
            ];
            if !federation_urls.is_empty() {
                settings.push(("federation", federation_urls.as_str()));
            }
            process("gateway", "public", &settings)
        };
        let mut gateways: Vec<_> = (0..shape.size.gateways).map(|_| gateway()).collect();
        for auth in &mut auths {
            auth.start().await;
        }
        for service in routers.iter_mut().chain(&mut gateways).chain(&mut federations) {
            service.spawn();
        }
        for service in routers.iter().chain(&gateways).chain(&federations) {
            service.ready().await;
        }
        let unknown = (String::new(), String::new());
        let (doors, service_token) = (HashMap::new(), String::new());
        Fleet {
            redis,
            auths,
            routers,
            gateways,
            federations,
            api_key: unknown,
            service_token,
            front: None,
            doors,
            _secrets: secrets,
        }
    }

    /// Makes what a tenant needs.
    async fn meet(&mut self) {
        let auth = self.reach(&self.auths[0].address);
        (self.api_key, self.service_token) = bootstrap(&auth).await.unwrap();
    }

    /// Where a plain client reaches a service.
    fn reach(&self, address: &str) -> String {
        format!("http://{}", self.doors.get(address).map_or(address, String::as_str))
    }

    /// An operator's token.
    pub async fn operator_token(&self) -> String {
        self.service_token("operator").await
    }

    /// The token of a service.
    pub async fn service_token(&self, service: &str) -> String {
        let auth = self.reach(&self.auths[0].address);
        let mut client = AuthServiceClient::new(waystation_rpc::channel(&auth, &Default::default()).unwrap());
        let request = IssueServiceTokenRequest { service: service.into(), secret: SECRET.into(), ..Default::default() };
        client.issue_service_token(request).await.unwrap().into_inner().access_token
    }

    /// What a client of one gateway and one router must know.
    pub fn dev(&self, gateway: usize, router: usize) -> DevFile {
        let http_url = self.reach(&self.gateways[gateway].address);
        let admin = |service: &ServiceProcess| format!("http://{}", service.admin);
        DevFile {
            gateway_url: self.url(gateway),
            http_url,
            router: self.reach(&self.routers[router].address),
            auth: self.reach(&self.auths[0].address),
            federation: self.federations.first().map_or(String::new(), |one| self.reach(&one.address)),
            gateway: String::new(),
            admin: waystation_standalone::AdminPages {
                gateway: admin(&self.gateways[gateway]),
                router: admin(&self.routers[router]),
                auth: admin(&self.auths[0]),
                federation: String::new(),
            },
            organization_id: ORGANIZATION.to_owned(),
            api_key: self.api_key.0.clone(),
            api_secret: self.api_key.1.clone(),
            service_token: self.service_token.clone(),
            service_secret: String::new(),
            operator_token: String::new(),
        }
    }

    /// Where REST calls go to a gateway.
    pub fn http_url(&self, gateway: usize) -> String {
        self.reach(&self.gateways[gateway].address)
    }

    /// From now on daemons connect to this address, which leads to any gateway.
    pub fn stand_behind(&mut self, front: &str) {
        self.front = Some(format!("ws://{front}/daemon/ws"));
    }

    /// Where daemons connect to a gateway.
    pub fn url(&self, gateway: usize) -> String {
        if let Some(front) = &self.front {
            return front.clone();
        }
        format!("{}/daemon/ws", self.reach(&self.gateways[gateway].address).replacen("http", "ws", 1))
    }

    /// A backend of one of the federations.
    pub fn federation(&self, number: usize, token: &str) -> Backend {
        let federation = self.reach(&self.federations[number].address);
        Backend::with_token(&DevFile { federation, ..self.dev(0, 0) }, token)
    }

    /// The token of the backend of the organization.
    pub fn backend_token(&self) -> &str {
        &self.service_token
    }

    pub fn backend(&self, router: usize) -> Backend {
        Backend::new(&self.dev(0, router))
    }

    /// An access token for an orchestrator.
    pub async fn token(&self, orchestrator: &str) -> String {
        let login: Value = crate::log_in(&self.dev(0, 0), orchestrator).await;
        login["accessToken"].as_str().unwrap().to_owned()
    }

    /// Makes organization and key anew, after the store has forgotten them.
    pub async fn bootstrap_again(&mut self) {
        let auth = self.reach(&self.auths[0].address);
        let made = eventually("auth answers again", async || bootstrap(&auth).await.ok()).await;
        (self.api_key, self.service_token) = made;
    }

    /// Every process, the Redis included.
    pub fn pids(&self) -> Vec<u32> {
        let services = self.auths.iter().chain(&self.routers).chain(&self.gateways).chain(&self.federations);
        let ids = services.filter_map(|service| service.child.as_ref()?.id());
        ids.chain(self.redis.pids()).collect()
    }

    /// Every process of Waystation.
    pub fn services(&mut self) -> impl Iterator<Item = &mut ServiceProcess> {
        let others = self.routers.iter_mut().chain(&mut self.gateways).chain(&mut self.federations);
        self.auths.iter_mut().chain(others)
    }
}

/// What an operator does first: an organization, a key for its daemons; and the backend's token.
async fn bootstrap(auth: &str) -> Result<((String, String), String), Status> {
    let mut client = AuthServiceClient::new(waystation_rpc::channel(auth, &Default::default()).unwrap());
    let mut log_in = async |service: &str| {
        let request = IssueServiceTokenRequest { service: service.into(), secret: SECRET.into(), ..Default::default() };
        Ok::<_, Status>(client.issue_service_token(request).await?.into_inner().access_token)
    };
    let (operator, backend) = (log_in("operator").await?, log_in("platform").await?);
    let mut credentials = Backend::at(auth, auth, &operator).credentials;
    let organization = CreateOrganizationRequest {
        organization_id: ORGANIZATION.into(),
        name: "Acme".into(),
        auto_create_orchestrators: true,
        ..Default::default()
    };
    credentials.create_organization(organization).await?;
    let key = CreateApiKeyRequest {
        organization_id: ORGANIZATION.into(),
        scopes: DAEMON_SCOPES.map(str::to_owned).to_vec(),
        ..Default::default()
    };
    let key = credentials.create_api_key(key).await?.into_inner();
    Ok(((key.api_key, key.api_secret), backend))
}
