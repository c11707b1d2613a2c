//! The client bundle of a hospital or an identity, as a folder: the Secret mounted into a pod, or its keys as files.
//!
//! | File | Used for |
//! | --- | --- |
//! | `MSP_ID`, `msp.signcerts.cert.pem`, `msp.keystore.key.pem` | who signs |
//! | `PEER_ENDPOINT`, `tls-ca.pem` | the peer whose gateway is asked, and how it is trusted |
//! | `connection.json` | the channel, where there is only one |
//! | `pseudonym.key` | patients' names on the ledger |
//!
//! The MSP's files may also lie in `msp/`, as SDKs want them. The key never leaves [`SigningIdentity`].

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::Value;
use zeroize::Zeroizing;

use super::ClientError;
use ehrnet_fabric::Endpoint;
use ehrnet_fabric::identity::SigningIdentity;
use ehrnet_messages::attribute;
use ehrnet_pki::Certificate;

/// Keys of the Secret that are used, and where SDKs want the same as a file.
const KEYS: [(&str, Option<&str>); 7] = [
    ("MSP_ID", None),
    ("PEER_ENDPOINT", None),
    ("tls-ca.pem", None),
    ("connection.json", None),
    ("pseudonym.key", None),
    ("msp.signcerts.cert.pem", Some("msp/signcerts/cert.pem")),
    ("msp.keystore.key.pem", Some("msp/keystore/key.pem")),
];

/// What a client needs to reach its ledger.
#[derive(Debug)]
pub struct Bundle {
    files: Files,
    /// Who signs.
    pub identity: SigningIdentity,
    /// The peer whose gateway is asked.
    pub peer: Endpoint,
    /// Roots of the peer's TLS certificate, PEM.
    pub tls_roots: String,
    /// Channels of the hospital, by Fabric's names.
    pub channels: Vec<String>,
}

/// The texts of a bundle.
struct Files {
    /// What the bundle is called in errors.
    origin: String,
    texts: BTreeMap<String, Zeroizing<String>>,
}

impl Files {
    fn text(&self, key: &str) -> Result<&str, ClientError> {
        let text = self.texts.get(key).map(|text| text.as_str());
        text.ok_or_else(|| self.wrong(key, "is missing: it is a key of the client bundle Secret"))
    }

    fn wrong(&self, key: &str, problem: impl std::fmt::Display) -> ClientError {
        ClientError::Input(format!("{}/{key}: {problem}", self.origin))
    }
}

/// By hand: keys are shown nowhere.
impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Bundle {
    /// Reads the bundle in `folder`.
    ///
    /// # Errors
    /// A file that is missing or cannot be used, with its name.
    pub fn read(folder: &Path) -> Result<Self, ClientError> {
        if !folder.is_dir() {
            return Err(ClientError::Input(format!(
                "{}: is not a folder: give the folder with the keys of the client bundle Secret as files",
                folder.display()
            )));
        }
        let mut texts = BTreeMap::new();
        for (key, file) in KEYS {
            for name in [Some(key), file].into_iter().flatten() {
                let path = folder.join(name);
                match fs::read_to_string(&path) {
                    Ok(text) => {
                        texts.insert(key.to_owned(), Zeroizing::new(text));
                        break;
                    }
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => {
                        return Err(ClientError::Input(format!("{}: cannot be read: {error}", path.display())));
                    }
                }
            }
        }
        Self::new(folder.display().to_string(), texts)
    }

    /// The bundle with these keys of its Secret; `origin` is what it is called in errors.
    ///
    /// # Errors
    /// A key that is missing or cannot be used, with its name.
    pub fn new(origin: String, texts: BTreeMap<String, Zeroizing<String>>) -> Result<Self, ClientError> {
        let files = Files { origin, texts };
        let msp_id = files.text("MSP_ID")?.trim();
        let (certificate, key) = (files.text("msp.signcerts.cert.pem")?, files.text("msp.keystore.key.pem")?);
        let identity = SigningIdentity::new(msp_id, certificate, key)
            .map_err(|error| ClientError::Input(format!("{}: {error}", files.origin)))?;
        let peer = files.text("PEER_ENDPOINT")?;
        let peer = peer.trim().parse().map_err(|problem| files.wrong("PEER_ENDPOINT", problem))?;
        let tls_roots = files.text("tls-ca.pem")?.to_owned();
        let channels = channels(&files)?;
        Ok(Self { files, identity, peer, tls_roots, channels })
    }

    /// The channel that is meant: `given`, or the only one that the hospital has.
    ///
    /// # Errors
    /// There is none or more than one to choose from.
    pub fn channel(&self, given: Option<&str>) -> Result<String, ClientError> {
        match (given, self.channels.as_slice()) {
            (Some(given), _) => Ok(given.to_owned()),
            (None, [only]) => Ok(only.clone()),
            (None, []) => Err(ClientError::Input("the bundle names no channel: give --channel".into())),
            (None, several) => Err(ClientError::Input(format!(
                "the hospital has several channels: give --channel {}",
                several.join("|")
            ))),
        }
    }

    /// The secret under which the network's patients have their pseudonyms.
    ///
    /// # Errors
    /// The bundle has no `pseudonym.key`, or it is not hexadecimal.
    pub fn pseudonym_key(&self) -> Result<Zeroizing<[u8; 32]>, ClientError> {
        let text = self.files.text("pseudonym.key")?;
        let mut key = Zeroizing::new([0; 32]);
        match hex::decode_to_slice(text.trim(), key.as_mut_slice()) {
            Ok(()) => Ok(key),
            Err(_) => Err(self.files.wrong("pseudonym.key", "must be 32 bytes in hexadecimal")),
        }
    }

    /// The pseudonym that the certificate is bound to: that of a patient, of a device, or of who acts for one patient.
    ///
    /// # Errors
    /// It is bound to none or to several.
    pub fn own_patient(&self) -> Result<String, ClientError> {
        let certificate = Certificate::from_pem(self.identity.certificate_pem());
        let certificate = certificate.map_err(|error| self.files.wrong("msp.signcerts.cert.pem", error))?;
        let bound = certificate.attributes().get(attribute::PATIENT).unwrap_or_default();
        match bound.split(',').map(str::trim).filter(|patient| !patient.is_empty()).collect::<Vec<_>>()[..] {
            [one] => Ok(one.to_owned()),
            [] => Err(ClientError::Input(
                "whose? The certificate is not a patient's: give --patient or --pseudonym".into(),
            )),
            _ => Err(ClientError::Input(
                "the certificate is bound to several patients: give --patient or --pseudonym".into(),
            )),
        }
    }
}

