//! The byte format of the log. This is the one place that describes it.
//!
//! All numbers are little-endian. A log is a sequence of segments, one file each; a segment is its header, in the first
//! block of 4,096 bytes, and batches, each a whole number of blocks. What lies behind the last batch has no meaning: zeroes
//! that were written ahead, or batches of an older use of the file.
//!
//! | segment header | bytes | |
//! |---|---|---|
//! | magic        | 0..8   | `OnceMQLg` |
//! | version      | 8..10  | of the format; 1 |
//! | shard        | 10..12 | whose log it is |
//! | flags        | 12..16 | 0 |
//! | generation   | 16..24 | of the logs of all shards together |
//! | segment      | 24..32 | its number; the file's name says the same |
//! | first batch  | 32..40 | the number that its first batch has |
//! | salt         | 40..48 | a secret of the run that wrote it |
//! | synced       | 48..56 | through the batch known to be on stable storage when the header was written |
//! | reserved     | 56..60 | 0 |
//! | checksum     | 60..64 | CRC32C of the bytes before it |
//!
//! Magic, version and checksum stay where they are in every version, so that a damaged header is told from a newer one.
//! The rest of the block is zero.
//!
//! | batch header | bytes | |
//! |---|---|---|
//! | magic          | 0..4   | `OnMB` |
//! | shard          | 4..6   | as in the segment header |
//! | flags          | 6..8   | 0 |
//! | generation     | 8..16  | as in the segment header |
//! | segment        | 16..24 | as in the segment header |
//! | batch          | 24..32 | its number; the next batch has the next one |
//! | synced through | 32..40 | the last batch known to be on stable storage when this one was written |
//! | first sequence | 40..48 | the sequence number of its first record |
//! | sealed at      | 48..56 | nanoseconds since the Unix epoch |
//! | salt           | 56..64 | as in the segment header |
//! | length         | 64..68 | of header and records, in bytes |
//! | records        | 68..72 | how many |
//! | reserved       | 72..76 | 0 |
//! | checksum       | 76..80 | CRC32C of the bytes before it |
//!
//! The records follow, and zeroes up to the end of the block.
//!
//! | record | bytes | |
//! |---|---|---|
//! | checksum | 0..4   | CRC32C of the bytes behind it, begun with the seed of the batch ([`record_seed`]) |
//! | length   | 4..8   | of the whole record, in bytes |
//! | sequence | 8..12  | the low 32 bits of its number in the log |
//! | kind     | 12..13 | and the body, which [`record_codec`](super::record_codec) describes |
//!
//! # Whom a batch belongs to
//! A segment may be written over an old one, and payloads are what clients choose, so bytes that look like a batch prove
//! nothing. A batch counts only if its header names this generation, shard, segment and salt. A client can't know the
//! salt and so can't send a payload that is taken for a batch; nor can the tail of an old file.

use std::fmt;

use crate::time::Timestamp;

use super::log::SegmentNumber;

/// Segments and batches are multiples of this, which suits direct I/O on every usual disk.
pub(super) const BLOCK_BYTES: usize = 4096;

/// The version that is written. Others are not read.
pub(super) const FORMAT_VERSION: u16 = 1;

/// Length of a batch header.
pub(super) const BATCH_HEADER_BYTES: usize = 80;

/// Length of what stands before a record's body.
pub(super) const RECORD_HEADER_BYTES: usize = 13;

const SEGMENT_HEADER_BYTES: usize = 64;

/// A field of a header.
struct Field<const BYTES: usize> {
    start: usize,
}

impl<const BYTES: usize> Field<BYTES> {
    const fn at(start: usize) -> Self {
        Self { start }
    }

    const fn end(&self) -> usize {
        self.start + BYTES
    }

    #[inline]
    fn read(&self, header: &[u8]) -> [u8; BYTES] {
        *header[self.start..].first_chunk().expect("the header has all its fields")
    }

    #[inline]
    fn write(&self, header: &mut [u8], value: [u8; BYTES]) {
        header[self.start..self.end()].copy_from_slice(&value);
    }
}

mod segment {
    use super::Field;

    pub(super) const MAGIC_BYTES: [u8; 8] = *b"OnceMQLg";

