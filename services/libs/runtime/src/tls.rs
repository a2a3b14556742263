//! TLS 1.3 between services and towards clients. Certificates are read again when their files change, so that they can
//! be renewed while everything runs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use tokio_util::either::Either;
use waystation_domain::Timestamp;

use crate::Context;
use crate::settings::SettingsError;

/// How often files are looked at for changes.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Services are named by a URI in their certificate: `spiffe://<trust domain>/waystation/<service>`.
const SERVICE_PATH: &str = "/waystation/";

/// What a listener or a service is configured with. Nothing: no TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// PEM: the certificate, then those between it and the authority.
    certificate_file: Option<PathBuf>,
    /// PEM: its private key.
    key_file: Option<PathBuf>,
    /// PEM: authorities that may vouch for the other side.
    ca_file: Option<PathBuf>,
}

/// Another cell: whom its certificates name, and who vouches for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPeer {
    /// What it is called here.
    pub name: String,
    /// The URI in its certificates, as `spiffe://b.example/waystation/federation`.
    pub identity: String,
    /// PEM: its authorities. Nobody else's word counts for it.
    pub ca_file: PathBuf,
}

/// A connection that somebody made to us, plain or secured. Boxed: TLS is many times as large.
pub type Accepted = Either<TcpStream, Box<server::TlsStream<TcpStream>>>;

/// The certificates of a process, by the settings that name them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Certificates(Arc<Mutex<Vec<(&'static str, Tls)>>>);

impl Certificates {
    /// When each ends.
    pub fn ends(&self) -> Vec<(&'static str, Timestamp)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(settings, tls)| (*settings, tls.0.kept.load().ends)).collect()
    }
}

/// What both sides of a connection use. Cheap to clone.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    files: Files,
    kept: ArcSwap<Kept>,
}

#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    ca: Option<PathBuf>,
    /// Other cells, if it is they who are at the other end.
    peers: Vec<KnownPeer>,
}

struct Kept {
    /// When the own certificate ends.
    ends: Timestamp,
    read: Vec<Vec<u8>>,
    server: Arc<ServerConfig>,
    client: Option<Arc<ClientConfig>>,
    /// In the order of [`Files::peers`].
    vouching: Vec<Arc<dyn ClientCertVerifier>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tls({:?})", self.0.files)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

impl TlsSettings {
    /// Reads the files, and again when they change; `None`: there is no TLS. `key` names the settings.
    ///
    /// # Errors
    /// If a file is missing or cannot be used.
    pub fn open(&self, key: &'static str, protocols: &[&str], context: &Context) -> Result<Option<Tls>, SettingsError> {
        if *self == TlsSettings::default() {
            return Ok(None);
        }
        self.open_for(key, protocols, &[], context).map(Some)
    }

    /// The same where other cells are at the other end, and nobody else.
    ///
    /// # Errors
    /// If a file is missing or cannot be used.
    pub fn open_for(
        &self,
        key: &'static str,
        protocols: &[&str],
        peers: &[KnownPeer],
        context: &Context,
    ) -> Result<Tls, SettingsError> {
        let (Some(certificate), Some(private)) = (self.certificate_file.clone(), self.key_file.clone()) else {
            return Err(SettingsError::of(key, "certificate_file and key_file are needed"));
        };
        let files = Files { certificate, key: private, ca: self.ca_file.clone(), peers: peers.to_vec() };
        let protocols: Vec<Vec<u8>> = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let kept = files.read(&protocols).map_err(|problem| SettingsError::of(key, problem))?;
        let tls = Tls(Arc::new(Inner { files, kept: ArcSwap::from_pointee(kept) }));
        context.certificates.0.lock().unwrap_or_else(PoisonError::into_inner).push((key, tls.clone()));
        tls.clone().follow(protocols, context);
        Ok(tls)
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

impl Files {
    fn bytes(&self) -> Result<Vec<Vec<u8>>, String> {
        [&self.certificate, &self.key].into_iter().chain(self.authorities()).map(|path| bytes(path)).collect()
    }

    /// Who may vouch for the other side: first of all its own, then each peer's.
    fn authorities(&self) -> impl Iterator<Item = &PathBuf> {
        self.ca.iter().chain(self.peers.iter().map(|peer| &peer.ca_file))
    }

    fn read(&self, protocols: &[Vec<u8>]) -> Result<Kept, String> {
        let read = self.bytes()?;
        let of = |path: &Path, problem: &dyn fmt::Display| format!("{}: {problem}", path.display());
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read[0])
            .collect::<Result<_, _>>()
            .map_err(|error| of(&self.certificate, &error))?;
        let own = chain.first().ok_or_else(|| of(&self.certificate, &"holds no certificate"))?;
        let ends = end_of(own).ok_or_else(|| of(&self.certificate, &"does not say when it ends"))?;
        let key = PrivateKeyDer::from_pem_slice(&read[1]).map_err(|error| of(&self.key, &error))?;
        let mut roots = RootCertStore::empty();
        let mut vouching = Vec::new();
        for (at, (path, pem)) in self.authorities().zip(&read[2..]).enumerate() {
            let own = authorities_of(pem).map_err(|error| of(path, &error))?;
            roots.extend(own.roots.iter().cloned());
            if at >= usize::from(self.ca.is_some()) {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(own), provider()).build();
                vouching.push(verifier.map_err(|error| of(path, &error))?);
            }
        }
        let roots = (!roots.is_empty()).then(|| Arc::new(roots));
        let failed = |error: rustls::Error| of(&self.certificate, &error);
        let builder = ServerConfig::builder_with_provider(provider());
        let builder = builder.with_protocol_versions(&[&TLS13]).map_err(failed)?;
        let builder = match &roots {
            // Who has no certificate brings a token; one that is shown must be good.
            Some(roots) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider());
                let verifier = verifier.allow_unauthenticated().build().map_err(|error| error.to_string())?;
                builder.with_client_cert_verifier(verifier)
            }
            None => builder.with_no_client_auth(),
        };
        let mut server = builder.with_single_cert(chain.clone(), key.clone_key()).map_err(failed)?;
        server.alpn_protocols = protocols.to_vec();
        let client = match roots {
            None => None,
            Some(roots) => {
                let inner = WebPkiServerVerifier::builder_with_provider(roots, provider()).build();
                let verifier = Arc::new(NamedService(inner.map_err(|error| error.to_string())?));
                let builder = ClientConfig::builder_with_provider(provider());
                let builder = builder.with_protocol_versions(&[&TLS13]).map_err(failed)?;
                let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
                let mut client = builder.with_client_auth_cert(chain, key).map_err(failed)?;
                client.alpn_protocols = protocols.to_vec();
                Some(Arc::new(client))
            }
        };
        Ok(Kept { ends, read, server: Arc::new(server), client, vouching })
    }
}

