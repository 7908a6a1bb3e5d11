//! One client of `chaos` over all its connections: open, be dropped or taken over or outlive the broker, come back to the
//! same session.
//!
//! Only a connection that a kill of the broker broke may fail; any other fault is reported, and so is a session that the
//! broker no longer has. The client comes back all the same, because only then can the ledger tell what became of its
//! messages.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use oncemq::proto::{Packet, QoS, Version};

use super::cut::{Arrival, Cutter, Point};
use super::keeper::Life;
use super::party::{Line, Party};
use crate::connection::{Client, Connection, Fault, Flow, Kick, drive, wait_for_close};
use crate::dial::open;
use crate::fleet::{Phase, Seat};
use crate::opening::{KeepAlive, Login, Opening, Presence, Session, encode_disconnect};
use crate::participant::joined;
use crate::random::Random;
use crate::transport::Route;
use crate::visit::end_session_at;

/// One connection in so many ends by a take-over rather than a drop.
const TAKEOVER_ONE_IN: usize = 10;

/// Longest pause before a client comes back.
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// How often a client looks whether the broker is back.
const BROKER_POLL: Duration = Duration::from_millis(2);

/// How long a broker may take to close a connection that was taken over.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(10);

/// What the clients of a worker went through.
#[derive(Clone, Debug, Default)]
pub(super) struct Mishaps {
    pub(super) drops: BTreeMap<Point, u64>,
    pub(super) takeovers: u64,
    /// Connections that the broker resumed with the session present.
    pub(super) resumes: u64,
    /// Connections that broke because the broker was killed.
    pub(super) killed: u64,
    /// Connections to which the broker said that it has no session, where one was due.
    pub(super) sessions_lost: u64,
}

impl Mishaps {
    pub(super) fn add(&mut self, other: &Self) {
        for (&point, drops) in &other.drops {
            *self.drops.entry(point).or_default() += drops;
        }
        self.takeovers += other.takeovers;
        self.resumes += other.resumes;
        self.killed += other.killed;
        self.sessions_lost += other.sessions_lost;
    }
}

/// What a client needs to know from the command line.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) route: Route,
    pub(super) version: Version,
    pub(super) qos: QoS,
    pub(super) client_id: String,
    /// Filters of a new session.
    pub(super) filters: Vec<String>,
    pub(super) keep_alive_seconds: u16,
    /// Time that a connection lives on average before it is dropped; `None` when none is.
    pub(super) lifetime_mean_ns: Option<f64>,
    /// Tells all clients apart.
    pub(super) number: u32,
}

/// A party on its current connection.
pub(super) struct Chaotic<P> {
    seat: Rc<Seat>,
    terms: Terms,
    party: P,
    random: Random,
    points: Vec<Point>,
    /// Whether the broker has the session.
    presence: Presence,
    /// Whether it was open once.
    ready: bool,
    opening: Opening,
    keep_alive: KeepAlive,
    cutter: Cutter,
    ending: Ending,
    mishaps: Rc<RefCell<Mishaps>>,
}

/// How the current connection is to end.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// At the first packet of this kind from that time on.
    Drop { at_ns: u64, point: Point },
    /// When a second connection with the same client id is opened.
    TakeOver { at_ns: u64 },
    /// It is under way, or there is none because the run is over.
    Decided,
}

/// Lives through connections until [`Phase::Close`], then ends the session. Returns the party with its account. A kick
/// wakes it when it has something to publish.
pub(super) async fn live<P: Party>(
    seat: Rc<Seat>,
    kick: Rc<Kick>,
    terms: Terms,
    party: P,
    random: Random,
    mishaps: Rc<RefCell<Mishaps>>,
    life: Arc<Life>,
) -> P {
    let mut client = Chaotic::new(Rc::clone(&seat), terms, party, random, mishaps);
    let (own, number) = (login(&client.terms, Session::Transient), client.terms.number);
    let route = client.terms.route.clone();
    let lived = async {
        end_session_at(&route, &seat, &own, number).await?;
        live_through_connections(&seat, &mut client, &kick, &life).await?;
        end_session_at(&route, &seat, &own, number).await
    };
    if let Err(fault) = lived.await {
        seat.control.report(&client.terms.client_id, &fault);
    }
    client.party
}