    pub(super) const MAGIC: Field<8> = Field::at(0);
    pub(super) const VERSION: Field<2> = Field::at(8);
    pub(super) const SHARD: Field<2> = Field::at(10);
    pub(super) const FLAGS: Field<4> = Field::at(12);
    pub(super) const GENERATION: Field<8> = Field::at(16);
    pub(super) const SEGMENT: Field<8> = Field::at(24);
    pub(super) const FIRST_BATCH: Field<8> = Field::at(32);
    pub(super) const SALT: Field<8> = Field::at(40);
    pub(super) const SYNCED_THROUGH: Field<8> = Field::at(48);
    pub(super) const RESERVED: Field<4> = Field::at(56);
    pub(super) const CHECKSUM: Field<4> = Field::at(60);

    const _: () = {
        assert!(MAGIC.start == 0 && VERSION.start == MAGIC.end() && SHARD.start == VERSION.end());
        assert!(FLAGS.start == SHARD.end() && GENERATION.start == FLAGS.end() && SEGMENT.start == GENERATION.end());
        assert!(FIRST_BATCH.start == SEGMENT.end() && SALT.start == FIRST_BATCH.end());
        assert!(SYNCED_THROUGH.start == SALT.end() && RESERVED.start == SYNCED_THROUGH.end());
        assert!(CHECKSUM.start == RESERVED.end());
        assert!(CHECKSUM.end() == super::SEGMENT_HEADER_BYTES && CHECKSUM.end() <= super::BLOCK_BYTES);
    };
}

mod batch {
    use super::Field;

    pub(super) const MAGIC_BYTES: [u8; 4] = *b"OnMB";

    pub(super) const MAGIC: Field<4> = Field::at(0);
    pub(super) const SHARD: Field<2> = Field::at(4);
    pub(super) const FLAGS: Field<2> = Field::at(6);
    pub(super) const GENERATION: Field<8> = Field::at(8);
    pub(super) const SEGMENT: Field<8> = Field::at(16);
    pub(super) const BATCH: Field<8> = Field::at(24);
    pub(super) const SYNCED_THROUGH: Field<8> = Field::at(32);
    pub(super) const FIRST_SEQUENCE: Field<8> = Field::at(40);
    pub(super) const SEALED_AT: Field<8> = Field::at(48);
    pub(super) const SALT: Field<8> = Field::at(56);
    pub(super) const LENGTH: Field<4> = Field::at(64);
    pub(super) const RECORDS: Field<4> = Field::at(68);
    pub(super) const RESERVED: Field<4> = Field::at(72);
    pub(super) const CHECKSUM: Field<4> = Field::at(76);

    const _: () = {
        assert!(MAGIC.start == 0 && SHARD.start == MAGIC.end() && FLAGS.start == SHARD.end());
        assert!(GENERATION.start == FLAGS.end() && SEGMENT.start == GENERATION.end() && BATCH.start == SEGMENT.end());
        assert!(SYNCED_THROUGH.start == BATCH.end() && FIRST_SEQUENCE.start == SYNCED_THROUGH.end());
        assert!(SEALED_AT.start == FIRST_SEQUENCE.end() && SALT.start == SEALED_AT.end());
        assert!(LENGTH.start == SALT.end() && RECORDS.start == LENGTH.end() && RESERVED.start == RECORDS.end());
        assert!(CHECKSUM.start == RESERVED.end() && CHECKSUM.end() == super::BATCH_HEADER_BYTES);
    };
}

mod record {
    use super::Field;

    pub(super) const CHECKSUM: Field<4> = Field::at(0);
    pub(super) const LENGTH: Field<4> = Field::at(4);
    pub(super) const SEQUENCE: Field<4> = Field::at(8);
    pub(super) const KIND: Field<1> = Field::at(12);

    const _: () = {
        assert!(CHECKSUM.start == 0 && LENGTH.start == CHECKSUM.end() && SEQUENCE.start == LENGTH.end());
        assert!(KIND.start == SEQUENCE.end() && KIND.end() == super::RECORD_HEADER_BYTES);
    };
}

/// Why bytes are not what was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// The file ends before the header does.
    EndOfFile,
    /// Zeroes where a header should be.
    Blank,
    /// Something else where a header should be.
    NoHeader,
    /// A header with a wrong checksum.
    HeaderChecksum,
    /// A header of another version of the format, which this broker can't read.
    Version(u16),
    /// A sound header of another segment or run: left from an older use of the file.
    NotOurs,
    /// A sound header of another shard's log, or of another generation.
    OtherLog,
    /// A sound header that comes out of turn.
    BatchNumber {
        /// The number that it has.
        found: u64,
        /// The number that is due.
        expected: u64,
    },
    /// Batches are missing between two segments.
    MissingBatches {
        /// The number that the later one begins with.
        found: u64,
        /// The number that is due.
        expected: u64,
    },
    /// A delivery that should lie here, and does not.
    MissingDelivery,
    /// The first record of a batch does not follow the last of the one before.
    RecordNumber,
    /// A batch that goes beyond the end of the file, or is shorter than its header.
    BatchLength,
    /// A record that goes beyond the end of its batch, or is shorter than its header.
    RecordLength {
        /// Its index in the batch.
        record: u32,
    },
    /// A record with a wrong checksum.
    RecordChecksum {
        /// Its index in the batch.
        record: u32,
    },
    /// A record whose checksum is right, and that says nothing sensible.
    RecordBody {
        /// Its index in the batch.
        record: u32,
    },
    /// Something else than zeroes behind the last record or the segment header.
    Padding,
}