fn channels(files: &Files) -> Result<Vec<String>, ClientError> {
    let Some(profile) = files.texts.get("connection.json") else { return Ok(Vec::new()) };
    let profile: Value = serde_json::from_str(profile)
        .map_err(|error| files.wrong("connection.json", format_args!("is not JSON: {error}")))?;
    Ok(profile["channels"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ehrnet_fabric::testing::Ca;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let (certificate, key) = Ca::new("ca").issue("registrar");
        let all = [
            ("MSP_ID", "StMaryMSP\n"),
            ("PEER_ENDPOINT", "peer.records.svc:7051"),
            ("tls-ca.pem", "roots"),
            ("msp.signcerts.cert.pem", &certificate),
            ("msp.keystore.key.pem", &key),
            ("connection.json", r#"{"channels": {"records": {}}}"#),
        ];
        for (name, text) in all.iter().chain(files) {
            fs::write(folder.path().join(name), text).expect("written");
        }
        folder
    }

    #[test]
    fn the_keys_of_the_secret_are_enough() {
        let folder = folder(&[("pseudonym.key", &format!("{}\n", "0f".repeat(32)))]);
        let bundle = Bundle::read(folder.path()).expect("a bundle");
        assert_eq!(
            (bundle.identity.msp_id(), bundle.peer.host.as_str(), bundle.peer.port),
            ("StMaryMSP", "peer.records.svc", 7051)
        );
        assert_eq!(bundle.channel(None).expect("one"), "records");
        assert_eq!(*bundle.pseudonym_key().expect("a key"), [15; 32]);
        assert!(bundle.own_patient().expect_err("no patient").to_string().contains("--patient"));
    }

    #[test]
    fn the_msp_may_be_a_folder() {
        let folder = folder(&[]);
        for (key, file) in
            [("msp.signcerts.cert.pem", "signcerts/cert.pem"), ("msp.keystore.key.pem", "keystore/key.pem")]
        {
            let file = folder.path().join("msp").join(file);
            fs::create_dir_all(file.parent().expect("a folder")).expect("made");
            fs::rename(folder.path().join(key), file).expect("moved");
        }
        assert!(Bundle::read(folder.path()).is_ok());
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let missing = folder(&[]);
        fs::remove_file(missing.path().join("PEER_ENDPOINT")).expect("removed");
        for (folder, file) in [
            (missing, "PEER_ENDPOINT"),
            (folder(&[("PEER_ENDPOINT", "peer")]), "PEER_ENDPOINT"),
            (folder(&[("connection.json", "{")]), "connection.json"),
            (folder(&[("msp.keystore.key.pem", "not a key")]), "PKCS#8"),
        ] {
            let said = Bundle::read(folder.path()).expect_err(file).to_string();
            assert!(said.contains(file), "{said}");
        }
        let bundle = folder(&[("connection.json", r#"{"channels": {"a": {}, "b": {}}}"#), ("pseudonym.key", "secret")]);
        let bundle = Bundle::read(bundle.path()).expect("a bundle");
        assert!(bundle.channel(None).expect_err("two").to_string().contains("--channel a|b"));
        assert_eq!(bundle.channel(Some("b")).expect("given"), "b");
        let said = bundle.pseudonym_key().expect_err("no hexadecimal").to_string();
        assert!(said.contains("pseudonym.key") && !said.contains("secret\""), "{said}");
    }
}
