//! What the loop says of itself and its shard: on lines of the log, and in answers to the admin thread.
//!
//! Figures are asked for seldom, and what it takes to count them is done in bounded pieces, one in a turn. Who asks while a count
//! goes on gets what comes of that.

use tracing::info;

use crate::shard::{Census, ClientReport, NotRemoved};
use crate::store::{LogFailure, LogPosition};
use crate::time::Timestamp;

use super::driver::Driver;
use super::figures::{DiskFigures, ShardFigures, commit_latencies, latencies};
use super::question::{Announcement, Answer, ClientDetails, ClientDetailsPage, Question};

/// Questions that have no answer yet.
#[derive(Default)]
pub(super) struct OpenQuestions {
    /// Who wants figures.
    figures: Vec<Answer<ShardFigures>>,
    /// The count for them.
    census: Census,
    /// What is done and waits for the log, with the positions that it waits for.
    done: Vec<(LogPosition, Done)>,
}

/// What somebody is told when the log has it.
enum Done {
    Announced(Answer<Result<(), &'static str>>),
    Removed(Answer<Result<(), NotRemoved>>),
}

impl Done {
    /// The log has it.
    fn confirm(self) {
        match self {
            Self::Announced(answer) => answer.give(Ok(())),
            Self::Removed(answer) => answer.give(Ok(())),
        }
    }

    /// The log has failed.
    fn disown(self) {
        match self {
            Self::Announced(answer) => answer.give(Err(LOG_FAILED)),
            Self::Removed(answer) => answer.give(Err(NotRemoved::LogFailed)),
        }
    }
}

/// What is answered to whose message waits for a log that has failed.
const LOG_FAILED: &str = "the log has failed: whether the message outlives the broker is not known";

impl OpenQuestions {
    fn is_empty(&self) -> bool {
        self.figures.is_empty() && self.done.is_empty()
    }
}

impl Driver {
    /// Answers a question, or notes it for [`answer_open_questions`](Self::answer_open_questions).
    pub(super) fn handle_question(&mut self, now: Timestamp, question: Question) {
        match question {
            Question::LogFailure(answer) => answer.give(self.shard.log().failure()),
            Question::Figures(answer) => self.questions.figures.push(answer),
            Question::Clients(query, answer) if answer.is_awaited() => {
                let page = self.shard.clients(query.from, query.max, &query.id_contains);
                let clients = page.clients.into_iter().map(|report| self.details(report)).collect();
                answer.give(ClientDetailsPage { clients, next: page.next });
            }
            Question::Clients(..) => {}
            Question::Client(client_id, answer) => {
                answer.give(self.shard.client(&client_id).map(|report| self.details(report)));
            }
            Question::Dismiss(client_id, answer) if answer.is_awaited() => {
                answer.give(self.shard.handle_dismissal(now, &client_id));
            }
            // Who has asked was told that it has not happened.
            Question::Dismiss(..) => {}
            Question::Announce(announcement, answer) if answer.is_awaited() => {
                let Announcement { topic, payload, qos, retain } = announcement;
                match self.shard.handle_announcement(now, &topic, &payload, qos, retain) {
                    Ok(after) => self.questions.done.push((after, Done::Announced(answer))),
                    Err(refusal) => answer.give(Err(refusal)),
                }
            }
            Question::Announce(..) => {}
            Question::Subscriptions(client_id, max, answer) => {
                answer.give(self.shard.subscriptions_of(&client_id, max));
            }
            Question::EndSession(client_id, answer) if answer.is_awaited() => {
                let removed = self.shard.handle_session_removal(now, &client_id);
                self.confirm_removal(removed, answer);
            }
            Question::EndSession(..) => {}
            Question::RetainedMessages(query, answer) if answer.is_awaited() => {
                answer.give(self.shard.retained_messages(now, query.from, query.max, &query.filter));
            }
            Question::RetainedMessages(..) => {}
            Question::RetainedMessage(topic, answer) => answer.give(self.shard.retained_message(now, &topic)),
            Question::RemoveRetained(topic, answer) if answer.is_awaited() => {
                let removed = self.shard.handle_retained_removal(now, &topic);
                self.confirm_removal(removed, answer);
            }
            Question::RemoveRetained(..) => {}
        }
    }

    /// Answers when what was removed is gone for good, or at once if it was not.
    fn confirm_removal(&mut self, removed: Result<LogPosition, NotRemoved>, answer: Answer<Result<(), NotRemoved>>) {
        match removed {
            Ok(after) => self.questions.done.push((after, Done::Removed(answer))),
            Err(reason) => answer.give(Err(reason)),
        }
    }

    /// Answers what can be answered now; whether something is to be counted in the next turn.
    #[inline]
    pub(super) fn answer_open_questions(&mut self) -> bool {
        !self.questions.is_empty() && self.answer_some()
    }

    #[cold]
    fn answer_some(&mut self) -> bool {
        let log = self.shard.log();
        let (stable, has_failed) = (log.stable(), log.failure().is_some());
        for (_, done) in self.questions.done.extract_if(.., |(after, _)| *after <= stable) {
            done.confirm();
        }
        if has_failed {
            self.questions.done.drain(..).for_each(|(_, done)| done.disown());
        }
        if self.questions.figures.is_empty() {
            return false;
        }
        if !self.shard.continue_census(&mut self.questions.census) {
            return true;
        }
        let census = std::mem::take(&mut self.questions.census);
        let figures = self.figures(&census);
        for answer in self.questions.figures.drain(..) {
            answer.give(figures.clone());
        }
        false
    }

    fn figures(&self, census: &Census) -> ShardFigures {
        let counters = &self.state.counters;
        let report = self.shard.report(census);
        ShardFigures {
            latencies: latencies(&report.latencies),
            shard: report,
            receives_starved: counters.receives_starved,
            sends_continued: counters.sends_continued,
            completion_overflows: self.ring.overflows(),
            ring_batches: (0..self.bells.len()).map(|to| self.routes.waiting(to)).collect(),
            turns: self.turn_times.distribution(),
            disk: self.disk.as_ref().map(|disk| {
                let counters = disk.counters();
                DiskFigures {
                    bytes: counters.bytes,
                    read_bytes: disk.reader.read_bytes(),
                    segments_awaited: counters.segments_awaited,
                    commits: commit_latencies(&counters.latency_us, counters.latency),
                }
            }),
        }
    }

    fn details(&self, report: ClientReport) -> ClientDetails {
        let connection = report.connection.as_ref().and_then(|connection| self.state.peek(connection.key));
        ClientDetails {
            origin: connection.and_then(|connection| connection.origin()),
            connected_at_seconds: connection.map(|connection| connection.connected_at_seconds),
            report,
        }
    }

    /// Writes the counters to the log.
    pub(super) fn log_counters(&self) {
        let counters = &self.state.counters;
        info!(
            "counters shard={} {} open_sockets={} receives_starved={} sends_continued={} completion_overflows={}",
            self.id.number(),
            self.shard.counters(),
            self.state.open_sockets(),
            counters.receives_starved,
            counters.sends_continued,
            self.ring.overflows(),
        );
        if let Some(disk) = &self.disk {
            let log = self.shard.log();
            let failure = log.failure().map_or("none", LogFailure::name);
            info!(
                "log shard={} records={} segment_bytes={} failure={failure} {} read_bytes={}",
                self.id.number(),
                log.records(),
                log.bytes(),
                disk.counters(),
                disk.reader.read_bytes(),
            );
        }
    }
}
