//! The records of tar-split: all of a layer's tar stream but the contents of its files, in order
//! (`tar/storage/entry.go` and `packer.go` of github.com/vbatts/tar-split).
//!
//! A gzip stream of JSON objects, one after the other. Nothing in it is believed: what is rebuilt from it
//! is held against the layer's digest.

use std::borrow::Cow;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use crate::fs::RECORD_LIMIT;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    /// Bytes of the stream: headers, padding, the end.
    Segment(Vec<u8>),
    /// A member whose content follows in the stream, as it lies on disk.
    File {
        /// Its name in the stream.
        name: Vec<u8>,
        /// How long its content is, in bytes.
        size: u64,
        /// CRC-64 of its content: finds which file an accident changed, and proves nothing.
        checksum: Option<[u8; 8]>,
    },
}

/// A record as it is written.
#[derive(Deserialize)]
struct Written<'a> {
    #[serde(rename = "type")]
    kind: u8,
    #[serde(default, borrow)]
    name: Option<Cow<'a, str>>,
    /// In place of the name, where that is no UTF-8.
    #[serde(default, borrow)]
    name_raw: Option<Cow<'a, str>>,
    #[serde(default)]
    size: i64,
    #[serde(default, borrow)]
    payload: Option<Cow<'a, str>>,
    #[serde(default)]
    position: u64,
}

/// Reads the records of one layer.
#[derive(Debug)]
pub(crate) struct Records<R: Read> {
    lines: BufReader<MultiGzDecoder<R>>,
    line: Vec<u8>,
    position: u64,
}

impl<R: Read> Records<R> {
    /// Reads records from a gzip stream.
    pub(crate) fn new(gzip: R) -> Self {
        Self {
            lines: BufReader::with_capacity(128 << 10, MultiGzDecoder::new(gzip)),
            line: Vec::new(),
            position: 0,
        }
    }

    /// Returns the next record; `None` at the end.
    ///
    /// # Errors
    /// Those of reading; `InvalidData` for what is no record, or stands in the wrong place.
    pub(crate) fn next(&mut self) -> Result<Option<Record>> {
        loop {
            self.line.clear();
            let limit = RECORD_LIMIT as u64;
            let length = (&mut self.lines)
                .take(limit)
                .read_until(b'\n', &mut self.line)?;
            if length as u64 == limit {
                return Err(invalid("a record is too long"));
            }
            if length == 0 {
                return Ok(None);
            }
            if !self.line.trim_ascii().is_empty() {
                break;
            }
        }
        let written: Written<'_> = serde_json::from_slice(&self.line)
            .map_err(|error| invalid(&format!("not a record of tar-split: {error}")))?;
        if written.position != self.position {
            return Err(invalid("its records are not in their order"));
        }
        self.position += 1;
        let payload = match &written.payload {
            Some(payload) => decode(payload)?,
            None => Vec::new(),
        };
        match written.kind {
            FILE => Ok(Some(Record::File {
                name: match (&written.name, &written.name_raw) {
                    (_, Some(raw)) => decode(raw)?,
                    (Some(name), None) => name.as_bytes().to_vec(),
                    (None, None) => return Err(invalid("a file has no name")),
                },
                size: u64::try_from(written.size).map_err(|_| invalid("a size is negative"))?,
                checksum: <[u8; 8]>::try_from(payload.as_slice()).ok(),
            })),
            SEGMENT => Ok(Some(Record::Segment(payload))),
            _ => Err(invalid("a record is of no kind that is known")),
        }
    }
}

/// Kinds of records.
const FILE: u8 = 1;
const SEGMENT: u8 = 2;

fn decode(text: &str) -> Result<Vec<u8>> {
    STANDARD
        .decode(text)
        .map_err(|error| invalid(&format!("not base64: {error}")))
}

fn invalid(why: &str) -> Error {
    Error::new(ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn read(text: &str) -> Result<Vec<Record>> {
        let gzip = gzip(text);
        let mut records = Records::new(&gzip[..]);
        let mut found = Vec::new();
        while let Some(record) = records.next()? {
            found.push(record);
        }
        Ok(found)
    }

    #[test]
    fn records_of_each_kind() {
        let found = read(concat!(
            "{\"type\":2,\"payload\":\"aGVhZA==\",\"position\":0}\n",
            "{\"type\":1,\"name\":\"./etc/passwd\",\"size\":5,\"payload\":\"AAECAwQFBgc=\",\"position\":1}\n",
            "{\"type\":1,\"name_raw\":\"YS//Yg==\",\"payload\":null,\"position\":2}\n",
        ))
        .unwrap();
        assert_eq!(
            found,
            [
                Record::Segment(b"head".to_vec()),
                Record::File {
                    name: b"./etc/passwd".to_vec(),
                    size: 5,
                    checksum: Some([0, 1, 2, 3, 4, 5, 6, 7]),
                },
                Record::File {
                    name: b"a/\xffb".to_vec(),
                    size: 0,
                    checksum: None,
                },
            ]
        );
        assert_eq!(read("").unwrap(), []);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for (text, why) in [
            ("{\"type\":3,\"position\":0}", "no kind"),
            ("{\"type\":1,\"position\":0}", "no name"),
            (
                "{\"type\":1,\"name\":\"a\",\"size\":-1,\"position\":0}",
                "negative",
            ),
            (
                "{\"type\":2,\"payload\":\"*\",\"position\":0}",
                "not base64",
            ),
            ("{\"type\":2,\"payload\":\"\",\"position\":1}", "order"),
            ("[]", "not a record"),
        ] {
            let told = read(text).unwrap_err().to_string();
            assert!(told.contains(why), "{text}: {told}");
        }
        let mut torn = gzip("{\"type\":2,\"payload\":\"aGVhZA==\",\"position\":0}\n");
        torn.truncate(torn.len() - 9);
        let mut records = Records::new(&torn[..]);
        let end = loop {
            match records.next() {
                Ok(Some(_)) => {}
                end => break end,
            }
        };
        assert!(end.is_err());
    }
}
