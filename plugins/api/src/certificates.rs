//! Certificates for the tests of outputs that speak TLS.

use std::{fs, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};

/// Writes `ca.pem`, and for each name `NAME.pem` and `NAME.key`: a certificate of that name from this CA, which will do
/// for a server and for a client, and its key.
///
/// # Panics
/// When a file cannot be written, or a name is none.
pub fn write_certificates(folder: &Path, names: &[&str]) {
    let new_key = || KeyPair::generate().expect("there is randomness");
    let write = |name: &str, pem: String| {
        fs::write(folder.join(name), pem).expect("a test's folder can be written to");
    };
    let mut params = CertificateParams::new([]).expect("no name is a wrong one");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = CertifiedIssuer::self_signed(params, new_key()).expect("a new key can sign");
    write("ca.pem", ca.pem());
    for &name in names {
        let key = new_key();
        let mut params =
            CertificateParams::new([name.to_owned()]).expect("names are those of hosts");
        // Of the same name as its issuer, a certificate counts as its own.
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &ca).expect("the CA's key can sign");
        write(&format!("{name}.pem"), certificate.pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
}
