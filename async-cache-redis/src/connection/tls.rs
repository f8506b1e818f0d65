//! TLS: its settings, the streams, and the meaning of its errors.
//!
//! The streams are ours, because the client builds its own with the crypto provider of the process, and panics if
//! there is none.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use async_cache_core::{Error, ErrorKind, Result};
use futures_util::future::select_ok;
use redis::RedisError;
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::SockRef;
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    AlertDescription as Alert, CertificateError, ClientConfig, Error as TlsError, RootCertStore, crypto::ring,
};

use super::refusals::Refusal;

/// How to speak TLS with the server: the settings for `rediss://` and `valkeys://` (feature `tls`).
///
/// TLS 1.2 and 1.3 by rustls. Its crypto provider is always `ring`: the default of the process is neither used nor set.
#[derive(Clone, Default)]
pub struct Tls {
    ca: Option<Vec<u8>>,
    client: Option<ClientPem>,
    server_name: Option<String>,
}

#[derive(Clone)]
struct ClientPem {
    chain: Vec<u8>,
    key: Vec<u8>,
}

impl Tls {
    /// Trusts the authorities of this machine, and shows no client certificate.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts these authorities (CA) only, instead of those of this machine: one or more certificates in PEM.
    #[must_use]
    pub fn ca(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.ca = Some(pem.as_ref().to_vec());
        self
    }

    /// Shows this certificate to the server: its chain and its private key, both in PEM.
    #[must_use]
    pub fn client_cert(mut self, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        self.client = Some(ClientPem { chain: chain.as_ref().to_vec(), key: key.as_ref().to_vec() });
        self
    }

    /// The name that the server's certificate must have, if it is not the host of the URL.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Prepares streams to one server.
    pub(crate) fn dialer(&self, host: &str, port: u16, tcp: TcpSettings) -> Result<Dialer> {
        let name = self.server_name.as_deref().unwrap_or(host);
        let server = ServerName::try_from(name.to_owned())
            .map_err(|_| wrong(format!("`{name}` is no name that a certificate can have")))?;
        let roots = match &self.ca {
            Some(pem) => given_roots(pem)?,
            None => roots_of_this_machine()?,
        };
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(error.to_string()))?
            .with_root_certificates(roots);
        let config = match &self.client {
            None => config.with_no_client_auth(),
            Some(client) => config
                .with_client_auth_cert(certificates("client_cert", &client.chain)?, client.private_key()?)
                .map_err(|error| wrong(format!("the client certificate and its key do not fit ({error})")))?,
        };
        let connector = TlsConnector::from(Arc::new(config));
        let shows_certificate = self.client.is_some();
        let name = if self.server_name.is_some() { Name::Given } else { Name::OfHost };
        Ok(Dialer { connector, server, name, host: host.to_owned(), port, tcp, shows_certificate })
    }
}

impl ClientPem {
    fn private_key(&self) -> Result<PrivateKeyDer<'static>> {
        // The cause is left out: it may quote what it read.
        PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| wrong("`client_cert` was given no private key in PEM (PKCS#8, PKCS#1 or SEC1)"))
    }
}

fn given_roots(pem: &[u8]) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca", pem)? {
        roots
            .add(certificate)
            .map_err(|error| wrong(format!("`ca` has an unusable certificate ({error})")))?;
    }
    Ok(roots)
}

fn roots_of_this_machine() -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(wrong(
            "this machine trusts no authority: give the server's (`Tls::ca`, `ca_file`, `--ca-file`)",
        ));
    }
    Ok(roots)
}

fn certificates(setting: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let read: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => {
            Err(wrong(format!("`{setting}` was given no certificate in PEM (`-----BEGIN CERTIFICATE-----`)")))
        }
    }
}

fn wrong(what: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Config, format!("preparing TLS: {what}"))
}

/// Only whether something is set: certificates are long, and the key is secret.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("ca", &self.ca.as_ref().map(|_| "given"))
            .field("client_cert", &self.client.as_ref().map(|_| "given"))
            .field("server_name", &self.server_name)
            .finish()
    }
}

/// Where the name comes from that a certificate must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Given,
    OfHost,
}

/// Makes TLS streams to one server.
#[derive(Clone)]
pub(crate) struct Dialer {
    connector: TlsConnector,
    server: ServerName<'static>,
    name: Name,
    host: String,
    port: u16,
    tcp: TcpSettings,
    shows_certificate: bool,
}

