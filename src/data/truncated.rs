//! Picture files that end early: ended again, so that a decoder reads what is there, with what is missing known.

use std::io::{Read, Write};

/// More pixels than this are not decoded: a camera's 64 megapixels just fit.
pub(super) const MAX_PIXELS: u64 = 1 << 26;

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

/// A file that ended early, with an end.
pub(super) struct Ended {
    pub bytes: Vec<u8>,
    pub missing: Missing,
}

/// The part of the picture that the file lacks.
pub(super) enum Missing {
    /// Rows at the lower edge.
    Rows(u32),
    /// Whatever is different in this file, in which other data take the place of what is missing.
    Differs(Vec<u8>),
}

/// Image data that take the place of what is missing in a JPEG file: enough for the first of the blocks.
const SUBSTITUTE: [u8; 4096] = [0x55; 4096];
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
/// Decompressed PNG data of more bytes than this are not looked at.
const MOST: u64 = 1 << 29;

/// Nothing if the file goes on to its end, or ends before its image data.
///
/// The data of the last scan are ended in two ways: at once, after which decoders go on with zeros, and after other bits. Those
/// begin codes of any table, as all ones alone are no code (ITU-T T.81, annex C).
pub(super) fn jpeg(bytes: &[u8]) -> Option<Ended> {
    let JpegEnd::InScan = jpeg_end(bytes) else { return None };
    // The first byte of a marker, or of a stuffed pair.
    let kept = bytes.strip_suffix(&[0xff]).unwrap_or(bytes);
    let with = |substitute: &[u8]| [kept, substitute, &[0xff, 0xd9]].concat();
    Some(Ended { bytes: with(&[]), missing: Missing::Differs(with(&SUBSTITUTE)) })
}

/// The place at which a JPEG file ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum JpegEnd {
    /// The marker EOI.
    Marker,
    /// Within the data of a scan.
    InScan,
    /// Anywhere before that.
    Early,
}

/// Segments have a length, and within the data of a scan `FF` is followed by `00` or a restart marker (ITU-T T.81, annex B).
pub(super) fn jpeg_end(bytes: &[u8]) -> JpegEnd {
    let mut at = 2;
    let mut in_scan = false;
    loop {
        while bytes.get(at).is_some_and(|byte| *byte != 0xff) {
            at += 1;
        }
        match (bytes.get(at), bytes.get(at + 1)) {
            (Some(0xff), Some(0xd9)) => return JpegEnd::Marker,
            // Stuffing, a marker without a segment, or a byte of fill.
            (Some(0xff), Some(0x00 | 0x01 | 0xd0..=0xd8)) => at += 2,
            (Some(0xff), Some(0xff)) => at += 1,
            (Some(0xff), Some(&marker)) => match bytes.get(at + 2..at + 4) {
                Some(&[high, low]) => {
                    at += 2 + usize::from(u16::from_be_bytes([high, low]));
                    in_scan = marker == 0xda && at <= bytes.len();
                }
                _ => return JpegEnd::Early,
            },
            _ if in_scan => return JpegEnd::InScan,
            _ => return JpegEnd::Early,
        }
    }
}

/// Nothing if the file goes on to its chunk IEND, or ends before its image data.
pub(super) fn png(bytes: &[u8]) -> Option<Ended> {
    let mut rest = bytes.strip_prefix(PNG)?;
    let mut kept = PNG.to_vec();
    let (mut header, mut data, mut is_whole) = (None, Vec::new(), true);
    while let Some((prefix, after)) = rest.split_first_chunk::<8>() {
        let [a, b, c, d, name @ ..] = *prefix;
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        if name == *b"IEND" {
            return None;
        }
        is_whole = after.len() >= len.checked_add(4)?;
        let body = after.get(..len).unwrap_or(after);
        match &name {
            b"IDAT" => data.extend_from_slice(body),
            // Metadata that are cut off can be spared.
            _ if !is_whole => {}
            b"IHDR" => {
                header = Some(Header::of(body)?);
                kept.extend_from_slice(&rest[..len + 12]);
            }
            _ if data.is_empty() => kept.extend_from_slice(&rest[..len + 12]),
            _ => {}
        }
        rest = after.get(len + 4..).unwrap_or_default();
    }
    let header = header?;
    if data.is_empty() {
        return None;
    }
    if header.is_interlaced {
        // Rows come in seven passes: all of the picture is there, or none of it is whole.
        let ended = [&bytes[..bytes.len() - rest.len()], &chunk(b"IEND", &[])].concat();
        return is_whole.then_some(Ended { bytes: ended, missing: Missing::Rows(0) });
    }
    if u64::from(header.width) * u64::from(header.height) > MAX_PIXELS {
        return None; // refused for its size by whoever reads it
    }
    let expected = header.row.checked_mul(u64::from(header.height)).filter(|expected| *expected <= MOST)?;
    let mut rows = Vec::new();
    // The error is that the data end; what was read before it stays.
    let _ = ZlibDecoder::new(data.as_slice()).take(expected).read_to_end(&mut rows);
    let whole = rows.len() as u64 / header.row;
    rows.truncate((whole * header.row) as usize);
    rows.resize(expected as usize, 0);
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&rows).ok()?;
    kept.extend(chunk(b"IDAT", &encoder.finish().ok()?));
    kept.extend(chunk(b"IEND", &[]));
    Some(Ended { bytes: kept, missing: Missing::Rows(header.height - whole as u32) })
}

/// Size of the data as in IHDR (PNG specification, 11.2.1).
struct Header {
    width: u32,
    height: u32,
    /// Bytes of a row with that of its filter.
    row: u64,
    is_interlaced: bool,
}

impl Header {
    fn of(body: &[u8]) -> Option<Header> {
        let &[w0, w1, w2, w3, h0, h1, h2, h3, depth, colour, _, _, interlace] = body else { return None };
        let width = u32::from_be_bytes([w0, w1, w2, w3]);
        let channels = match colour {
            0 | 3 => 1,
            2 => 3,
            4 => 2,
            6 => 4,
            _ => return None,
        };
        let row = (u64::from(width) * channels * u64::from(depth)).div_ceil(8) + 1;
        Some(Header { width, height: u32::from_be_bytes([h0, h1, h2, h3]), row, is_interlaced: interlace != 0 })
    }
}

fn chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut sum = crc32fast::Hasher::new();
    sum.update(name);
    sum.update(body);
    let (len, sum) = ((body.len() as u32).to_be_bytes(), sum.finalize().to_be_bytes());
    [&len[..], name, body, &sum].concat()
}
