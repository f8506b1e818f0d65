//! Every codec: what is written is read, what was not written is an error.

use async_cache_core::Codec;
use async_cache_core::codec::{Bincode, Json, MessagePack, Postcard};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Row {
    id: u64,
    name: String,
    score: Option<f64>,
    tags: Vec<String>,
}

fn row() -> Row {
    Row { id: 42, name: "Ada".into(), score: Some(0.5), tags: vec!["x".into(), String::new()] }
}

fn keeps_its_contract(codec: &(impl Codec<Row> + Codec<Vec<u64>> + Codec<String>)) {
    let name = Codec::<Row>::name(codec);
    let mut bytes = b"before".to_vec();
    codec.encode(&row(), &mut bytes).unwrap();
    assert!(bytes.starts_with(b"before"), "{name}: it appends");
    let bytes = &bytes[6..];
    let back: Row = codec.decode(bytes).unwrap();
    assert_eq!(back, row(), "{name}");
    for len in 0..bytes.len() {
        assert!(Codec::<Row>::decode(codec, &bytes[..len]).is_err(), "{name}: cut to {len}");
    }
    let longer = [bytes, b"!"].concat();
    assert!(Codec::<Row>::decode(codec, &longer).is_err(), "{name}: left over");
    // A length far beyond the bytes that follow, in each codec's own words: an error, no allocation.
    for claim in [
        &[0xFF; 9][..],
        &(1u64 << 40).to_le_bytes(),
        &[0xDD, 0xFF, 0xFF, 0xFF, 0xFF],
        &[0xDB, 0xFF, 0xFF, 0xFF, 0xFF],
    ] {
        assert!(Codec::<Vec<u64>>::decode(codec, claim).is_err(), "{name}: {claim:x?}");
        assert!(Codec::<String>::decode(codec, claim).is_err(), "{name}: {claim:x?}");
    }
}

#[test]
fn every_codec_keeps_its_contract() {
    keeps_its_contract(&Bincode);
    keeps_its_contract(&Postcard);
    keeps_its_contract(&MessagePack);
    keeps_its_contract(&Json);
}

/// What sets MessagePack apart: a field added later, and one left out.
#[test]
fn message_pack_survives_a_changed_type() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Newer {
        name: String,
        #[serde(default)]
        added: u8,
        id: u64,
    }
    let mut bytes = Vec::new();
    MessagePack.encode(&row(), &mut bytes).unwrap();
    let newer: Newer = MessagePack.decode(&bytes).unwrap();
    assert_eq!(newer, Newer { name: "Ada".into(), added: 0, id: 42 });
}