impl Flaw {
    /// Whether the bytes are rather what an older use of the file has left there than something that was to be read.
    pub(super) const fn is_left_over(self) -> bool {
        match self {
            Self::EndOfFile | Self::Blank | Self::NoHeader | Self::NotOurs => true,
            Self::HeaderChecksum
            | Self::Version(_)
            | Self::OtherLog
            | Self::BatchNumber { .. }
            | Self::MissingBatches { .. }
            | Self::MissingDelivery
            | Self::RecordNumber
            | Self::BatchLength
            | Self::RecordLength { .. }
            | Self::RecordChecksum { .. }
            | Self::RecordBody { .. }
            | Self::Padding => false,
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EndOfFile => formatter.write_str("the file ends here"),
            Self::Blank => formatter.write_str("zeroes in place of a header"),
            Self::NoHeader => formatter.write_str("no header"),
            Self::HeaderChecksum => formatter.write_str("wrong checksum of a header"),
            Self::Version(version) => write!(formatter, "format version {version}, known is {FORMAT_VERSION}"),
            Self::NotOurs => formatter.write_str("header of another segment or run"),
            Self::OtherLog => formatter.write_str("header of another shard or generation"),
            Self::BatchNumber { found, expected } => write!(formatter, "batch {found} in place of batch {expected}"),
            Self::MissingBatches { found, expected } => {
                write!(formatter, "batch {expected} is missing, the next segment begins with batch {found}")
            }
            Self::MissingDelivery => formatter.write_str("a delivery is missing"),
            Self::RecordNumber => formatter.write_str("records do not follow those of the batch before"),
            Self::BatchLength => formatter.write_str("impossible length of a batch"),
            Self::RecordLength { record } => write!(formatter, "impossible length of record {record} of the batch"),
            Self::RecordChecksum { record } => write!(formatter, "wrong checksum of record {record} of the batch"),
            Self::RecordBody { record } => write!(formatter, "record {record} of the batch can't be understood"),
            Self::Padding => formatter.write_str("padding that is not zero"),
        }
    }
}

/// Whom a segment and its batches belong to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Owner {
    pub(super) generation: u64,
    pub(super) shard: u16,
    pub(super) segment: SegmentNumber,
    /// Of the run that wrote the segment.
    pub(super) salt: u64,
}

/// The head of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentHeader {
    pub(super) owner: Owner,
    pub(super) first_batch: u64,
    pub(super) synced_through: u64,
}

impl SegmentHeader {
    /// The first block of the segment.
    pub(super) fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        segment::MAGIC.write(&mut block, segment::MAGIC_BYTES);
        segment::VERSION.write(&mut block, FORMAT_VERSION.to_le_bytes());
        segment::SHARD.write(&mut block, self.owner.shard.to_le_bytes());
        segment::FLAGS.write(&mut block, [0; 4]);
        segment::GENERATION.write(&mut block, self.owner.generation.to_le_bytes());
        segment::SEGMENT.write(&mut block, self.owner.segment.0.to_le_bytes());
        segment::FIRST_BATCH.write(&mut block, self.first_batch.to_le_bytes());
        segment::SALT.write(&mut block, self.owner.salt.to_le_bytes());
        segment::SYNCED_THROUGH.write(&mut block, self.synced_through.to_le_bytes());
        segment::RESERVED.write(&mut block, [0; 4]);
        let checksum = crc32c::crc32c(&block[..segment::CHECKSUM.start]);
        segment::CHECKSUM.write(&mut block, checksum.to_le_bytes());
        block
    }

    /// Reads the beginning of a segment.
    pub(super) fn decode(segment: &[u8]) -> Result<Self, Flaw> {
        let Some(block) = segment.first_chunk::<BLOCK_BYTES>() else {
            return Err(Flaw::EndOfFile);
        };
        if segment::MAGIC.read(block) != segment::MAGIC_BYTES {
            return Err(if is_zero(block) { Flaw::Blank } else { Flaw::NoHeader });
        }
        let checksum = crc32c::crc32c(&block[..segment::CHECKSUM.start]);
        if u32::from_le_bytes(segment::CHECKSUM.read(block)) != checksum {
            return Err(Flaw::HeaderChecksum);
        }
        let version = u16::from_le_bytes(segment::VERSION.read(block));
        if version != FORMAT_VERSION {
            return Err(Flaw::Version(version));
        }
        if !is_zero(&block[segment::CHECKSUM.end()..]) {
            return Err(Flaw::Padding);
        }
        Ok(Self {
            owner: Owner {
                generation: u64::from_le_bytes(segment::GENERATION.read(block)),
                shard: u16::from_le_bytes(segment::SHARD.read(block)),
                segment: SegmentNumber(u64::from_le_bytes(segment::SEGMENT.read(block))),
                salt: u64::from_le_bytes(segment::SALT.read(block)),
            },
            first_batch: u64::from_le_bytes(segment::FIRST_BATCH.read(block)),
            synced_through: u64::from_le_bytes(segment::SYNCED_THROUGH.read(block)),
        })
    }
}

