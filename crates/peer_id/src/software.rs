//! Who is who: the marks that software puts into its peer ids.

use crate::Version;

/// Reads the four characters after the mark.
pub(crate) type ReadVersion = fn([u8; 4]) -> Option<Version>;

/// What `-XY` at the start of an Azureus-style peer id stands for.
pub(crate) fn azureus(mark: [u8; 2]) -> Option<(&'static str, ReadVersion)> {
    let place = AZUREUS.binary_search_by_key(&mark, |(mark, ..)| *mark);
    let (_, name, read_version) = AZUREUS.get(place.ok()?)?;
    Some((name, *read_version))
}

/// What the first letter of a Shadow-style peer id stands for.
pub(crate) fn shadow(letter: u8) -> Option<&'static str> {
    Some(match letter {
        b'A' => "ABC",
        b'O' => "Osprey Permaseed",
        b'Q' => "BTQueue",
        b'R' => "Tribler",
        b'S' => "Shadow's client",
        b'T' => "BitTornado",
        b'U' => "UPnP NAT BitTorrent",
        _ => return None,
    })
}

/// Sorted by mark: upper case before lower case.
const AZUREUS: &[([u8; 2], &str, ReadVersion)] = &[
    (*b"7T", "aTorrent", Version::characters),
    (*b"AG", "Ares", Version::characters),
    (*b"AR", "Arctic", Version::characters),
    (*b"AX", "BitPump", Version::characters),
    (*b"AZ", "Vuze", Version::characters),
    (*b"A~", "Ares", Version::characters),
    (*b"BC", "BitComet", Version::padded_digit_pairs),
    (*b"BF", "Bitflu", Version::characters),
    (*b"BG", "BTG", Version::characters),
    (*b"BI", "BiglyBT", Version::characters),
    (*b"BN", "Baidu Netdisk", Version::characters),
    (*b"BR", "BitRocket", Version::characters),
    (*b"BT", "BitTorrent", Version::characters),
    (*b"BW", "BitTorrent Web", Version::characters),
    (*b"CD", "Enhanced CTorrent", Version::digit_pairs),
    (*b"CT", "CTorrent", Version::digit_pairs),
    (*b"DE", "Deluge", Version::characters),
    (*b"FD", "Free Download Manager", Version::characters),
    (*b"FG", "FlashGet", Version::padded_digit_pairs),
    (*b"FL", "Flud", Version::characters),
    (*b"FW", "FrostWire", Version::characters),
    (*b"FX", "Freebox", Version::characters),
    (*b"GT", "anacrolix/torrent", Version::characters),
    (*b"HL", "Halite", Version::characters),
    (*b"KG", "KGet", Version::characters),
    (*b"KT", "KTorrent", Version::two_characters),
    (*b"LP", "Lphant", Version::digit_pairs),
    (*b"LT", "libtorrent", Version::characters),
    (*b"LW", "LimeWire", Version::characters),
    (*b"MG", "MediaGet", Version::characters),
    (*b"MO", "MonoTorrent", Version::characters),
    (*b"MR", "Miro", Version::characters),
    (*b"PD", "Pando", Version::characters),
    (*b"PI", "PicoTorrent", Version::characters),
    (*b"QD", "QQDownload", Version::characters),
    (*b"RT", "Retriever", Version::characters),
    (*b"SB", "Swiftbit", Version::characters),
    (*b"SD", "Xunlei", Version::characters),
    (*b"SP", "BitSpirit", Version::characters),
    (*b"ST", "SymTorrent", Version::characters),
    (*b"SZ", "Shareaza", Version::characters),
    (*b"TL", "Tribler", Version::characters),
    (*b"TN", "TorrentDotNET", Version::characters),
    (*b"TR", "Transmission", Version::transmission),
    (*b"TT", "TuoTu", Version::characters),
    (*b"TX", "Tixati", Version::characters),
    (*b"UE", "µTorrent Embedded", Version::characters),
    (*b"UM", "µTorrent Mac", Version::characters),
    (*b"UT", "µTorrent", Version::characters),
    (*b"UW", "µTorrent Web", Version::characters),
    (*b"VG", "Vagaa", Version::characters),
    (*b"WD", "WebTorrent Desktop", Version::digit_pairs),
    (*b"WT", "BitLet", Version::characters),
    (*b"WW", "WebTorrent", Version::digit_pairs),
    (*b"WY", "FireTorrent", Version::characters),
    (*b"XF", "Xfplay", Version::characters),
    (*b"XL", "Xunlei", Version::characters),
    (*b"XT", "XanTorrent", Version::characters),
    (*b"XX", "Xtorrent", Version::characters),
    (*b"ZT", "ZipTorrent", Version::characters),
    // The older library of this name, of which rTorrent is the user; "LT" is the newer one.
    (*b"lt", "rTorrent (libTorrent)", Version::characters),
    (*b"qB", "qBittorrent", Version::characters),
    (*b"rQ", "rqbit", Version::characters),
    (*b"tT", "tTorrent", Version::characters),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mark_is_found() {
        assert!(AZUREUS.is_sorted_by(|a, b| a.0 < b.0));
        for (mark, name, _) in AZUREUS {
            assert_eq!(azureus(*mark).map(|(name, _)| name), Some(*name));
        }
        assert!(azureus(*b"??").is_none());
    }
}
