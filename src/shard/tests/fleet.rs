//! One or more shards with a perfect network between them and their clients.

mod arriving;

use super::disk::Disk;
use super::*;

/// Shards, the connections of their clients, and the bytes that these have got.
pub(super) struct Fleet {
    pub(super) shards: Vec<Shard>,
    pub(super) now: Timestamp,
    clients: Vec<Peer>,
    /// Whether letters are delivered at once.
    pub(super) rings_flow: bool,
    /// Whether shards look up retained messages between two events.
    pub(super) turns_end: bool,
    /// A ring, from one shard to another, that does not flow even then.
    pub(super) slow_ring: Option<(u16, u16)>,
    rings: Vec<VecDeque<(ShardId, ShardId, Letter)>>,
    pub(super) disks: Vec<Disk>,
    limits: Limits,
    report_interval: Option<Duration>,
    /// Reads that found something else than what was written.
    pub(super) damaged: usize,
    /// Whether a write to a log is stable as soon as it is taken.
    pub(super) logs_flow: bool,
}

/// A connection of a test client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Client(usize);

struct Peer {
    shard: usize,
    key: ConnectionKey,
    version: Version,
    received: Vec<u8>,
    /// A peer that does not read: its transmit stays in flight.
    stalled: Option<Vec<Transmit>>,
    commands: Vec<Command>,
    closed: bool,
}

pub(super) fn limits() -> Limits {
    Limits {
        max_packet_bytes: 1 << 20,
        receive_maximum: 10,
        max_inflight: 10,
        topic_alias_maximum: 10,
        max_outbound_topic_aliases: 16,
        max_sessions: None,
        max_subscriptions: 10_000,
        max_topic_levels: 128,
        shared_balance: SharedBalance::RoundRobin,
        max_publish_rate: None,
        max_publish_bytes_rate: None,
        max_queued_messages: 1000,
        max_queued_bytes: 1 << 20,
        queue_policy: QueuePolicy::DropNewest,
        durable_queue_policy: None,
        slow_reader_policy: SlowReaderPolicy::DropNewest,
        congestion_messages: 1000,
        stall_timeout: Duration::from_secs(10),
        max_output_bytes: 1 << 16,
        max_waiting_letters: 100,
        max_log_backlog_bytes: 1 << 20,
        max_log_bytes: None,
        queue_memory_bytes: 1 << 30,
        queue_kept_messages: 64,
        max_retained_messages: 100,
        retained_page: 50,
        linger: Duration::from_secs(1),
    }
}

fn config(number: u16, shards: u16, limits: Limits, service: Service, log: Option<LogConfig>) -> ShardConfig {
    let id = ShardId::new(number).expect("few shards");
    ShardConfig { id, shards, seed: 7, limits, service, report_interval: None, log, fault: PlantedFault::default() }
}

fn log(shard: u16) -> LogConfig {
    LogConfig { shard, segment_bytes: 1 << 16, is_synced: true, ..LogConfig::discarding() }
}

/// An owned copy of what the tests look at in a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Got {
    Connack { session_present: bool, reason: ReasonCode },
    Publish { topic: String, payload: String, qos: QoS, id: u16, dup: bool, retain: bool },
    Ack(AcknowledgementKind, u16, ReasonCode),
    Suback(Vec<u8>),
    Unsuback(Vec<u8>),
    Pingresp,
    Subscribe(u16, Vec<(String, SubscriptionOptions)>),
    Pingreq,
    Disconnect(ReasonCode),
}

impl Fleet {
    pub(super) fn new(shards: u16) -> Self {
        Self::with_limits(shards, limits())
    }

    pub(super) fn with_limits(shards: u16, limits: Limits) -> Self {
        Self::with_service(shards, limits, Service::default())
    }

    /// Shards that serve not all of MQTT, or tell more of themselves than usual.
    pub(super) fn with_service(shards: u16, limits: Limits, service: Service) -> Self {
        let shard = |number| Shard::new(config(number, shards, limits.clone(), service.clone(), None));
        Self::with_shards((0..shards).map(shard).collect(), limits.clone())
    }