/// The head of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BatchHeader {
    pub(super) owner: Owner,
    pub(super) batch: u64,
    pub(super) synced_through: u64,
    pub(super) first_sequence: u64,
    pub(super) sealed_at: Timestamp,
    /// Of header and records, in bytes.
    pub(super) length: u32,
    pub(super) records: u32,
}

impl BatchHeader {
    pub(super) fn encode(&self) -> [u8; BATCH_HEADER_BYTES] {
        let mut header = [0; BATCH_HEADER_BYTES];
        batch::MAGIC.write(&mut header, batch::MAGIC_BYTES);
        batch::SHARD.write(&mut header, self.owner.shard.to_le_bytes());
        batch::FLAGS.write(&mut header, [0; 2]);
        batch::GENERATION.write(&mut header, self.owner.generation.to_le_bytes());
        batch::SEGMENT.write(&mut header, self.owner.segment.0.to_le_bytes());
        batch::BATCH.write(&mut header, self.batch.to_le_bytes());
        batch::SYNCED_THROUGH.write(&mut header, self.synced_through.to_le_bytes());
        batch::FIRST_SEQUENCE.write(&mut header, self.first_sequence.to_le_bytes());
        batch::SEALED_AT.write(&mut header, self.sealed_at.as_nanos().to_le_bytes());
        batch::SALT.write(&mut header, self.owner.salt.to_le_bytes());
        batch::LENGTH.write(&mut header, self.length.to_le_bytes());
        batch::RECORDS.write(&mut header, self.records.to_le_bytes());
        batch::RESERVED.write(&mut header, [0; 4]);
        let checksum = crc32c::crc32c(&header[..batch::CHECKSUM.start]);
        batch::CHECKSUM.write(&mut header, checksum.to_le_bytes());
        header
    }

    /// Reads the header of a batch, whoever the batch belongs to.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Flaw> {
        let Some(header) = bytes.first_chunk::<BATCH_HEADER_BYTES>() else {
            return Err(Flaw::EndOfFile);
        };
        if batch::MAGIC.read(header) != batch::MAGIC_BYTES {
            return Err(if is_zero(header) { Flaw::Blank } else { Flaw::NoHeader });
        }
        let checksum = crc32c::crc32c(&header[..batch::CHECKSUM.start]);
        if u32::from_le_bytes(batch::CHECKSUM.read(header)) != checksum {
            return Err(Flaw::HeaderChecksum);
        }
        Ok(Self {
            owner: Owner {
                generation: u64::from_le_bytes(batch::GENERATION.read(header)),
                shard: u16::from_le_bytes(batch::SHARD.read(header)),
                segment: SegmentNumber(u64::from_le_bytes(batch::SEGMENT.read(header))),
                salt: u64::from_le_bytes(batch::SALT.read(header)),
            },
            batch: u64::from_le_bytes(batch::BATCH.read(header)),
            synced_through: u64::from_le_bytes(batch::SYNCED_THROUGH.read(header)),
            first_sequence: u64::from_le_bytes(batch::FIRST_SEQUENCE.read(header)),
            sealed_at: Timestamp::from_nanos(u64::from_le_bytes(batch::SEALED_AT.read(header))),
            length: u32::from_le_bytes(batch::LENGTH.read(header)),
            records: u32::from_le_bytes(batch::RECORDS.read(header)),
        })
    }

    /// Length of the whole batch with its padding.
    pub(super) fn padded_bytes(&self) -> usize {
        (self.length as usize).next_multiple_of(BLOCK_BYTES)
    }

    /// The records, if all of the batch is there.
    pub(super) fn records<'a>(&self, batch: &'a [u8]) -> Result<Frames<'a>, Flaw> {
        let length = self.length as usize;
        if length < BATCH_HEADER_BYTES || batch.len() < self.padded_bytes() {
            return Err(Flaw::BatchLength);
        }
        Ok(Frames {
            rest: &batch[BATCH_HEADER_BYTES..length],
            padding: &batch[length..self.padded_bytes()],
            seed: record_seed(self.owner.salt, self.batch),
            next_sequence: self.first_sequence,
            next_index: 0,
            records: self.records,
        })
    }
}

