use super::*;

fn owner() -> Owner {
    Owner {
        generation: 0x0102_0304_0506_0708,
        shard: 0x0910,
        segment: SegmentNumber(0x1112_1314_1516_1718),
        salt: 0x191A_1B1C_1D1E_1F20,
    }
}

fn batch_header() -> BatchHeader {
    BatchHeader {
        owner: owner(),
        batch: 41,
        synced_through: 40,
        first_sequence: 1_000,
        sealed_at: Timestamp::from_nanos(1_700_000_000_000_000_000),
        length: 5_000,
        records: 17,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whoever changes one of these must raise the version.
#[test]
fn the_bytes_of_the_headers_are_pinned() {
    let segment = SegmentHeader { owner: owner(), first_batch: 40, synced_through: 39 }.encode();
    assert_eq!(
        hex(&segment[..SEGMENT_HEADER_BYTES]),
        "4f6e63654d514c67010010090000000008070605040302011817161514131211\
         2800000000000000201f1e1d1c1b1a19270000000000000000000000880df2b2"
    );
    assert!(is_zero(&segment[SEGMENT_HEADER_BYTES..]));
    assert_eq!(
        hex(&batch_header().encode()),
        "4f6e4d4210090000080706050403020118171615141312112900000000000000\
         2800000000000000e80300000000000000002a36fe9c9717201f1e1d1c1b1a19\
         8813000011000000000000000910967e"
    );
}

#[test]
fn headers_come_back_as_they_were() {
    let header = SegmentHeader { owner: owner(), first_batch: 40, synced_through: 39 };
    assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
    assert_eq!(BatchHeader::decode(&batch_header().encode()), Ok(batch_header()));
}

#[test]
fn every_flipped_bit_of_a_header_is_seen() {
    let mut block = SegmentHeader { owner: owner(), first_batch: 40, synced_through: 39 }.encode();
    for bit in 0..block.len() * 8 {
        block[bit / 8] ^= 1 << (bit % 8);
        let flaw = SegmentHeader::decode(&block).expect_err("it is another header");
        assert!(!matches!(flaw, Flaw::Version(_)), "a flipped bit is no newer version");
        block[bit / 8] ^= 1 << (bit % 8);
    }
    let mut header = batch_header().encode();
    for bit in 0..header.len() * 8 {
        header[bit / 8] ^= 1 << (bit % 8);
        BatchHeader::decode(&header).expect_err("it is another header");
        header[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_newer_version_is_named() {
    let mut block = SegmentHeader { owner: owner(), first_batch: 40, synced_through: 39 }.encode();
    segment::VERSION.write(&mut block, 2_u16.to_le_bytes());
    let checksum = crc32c::crc32c(&block[..segment::CHECKSUM.start]);
    segment::CHECKSUM.write(&mut block, checksum.to_le_bytes());
    assert_eq!(SegmentHeader::decode(&block), Err(Flaw::Version(2)));
    assert_eq!(Flaw::Version(2).to_string(), "format version 2, known is 1");
}

#[test]
fn short_bytes_have_no_header() {
    let block = SegmentHeader { owner: owner(), first_batch: 40, synced_through: 39 }.encode();
    let header = batch_header().encode();
    for length in 0..BLOCK_BYTES {
        assert_eq!(SegmentHeader::decode(&block[..length]), Err(Flaw::EndOfFile));
    }
    for length in 0..BATCH_HEADER_BYTES {
        assert_eq!(BatchHeader::decode(&header[..length]), Err(Flaw::EndOfFile));
    }
    assert_eq!(SegmentHeader::decode(&[0; BLOCK_BYTES]), Err(Flaw::Blank));
    assert_eq!(BatchHeader::decode(&[0; BLOCK_BYTES]), Err(Flaw::Blank));
}
