//! Any bytes as a file of keys, and as a URL in which a key is looked for.
#![no_main]

use aquatic_keys::{KeyList, key_in_url};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let lines = bytes.split(|byte| *byte == b'\n').count();
    match KeyList::parse(bytes) {
        Ok(list) => {
            assert!(list.len() <= lines);
            let text: String = list
                .iter()
                .map(|(key, it)| it.to_line(key) + "\n")
                .collect();
            let again = KeyList::parse(text.as_bytes()).expect("what was written is read");
            assert_eq!(again.len(), list.len());
            for (key, _) in list.iter() {
                let path = format!("/{key}/announce");
                assert_eq!(key_in_url(path.as_bytes(), b""), Some(key.as_bytes()));
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let (path, query) = bytes.split_at(bytes.len() / 2);
    assert!(key_in_url(path, query).is_none_or(|key| !key.is_empty()));
});