    /// Shards with logs, whose writes are stable as soon as they are taken, unless the log is held up.
    pub(super) fn durable(shards: u16) -> Self {
        Self::durable_with_limits(shards, limits())
    }

    pub(super) fn durable_with_limits(shards: u16, limits: Limits) -> Self {
        let shard = |number| Shard::new(config(number, shards, limits.clone(), Service::default(), Some(log(number))));
        Self::with_shards((0..shards).map(shard).collect(), limits.clone())
    }

    /// Shards with logs that report on `$SYS`, for the first time at once.
    pub(super) fn reporting(shards: u16, interval: Duration) -> Self {
        let report_interval = Some(interval);
        let config = |number| ShardConfig {
            report_interval,
            ..config(number, shards, limits(), Service::default(), Some(log(number)))
        };
        let mut fleet = Self::with_shards((0..shards).map(|number| Shard::new(config(number))).collect(), limits());
        fleet.report_interval = report_interval;
        fleet.pass(Duration::ZERO);
        fleet
    }

    fn with_shards(shards: Vec<Shard>, limits: Limits) -> Self {
        Self {
            limits,
            report_interval: None,
            damaged: 0,
            disks: shards.iter().map(|_| Disk::default()).collect(),
            logs_flow: true,
            shards,
            now: Timestamp::from_nanos(1_000_000_000),
            clients: Vec::new(),
            rings_flow: true,
            turns_end: true,
            slow_ring: None,
            rings: vec![VecDeque::new()],
        }
    }

    /// What the operator was told since it was last asked.
    pub(super) fn notices(&mut self) -> Vec<BridgeNotice> {
        self.shards.iter_mut().flat_map(|shard| std::iter::from_fn(|| shard.poll_notice())).collect()
    }

    pub(super) fn shut_down(&mut self) {
        for shard in &mut self.shards {
            shard.handle_shutdown(self.now);
        }
        self.run();
    }

    pub(super) fn send(&mut self, client: Client, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(self.clients[client.0].version, &mut bytes);
        self.send_bytes(client, &bytes);
    }

    /// The shard of a connection, and the key that it has there.
    pub(super) fn place_of(&self, client: Client) -> (usize, ConnectionKey) {
        let Peer { shard, key, .. } = self.clients[client.0];
        (shard, key)
    }

    pub(super) fn send_bytes(&mut self, client: Client, bytes: &[u8]) {
        let Peer { shard, key, closed, .. } = self.clients[client.0];
        assert!(!closed, "the connection is closed");
        self.shards[shard].handle_received(self.now, key, bytes);
        self.run();
    }

