//! A fuzz target: manifests, whose checksum is made to fit, so that what is behind it is reached.

use eeveon_testkit::fuzz::spell;

use crate::{hash, manifest::Manifest};

/// Lines of a header and pieces of records: mode, size, origin and length of an id, id, path.
const PIECES: &[&[u8]] = &[
    b"eeveon-manifest 1\nrelease 12\ncommit 0123456789abcdef0123456789abcdef01234567\nboot x\nfiles 1\n\
      bytes 2\nwritten 3\n\n",
    b"eeveon-manifest 1\nrelease 1\ncommit 0123456789abcdef0123456789abcdef01234567\nboot \xc3\xa9\nfiles 1\n\
      bytes 18446744073709551615\nwritten 0\n\n",
    b"eeveon-manifest 2\n\n",
    b"eeveon-manifest ",
    b"release 18446744073709551616\n",
    b"\xa4\x81\0\0",
    b"\xed\x81\0\0",
    b"\x41\xed\0\0",
    b"\xff\xff\xff\xff",
    b"\x05\0\0\0\0\0\0\0",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"s\x14",
    b"o\x20",
    b"b\x14",
    b"s\0",
    b"?\x14",
    b"aaaaaaaaaaaaaaaaaaaa",
    b"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    b"path\0",
    b"z/\xff\0",
    b"\xa4\x81\0\0\x05\0\0\0\0\0\0\0s\x14aaaaaaaaaaaaaaaaaaaaa\0",
    b"\xed\x81\0\0\x05\0\0\0\0\0\0\0b\x14aaaaaaaaaaaaaaaaaaaam/n\0",
    b"\xff\xa1\0\0\x05\0\0\0\0\0\0\0o\x20bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbz\0",
    b"\0",
    b"\n",
];

/// Composes what was read once more.
fn composed(manifest: &Manifest) -> Vec<u8> {
    let records = manifest.records().iter().map(|record| (manifest.path(record), *record));
    Manifest::compose(&manifest.header, records)
}

fn check(body: &[u8]) {
    let mut bytes = body.to_vec();
    bytes.extend_from_slice(&hash::checksum(body));
    let Ok(manifest) = Manifest::parse(bytes.clone()) else { return };
    let again = composed(&manifest);
    let read = Manifest::parse(again.clone()).unwrap();
    assert_eq!((&read.header, read.records().len()), (&manifest.header, manifest.records().len()));
    assert_eq!(composed(&read), again, "there is one way to write it");
    for record in manifest.records() {
        let path = manifest.path(record);
        let found = manifest.find(path).unwrap();
        assert_eq!(
            (found.mode, found.size, found.id, found.origin),
            (record.mode, record.size, record.id, record.origin)
        );
        assert_eq!(read.find(path).map(|it| (it.mode, it.size)), Some((record.mode, record.size)));
    }
    // No byte of it may change without being noticed.
    let at = body.iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31) + usize::from(*byte)) % bytes.len();
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
    assert!(Manifest::parse(bytes).is_err(), "byte {at}");
}

#[test]
fn manifests() {
    bolero::check!().with_max_len(16).with_iterations(20_000).for_each(|input| {
        check(input);
        check(&spell(input, PIECES));
        // A header that is in order, and anything behind it.
        let header = PIECES.first().copied().unwrap_or_default();
        check(&[header, &spell(input, PIECES.get(5..).unwrap_or_default())].concat());
    });
}
