//! The io_uring loop: the driver that gives a [`Shard`](crate::shard::Shard) its sockets, its clock and its neighbours.
//!
//! Each shard has one thread, one ring, one set of receive buffers and, for every other shard, a routing ring in each
//! direction. A turn of the loop feeds what completed into the shard, drains what the shard wants done, and enters the
//! kernel once. No decision about MQTT is taken here.
//!
//! Invariants:
//! - Memory handed to the kernel stays where it is and unchanged until the completion of its operation has been seen.
//! - A socket is closed only when no operation on it is in flight; an index is free for reuse only after that, so a late
//!   completion can never meet a stranger.
//! - A shard sleeps only after it has said so and looked once more (`bell`), so that nobody rings a busy one and no
//!   letter is slept over.
//!
//! The logs lie in files of the data directory: `data_dir` and `log_files` say where, `restoring` reads them at the start,
//! `disk` writes them through the ring, and `housekeeper` makes and removes them beside it.
//!
//! What the operator's files and terminal want of the machine is here, too: `text_file`, `password_file` and `terminal`.
//!
//! Sockets to listen on are opened here (`system`, `unix_socket`). It does not accept connections (`gate` does).
//!
//! This is the only module with `unsafe`, each with its reason beside it.

mod acl_file;
mod address_places;
mod answering;
mod bell;
mod buffers;
mod clock;
mod connection;
mod data_dir;
mod disk;
mod door;
mod doorbell;
mod driver;
mod failure;
mod figures;
#[doc(hidden)]
pub mod floor;
mod housekeeper;
mod inspecting;
mod log_files;
mod log_reader;
mod memory_guard;
mod operation;
mod origin;
mod pages;
mod password_file;
mod permit;
mod planted;
mod question;
mod receiving;
mod restoring;
mod rewriting;
mod ring;
#[doc(hidden)]
pub mod routes;
#[cfg(test)]
mod scratch;
mod send;
mod system;
mod terminal;
mod text_file;
mod threads;
mod turns;
mod unix_socket;

pub use acl_file::read_access_rules;
pub use address_places::{AddressPlace, AddressPlaces};
pub use clock::Clock;
pub use data_dir::DataDirectory;
pub use door::{Arrival, Asked, Doors, Peer};
pub use figures::{DiskFigures, Distribution, ShardFigures};
pub use inspecting::inspect_log;
pub use memory_guard::{guard_memory, resident_bytes};
pub use origin::Origin;
pub use password_file::{change_password, read_accounts};
pub use permit::{ConnectionEnded, ConnectionPermit, ConnectionPermits};
pub use question::{Announcement, ClientDetails, ClientDetailsPage, ClientQuery, RetainedDetails, RetainedQuery};
pub use restoring::{RestoredLogs, restore};
pub use system::{
    allow_huge_pages, allowed_cpus, check_kernel, listen, outlive_file_size_limit, processor_time,
    raise_open_file_limit, stop_listening, take_descriptor, yield_to_others,
};
pub use text_file::{read_configuration, read_mosquitto_directory, read_mosquitto_file};
pub use threads::{Placement, Shards, place, start};
pub use unix_socket::{UnixSocket, listen_unix};