    pub(super) fn publish(&mut self, client: Client, topic: &str, payload: &str, qos: QoS, packet_id: u16) {
        self.publish_with(client, topic, payload, qos, packet_id, false, false);
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of the packet")]
    pub(super) fn publish_with(
        &mut self,
        client: Client,
        topic: &str,
        payload: &str,
        qos: QoS,
        packet_id: u16,
        dup: bool,
        retain: bool,
    ) {
        self.send(
            client,
            &Packet::Publish(Publish {
                dup,
                qos,
                retain,
                topic,
                packet_id: PacketId::new(packet_id),
                properties: Properties::EMPTY,
                payload: payload.as_bytes(),
            }),
        );
    }

    pub(super) fn subscribe(&mut self, client: Client, filter: &str, qos: QoS) {
        self.subscribe_with(client, filter, SubscriptionOptions::from_qos(qos));
    }

    pub(super) fn subscribe_with(&mut self, client: Client, filter: &str, options: SubscriptionOptions) {
        let mut bytes = Vec::new();
        let version = self.clients[client.0].version;
        encode_subscribe(&mut bytes, version, id(9), Properties::EMPTY, std::iter::once((filter, options)));
        self.send_bytes(client, &bytes);
    }

    pub(super) fn unsubscribe(&mut self, client: Client, filter: &str) {
        let mut bytes = Vec::new();
        let version = self.clients[client.0].version;
        encode_unsubscribe(&mut bytes, version, id(9), Properties::EMPTY, std::iter::once(filter));
        self.send_bytes(client, &bytes);
    }

    pub(super) fn ack(&mut self, client: Client, kind: AcknowledgementKind, packet_id: u16) {
        self.ack_with(client, kind, packet_id, ReasonCode::Success);
    }

    pub(super) fn ack_with(&mut self, client: Client, kind: AcknowledgementKind, packet_id: u16, reason: ReasonCode) {
        let ack = Acknowledgement { packet_id: id(packet_id), reason, properties: Properties::EMPTY };
        let packet = match kind {
            AcknowledgementKind::Puback => Packet::Puback(ack),
            AcknowledgementKind::Pubrec => Packet::Pubrec(ack),
            AcknowledgementKind::Pubrel => Packet::Pubrel(ack),
            AcknowledgementKind::Pubcomp => Packet::Pubcomp(ack),
        };
        self.send(client, &packet);
    }

    /// The connection breaks without a DISCONNECT.
    pub(super) fn drop_connection(&mut self, client: Client) {
        let Peer { shard, key, .. } = self.clients[client.0];
        self.shards[shard].handle_connection_failed(self.now, key);
        self.run();
    }

    pub(super) fn disconnect(&mut self, client: Client) {
        self.send(
            client,
            &Packet::Disconnect(Disconnect { reason: ReasonCode::Success, properties: Properties::EMPTY }),
        );
    }

    /// From now on the client does not read.
    pub(super) fn stall(&mut self, client: Client) {
        self.clients[client.0].stalled = Some(Vec::new());
    }

    /// The client reads again.
    pub(super) fn unstall(&mut self, client: Client) {
        let peer = &mut self.clients[client.0];
        let transmits = peer.stalled.take().unwrap_or_default();
        for transmit in transmits {
            peer.received.extend(transmit.parts().flatten());
            self.shards[peer.shard].handle_sent(self.now, peer.key, transmit);
        }
        self.run();
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        for shard in &mut self.shards {
            shard.handle_timeout(self.now);
        }
        self.run();
    }

    /// All packets that the client got since it was last asked.
    pub(super) fn got(&mut self, client: Client) -> Vec<Got> {
        let bytes = self.received(client);
        let version = self.clients[client.0].version;
        let mut received = Received::new(&bytes);
        let mut framer = Framer::default();
        let mut got = Vec::new();
        while let Some(frame) = framer.next_frame(&mut received, u32::MAX).expect("the broker sends whole packets") {
            got.push(owned(&decode(version, frame.bytes()).expect("the broker sends legal packets")));
        }
        assert!(!framer.is_inside_packet());
        got
    }

    /// The bytes behind that.
    pub(super) fn received(&mut self, client: Client) -> Vec<u8> {
        std::mem::take(&mut self.clients[client.0].received)
    }

    pub(super) fn commands(&mut self, client: Client) -> Vec<&'static str> {
        let commands = std::mem::take(&mut self.clients[client.0].commands);
        commands
            .into_iter()
            .map(|command| match command {
                Command::PauseReceiving(_) => "pause",
                Command::ResumeReceiving(_) => "resume",
                Command::FinishSending(_) => "finish",
                Command::Close(_) => "close",
            })
            .collect()
    }

    pub(super) fn end_of_stream(&mut self, client: Client) {
        let Peer { shard, key, .. } = self.clients[client.0];
        self.shards[shard].handle_end_of_stream(self.now, key);
        self.run();
    }

    pub(super) fn is_closed(&self, client: Client) -> bool {
        self.clients[client.0].closed
    }

    /// Sum over all shards.
    pub(super) fn count(&self, counter: impl Fn(&Counters) -> u64) -> u64 {
        self.shards.iter().map(|shard| counter(&shard.counters())).sum()
    }

    /// Lets the writes to the logs become stable that were held back.
    pub(super) fn sync(&mut self) {
        self.logs_flow = true;
        self.run();
    }

