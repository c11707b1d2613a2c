//! This node's own MSP folder: its identity, its key, and who its organisation's members are.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::channel::certificate;
use ehrnet_fabric::identity::SigningIdentity;
use ehrnet_fabric::membership::Membership;
use ehrnet_fabric::proto::msp::{FabricMspConfig, FabricNodeOUs, FabricOuIdentifier};

/// Why the MSP folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("MSP folder {folder}: {reason}")]
pub struct MspFolderError {
    folder: PathBuf,
    reason: String,
}

/// The node's identity and its organisation's MSP.
#[derive(Debug)]
pub struct LocalMsp {
    /// Signs.
    pub signer: SigningIdentity,
    /// Judges who belongs to the organisation.
    pub members: LocalMembers,
}

/// The members of the node's own organisation.
#[derive(Debug)]
pub struct LocalMembers {
    /// The organisation's MSP id.
    pub msp_id: String,
    /// Who belongs to it.
    pub members: Membership,
}

impl LocalMsp {
    /// Read `cacerts`, `signcerts`, `keystore`, `config.yaml` and the optional rest.
    ///
    /// # Errors
    /// Something is missing or unusable, the certificate is expired, or no key belongs to it.
    pub fn read(folder: &Path, msp_id: &str, now: i64) -> Result<Self, MspFolderError> {
        read(folder, msp_id, now).map_err(|reason| MspFolderError { folder: folder.to_owned(), reason })
    }
}

fn read(folder: &Path, msp_id: &str, now: i64) -> Result<LocalMsp, String> {
    let config = FabricMspConfig {
        name: msp_id.to_owned(),
        root_certs: files(&folder.join("cacerts"), true)?,
        intermediate_certs: files(&folder.join("intermediatecerts"), false)?,
        admins: files(&folder.join("admincerts"), false)?,
        revocation_list: files(&folder.join("crls"), false)?,
        tls_root_certs: files(&folder.join("tlscacerts"), false)?,
        tls_intermediate_certs: files(&folder.join("tlsintermediatecerts"), false)?,
        fabric_node_ous: node_ous(folder)?,
        ..Default::default()
    };
    let mut members = Membership::default();
    members.add(&config)?;
    let mut certificates = files(&folder.join("signcerts"), true)?;
    let certificate = String::from_utf8(certificates.remove(0)).map_err(|_| "signcerts: not PEM".to_owned())?;
    let signer = files(&folder.join("keystore"), true)?
        .into_iter()
        .find_map(|key| SigningIdentity::new(msp_id, &certificate, &String::from_utf8(key).ok()?).ok());
    let signer = signer.ok_or("keystore has no P-256 key (PKCS#8 PEM) of the certificate in signcerts")?;
    if certificate::expires_at(signer.serialized()).is_some_and(|end| end < now) {
        return Err("signing identity expired".into());
    }
    members.identity(signer.serialized()).map_err(|e| format!("the node's own identity is not valid: {e}"))?;
    Ok(LocalMsp { signer, members: LocalMembers { msp_id: msp_id.to_owned(), members } })
}

/// The PEM files of a folder in the order of their names; others are passed over, links are followed.
fn files(folder: &Path, required: bool) -> Result<Vec<Vec<u8>>, String> {
    let name = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !required => return Ok(Vec::new()),
        Err(e) => return Err(format!("{name}: {e}")),
    };
    let mut paths =
        entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>().map_err(|e| format!("{name}: {e}"))?;
    paths.retain(|path| path.is_file());
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        let bytes = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        if bytes.windows(11).any(|w| w == b"-----BEGIN ") {
            found.push(bytes);
        }
    }
    if required && found.is_empty() { Err(format!("{name} has no PEM file")) } else { Ok(found) }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MspYaml {
    #[serde(rename = "NodeOUs")]
    node_ous: Option<NodeOus>,
}

#[derive(Deserialize)]
struct NodeOus {
    #[serde(rename = "Enable", default)]
    enable: bool,
    #[serde(rename = "ClientOUIdentifier")]
    client: Option<OuIdentifier>,
    #[serde(rename = "PeerOUIdentifier")]
    peer: Option<OuIdentifier>,
    #[serde(rename = "AdminOUIdentifier")]
    admin: Option<OuIdentifier>,
    #[serde(rename = "OrdererOUIdentifier")]
    orderer: Option<OuIdentifier>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OuIdentifier {
    #[serde(default)]
    certificate: String,
    organizational_unit_identifier: String,
}

fn node_ous(folder: &Path) -> Result<Option<FabricNodeOUs>, String> {
    let text = match std::fs::read_to_string(folder.join("config.yaml")) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(format!("config.yaml: {e}")),
    };
    let yaml: MspYaml = serde_yaml::from_str(&text).map_err(|e| format!("config.yaml: {e}"))?;
    let Some(units) = yaml.node_ous else { return Ok(None) };
    let read = |unit: Option<OuIdentifier>| -> Result<Option<FabricOuIdentifier>, String> {
        let Some(unit) = unit else { return Ok(None) };
        let certificate = match unit.certificate.as_str() {
            "" => Vec::new(),
            path => std::fs::read(folder.join(path)).map_err(|e| format!("{path}: {e}"))?,
        };
        Ok(Some(FabricOuIdentifier {
            certificate,
            organizational_unit_identifier: unit.organizational_unit_identifier,
        }))
    };
    Ok(Some(FabricNodeOUs {
        enable: units.enable,
        client_ou_identifier: read(units.client)?,
        peer_ou_identifier: read(units.peer)?,
        admin_ou_identifier: read(units.admin)?,
        orderer_ou_identifier: read(units.orderer)?,
    }))
}
