//! OnceMQ: an MQTT 3.1.1 and 5.0 broker that delivers exactly once, at the throughput others keep for QoS 0.
//!
//! # One QoS 2 message, through the code
//!
//! A sensor `P` publishes `22.5` on `sensors/temperature/livingroom`; a dashboard `D` is subscribed to
//! `sensors/temperature/+` with QoS 2. `P` lives on shard A and `D` on shard B, because that is where their client ids
//! hash to ([`shard::shard_of`]).
//!
//! 1. **The gate lets `P` in.** `gate` accepts the socket on its tokio-uring runtime, reads CONNECT under a deadline,
//!    decodes it with [`proto::decode_connect`], finds out who `P` is ([`auth`]), and hands the socket, the packet and
//!    whatever `P` sent behind it to shard A. It forgets the client there and then.
//! 2. **Bytes arrive.** The io_uring loop of shard A (`io`) gets a completion of `P`'s multishot receive, with a buffer
//!    from the ring of provided buffers, and calls [`shard::Shard::handle_received`]. The shard is pure: no clock, socket
//!    or thread is inside it, so the simulator in `tests/sim` runs the very same code.
//! 3. **A packet is cut out and decoded** where it lies: [`proto::Framer`], [`proto::decode`].
//! 4. **Is it new?** [`session::Inbound`] knows which ids of `P` await their PUBREL. A known id means that `P` repeats
//!    itself after a lost PUBREC: it is acknowledged again and goes no further.
//! 5. **Who gets it?** [`route::SubscriptionTrie`] finds, in one walk, the local sessions that match and the other shards
//!    that have subscribers, and which of these outlive the broker. The message becomes a [`route::Message`]: one
//!    reference-counted copy of its bytes that all subscribers and shards share.
//! 6. **It is logged.** If `P`'s session outlives the broker, or one that gets the message does, [`store::Record`]s go into
//!    the batch that shard A's [`store::Log`] is filling: that id 7 of `P` awaits PUBREL, and a numbered letter with the
//!    message to shard B. They stand or fall together, for a batch counts whole or not at all. A transient client's message
//!    to transient subscribers writes nothing.
//! 7. **PUBREC is encoded, and held.** Every byte of a connection's output carries the [`store::LogPosition`] it waits for,
//!    and the letter to B does too. The loop takes the batch as one [`store::LogWrite`] and writes it through the ring;
//!    meanwhile the next batch fills. When it is on stable storage, PUBREC leaves, and `P` may forget the payload.
//! 8. **The letter travels.** The loop moves it onto the routing ring from A to B, and rings B's bell if B has said that it
//!    sleeps. Should the ring be full, the letter waits and `P` is not read from until there is room. [`link`] numbers the
//!    letters, so that after a crash they are sent again, and applied once.
//! 9. **Shard B delivers.** It matches its own subscriptions and gives the message to `D`'s [`session::Outbound`]: if
//!    `D` has a slot of its receive window free, the message is encoded into `D`'s output; if not, or if `D` is away,
//!    it waits in the session's queue, of which a long end is only in the log. Either way it has a number in the
//!    session, from which its packet id follows, and B logs both the delivery and that the letter has arrived. When
//!    that is stable, PUBLISH leaves for `D`, and A hears that it may forget the letter.
//! 10. **One send.** At the end of the turn the loop takes all that gathered for `D` as one [`shard::Transmit`], whatever
//!     the number of packets in it.
//! 11. **The second hop ends.** `D` answers PUBREC: that is logged before PUBREL leaves, for after it the PUBLISH must never
//!     come again. `D` answers PUBCOMP: the id is free, and the next message in the queue may go.
//! 12. **The first hop ends** independently of that: `P` sends PUBREL, A forgets the id, and PUBCOMP leaves when that is
//!     stable, for `P` may use the id for another message at once.
//!
//! With `--durability none` nothing is logged and nothing is held. After a crash, recovery ([`store::recover`]) adds the
//! records up to an [`store::Image`], and [`shard::Shard::restore`] goes on from there.
//!
//! Whoever breaks off in between finds the state in the session, not in the connection: tables of what happens stand
//! above [`session::Inbound`] and [`session::Outbound`].
//!
//! # Where things are
//!
//! | module            | what it is                                                             |
//! |-------------------|------------------------------------------------------------------------|
//! | [`admin`]         | metrics, health, an API and a dashboard for the operator               |
//! | [`auth`]          | who may connect, and who may publish and subscribe what                |
//! | [`proto`]         | the wire format, shared with the load generator                        |
//! | [`bridge`]        | OnceMQ as a client of another broker: topics, the opening              |
//! | [`session`]       | the state machines of exactly-once, pure                               |
//! | [`route`]         | topics, subscriptions, retained messages, letters between shards       |
//! | [`transport`]     | what lies between a socket and the codec                               |
//! | [`store`]         | the log: format, group commit, recovery; what a promise waits for      |
//! | [`link`]          | letters between shards, applied exactly once whoever crashes           |
//! | [`shard`]         | all of the above as one state machine per core, pure                   |
//! | [`system_topics`] | what the broker says of itself on `$SYS`, pure                         |
//! | `io`              | the io_uring loop that drives a shard; the only place with `unsafe`    |
//! | `gate`            | what happens before a client is admitted                               |

pub mod admin;
pub mod auth;
pub mod bridge;
pub mod cli;
pub mod config;
pub mod error;
pub mod fault;
pub mod gate;
pub mod io;
pub mod link;
pub mod proto;
pub mod route;
pub mod session;
pub mod shard;
pub mod store;
pub mod system_topics;
pub mod time;
pub mod transport;
