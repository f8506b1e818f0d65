//! Certificates for tests, and servers that have them.

use std::path::PathBuf;

use integration_tests::RedisServer;
use integration_tests::ports::free_port;
use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;

/// An authority that signs certificates.
pub(crate) struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its private key, in PEM.
pub(crate) struct Signed {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Validity {
    Now,
    Past,
    Future,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::named("test authority")
    }

    pub(crate) fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A certificate for a name or an address.
    pub(crate) fn sign(&self, name: &str, validity: Validity) -> Signed {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let years = match validity {
            Validity::Now => None,
            Validity::Past => Some((2000, 2001)),
            Validity::Future => Some((2200, 2201)),
        };
        if let Some((from, to)) = years {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(to, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Signed { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// The files of a server that has a certificate.
pub(crate) struct Files(TempDir);

impl Files {
    /// Writes a certificate, its key, and the certificate of the authority that clients' certificates must have.
    pub(crate) fn new(authority: &Authority, shown: &Signed) -> Self {
        let files = Self(TempDir::with_prefix("async-cache-tls-").unwrap());
        let texts =
            [("ca.pem", &authority.pem()), ("server.pem", &shown.certificate), ("server.key", &shown.key)];
        for (name, text) in texts {
            std::fs::write(files.path(name), text).unwrap();
        }
        files
    }

    /// The arguments of a server that speaks TLS on this port.
    pub(crate) fn arguments(&self, port: u16) -> Vec<String> {
        let file = |name: &str| self.path(name).to_str().expect("a path in UTF-8").to_owned();
        [
            ("--tls-port", port.to_string()),
            ("--tls-cert-file", file("server.pem")),
            ("--tls-key-file", file("server.key")),
            ("--tls-ca-cert-file", file("ca.pem")),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// A server with a port for TLS beside its plain one.
pub(crate) struct TlsServer {
    pub(crate) server: RedisServer,
    pub(crate) port: u16,
    _files: Files,
}

impl TlsServer {
    /// With a certificate for `127.0.0.1`, which asks no client for one.
    pub(crate) fn of(authority: &Authority) -> Self {
        Self::start(authority, &authority.sign("127.0.0.1", Validity::Now), &[])
    }

    /// With this certificate. It accepts client certificates of the authority.
    pub(crate) fn start(authority: &Authority, shown: &Signed, further: &[&str]) -> Self {
        let (files, port) = (Files::new(authority, shown), free_port());
        let files_and_port = files.arguments(port);
        let mut arguments: Vec<&str> = files_and_port.iter().map(String::as_str).collect();
        if !further.contains(&"--tls-auth-clients") {
            arguments.extend(["--tls-auth-clients", "no"]);
        }
        arguments.extend(further);
        let server = RedisServer::with_arguments(&arguments);
        Self { server, port, _files: files }
    }

    pub(crate) fn url(&self) -> String {
        format!("rediss://127.0.0.1:{}", self.port)
    }
}