    /// Lets the writes become stable that are out now, and no others.
    pub(super) fn sync_once(&mut self) {
        for shard in 0..self.shards.len() {
            self.sync_shard(shard);
        }
        self.run();
    }

    /// Lets the write of one shard become stable that is out now.
    pub(super) fn sync_shard(&mut self, shard: usize) {
        let (disk, shard) = (&mut self.disks[shard], &mut self.shards[shard]);
        if let Some(write) = disk.in_flight.take() {
            disk.write(&write);
            shard.handle_log_written(self.now, write, Ok(()));
        }
    }

    /// The broker dies, and comes back after some time with what its logs have on stable storage; every connection is gone.
    pub(super) fn crash(&mut self, away: Duration) {
        self.now = self.now + away;
        self.clients.iter_mut().for_each(|peer| peer.closed = true);
        self.rings[0].clear();
        let memory = Some(self.limits.queue_memory_bytes);
        let recovered = (0..).zip(&mut self.disks).map(|(number, disk)| disk.recover(log(number), memory));
        let (images, ends) = recovered.map(|(image, recovered)| (image, recovered.end)).unzip();
        self.restore(images, ends);
    }

    /// As [`Self::crash`], with another number of shards afterwards.
    pub(super) fn crash_and_redeal(&mut self, shards: u16) {
        self.clients.iter_mut().for_each(|peer| peer.closed = true);
        self.rings[0].clear();
        let recovered = (0..).zip(&mut self.disks).map(|(number, disk)| disk.recover(log(number), None));
        let images: Vec<Image> = recovered.map(|(image, _)| image).collect();
        let images = redeal(&images, shards, self.now);
        let disks = (0..).zip(&images).map(|(number, image)| Disk::with(image, log(number), self.now));
        let (disks, ends) = disks.unzip();
        self.disks = disks;
        self.restore(images, ends);
    }

    fn restore(&mut self, images: Vec<Image>, ends: Vec<LogEnd>) {
        let shards = images.len() as u16;
        let restored = |(number, end)| {
            let config = config(number, shards, self.limits.clone(), Service::default(), Some(log(number)));
            let config = ShardConfig { report_interval: self.report_interval, ..config };
            Shard::restore(config, self.now, &images, end)
        };
        self.shards = (0..).zip(ends).map(restored).collect();
        self.run();
    }

    /// Lets the letters flow that were held back.
    pub(super) fn flow(&mut self) {
        self.rings_flow = true;
        self.run();
    }

    pub(super) fn run(&mut self) {
        if !self.turns_end {
            return self.flush_connections();
        }
        loop {
            let now = self.now;
            let looked_up =
                self.shards.iter_mut().filter_map(|shard| shard.poll_lookups(now).then_some(())).count() > 0;
            self.flush_connections();
            let logged = self.drive_logs();
            let moved = self.rings_flow && self.exchange_letters();
            if !looked_up && !logged && !moved && !self.shards.iter().any(Shard::has_sessions_to_feed) {
                return;
            }
        }
    }

    fn drive_logs(&mut self) -> bool {
        let mut moved = false;
        for (shard, disk) in self.shards.iter_mut().zip(&mut self.disks) {
            if let Some(write) = shard.poll_log_write(self.now) {
                disk.in_flight = Some(write);
            }
            if self.logs_flow
                && let Some(write) = disk.in_flight.take()
            {
                disk.write(&write);
                shard.handle_log_written(self.now, write, Ok(()));
                moved = true;
            }
            if self.logs_flow
                && let Some(read) = shard.poll_log_read()
            {
                let handled = shard.handle_log_read(self.now, &read, Ok(disk.read(&read)));
                self.damaged += usize::from(handled.is_err());
                moved = true;
            }
            while let Some(segment) = shard.poll_obsolete_segment() {
                disk.remove(segment);
            }
        }
        moved
    }