impl Dialer {
    /// These settings for another server.
    pub(super) fn at(&self, host: &str, port: u16) -> Result<Self, Refusal> {
        let server = match self.name {
            Name::Given => self.server.clone(),
            Name::OfHost => ServerName::try_from(host.to_owned()).map_err(|_| {
                Refusal::NoMaster(format!("`{host}` is named as the master, which is no name of a host"))
            })?,
        };
        Ok(Self { server, host: host.to_owned(), port, ..self.clone() })
    }

    pub(super) async fn dial(&self) -> io::Result<TlsStream<TcpStream>> {
        let addresses: Vec<SocketAddr> = lookup_host((self.host.as_str(), self.port)).await?.collect();
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the host has no address"));
        }
        // All at once, as the client does: the first address of a host may be unreachable.
        let (stream, _) = select_ok(addresses.into_iter().map(|at| Box::pin(TcpStream::connect(at)))).await?;
        self.set_options(&stream)?;
        self.connector.connect(self.server.clone(), stream).await
    }

    fn set_options(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(self.tcp.nodelay())?;
        let socket = SockRef::from(stream);
        if let Some(keepalive) = self.tcp.keepalive() {
            socket.set_tcp_keepalive(keepalive)?;
        }
        #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
        socket.set_tcp_user_timeout(self.tcp.user_timeout())?;
        Ok(())
    }

    /// What is wrong with the certificates, names or protocols, and the remedy. `None` for other errors.
    pub(super) fn remedy(&self, error: &RedisError) -> Option<String> {
        match tls_error(error)? {
            TlsError::InvalidCertificate(why) => Some(self.certificate_remedy(why)),
            TlsError::AlertReceived(alert) => Some(self.alert_remedy(*alert)),
            TlsError::InvalidMessage(_) => Some(
                "what answers there does not speak TLS: write `redis://` for a server without TLS".to_owned(),
            ),
            TlsError::PeerIncompatible(why) => Some(no_common_protocol(why)),
            other => Some(format!("TLS failed: {other}")),
        }
    }

    fn certificate_remedy(&self, why: &CertificateError) -> String {
        let name = self.server.to_str();
        match why {
            CertificateError::NotValidForName => not_for(&name, "other names"),
            CertificateError::NotValidForNameContext { presented, .. } => {
                not_for(&name, &presented.join(", "))
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "the server's certificate is not signed by an authority (CA) that is trusted \
                 here: give the certificate of its authority (`Tls::ca`, `ca_file`, `--ca-file`)"
                    .to_owned()
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("the server's certificate has expired: renew it, or set this machine's clock ({why})")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                format!("the server's certificate is not valid yet: set this machine's clock ({why})")
            }
            why => format!(
                "the server's certificate cannot be accepted ({why}): it must be an end-entity certificate, signed by an \
                 authority (CA)"
            ),
        }
    }

    fn alert_remedy(&self, alert: Alert) -> String {
        match alert {
            Alert::ProtocolVersion | Alert::InsufficientSecurity => no_common_protocol(&alert),
            Alert::HandshakeFailure if !self.shows_certificate => {
                format!("{NO_CLIENT_CERTIFICATE}, or it has no cipher suite in common with this client")
            }
            Alert::CertificateRequired | Alert::BadCertificate if !self.shows_certificate => {
                NO_CLIENT_CERTIFICATE.to_owned()
            }
            Alert::UnrecognisedName => {
                format!(
                    "the server has no certificate for `{}`: set `Tls::server_name`",
                    self.server.to_str()
                )
            }
            alert if self.shows_certificate => format!(
                "the server refuses the client certificate ({alert:?}): is it signed by an authority (CA) that the server \
                 trusts, and has it expired?"
            ),
            alert => format!("the server ended TLS ({alert:?})"),
        }
    }

    /// What may be the reason if the server closes the connection without a word.
    pub(super) fn hint_of_silence(&self) -> &'static str {
        if self.shows_certificate {
            "it may refuse the client certificate, or not speak TLS on this port"
        } else {
            "it may ask for a client certificate (`Tls::client_cert`), or not speak TLS on this port"
        }
    }
}

const NO_CLIENT_CERTIFICATE: &str =
    "the server asks for a client certificate: give one with `Tls::client_cert`";

fn not_for(name: &str, others: &str) -> String {
    format!(
        "the server's certificate is not for `{name}`, but for {others}: connect by a name that it has, or give one with \
         `Tls::server_name`"
    )
}

fn no_common_protocol(why: &impl fmt::Debug) -> String {
    format!(
        "the server has no TLS version or cipher suite in common with this client ({why:?}): it must offer TLS 1.2 or 1.3"
    )
}

/// The TLS error inside an error of the client.
fn tls_error(error: &RedisError) -> Option<&TlsError> {
    let inner: &Arc<dyn StdError + Send + Sync> = error.source()?.downcast_ref()?;
    inner.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()
}