/// When a certificate ends.
fn end_of(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    Some(Timestamp::from_millis(seconds.saturating_mul(1_000)))
}

fn authorities_of(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() { Err("holds no certificate".to_owned()) } else { Ok(roots) }
}

impl Tls {
    fn follow(self, protocols: Vec<Vec<u8>>, context: &Context) {
        let lifecycle = context.lifecycle.clone();
        lifecycle.clone().spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                    () = lifecycle.stopping() => return,
                }
                let files = &self.0.files;
                if files.bytes().is_ok_and(|read| read == self.0.kept.load().read) {
                    continue;
                }
                match files.read(&protocols) {
                    Ok(kept) => {
                        self.0.kept.store(Arc::new(kept));
                        tracing::info!(?files, "certificates were renewed");
                    }
                    // The present ones are good for as long as they are; what is half written is whole next time.
                    Err(problem) => tracing::warn!("cannot renew certificates: {problem}"),
                }
            }
        });
    }

    /// The server's side of a handshake.
    ///
    /// # Errors
    /// If it fails or takes longer than 10 s.
    pub async fn accept(&self, stream: TcpStream) -> std::io::Result<server::TlsStream<TcpStream>> {
        let acceptor = TlsAcceptor::from(self.0.kept.load().server.clone());
        tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await?
    }

    /// The client's side.
    ///
    /// # Errors
    /// If it fails or takes longer than 10 s, the other side is not vouched for, or no authority is configured.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        host: &str,
        stream: S,
    ) -> std::io::Result<client::TlsStream<S>> {
        let config = self.0.kept.load().client.clone();
        let config = config.ok_or_else(|| std::io::Error::other("ca_file is needed to call others by TLS"))?;
        let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
        let stream = tokio::time::timeout(HANDSHAKE, TlsConnector::from(config).connect(name, stream)).await??;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        if !self.0.files.peers.is_empty() && self.name_of(chain).is_none() {
            return Err(std::io::Error::other("the certificate does not name the peer that was to be called"));
        }
        Ok(stream)
    }

    /// Whom the certificates of the other side name: a service of ours or, where other cells are, `cell.` and what the cell is
    /// called. `None`: nobody whom we know.
    pub fn name_of(&self, chain: &[CertificateDer<'_>]) -> Option<String> {
        let (first, others) = chain.split_first()?;
        let (files, kept) = (&self.0.files, self.0.kept.load());
        if files.peers.is_empty() {
            return service_of(first);
        }
        let certificate = webpki::EndEntityCert::try_from(first).ok()?;
        let mut known = files.peers.iter().zip(&kept.vouching).filter(|(peer, verifier)| {
            certificate.valid_uri_names().any(|uri| uri == peer.identity)
                && verifier.verify_client_cert(first, others, UnixTime::now()).is_ok()
        });
        known.next().map(|(peer, _)| format!("cell.{}", peer.name))
    }
}

/// The service that a certificate names.
pub fn service_of(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    certificate.valid_uri_names().find_map(|uri| {
        let path = uri.strip_prefix("spiffe://")?;
        let (_, service) = path.split_once(SERVICE_PATH)?;
        (!service.is_empty() && !service.contains('/')).then(|| service.to_owned())
    })
}

/// Replicas come and go at addresses that no certificate can name: one that an authority of ours gave to a service of
/// ours is as good as one with the right host name.
#[derive(Debug)]
struct NamedService(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for NamedService {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judged = self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp, now);
        // The name is judged last: whatever else could be wrong is not.
        let only_name = matches!(
            judged,
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
            ))
        );
        if only_name && service_of(end_entity).is_some() { Ok(ServerCertVerified::assertion()) } else { judged }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
