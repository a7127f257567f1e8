//! Content that is no record, recognised by its first bytes: it is named instead of being called damaged.

use std::io::{self, Read};

use super::damage::{Damage, DamageKind};

/// Bytes that tell one kind of file from another.
const HEAD: usize = 512;

/// Compressed files by their first bytes, with the program that undoes it.
const COMPRESSED: [(&[u8], &str, &str); 5] = [
    (b"\x1f\x8b", "gzip", "gunzip"),
    (b"\x28\xb5\x2f\xfd", "zstd", "unzstd"),
    (b"BZh", "bzip2", "bunzip2"),
    (b"\xfd7zXZ\0", "xz", "unxz"),
    (b"PK\x03\x04", "zip", "unzip"),
];

/// The content of a file from byte `offset` on, where a record should begin; nothing if it looks like none known.
pub(super) fn recognise(offset: u64, mut rest: impl Read) -> Option<Damage> {
    let mut head = Vec::new();
    rest.by_ref().take(HEAD as u64).read_to_end(&mut head).ok()?;
    let found = |kind, message| Some(Damage { offset, kind, message });
    if head.first() == Some(&0) {
        if !head.iter().all(|&byte| byte == 0) || !is_zero(rest) {
            return None;
        }
        let message = format!(
            "nothing but zeros from byte {offset} to the end, as after a crash of the machine; TensorBoard stops there"
        );
        return found(DamageKind::Zeros, message);
    }
    if offset > 0 {
        return None;
    }
    if let Some((_, form, program)) = COMPRESSED.iter().find(|(magic, ..)| head.starts_with(magic)) {
        let message = format!("compressed with {form}, which TensorBoard does not read; decompress it with {program}");
        return found(DamageKind::Compressed, message);
    }
    if head.starts_with(b"version https://git-lfs.github.com/spec/") {
        let message = "a Git LFS pointer instead of the file; fetch that with `git lfs pull`".to_owned();
        return found(DamageKind::LfsPointer, message);
    }
    if is_text(&head) {
        let message = "text, not an event file, though its name says so; TensorBoard tries to read it".to_owned();
        return found(DamageKind::Text, message);
    }
    None
}

fn is_zero(mut rest: impl Read) -> bool {
    let mut piece = vec![0; 256 << 10];
    loop {
        match rest.read(&mut piece) {
            Ok(0) => return true,
            Ok(count) if piece[..count].iter().all(|&byte| byte == 0) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => return false,
        }
    }
}

/// UTF-8 without control characters but those of lines; its last character may be cut.
fn is_text(head: &[u8]) -> bool {
    let text = match str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
        Err(_) => return false,
    };
    !text.is_empty() && !text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(offset: u64, bytes: &[u8]) -> Option<DamageKind> {
        recognise(offset, bytes).map(|damage| damage.kind)
    }

    #[test]
    fn files_that_are_something_else() {
        for (bytes, want) in [
            (&b"\x1f\x8b\x08\x08\0\0\0\0\0\0\0\0\0\0"[..], Some(DamageKind::Compressed)),
            (b"\x28\xb5\x2f\xfd\x04\0\0\0", Some(DamageKind::Compressed)),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 7\n", Some(DamageKind::LfsPointer)),
            (b"<!DOCTYPE html>\n<html>", Some(DamageKind::Text)),
            ("größer".as_bytes(), Some(DamageKind::Text)),
            (&[b"a".repeat(HEAD - 1), "ä and more".as_bytes().to_vec()].concat(), Some(DamageKind::Text)),
            (b"\xff\xfe\0\x01", None),
            (b"text with \x1b", None),
            (&[0; 300_000], Some(DamageKind::Zeros)),
            (&[vec![0; 300_000], vec![1]].concat(), None),
            (b"", None),
        ] {
            assert_eq!(kind(0, bytes), want, "{:?}", &bytes[..bytes.len().min(40)]);
        }
    }

    #[test]
    fn behind_records_only_zeros_have_a_name() {
        assert_eq!(kind(40, &[0; 64]), Some(DamageKind::Zeros));
        assert_eq!(kind(40, b"text after a record"), None);
        assert_eq!(kind(40, b"\x1f\x8b\x08\x08\0\0\0\0"), None);
    }
}