async fn live_through_connections<P: Party>(
    seat: &Seat,
    client: &mut Chaotic<P>,
    kick: &Kick,
    life: &Life,
) -> Result<(), Fault> {
    let mut taken_over = None;
    while broker_is_up(seat, life).await {
        let number = life.number();
        match live_once(seat, client, kick, &mut taken_over).await {
            Ok(Parting::Left) => return Ok(()),
            Ok(Parting::TakenOver) => continue,
            Ok(Parting::Dropped) => {}
            Err(fault) if fault.is_broken_connection() && life.number() != number => {
                client.mishaps.borrow_mut().killed += 1
            }
            Err(fault) if !client.ready || seat.phase() == Phase::Close => return Err(fault),
            Err(fault) => seat.control.report(&client.terms.client_id, &fault),
        }
        let pause = client.random.below(PAUSE_MAX.as_micros() as usize);
        tokio::time::sleep(Duration::from_micros(pause as u64)).await;
    }
    Ok(())
}

/// Waits for a broker that is being started again; false when the run is over first.
async fn broker_is_up(seat: &Seat, life: &Life) -> bool {
    while !life.is_up() {
        if seat.phase() == Phase::Close {
            return false;
        }
        tokio::time::sleep(BROKER_POLL).await;
    }
    true
}

/// How a connection ended without a fault.
enum Parting {
    Left,
    Dropped,
    TakenOver,
}

/// Lives through one connection; `taken_over` is the one before, if this one takes it over, and then this one if it is to be
/// taken over.
async fn live_once<P: Party>(
    seat: &Seat,
    client: &mut Chaotic<P>,
    kick: &Kick,
    taken_over: &mut Option<Connection>,
) -> Result<Parting, Fault> {
    client.prepare();
    let mut connection = open(&client.terms.route, client.terms.number).await?;
    let closing = taken_over.take().map(closed_by_broker);
    let closing = closing.map(tokio_uring::spawn);
    let flow = drive(&mut connection, client, kick, seat.clock).await?;
    if let Some(closing) = closing {
        joined(closing.await)?;
    }
    if flow == Flow::Abandon {
        client.mishaps.borrow_mut().takeovers += 1;
        *taken_over = Some(connection);
        return Ok(Parting::TakenOver);
    }
    match client.cutter.struck_at() {
        Some(point) => {
            *client.mishaps.borrow_mut().drops.entry(point).or_default() += 1;
            Ok(Parting::Dropped)
        }
        None => Ok(Parting::Left),
    }
}

/// [MQTT-3.1.4-3]: the broker must close the connection of a client that connects a second time.
async fn closed_by_broker(taken_over: Connection) -> Result<(), Fault> {
    match wait_for_close(&taken_over, TAKEOVER_LIMIT).await {
        true => Ok(()),
        false => Err(Fault::Unexpected(format!(
            "the broker left a connection open for {TAKEOVER_LIMIT:?} after its client id was taken over"
        ))),
    }
}

fn login(terms: &Terms, session: Session) -> Login {
    Login {
        version: terms.version,
        client_id: terms.client_id.clone(),
        session,
        keep_alive_seconds: terms.keep_alive_seconds,
    }
}

impl<P: Party> Chaotic<P> {
    fn new(seat: Rc<Seat>, terms: Terms, party: P, random: Random, mishaps: Rc<RefCell<Mishaps>>) -> Self {
        Self {
            points: Point::all(P::ROLE, terms.qos),
            opening: Opening::new(login(&terms, Session::Transient), Vec::new(), terms.qos),
            keep_alive: KeepAlive::new(terms.keep_alive_seconds),
            cutter: Cutter::new(random.clone()),
            ending: Ending::Decided,
            presence: Presence::Absent,
            ready: false,
            seat,
            terms,
            party,
            random,
            mishaps,
        }
    }

    /// Begins a new connection to the same session, and decides how it will end.
    fn prepare(&mut self) {
        let login = login(&self.terms, Session::Persistent(self.presence));
        if self.presence == Presence::Absent {
            // From CONNECT on the broker may have it, whether the answer arrives or not.
            self.presence = Presence::Unknown;
        }
        self.opening = Opening::new(login, self.terms.filters.clone(), self.terms.qos);
        self.keep_alive = KeepAlive::new(self.terms.keep_alive_seconds);
        self.cutter = Cutter::new(Random::new(self.random.next(), 0));
        let Some(lifetime_mean_ns) = self.terms.lifetime_mean_ns else {
            self.ending = Ending::Decided;
            return;
        };
        let lifetime_ns = self.random.exponential_ns(lifetime_mean_ns);
        let at_ns = self.seat.clock.now_ns().saturating_add(lifetime_ns);
        self.ending = match self.random.below(TAKEOVER_ONE_IN) {
            0 => Ending::TakeOver { at_ns },
            _ => {
                let point = self.points[self.random.below(self.points.len())];
                Ending::Drop { at_ns, point }
            }
        };
    }

