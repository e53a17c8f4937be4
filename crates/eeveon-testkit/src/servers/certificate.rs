//! An authority of our own, and a certificate for this machine that it vouches for.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

/// How long a server's certificate is good for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Validity {
    /// For longer than any test runs.
    Good,
    /// It ended years ago.
    Expired,
}

/// Writes `ca.pem`, and `server.pem` and `server.key` that it vouches for, for `127.0.0.1` and
/// `localhost`.
///
/// # Errors
///
/// They cannot be made or written.
pub fn write(folder: &Path, validity: Validity) -> io::Result<()> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    authority.distinguished_name.push(DnType::CommonName, "EEveon test authority");
    let authority = KeyPair::generate()
        .and_then(|key| CertifiedIssuer::self_signed(authority, key))
        .map_err(io::Error::other)?;
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let mut server = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])
        .map_err(io::Error::other)?;
    if validity == Validity::Expired {
        server.not_before = date_time_ymd(2019, 1, 1);
        server.not_after = date_time_ymd(2020, 1, 1);
    }
    let server = server.signed_by(&key, &authority).map_err(io::Error::other)?;
    fs::write(folder.join("ca.pem"), authority.pem())?;
    fs::write(folder.join("server.pem"), server.pem())?;
    write_private(&folder.join("server.key"), &key.serialize_pem())
}

/// Writes a file that only its owner may read.
pub(super) fn write_private(path: &Path, content: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)?.write_all(content.as_bytes())
}
