//! Integrity check of PNG files: chunks and their CRC-32 (PNG specification, third edition, 5.3).
//!
//! A record's own checksum is of the bytes that the writer had; it says nothing of a picture that was broken before.

const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

/// Damage in a PNG file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PngDamage {
    #[error("ends within the chunk at byte {offset}")]
    Truncated { offset: usize },
    #[error("chunk {name} at byte {offset}: CRC-32 mismatch: got {got:08x}, want {want:08x}")]
    Checksum { name: String, offset: usize, got: u32, want: u32 },
}

/// True if the bytes begin as a PNG file does.
pub fn is_png(bytes: &[u8]) -> bool {
    bytes.starts_with(&SIGNATURE)
}

/// Checks every chunk up to `IEND`; what is behind it does not count.
pub fn check(bytes: &[u8]) -> Result<(), PngDamage> {
    let mut offset = SIGNATURE.len();
    loop {
        let truncated = PngDamage::Truncated { offset };
        let chunk = bytes.get(offset..).unwrap_or_default();
        let (Some(len), Some(name)) = (word(chunk, 0), chunk.get(4..8)) else { return Err(truncated) };
        let Some(end) = usize::try_from(len).ok().and_then(|len| len.checked_add(8)) else { return Err(truncated) };
        let (Some(checked), Some(want)) = (chunk.get(4..end), word(chunk, end)) else { return Err(truncated) };
        let got = crc32fast::hash(checked);
        if got != want {
            let name = name.escape_ascii().to_string();
            return Err(PngDamage::Checksum { name, offset, got, want });
        }
        if name == b"IEND" {
            return Ok(());
        }
        offset += end + 4;
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::Picture;

    #[test]
    fn our_pictures_are_whole() {
        let png = Picture::filled(5, 3, [1, 2, 3]).png().unwrap();
        assert!(is_png(&png));
        assert_eq!(check(&png), Ok(()));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_of_a_chunk_is_found() {
        let png = Picture::filled(5, 3, [1, 2, 3]).png().unwrap();
        for len in SIGNATURE.len()..png.len() {
            assert!(matches!(check(&png[..len]), Err(PngDamage::Truncated { .. })), "{len} bytes");
        }
        for bit in SIGNATURE.len() * 8..png.len() * 8 {
            let mut damaged = png.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_damage_says_where_it_is() {
        let mut png = Picture::filled(1, 1, [0, 0, 0]).png().unwrap();
        png[8 + 8] ^= 1; // the first byte of IHDR's content
        let text = check(&png).unwrap_err().to_string();
        assert!(text.starts_with("chunk IHDR at byte 8: CRC-32 mismatch: got "), "{text}");
    }
}
