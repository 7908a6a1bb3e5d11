//! What mosquitto.conf says of the broker as a whole.

use super::Line;
use super::output::Output;
use crate::config::{MAX_PACKET_BYTES, MAX_QUEUED_BYTES, MAX_QUEUED_MESSAGES, REPORT_INTERVAL};

/// Bytes of a packet beside its payload for which mosquitto's limit of payloads leaves room: the longest topic.
const TOPIC_BYTES_MAX: i64 = 65_535;

/// What has to be known of several lines before it can be said.
#[derive(Default)]
pub(super) struct Broker {
    log_types: Vec<Line>,
    message_size_limit: Option<Line>,
}

impl Broker {
    /// Carries a line over, unless others have to be known first.
    pub(super) fn take(&mut self, line: Line, output: &mut Output) {
        if let Some(reason) = not_needed(&line) {
            return output.not_needed(&line, reason);
        }
        if let Some(reason) = left_out(&line) {
            return output.left_out(&line, reason);
        }
        if let Some(reason) = left_out_of_security(&line) {
            return output.left_out_of_security(&line, reason);
        }
        match (line.word.as_str(), line.number()) {
            ("log_type", _) => self.log_types.push(line),
            ("message_size_limit", Some(_)) => output.replaced(self.message_size_limit.replace(line)),
            ("max_packet_size", Some(bytes)) => output.set(&line, "max-packet-bytes", &packet_bytes(bytes)),
            ("max_inflight_messages", Some(messages)) => {
                let messages = if messages == 0 { u16::MAX.to_string() } else { messages.to_string() };
                output.set(&line, "max-inflight", &messages);
                output.imply("receive-maximum", &messages);
            }
            ("max_queued_messages", Some(messages)) => {
                let messages = if messages == 0 { MAX_QUEUED_MESSAGES.end().to_string() } else { messages.to_string() };
                output.set(&line, "max-queued-messages", &messages);
            }
            ("max_queued_bytes", Some(bytes)) => {
                let bytes = u64::try_from(bytes).ok().filter(|bytes| *bytes > 0).unwrap_or(u64::MAX);
                let bytes = bytes.clamp(*MAX_QUEUED_BYTES.start(), *MAX_QUEUED_BYTES.end());
                output.set(&line, "max-queued-bytes", &bytes.to_string());
            }
            ("max_keepalive", Some(seconds)) => output.set(&line, "max-keep-alive", &seconds.to_string()),
            ("global_max_connections", Some(clients)) if clients > 0 => {
                output.set(&line, "max-connections", &clients.to_string());
            }
            ("sys_interval", Some(seconds)) => {
                let seconds = seconds.min(REPORT_INTERVAL.end().as_secs() as i64);
                output.set(&line, "sys-interval", &seconds.to_string());
            }
            ("retain_available", _) => {
                output.set(&line, "retain-available", if line.truth() == Some(false) { "false" } else { "true" })
            }
            ("persistence", _) if line.truth() == Some(true) => output.set(&line, "durability", "sync"),
            ("persistence", _) => output.set(&line, "durability", "none"),
            ("persistence_location", _) if line.rest.is_empty() => output.left_out(&line, "it names no directory"),
            ("persistence_location", _) => {
                output.remark(
                    "The log lies in a directory of its own below persistence_location; what mosquitto.db holds is not taken over.",
                );
                output.set(&line, "data-dir", &format!("{}/oncemq", line.rest.trim_end_matches('/')));
            }
            // What nobody here knows may be about anything.
            _ => output.left_out_of_security(&line, "this is not known to be a line of mosquitto 2.0"),
        }
    }

