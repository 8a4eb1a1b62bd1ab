//! STUN over TLS (RFC 8489 §6.2.3, `stuns:`), with the certificates that this machine trusts.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::stream::{Said, ask};
use crate::io::within;

/// How servers prove who they are.
#[derive(Clone)]
pub struct Trust(TlsConnector);

impl Trust {
    /// Takes what the machine trusts; with `any`, every certificate will do.
    ///
    /// # Errors
    /// The machine trusts nobody, or its files cannot be read.
    pub fn new(any: bool) -> io::Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let config = if any {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
                .with_no_client_auth()
        } else {
            let found = rustls_native_certs::load_native_certs();
            let mut roots = RootCertStore::empty();
            let (added, _) = roots.add_parsable_certificates(found.certs);
            if added == 0 {
                let why = found.errors.first().map_or_else(
                    || {
                        "this machine has no certificates of authorities (package ca-certificates)"
                            .to_owned()
                    },
                    ToString::to_string,
                );
                return Err(io::Error::new(io::ErrorKind::NotFound, why));
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        };
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Asks one server over TLS, within `bound`; `host` is the name that its certificate must have.
    ///
    /// # Errors
    /// It cannot be reached, does not prove its name, or what it says is no answer.
    pub async fn ask_tls(
        &self,
        server: SocketAddr,
        host: &str,
        bound: Duration,
    ) -> io::Result<Said> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let asked = async {
            let stream = TcpStream::connect(server).await?;
            let mut stream = self.0.connect(name, stream).await.map_err(in_words)?;
            ask(&mut stream).await
        };
        within(bound, asked).await
    }
}

/// The server does not prove that it is the one that was named.
#[derive(Debug)]
struct Untrusted(String);

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its certificate {}", self.0)
    }
}

impl std::error::Error for Untrusted {}

/// Whether an error of [`Trust::ask_tls`] is about the server's certificate.
#[must_use]
pub fn is_untrusted(error: &io::Error) -> bool {
    let inner = error.get_ref();
    inner.is_some_and(<dyn std::error::Error + Send + Sync>::is::<Untrusted>)
}

fn in_words(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    let Some(Error::InvalidCertificate(why)) = inner else {
        return error;
    };
    let why = match why {
        CertificateError::UnknownIssuer => {
            "is signed by nobody whom this machine trusts".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "is for another name".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet".to_owned()
        }
        other => format!("cannot be checked: {other}"),
    };
    io::Error::new(error.kind(), Untrusted(why))
}

/// Takes every certificate, for laboratories. The handshake itself is checked as always.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signed,
            algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signed,
            algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