/// What the checksums of a batch's records begin with. A record that an older batch has left in the same place is not
/// taken for one of this batch.
pub(super) fn record_seed(salt: u64, batch: u64) -> u32 {
    let mixed = (salt ^ batch).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 32) as u32
}

/// Makes room for the header of a record at the end of a batch; [`finish_record`] fills it when the body is there.
#[inline]
pub(super) fn begin_record(batch: &mut Vec<u8>, kind: u8) -> usize {
    let start = batch.len();
    let mut header = [0; RECORD_HEADER_BYTES];
    record::KIND.write(&mut header, [kind]);
    batch.extend_from_slice(&header);
    start
}

/// Fills the header of the record that begins at `start` and goes to the end.
#[inline]
pub(super) fn finish_record(batch: &mut [u8], start: usize, seed: u32, sequence: u64) {
    let bytes = &mut batch[start..];
    let length = u32::try_from(bytes.len()).expect("a record is shorter than 4 GiB");
    record::LENGTH.write(bytes, length.to_le_bytes());
    record::SEQUENCE.write(bytes, (sequence as u32).to_le_bytes());
    let checksum = crc32c::crc32c_append(seed, &bytes[record::CHECKSUM.end()..]);
    record::CHECKSUM.write(bytes, checksum.to_le_bytes());
}

/// One record, not yet decoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub(super) kind: u8,
    pub(super) body: &'a [u8],
    /// Its number in the log.
    pub(super) sequence: u64,
    /// Its index in the batch.
    pub(super) index: u32,
    bytes: &'a [u8],
    seed: u32,
}

impl Frame<'_> {
    /// Length of the whole record.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it is what was written.
    pub(super) fn is_sound(&self) -> bool {
        let checksum = crc32c::crc32c_append(self.seed, &self.bytes[record::CHECKSUM.end()..]);
        u32::from_le_bytes(record::CHECKSUM.read(self.bytes)) == checksum
            && u32::from_le_bytes(record::SEQUENCE.read(self.bytes)) == self.sequence as u32
    }
}

/// The records of a batch, one after the other. The last item is an error if they do not fill the batch as they should.
#[derive(Clone, Debug)]
pub(super) struct Frames<'a> {
    rest: &'a [u8],
    padding: &'a [u8],
    seed: u32,
    next_sequence: u64,
    next_index: u32,
    records: u32,
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, Flaw>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.next_index;
        if index == self.records {
            let is_done = self.rest.is_empty();
            self.rest = &[];
            if !is_done {
                return Some(Err(Flaw::RecordLength { record: index }));
            }
            let is_padded = is_zero(self.padding);
            self.padding = &[];
            return if is_padded { None } else { Some(Err(Flaw::Padding)) };
        }
        let sequence = self.next_sequence;
        let length = match self.rest.first_chunk::<RECORD_HEADER_BYTES>() {
            Some(header) => u32::from_le_bytes(record::LENGTH.read(header)) as usize,
            None => 0,
        };
        if length < RECORD_HEADER_BYTES || length > self.rest.len() {
            // Whatever follows can't be told apart any more.
            *self = Self { rest: &[], padding: &[], records: index, ..*self };
            return Some(Err(Flaw::RecordLength { record: index }));
        }
        let (bytes, rest) = self.rest.split_at(length);
        self.rest = rest;
        self.next_sequence = sequence.wrapping_add(1);
        self.next_index += 1;
        let [kind] = record::KIND.read(bytes);
        Some(Ok(Frame { kind, body: &bytes[RECORD_HEADER_BYTES..], sequence, index, bytes, seed: self.seed }))
    }
}

/// Whether all bytes are zero.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    // Eight bytes at a time: whole segments are looked through.
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().all(|word| u64::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests;
