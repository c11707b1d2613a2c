//! An organization's MSP as a channel's configuration holds it (Fabric: `msp.MSPConfig`).
//!
//! NodeOUs are always on: an identity's role is the one role OU in its certificate (`client`, `peer`, `admin`,
//! `orderer`). The OUs are not bound to one CA certificate, so that a second CA needs no change of OUs.

use prost::Message;

use super::proto::msp::{FabricCryptoConfig, FabricMspConfig, FabricNodeOUs, FabricOuIdentifier, MspConfig};

/// Whom an organization vouches for. Certificates are PEM, one per entry, and kept byte for byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MspDefinition {
    /// Name of the MSP; also the name of the organization's group in a channel.
    pub id: String,
    /// Certificates of the signing CAs.
    pub root_certs: Vec<String>,
    /// CAs below the roots. If there are any, identities must be issued by the lowest of them.
    pub intermediate_certs: Vec<String>,
    /// Certificates of the TLS CAs, by which others trust this organization's nodes.
    pub tls_root_certs: Vec<String>,
    /// CAs below the TLS roots.
    pub tls_intermediate_certs: Vec<String>,
    /// Certificate revocation lists.
    pub revocation_lists: Vec<String>,
}

impl MspDefinition {
    /// The X.509 MSP.
    pub fn fabric_config(&self) -> FabricMspConfig {
        FabricMspConfig {
            name: self.id.clone(),
            root_certs: bytes(&self.root_certs),
            intermediate_certs: bytes(&self.intermediate_certs),
            revocation_list: bytes(&self.revocation_lists),
            crypto_config: Some(FabricCryptoConfig {
                signature_hash_family: "SHA2".into(),
                identity_identifier_hash_function: "SHA256".into(),
            }),
            tls_root_certs: bytes(&self.tls_root_certs),
            tls_intermediate_certs: bytes(&self.tls_intermediate_certs),
            fabric_node_ous: Some(FabricNodeOUs {
                enable: true,
                client_ou_identifier: Some(ou("client")),
                peer_ou_identifier: Some(ou("peer")),
                admin_ou_identifier: Some(ou("admin")),
                orderer_ou_identifier: Some(ou("orderer")),
            }),
            ..Default::default()
        }
    }

    /// Value of key `MSP` in an organization's group.
    pub fn config(&self) -> MspConfig {
        MspConfig { r#type: 0, config: self.fabric_config().encode_to_vec() }
    }
}

/// The X.509 MSP inside `config`.
pub fn decode(config: &MspConfig) -> Result<FabricMspConfig, String> {
    if config.r#type != 0 {
        return Err(format!("MSP type {} is not X.509 (0)", config.r#type));
    }
    FabricMspConfig::decode(config.config.as_slice()).map_err(|e| format!("MSP is not readable: {e}"))
}

fn ou(name: &str) -> FabricOuIdentifier {
    FabricOuIdentifier { certificate: Vec::new(), organizational_unit_identifier: name.into() }
}

fn bytes(texts: &[String]) -> Vec<Vec<u8>> {
    texts.iter().map(|t| t.as_bytes().to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes() {
        let definition = MspDefinition {
            id: "OrgMSP".into(),
            root_certs: vec!["root\n".into(), "next root\n".into()],
            tls_root_certs: vec!["tls\n".into()],
            ..Default::default()
        };
        assert_eq!(decode(&definition.config()), Ok(definition.fabric_config()));
    }

    #[test]
    fn an_idemix_msp_is_refused() {
        assert!(decode(&MspConfig { r#type: 1, config: vec![] }).is_err());
    }
}
