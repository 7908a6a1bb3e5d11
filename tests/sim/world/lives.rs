//! What clients do with their lives: connect, publish and subscribe, and leave in one of the many ways in which that happens.

use crate::network::{Connection, Stage};
use crate::scenario::MILLISECOND;
use crate::web_socket::Wire;

use super::{Event, Mood, World};

impl World {
    pub(super) fn act(&mut self, client: usize) {
        match self.mood {
            Mood::Active(0) => {}
            Mood::Active(actions) => {
                self.mood = Mood::Active(actions - 1);
                if self.scenario.is_short_of_memory && self.random.percent(5) {
                    self.change_memory();
                }
                self.act_freely(client);
                let pause = 1 + self.random.up_to(self.scenario.pause_ns_max);
                self.schedule(self.now + pause, Event::Act(client));
            }
            Mood::Settling => {
                if self.clients[client].is_remote() {
                    self.mend_bridge();
                } else if self.has_dead_link(client) {
                    self.connect(client, false);
                }
            }
            Mood::Ending => self.act_last(client),
            Mood::Watching => {}
        }
    }

    /// Whether the client has no connection on which anything will happen.
    fn has_dead_link(&self, client: usize) -> bool {
        match &self.clients[client].link {
            Some(link) => self.connections[link.connection].is_black_hole,
            None => true,
        }
    }

    fn act_freely(&mut self, client: usize) {
        if self.clients[client].is_remote() {
            return self.act_as_remote(client);
        }
        let Some(link) = &self.clients[client].link else {
            return self.connect(client, false);
        };
        if link.is_finished {
            return;
        }
        if self.random.percent(self.scenario.drop_percent) {
            return self.drop_connection(client);
        }
        if !link.is_accepted {
            return;
        }
        match self.random.below(100) {
            0..55 => self.with_client(client, |client, around| client.publish(around)),
            55..85 => self.with_client(client, |client, around| client.subscribe(around)),
            85..93 => self.with_client(client, |client, around| client.unsubscribe(around)),
            93..96 => self.with_client(client, |client, around| client.ping(around)),
            _ => self.disconnect(client),
        }
    }

    fn act_last(&mut self, client: usize) {
        if self.has_ended[client] {
            return;
        }
        if self.has_dead_link(client) {
            return self.connect(client, true);
        }
        let link = self.clients[client].link.as_ref().expect("not dead");
        if link.is_accepted && !link.is_finished {
            self.has_ended[client] = link.expiry_seconds == 0;
            self.disconnect(client);
            self.schedule_soon(Event::Act(client));
        }
    }

    fn connect(&mut self, client: usize, to_end: bool) {
        if self.broker.is_gone() {
            // Refused; the client tries again when it acts again.
            return;
        }
        self.turn_away(client);
        // A client that loses its session and then the CONNACK that says so would resume a session which knows nothing of
        // its exchanges. The protocol has no remedy for that, so it is spared to clients here.
        if self.clients[client].unanswered.is_some_and(|connection| self.audit.has_new_session(connection)) {
            self.clients[client].throw_session_away();
        }
        // What the gate still has of an older connection would take the new one over.
        for connection in self.connections.iter_mut().filter(|connection| connection.client == client) {
            if matches!(connection.stage, Stage::Gate | Stage::Admitting) {
                connection.stage = Stage::Closed;
            }
        }
        let index = self.connections.len();
        let shard = self.broker.shard_of(&self.clients[client].profile.name);
        let mut connection = Connection::new(client, shard);
        connection.wire = Wire::of_client(index);
        self.connections.push(connection);
        self.trace.note(self.now, "connect", &[client as u64, index as u64]);
        self.with_client(client, |client, around| client.connect(around, index, to_end));
        self.audit.open(client, self.clients[client].version());
        self.schedule_ping(client, index);
    }

    fn disconnect(&mut self, client: usize) {
        let connection = self.clients[client].link.as_ref().expect("connected").connection;
        self.trace.note(self.now, "disconnect", &[client as u64, connection as u64]);
        self.with_client(client, |client, around| client.disconnect(around));
        self.connections[connection].finish();
        self.connections[connection].is_abandoned = self.random.percent(30);
        self.schedule_upstream(connection);
        self.schedule_downstream(connection, 0);
    }

    /// Ends a client's connection in one of the many ways in which that happens.
    fn drop_connection(&mut self, client: usize) {
        let index = self.clients[client].link.as_ref().expect("connected").connection;
        let way = self.random.below(7);
        self.trace.note(self.now, "drop", &[client as u64, index as u64, way]);
        let connection = &mut self.connections[index];
        match way {
            // The network breaks it; the client notices with the bytes that still arrive.
            0 => connection.reset(&mut self.random),
            // The client dies or gives up, and what is on its way may be lost.
            1 => {
                connection.reset(&mut self.random);
                connection.is_abandoned = true;
                self.clients[client].lose_connection();
            }
            // The client closes its socket.
            2 => {
                connection.finish();
                connection.is_abandoned = true;
                self.clients[client].lose_connection();
            }
            // The client closes its sending side, and reads on.
            3 => {
                connection.finish();
                self.clients[client].finish();
            }
            // Nothing arrives any more; the client notices at some time.
            4 => connection.is_black_hole = true,
            // The client has a fault.
            5 => {
                self.with_client(client, |client, around| client.misbehave(around));
                self.connections[index].finish();
            }
            // A second connection while the first one lives.
            _ => return self.connect(client, false),
        }
        self.schedule_upstream(index);
        self.schedule_downstream(index, 0);
        if way == 4 && self.random.percent(50) {
            self.clients[client].lose_connection();
        }
    }

    /// The client takes no further notice of its connection.
    fn turn_away(&mut self, client: usize) {
        let Some(link) = &self.clients[client].link else { return };
        let index = link.connection;
        self.clients[client].lose_connection();
        if self.random.percent(50) {
            self.connections[index].finish();
            self.schedule_upstream(index);
        }
        self.schedule_downstream(index, 0);
    }

    pub(super) fn answer(&mut self, connection: usize) {
        let client = self.connections[connection].client;
        if self.is_linked(connection) && self.clients[client].has_answers() {
            self.with_client(client, |client, around| client.answer(around));
            self.schedule_answer(connection);
        }
    }

    pub(super) fn schedule_answer(&mut self, connection: usize) {
        let client = &self.clients[self.connections[connection].client];
        if client.has_answers() {
            let delay = 1 + self.random.up_to(client.profile.answer_delay_ns_max);
            self.schedule(self.now + delay, Event::Answer(connection));
        }
    }

    pub(super) fn ping(&mut self, connection: usize) {
        let client = self.connections[connection].client;
        if !self.is_linked(connection) {
            return;
        }
        let link = self.clients[client].link.as_ref().expect("linked");
        if link.is_accepted && !link.is_finished {
            self.with_client(client, |client, around| client.ping(around));
        }
        self.schedule_ping(client, connection);
    }

    fn schedule_ping(&mut self, client: usize, connection: usize) {
        let profile = &self.clients[client].profile;
        if profile.keep_alive_seconds > 0 && profile.pings {
            let interval = u64::from(profile.keep_alive_seconds) * 1000 * MILLISECOND / 2;
            self.schedule(self.now + interval, Event::Ping(connection));
        }
    }

    /// Whether the connection is the one that its client uses.
    pub(super) fn is_linked(&self, connection: usize) -> bool {
        let client = self.connections[connection].client;
        self.clients[client].link.as_ref().is_some_and(|link| link.connection == connection)
    }
}