    /// Carries over what several lines say together.
    pub(super) fn finish(self, output: &mut Output) {
        let level = self.log_types.iter().map(|line| log_level(line.value())).max();
        for line in &self.log_types {
            output.set(line, "log-level", level.unwrap_or(Level::Error).name());
        }
        if let Some(line) = &self.message_size_limit {
            let bytes = line.number().unwrap_or_default();
            if output.is_set("max-packet-bytes") {
                output.left_out(line, "max_packet_size says how large packets may be");
            } else {
                output.remark("max-packet-bytes is the payload that mosquitto allows with the longest topic, for packets are counted whole.");
                output.set(
                    line,
                    "max-packet-bytes",
                    &packet_bytes(if bytes == 0 { 0 } else { bytes.saturating_add(TOPIC_BYTES_MAX) }),
                );
            }
        }
        if !output.is_set("max-packet-bytes") {
            output.remark(
                "mosquitto takes packets of all sizes unless told otherwise, oncemq those of 1 MiB (max-packet-bytes).",
            );
        }
    }
}

/// The largest packet: within our bounds, and the upper one for 0, which is mosquitto's word for all.
fn packet_bytes(bytes: i64) -> String {
    let bytes = u32::try_from(bytes).ok().filter(|bytes| *bytes > 0).unwrap_or(u32::MAX);
    bytes.clamp(*MAX_PACKET_BYTES.start(), *MAX_PACKET_BYTES.end()).to_string()
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }
}

fn log_level(log_type: &str) -> Level {
    match log_type {
        "none" | "error" => Level::Error,
        "warning" => Level::Warn,
        "debug" | "all" | "subscribe" | "unsubscribe" | "websockets" => Level::Debug,
        _ => Level::Info,
    }
}

/// Why nothing has to be said in place of a line.
fn not_needed(line: &Line) -> Option<&'static str> {
    Some(match (line.word.as_str(), line.truth()) {
        ("autosave_interval" | "autosave_on_changes" | "persistence_file", _) => "every change is logged as it happens",
        ("set_tcp_nodelay", _) => "packets are never held back to fill segments",
        ("allow_duplicate_messages", _) => "a message comes once for each subscription, as the standard says",
        ("pid_file", _) => "who starts the broker knows its process",
        ("log_timestamp" | "log_timestamp_format" | "connection_messages" | "websockets_log_level", _) => {
            "log lines have one form; --log-level debug tells of single clients"
        }
        ("websockets_headers_size", _) => "requests for WebSockets may have 8 KiB",
        ("log_dest", _) if line.value() == "stderr" => "the log goes there always",
        ("queue_qos0_messages" | "upgrade_outgoing_qos" | "check_retain_source", Some(false)) => "this is so always",
        ("allow_zero_length_clientid", Some(true)) => "this is so always",
        ("memory_limit" | "max_inflight_bytes", _) if line.number() == Some(0) => "this is no limit",
        _ => return None,
    })
}

/// Why a line cannot be carried over.
fn left_out(line: &Line) -> Option<&'static str> {
    Some(match line.word.as_str() {
        "user" => "oncemq keeps the user that it is started as: name this one there (User= in the unit)",
        "log_dest" | "log_facility" => "the log goes to standard error, from where systemd takes it",
        "queue_qos0_messages" => "QoS 0 messages are not kept for clients that are away",
        "upgrade_outgoing_qos" => {
            "messages are delivered with the lower QoS of publisher and subscription, as the standard says"
        }
        "persistent_client_expiration" => "sessions of 3.1.1 clients do not expire",
        "allow_zero_length_clientid" => "clients without an id are given one",
        "auto_id_prefix" => "ids that are made up begin with once-",
        "memory_limit" => "queue-memory bounds what queues take; there is no limit for all together",
        "max_inflight_bytes" => "messages in flight are counted, not their bytes (max-inflight)",
        _ => return None,
    })
}

/// Why a line that keeps somebody out cannot be carried over.
fn left_out_of_security(line: &Line) -> Option<&'static str> {
    Some(match line.word.as_str() {
        "clientid_prefixes" => "every client may have every id",
        "check_retain_source" => "whether who has published a retained message still may is not asked again",
        _ => return None,
    })
}
