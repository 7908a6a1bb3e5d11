//! stub
/// Shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShardId(pub u16);
/// Letter.
pub struct Letter;
