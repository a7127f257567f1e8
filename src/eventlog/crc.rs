//! The checksum of a record: CRC-32C (Castagnoli), masked.
//!
//! Masking keeps the checksum of data that itself holds checksums from being weak; LevelDB brought the idea to
//! TensorFlow's record format.

use std::fmt;

const MASK: u32 = 0xa282_ead8;

/// A masked CRC-32C. Prints as eight hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MaskedCrc(pub u32);

impl MaskedCrc {
    /// The checksum of `bytes`.
    pub fn of(bytes: &[u8]) -> MaskedCrc {
        MaskedCrc::mask(crc32c::crc32c(bytes))
    }

    /// The masked form of a CRC-32C.
    pub fn mask(crc: u32) -> MaskedCrc {
        MaskedCrc(crc.rotate_right(15).wrapping_add(MASK))
    }

    /// As it stands in a file.
    pub fn to_le_bytes(self) -> [u8; 4] {
        self.0.to_le_bytes()
    }

    pub fn from_le_bytes(bytes: [u8; 4]) -> MaskedCrc {
        MaskedCrc(u32::from_le_bytes(bytes))
    }
}

impl fmt::Display for MaskedCrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for MaskedCrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MaskedCrc({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_checksums() {
        // The check value of the polynomial, RFC 3720's 32 zeros, and lengths as TensorFlow writes them.
        let vectors: [(&[u8], u32); 5] = [
            (b"", 0xa282_ead8),
            (b"123456789", 0xc78a_b0e5),
            (&[0; 8], 0x0798_0329),
            (&[0; 32], 0x8a91_36aau32.rotate_right(15).wrapping_add(MASK)),
            (&24u64.to_le_bytes(), 0x224b_7fa3),
        ];
        for (bytes, want) in vectors {
            assert_eq!(MaskedCrc::of(bytes), MaskedCrc(want), "{bytes:?}");
        }
    }

    #[test]
    fn prints_with_leading_zeros() {
        assert_eq!(MaskedCrc(0x0798_0329).to_string(), "07980329");
    }
}
