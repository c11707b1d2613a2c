//! Blocks: how they are hashed and chained, and what their metadata says.

use prost::Message;
use sha2::{Digest, Sha256};

use super::proto::common::{
    Block, BlockData, BlockHeader, BlockMetadata, BlockMetadataIndex, ChannelHeader, Config, ConfigEnvelope, Envelope,
    HeaderType, LastConfig, Metadata, OrdererBlockMetadata, Payload,
};

/// Number of entries in a block's metadata.
pub const METADATA_ENTRIES: usize = 5;

/// Hash of a header, which the next block holds as `previous_hash`: SHA-256 of the ASN.1 DER sequence of number,
/// previous hash and data hash (Fabric: `protoutil.BlockHeaderHash`).
pub fn header_hash(header: &BlockHeader) -> [u8; 32] {
    Sha256::digest(header_bytes(header)).into()
}

/// The header as ASN.1 DER: what is hashed, and what orderers sign.
pub fn header_bytes(header: &BlockHeader) -> Vec<u8> {
    let mut number: Vec<u8> = header.number.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect();
    if number.first().is_none_or(|b| *b >= 0x80) {
        number.insert(0, 0); // DER integers are signed
    }
    let mut content = der(0x02, &number);
    content.extend(der(0x04, &header.previous_hash));
    content.extend(der(0x04, &header.data_hash));
    der(0x30, &content)
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len();
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect();
        out.push(0x80 | bytes.len() as u8);
        out.extend(bytes);
    }
    out.extend_from_slice(content);
    out
}

/// Hash of a block's data: SHA-256 of the envelopes one after the other.
pub fn data_hash(data: &BlockData) -> [u8; 32] {
    let mut hash = Sha256::new();
    for envelope in &data.data {
        hash.update(envelope);
    }
    hash.finalize().into()
}

/// A block without signatures: header, data and empty metadata. `previous_hash` is empty for block 0.
pub fn new_block(number: u64, previous_hash: Vec<u8>, envelopes: Vec<Vec<u8>>) -> Block {
    let data = BlockData { data: envelopes };
    let header = BlockHeader { number, previous_hash, data_hash: data_hash(&data).to_vec() };
    Block {
        header: Some(header),
        data: Some(data),
        metadata: Some(BlockMetadata { metadata: vec![vec![]; METADATA_ENTRIES] }),
    }
}

/// Writes where the configuration in force is, in both places Fabric looks. No signatures.
pub fn set_last_config(block: &mut Block, index: u64) {
    let last_config = LastConfig { index };
    let signed = OrdererBlockMetadata { last_config: Some(last_config), consenter_metadata: vec![] };
    let entries = &mut block.metadata.get_or_insert_default().metadata;
    entries.resize(METADATA_ENTRIES, vec![]);
    for (at, value) in [
        (BlockMetadataIndex::Signatures, signed.encode_to_vec()),
        (BlockMetadataIndex::LastConfig, last_config.encode_to_vec()),
    ] {
        entries[at as usize] = Metadata { value, signatures: vec![] }.encode_to_vec();
    }
}

/// Number of the block with the configuration in force, as the block's metadata says.
pub fn last_config(block: &Block) -> Result<u64, String> {
    let entries = block.metadata.as_ref().map(|m| m.metadata.as_slice()).unwrap_or_default();
    let entry = entries.get(BlockMetadataIndex::Signatures as usize).ok_or("block has no metadata")?;
    let metadata = Metadata::decode(entry.as_slice()).map_err(|e| format!("block metadata is not readable: {e}"))?;
    let orderer = OrdererBlockMetadata::decode(metadata.value.as_slice())
        .map_err(|e| format!("orderer's block metadata is not readable: {e}"))?;
    Ok(orderer.last_config.unwrap_or_default().index)
}

/// Channel and configuration in a configuration block.
pub fn config(block: &Block) -> Result<(String, Config), String> {
    let envelopes = block.data.as_ref().map(|d| d.data.as_slice()).unwrap_or_default();
    let [envelope] = envelopes else {
        return Err(format!("a configuration block has one envelope, this one {}", envelopes.len()));
    };
    let envelope = Envelope::decode(envelope.as_slice()).map_err(|e| format!("envelope is not readable: {e}"))?;
    let payload = Payload::decode(envelope.payload.as_slice()).map_err(|e| format!("payload is not readable: {e}"))?;
    let header = payload.header.unwrap_or_default();
    let header = ChannelHeader::decode(header.channel_header.as_slice())
        .map_err(|e| format!("channel header is not readable: {e}"))?;
    if header.r#type != i32::from(HeaderType::Config) {
        return Err(format!("block holds a message of type {}, not a configuration", header.r#type));
    }
    let envelope =
        ConfigEnvelope::decode(payload.data.as_slice()).map_err(|e| format!("configuration is not readable: {e}"))?;
    let config = envelope.config.ok_or("configuration envelope is empty")?;
    Ok((header.channel_id, config))
}

/// The block's number.
pub fn number(block: &Block) -> u64 {
    block.header.as_ref().map_or(0, |h| h.number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_der_with_signed_integers() {
        let header = |number| BlockHeader { number, previous_hash: vec![1], data_hash: vec![2] };
        assert_eq!(header_bytes(&header(0)), [0x30, 9, 2, 1, 0, 4, 1, 1, 4, 1, 2]);
        assert_eq!(header_bytes(&header(127)), [0x30, 9, 2, 1, 127, 4, 1, 1, 4, 1, 2]);
        assert_eq!(header_bytes(&header(128)), [0x30, 10, 2, 2, 0, 128, 4, 1, 1, 4, 1, 2]);
        assert_eq!(header_bytes(&header(u64::MAX))[..5], [0x30, 17, 2, 9, 0]);
    }

    #[test]
    fn last_config_is_read_back() {
        let mut block = new_block(7, vec![], vec![]);
        set_last_config(&mut block, 5);
        assert_eq!(last_config(&block), Ok(5));
        assert!(last_config(&Block::default()).is_err());
    }
}