    /// Takes a packet of the opening; on a resumed session, sends again what is owed.
    fn handle_opening(&mut self, packet: &Packet<'_>, now_ns: u64, out: &mut Vec<u8>) -> Result<(), Fault> {
        let limits = self.opening.handle_packet(packet, out)?;
        if self.opening.take_session_lost() {
            self.presence = Presence::Unknown;
            self.party.lose_session(&self.seat.counters);
            self.mishaps.borrow_mut().sessions_lost += 1;
            self.seat.control.report(&self.terms.client_id, &Fault::SessionLost);
        }
        let Some(limits) = limits else {
            return Ok(());
        };
        let mut line = Line { cutter: &mut self.cutter, out, counters: &self.seat.counters, now_ns };
        self.party.resume(&limits, &mut line)?;
        if !std::mem::replace(&mut self.ready, true) {
            self.seat.counters.ready.add(1);
        }
        if std::mem::replace(&mut self.presence, Presence::Due) == Presence::Due {
            self.mishaps.borrow_mut().resumes += 1;
        }
        Ok(())
    }

    /// Brings about the ending when its time has come; only while messages are published.
    fn end(&mut self, now_ns: u64) -> Flow {
        match self.ending {
            Ending::Drop { at_ns, point } if now_ns >= at_ns => {
                self.cutter.arm(point);
                self.ending = Ending::Decided;
                Flow::Continue
            }
            Ending::TakeOver { at_ns } if now_ns >= at_ns => {
                self.ending = Ending::Decided;
                Flow::Abandon
            }
            Ending::Drop { .. } | Ending::TakeOver { .. } | Ending::Decided => Flow::Continue,
        }
    }
}

impl<P: Party> Client for Chaotic<P> {
    fn version(&self) -> Version {
        self.terms.version
    }

    fn handle_packet(&mut self, packet: &Packet<'_>, now_ns: u64, out: &mut Vec<u8>) -> Result<Flow, Fault> {
        if self.cutter.receive(packet) == Arrival::Ignored {
            return Ok(self.cutter.flow());
        }
        let belongs_to_party = match packet {
            Packet::Publish(_) | Packet::Pubrel(_) => self.opening.is_connected(),
            _of_the_opening_until_it_is_open => self.opening.is_open(),
        };
        match packet {
            Packet::Pingresp => {}
            other if belongs_to_party => {
                let mut line = Line { cutter: &mut self.cutter, out, counters: &self.seat.counters, now_ns };
                self.party.handle_packet(other, &mut line)?;
            }
            other => self.handle_opening(other, now_ns, out)?,
        }
        Ok(self.cutter.flow())
    }

    fn handle_partial_packet(&mut self, first_byte: u8) -> Flow {
        self.cutter.receive_part(first_byte);
        self.cutter.flow()
    }

    fn poll(&mut self, now_ns: u64, out: &mut Vec<u8>) -> Result<Flow, Fault> {
        self.opening.poll(out);
        if !self.opening.is_open() {
            return Ok(Flow::Continue);
        }
        let mut flow = Flow::Continue;
        match self.seat.phase() {
            Phase::Open => {}
            Phase::Publish => {
                flow = self.end(now_ns);
                if let Some(schedule) = self.seat.schedule() {
                    let mut line = Line { cutter: &mut self.cutter, out, counters: &self.seat.counters, now_ns };
                    self.party.publish(schedule.publish_start_ns, &mut line);
                }
            }
            Phase::Drain => self.cutter.disarm(),
            Phase::Close => {
                encode_disconnect(self.terms.version, out);
                return Ok(Flow::Leave);
            }
        }
        self.keep_alive.poll(self.terms.version, now_ns, out);
        match self.cutter.flow() {
            Flow::Continue => Ok(flow),
            struck => Ok(struck),
        }
    }

    fn read_bytes_max(&self) -> usize {
        self.cutter.read_bytes_max().unwrap_or(usize::MAX)
    }

    fn cut_bytes(&self) -> usize {
        self.cutter.cut_bytes()
    }
}
