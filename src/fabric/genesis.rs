//! The first block of a channel.
//!
//! The trap: every orderer and peer must join with the same bytes. Nonce and time differ each time, so a genesis block
//! is made once, stored, and only then used.

use prost::Message;

use super::blocks::{new_block, set_last_config};
use super::config_tree::channel_group;
pub use super::definition::*;
use super::envelope::{Stamp, channel_header, header};
use super::error::LedgerError;
use super::proto::common::{Block, Config, ConfigEnvelope, Envelope, HeaderType, Payload};

/// Block 0 of `channel`: its configuration, unsigned. The same definition and stamp give the same bytes.
pub fn block(channel: &ChannelDefinition, stamp: &Stamp) -> Result<Block, LedgerError> {
    channel.validate()?;
    let config = Config { sequence: 0, channel_group: Some(channel_group(channel)) };
    let mut channel_header = channel_header(HeaderType::Config, &channel.channel_name, &[], stamp);
    channel_header.version = 1;
    let payload = Payload {
        header: Some(header(&channel_header, &[], stamp)),
        data: ConfigEnvelope { config: Some(config), last_update: None }.encode_to_vec(),
    };
    let envelope = Envelope { payload: payload.encode_to_vec(), signature: vec![] };
    let mut block = new_block(0, vec![], vec![envelope.encode_to_vec()]);
    set_last_config(&mut block, 0);
    Ok(block)
}
