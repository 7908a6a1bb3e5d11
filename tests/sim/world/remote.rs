//! The life of the bridge's remote: it publishes, breaks connections, and loses the session now and then. That it is
//! connected is the broker's affair.

use oncemq::proto::Version;

use crate::network::Stage;

use super::World;

impl World {
    pub(super) fn act_as_remote(&mut self, client: usize) {
        let plan = &self.bridging.as_ref().expect("it has a remote").plan;
        let loss_percent = plan.loss_percent;
        let Some(link) = &self.clients[client].link else {
            if self.random.percent(loss_percent / 10) {
                self.lose_remote_session(client);
            }
            return;
        };
        if link.is_finished {
            return;
        }
        if self.random.percent(self.scenario.drop_percent) {
            return self.break_bridge(client, loss_percent);
        }
        if link.is_accepted {
            self.with_client(client, |client, around| client.publish(around));
        }
    }

    /// Ends the connection in one of the many ways in which that happens.
    fn break_bridge(&mut self, client: usize, loss_percent: u64) {
        let index = self.clients[client].link.as_ref().expect("connected").connection;
        let is_serving = matches!(self.connections[index].stage, Stage::Serving(_));
        let way = self.random.below(7);
        self.trace.note(self.now, "break", &[client as u64, index as u64, way]);
        let connection = &mut self.connections[index];
        match way {
            // The network breaks it; the remote notices with the bytes that still arrive.
            0 => connection.reset(&mut self.random),
            // The remote closes its sending side, and reads on.
            1 => {
                connection.finish();
                self.clients[client].finish();
            }
            // Nothing arrives any more; the bridge notices when the remote has been silent for too long.
            2 if is_serving => {
                connection.is_black_hole = true;
                if self.random.percent(50) {
                    self.clients[client].lose_connection();
                }
            }
            // The remote says good-bye.
            3 if is_serving && self.clients[client].version() == Version::V5 => {
                self.with_client(client, |client, around| client.send_away(around));
                self.connections[index].finish();
                self.connections[index].is_abandoned = true;
                self.lose_remote_session_perhaps(client, loss_percent);
            }
            // The remote has a fault.
            4 if is_serving => {
                self.with_client(client, |client, around| client.misbehave_as_server(around));
                self.connections[index].finish();
            }
            // The remote dies, and what is on its way may be lost.
            5 => {
                connection.reset(&mut self.random);
                connection.is_abandoned = true;
                self.clients[client].lose_connection();
                self.lose_remote_session_perhaps(client, loss_percent);
            }
            // The remote closes its socket.
            _ => {
                connection.finish();
                connection.is_abandoned = true;
                self.clients[client].lose_connection();
                self.lose_remote_session_perhaps(client, loss_percent);
            }
        }
        self.schedule_upstream(index);
        self.go_on_writing(index);
        self.schedule_downstream(index, 0);
    }

    fn lose_remote_session_perhaps(&mut self, client: usize, percent: u64) {
        if self.random.percent(percent) {
            self.lose_remote_session(client);
        }
    }

    fn lose_remote_session(&mut self, client: usize) {
        self.trace.note(self.now, "remote loses session", &[client as u64]);
        self.clients[client].lose_session();
        self.bridging.as_mut().expect("it has a remote").visits.lost += 1;
    }

    /// A connection on which nothing arrives any more breaks at last.
    pub(super) fn mend_bridge(&mut self) {
        let Some(index) = self.bridging.as_ref().and_then(|bridging| bridging.connection) else { return };
        let connection = &mut self.connections[index];
        if std::mem::take(&mut connection.is_black_hole) {
            connection.up.clear();
            connection.down.clear();
            connection.reset(&mut self.random);
            self.schedule_upstream(index);
            self.go_on_writing(index);
            self.schedule_downstream(index, 0);
        }
    }

    /// All clients have ended their sessions: the bridge is the last to go.
    pub(super) fn end_bridge(&mut self) {
        let Some(bridging) = &mut self.bridging else { return };
        bridging.is_stopped = true;
        let (remote, connection) = (bridging.plan.remote, bridging.connection);
        self.clients[remote].lose_connection();
        if let Some(index) = connection {
            self.connections[index].is_black_hole = false;
            self.connections[index].finish();
            self.connections[index].is_abandoned = true;
            self.schedule_upstream(index);
            self.go_on_writing(index);
            self.schedule_downstream(index, 0);
        }
    }

    /// Whether the bridge is there and everything should go over it.
    pub(super) fn is_bridged(&self) -> bool {
        self.bridging.as_ref().is_some_and(|bridging| bridging.is_configured())
    }
}
