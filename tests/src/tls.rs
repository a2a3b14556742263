//! TLS in tests: an authority, and bridges that let plain clients speak to secured servers and the other way round.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType, date_time_ymd};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// An authority whose certificates lie in a directory.
pub struct Authority {
    dir: PathBuf,
    trust_domain: String,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// Files of a certificate.
#[derive(Clone, Debug)]
pub struct Issued {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new(dir: &Path) -> Authority {
        Authority::of_domain(dir, "cell.example")
    }

    /// Of a trust domain of its own.
    pub fn of_domain(dir: &Path, trust_domain: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(dir.join("ca.crt"), issuer.pem()).unwrap();
        Authority { dir: dir.to_owned(), trust_domain: trust_domain.to_owned(), issuer }
    }

    /// What certificates of a service name.
    pub fn identity(&self, service: &str) -> String {
        format!("spiffe://{}/waystation/{service}", self.trust_domain)
    }

    fn named(&self, service: &str) -> SanType {
        SanType::URI(self.identity(service).try_into().unwrap())
    }

    pub fn file(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// A certificate for a service of ours, wherever it runs.
    pub fn service(&self, name: &str) -> Issued {
        self.issue(name, vec![self.named(name)])
    }

    /// The same, in another directory: the files of the service itself stay as they are.
    pub fn service_in(&self, dir: &Path, name: &str) -> Issued {
        self.issue_in(dir, name, vec![self.named(name)])
    }

    /// The same, for clients that know nothing of services and ask for the host.
    pub fn service_here(&self, name: &str) -> Issued {
        self.issue(name, vec![self.named(name), SanType::IpAddress([127, 0, 0, 1].into())])
    }

    /// A certificate for this machine, in the place of the one before.
    pub fn host(&self, name: &str) -> Issued {
        self.issue(name, vec![SanType::IpAddress([127, 0, 0, 1].into())])
    }

    fn issue(&self, name: &str, names: Vec<SanType>) -> Issued {
        self.issue_in(&self.dir, name, names)
    }

    fn issue_in(&self, dir: &Path, name: &str, names: Vec<SanType>) -> Issued {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names;
        params.not_after = date_time_ymd(2100, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let issued = Issued { certificate: dir.join(format!("{name}.crt")), key: dir.join(format!("{name}.key")) };
        std::fs::write(&issued.certificate, certificate.pem()).unwrap();
        std::fs::write(&issued.key, key.serialize_pem()).unwrap();
        issued
    }

    fn client(&self, identity: Option<&Issued>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.file()).unwrap()).unwrap();
        let builder = ClientConfig::builder().with_root_certificates(roots);
        match identity {
            None => builder.with_no_client_auth(),
            Some(issued) => {
                let chain = vec![CertificateDer::from_pem_file(&issued.certificate).unwrap()];
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&issued.key).unwrap()).unwrap()
            }
        }
    }

    /// The serial number of the certificate that a server shows now.
    pub async fn shown_by(&self, target: &str) -> Vec<u8> {
        let connector = TlsConnector::from(Arc::new(self.client(None)));
        let stream = TcpStream::connect(target).await.unwrap();
        let stream = connector.connect(ServerName::try_from("127.0.0.1").unwrap(), stream).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }

    /// A plain address behind which a secured server is; `identity`: what the bridge shows of itself.
    pub async fn to_secured(
        &self,
        target: &str,
        protocol: &str,
        identity: Option<&Issued>,
        tasks: &mut JoinSet<()>,
    ) -> String {
        let mut config = self.client(identity);
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, target) = (listener.local_addr().unwrap(), target.to_owned());
        tasks.spawn(async move {
            let mut bridged = JoinSet::new();
            while let Ok((mut plain, _)) = listener.accept().await {
                let (connector, target) = (connector.clone(), target.clone());
                bridged.spawn(async move {
                    let stream = TcpStream::connect(&target).await.ok()?;
                    let name = ServerName::try_from("127.0.0.1").ok()?;
                    let mut secured = connector.connect(name, stream).await.ok()?;
                    tokio::io::copy_bidirectional(&mut plain, &mut secured).await.ok()
                });
            }
        });
        address.to_string()
    }
}

/// A secured address behind which a plain server is.
pub async fn from_secured(target: SocketAddr, issued: &Issued, tasks: &mut JoinSet<()>) -> SocketAddr {
    let chain = vec![CertificateDer::from_pem_file(&issued.certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_file(&issued.key).unwrap();
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let mut bridged = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            bridged.spawn(async move {
                let mut secured = acceptor.accept(stream).await.ok()?;
                let mut plain = TcpStream::connect(target).await.ok()?;
                tokio::io::copy_bidirectional(&mut secured, &mut plain).await.ok()
            });
        }
    });
    address
}
