//! From two files to a certificate with its key, or to a reason that names the file.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{
    Error, InconsistentKeys,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    sign::CertifiedKey,
};
use sha2::{Digest, Sha256};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate, X509Error},
};

use crate::config::TlsSettings;

/// How an encrypted key says so, in its two forms.
const ENCRYPTED: [&[u8]; 2] = [b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED"];

/// Why two files are no certificate with its key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file is not in the form that is expected.
    #[error("{} is not PEM", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: pem::Error,
    },
    /// A file without a certificate.
    #[error("there is no certificate in {}", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A certificate that is none.
    #[error("the first certificate in {} cannot be read", path.display())]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file without a private key.
    #[error("there is no private key in {}", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A private key that nobody can give the password of.
    #[error("the private key in {} is encrypted: decrypt it first, with openssl pkey", path.display())]
    EncryptedKey {
        /// The file.
        path: PathBuf,
    },
    /// A private key that cannot sign.
    #[error("the private key in {} cannot be used", path.display())]
    BadKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Error,
    },
    /// A key of another certificate.
    #[error("the private key in {} does not belong to the first certificate in {}", key.display(), certificate.display())]
    Misfit {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
    },
    /// The library offers no version of TLS.
    #[error("no version of TLS can be offered")]
    Versions {
        /// What it says.
        #[source]
        source: Error,
    },
}

/// Where certificate and key stand.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// What stood there at one moment.
pub(super) struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// By which contents are told apart without keeping them.
pub(super) type Stamp = [u8; 32];

impl Contents {
    pub(super) fn stamp(&self) -> Stamp {
        let length = (self.certificate.len() as u64).to_be_bytes();
        Sha256::new().chain_update(length).chain_update(&self.certificate).chain_update(&self.key).finalize().into()
    }
}

/// A certificate with its key.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) leaf: Leaf,
}

/// What people want to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    /// Whom it is for.
    pub(super) names: Vec<String>,
    /// The last moment at which it is valid.
    pub(super) not_after: String,
    /// The same.
    pub(super) ends: SystemTime,
    /// Why clients may refuse it today.
    pub(super) doubt: Option<String>,
}

impl Files {
    pub(super) fn of(settings: &TlsSettings) -> Self {
        Self { certificate: PathBuf::from(&settings.certificate), key: PathBuf::from(&settings.key) }
    }

    /// Reads both.
    pub(super) fn read(&self) -> Result<Contents, TlsError> {
        let read = |path: &Path| fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source });
        Ok(Contents { certificate: read(&self.certificate)?, key: read(&self.key)? })
    }

    /// What they make together.
    pub(super) fn pair(&self, contents: &Contents) -> Result<Pair, TlsError> {
        let chain = self.chain(&contents.certificate)?;
        let key = self.private_key(&contents.key)?;
        let leaf = self.leaf(&chain[0], SystemTime::now())?;
        let key = CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                TlsError::Misfit { certificate: self.certificate.clone(), key: self.key.clone() }
            }
            Error::InvalidCertificate(_) => self.bad_certificate(error),
            source => TlsError::BadKey { path: self.key.clone(), source },
        })?;
        Ok(Pair { key: Arc::new(key), leaf })
    }

    /// The certificate, and those between it and its root. At least one.
    fn chain(&self, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let path = || self.certificate.clone();
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let chain = chain.map_err(|source| TlsError::NotPem { path: path(), source })?;
        if chain.is_empty() { Err(TlsError::NoCertificate { path: path() }) } else { Ok(chain) }
    }

    fn private_key(&self, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
        let path = self.key.clone();
        if ENCRYPTED.iter().any(|mark| pem.windows(mark.len()).any(|window| window == *mark)) {
            return Err(TlsError::EncryptedKey { path });
        }
        PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
            pem::Error::NoItemsFound => TlsError::NoKey { path },
            source => TlsError::NotPem { path, source },
        })
    }

    fn bad_certificate(&self, source: impl std::error::Error + Send + Sync + 'static) -> TlsError {
        TlsError::BadCertificate { path: self.certificate.clone(), source: Box::new(source) }
    }

    fn leaf(&self, der: &CertificateDer<'_>, now: SystemTime) -> Result<Leaf, TlsError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| self.bad_certificate(X509Error::from(error)))?;
        let (begin, end) = (moment(certificate.validity().not_before.timestamp()), moment(certificate.validity().not_after.timestamp()));
        let file = self.certificate.display();
        let doubt = if now > end {
            Some(format!("The TLS certificate in {file} expired at {}: clients refuse it", date(end)))
        } else if now < begin {
            Some(format!("The TLS certificate in {file} is not valid before {}: clients refuse it", date(begin)))
        } else {
            None
        };
        Ok(Leaf { names: names(&certificate), not_after: date(end), ends: end, doubt })
    }
}

impl Leaf {
    /// Says which certificate is used from now on.
    pub(super) fn say(&self, files: &Files) {
        let Self { names, not_after, doubt, .. } = self;
        let (names, file) = (names.join(", "), files.certificate.display());
        tracing::info!(
            tls.certificate = %file, tls.names = names, tls.not_after = not_after,
            "The TLS certificate is for {names}, until {not_after}"
        );
        if let Some(doubt) = doubt {
            tracing::warn!(tls.certificate = %file, "{doubt}");
        }
    }
}

/// What the certificate is for; without such a list, what it is called.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names = alternative.iter().flat_map(|extension| &extension.value.general_names);
    let names: Vec<String> = names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        })
        .collect();
    if names.is_empty() { vec![certificate.subject().to_string()] } else { names }
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok().map(|ip| ip.to_string())
}

/// Certificates may be older than 1970, or outlive every clock.
fn moment(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let moment = if seconds < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    moment.unwrap_or(UNIX_EPOCH)
}

fn date(moment: SystemTime) -> String {
    // humantime begins at 1970.
    humantime::format_rfc3339_seconds(moment.max(UNIX_EPOCH)).to_string()
}
