//! Certificates for engines with `--tlsverify`, and for who may talk to them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// A certificate authority of its own.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// A new one. All of them have the same name, as those have that were made by the same instructions.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "lab authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)
            .context("cannot make a certificate authority")?;
        Ok(Self { issuer })
    }

    /// Writes what an engine needs that is reached by these names and addresses: `ca.pem`, `cert.pem`, `key.pem`.
    pub fn write_server(&self, folder: &Path, names: &[&str]) -> Result<()> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let params = CertificateParams::new(names)?;
        self.write(folder, params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// Writes what a client needs, with the names of `DOCKER_CERT_PATH`: `ca.pem`, `cert.pem`, `key.pem`.
    pub fn write_client(&self, folder: &Path) -> Result<()> {
        let params = CertificateParams::default();
        self.write(folder, params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn write(
        &self,
        folder: &Path,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<()> {
        params.distinguished_name.push(DnType::CommonName, "lab");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        for (name, content) in [
            ("ca.pem", self.issuer.pem()),
            ("cert.pem", certificate.pem()),
            ("key.pem", key.serialize_pem()),
        ] {
            let path = folder.join(name);
            fs::write(&path, content)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}