    /// The next write to the log of a shard fails.
    pub(super) fn fail_log(&mut self, shard: usize, failure: LogFailure) {
        let write = self.disks[shard].in_flight.take().expect("a write is out");
        self.shards[shard].handle_log_written(self.now, write, Err(failure));
        self.run();
    }

    fn flush_connections(&mut self) {
        for (index, shard) in self.shards.iter_mut().enumerate() {
            while let Some((key, transmit)) = shard.poll_transmit() {
                let peer = self
                    .clients
                    .iter_mut()
                    .find(|peer| peer.shard == index && peer.key == key && !peer.closed)
                    .expect("every connection is a client's");
                match &mut peer.stalled {
                    Some(stalled) => stalled.push(transmit),
                    None => {
                        assert!(!transmit.is_empty());
                        peer.received.extend(transmit.parts().flatten());
                        shard.handle_sent(self.now, key, transmit);
                    }
                }
            }
            while let Some(command) = shard.poll_command() {
                let (Command::PauseReceiving(key)
                | Command::ResumeReceiving(key)
                | Command::FinishSending(key)
                | Command::Close(key)) = command;
                let peer = self
                    .clients
                    .iter_mut()
                    .find(|peer| peer.shard == index && peer.key == key && !peer.closed)
                    .expect("every connection is a client's");
                peer.commands.push(command);
                if let Command::Close(_) = command {
                    for transmit in peer.stalled.take().unwrap_or_default() {
                        shard.handle_sent(self.now, key, transmit);
                    }
                    peer.closed = true;
                    shard.handle_closed(key);
                }
            }
        }
    }

    fn exchange_letters(&mut self) -> bool {
        let count = self.shards.len() as u16;
        let mut moved = false;
        for from in 0..count {
            for to in (0..count).filter(|to| *to != from && self.slow_ring != Some((from, *to))) {
                let (from, to) = (ShardId::new(from).expect("few"), ShardId::new(to).expect("few"));
                while let Some(mut batch) = self.shards[from.index()].poll_letters(to, 3) {
                    moved = true;
                    self.rings[0].extend(batch.drain(..).map(|letter| (from, to, letter)));
                    self.shards[from.index()].recycle_letters(batch);
                }
            }
        }
        while let Some((from, to, letter)) = self.rings[0].pop_front() {
            self.shards[to.index()].handle_letter(self.now, from, letter);
        }
        moved
    }
}

fn owned(packet: &Packet<'_>) -> Got {
    let ack = |kind, ack: &Acknowledgement<'_>| Got::Ack(kind, ack.packet_id.get(), ack.reason);
    match packet {
        Packet::Connack(Connack { session_present, reason, .. }) => {
            Got::Connack { session_present: *session_present, reason: *reason }
        }
        Packet::Publish(publish) => Got::Publish {
            topic: publish.topic.into(),
            payload: String::from_utf8(publish.payload.to_vec()).expect("test payloads are text"),
            qos: publish.qos,
            id: publish.packet_id.map_or(0, PacketId::get),
            dup: publish.dup,
            retain: publish.retain,
        },
        Packet::Puback(packet) => ack(AcknowledgementKind::Puback, packet),
        Packet::Pubrec(packet) => ack(AcknowledgementKind::Pubrec, packet),
        Packet::Pubrel(packet) => ack(AcknowledgementKind::Pubrel, packet),
        Packet::Pubcomp(packet) => ack(AcknowledgementKind::Pubcomp, packet),
        Packet::Suback(suback) => Got::Suback(suback.codes.to_vec()),
        Packet::Unsuback(unsuback) => Got::Unsuback(unsuback.codes.to_vec()),
        Packet::Pingresp => Got::Pingresp,
        // From a bridge.
        Packet::Subscribe(subscribe) => {
            let filters = subscribe.filters().map(|(filter, options)| (filter.to_owned(), options));
            Got::Subscribe(subscribe.packet_id.get(), filters.collect())
        }
        Packet::Pingreq => Got::Pingreq,
        Packet::Disconnect(disconnect) => Got::Disconnect(disconnect.reason),
        other => panic!("a broker does not send {other:?}"),
    }
}
