//! A certificate authority for one run, and the server certificate that PostgreSQL shows.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// Files of one authority and one server certificate, all PEM.
#[derive(Debug, Clone)]
pub(crate) struct Certificates {
    /// Certificate of the authority: what clients trust.
    pub(crate) ca: PathBuf,
    /// Certificate of the server, for `localhost` only, so that a test can meet it under another name.
    pub(crate) server: PathBuf,
    /// Key of the server, readable by its owner only.
    pub(crate) key: PathBuf,
}

/// Makes the certificates in a folder that exists.
pub(crate) fn make(folder: &Path) -> Result<Certificates> {
    let mut authority = CertificateParams::new(Vec::new()).context("certificate authority")?;
    authority.distinguished_name.push(DnType::CommonName, "outbox test authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().context("key of the authority")?;
    let authority = CertifiedIssuer::self_signed(authority, key).context("certificate authority")?;

    let names = vec!["localhost".to_owned()];
    let mut server = CertificateParams::new(names).context("server certificate")?;
    server.distinguished_name.push(DnType::CommonName, "localhost");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().context("key of the server")?;
    let certificate = server.signed_by(&key, &authority).context("server certificate")?;

    let files =
        Certificates { ca: folder.join("ca.pem"), server: folder.join("server.pem"), key: folder.join("server.key") };
    write(&files.ca, &authority.pem(), 0o644)?;
    write(&files.server, &certificate.pem(), 0o644)?;
    write(&files.key, &key.serialize_pem(), 0o600)?;
    Ok(files)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let failed = || format!("{}: cannot be written", path.display());
    // Files of an earlier run may belong to the server's account.
    if path.exists() {
        fs::remove_file(path).with_context(failed)?;
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(failed)
}
