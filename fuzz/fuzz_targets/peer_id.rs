//! Any peer id: its client has a name and perhaps a version, which fit a metric label.
#![no_main]

use aquatic_peer_id::{PeerClient, PeerIdPrefix};
use aquatic_types::PeerId;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: [u8; 20]| {
    let label = PeerClient::from_peer_id(PeerId(bytes)).to_string();
    assert!(
        !label.is_empty() && label.len() < 64 && !label.contains(['"', '\\', '\n']),
        "{label}"
    );
    let prefix = PeerIdPrefix(PeerId(bytes).client_prefix()).to_string();
    assert!(
        prefix.is_ascii() && !prefix.contains(['"', '\\', '\n']),
        "{prefix}"
    );
});
