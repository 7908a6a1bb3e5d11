use super::super::exposition::parsing::parse;
use super::testing::figures_of;
use super::*;
use crate::io::DiskFigures;
use crate::shard::{Counters, LogReport};

fn figures(shards: Vec<Option<ShardFigures>>) -> Figures {
    let counts = crate::gate::GateFigures::default().rows().collect();
    Figures {
        started: Duration::from_millis(1_700_000_000_500),
        is_ready: true,
        process: ProcessFigures { open_files: Some(7), ..ProcessFigures::default() },
        broker: Some(BrokerFigures { shards, gate: GateRows { counts, half_open: 3, connections_max: 100 } }),
    }
}

#[test]
fn every_count_is_shown_somewhere() {
    for (name, help, _) in Counters::default().rows() {
        assert_ne!(shown(name), Shown::Nowhere, "{name}");
        assert!(help.ends_with('.'), "{name}: {help}");
    }
    for (name, help, _) in crate::gate::GateFigures::default().rows() {
        assert_ne!(shown_of_gate(name), Shown::Nowhere, "{name}");
        assert!(help.ends_with('.'), "{name}: {help}");
    }
}

#[test]
fn every_name_begins_as_it_should_and_every_help_ends() {
    let mut figures_with_log = figures_of(0, 1);
    figures_with_log.shard.log = Some(LogReport { records: 0, segment_bytes: 0, failure: None, is_at_limit: false });
    let text = render(&figures(vec![Some(figures_with_log)]));
    parse(&text);
    for help in text.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        assert!(help.starts_with("oncemq_") || help.starts_with("process_"), "{help}");
        assert!(help.ends_with('.'), "{help}");
    }
}

#[test]
fn what_shards_count_is_told_apart_by_labels() {
    let mut first = figures_of(0, 2);
    first.shard.counters =
        Counters { connections: 5, sessions: 9, dropped_queue_full: 2, refused_log_full: 3, ..Counters::default() };
    first.shard.connected = 4;
    first.shard.exchanges.awaiting_pubrel = 6;
    first.shard.letters = vec![0, 8];
    first.turns = Distribution { within: vec![(1e-6, 1)], count: 2, sum: Duration::from_millis(3) };
    let samples = parse(&render(&figures(vec![Some(first), Some(figures_of(1, 2))])));
    for (key, value) in [
        (r#"oncemq_build_info{version="0.1.0"}"#, 1.0),
        ("oncemq_ready", 1.0),
        ("process_start_time_seconds", 1_700_000_000.5),
        ("process_open_fds", 7.0),
        ("oncemq_gate_half_open", 3.0),
        (r#"oncemq_gate_refusals_total{reason="credentials"}"#, 0.0),
        (r#"oncemq_shard_up{shard="1"}"#, 1.0),
        (r#"oncemq_connections{shard="0"}"#, 5.0),
        (r#"oncemq_sessions{shard="0",state="connected"}"#, 4.0),
        (r#"oncemq_sessions{shard="0",state="away"}"#, 5.0),
        (r#"oncemq_messages_dropped_total{shard="0",reason="queue_full"}"#, 2.0),
        (r#"oncemq_messages_dropped_total{shard="1",reason="queue_full"}"#, 0.0),
        (r#"oncemq_refused_total{shard="0",reason="log_full"}"#, 3.0),
        (r#"oncemq_packets_received_total{shard="1",type="pubrel"}"#, 0.0),
        (r#"oncemq_messages_sent_total{shard="1",qos="2"}"#, 0.0),
        (r#"oncemq_inflight_messages{shard="0",direction="in",awaiting="pubrel"}"#, 6.0),
        (r#"oncemq_letters_waiting{shard="0",target="1"}"#, 8.0),
        (r#"oncemq_loop_turn_seconds_bucket{shard="0",le="0.000001"}"#, 1.0),
        (r#"oncemq_loop_turn_seconds_count{shard="0"}"#, 2.0),
    ] {
        assert_eq!(samples.get(key), Some(&value), "{key}");
    }
    assert!(!samples.contains_key(r#"oncemq_letters_waiting{shard="0",target="0"}"#));
    assert!(!samples.keys().any(|key| key.starts_with("oncemq_log_failed")), "nothing is logged");
}

#[test]
fn a_log_and_its_failure_are_shown() {
    let mut figures_with_log = figures_of(0, 1);
    let failure = Some(LogFailure::NoSpace);
    figures_with_log.shard.log = Some(LogReport { records: 7, segment_bytes: 4096, failure, is_at_limit: true });
    figures_with_log.disk = Some(DiskFigures {
        bytes: 8192,
        read_bytes: 0,
        segments_awaited: 1,
        commits: Distribution { within: vec![(0.001, 1)], count: 2, sum: Duration::from_millis(5) },
    });
    let samples = parse(&render(&figures(vec![Some(figures_with_log)])));
    for (key, value) in [
        (r#"oncemq_log_failed{shard="0",reason="no_space"}"#, 1.0),
        (r#"oncemq_log_failed{shard="0",reason="io"}"#, 0.0),
        (r#"oncemq_log_at_limit{shard="0"}"#, 1.0),
        (r#"oncemq_log_records_total{shard="0"}"#, 7.0),
        (r#"oncemq_log_written_bytes_total{shard="0"}"#, 8192.0),
        (r#"oncemq_log_commit_seconds_bucket{shard="0",le="0.001"}"#, 1.0),
        (r#"oncemq_log_commit_seconds_bucket{shard="0",le="+Inf"}"#, 2.0),
        (r#"oncemq_log_commit_seconds_sum{shard="0"}"#, 0.005),
    ] {
        assert_eq!(samples.get(key), Some(&value), "{key}");
    }
}

#[test]
fn a_shard_that_does_not_answer_is_down_and_a_broker_that_recovers_is_a_process() {
    let samples = parse(&render(&figures(vec![None, Some(figures_of(1, 2))])));
    assert_eq!(samples[r#"oncemq_shard_up{shard="0"}"#], 0.0);
    assert_eq!(samples[r#"oncemq_shard_up{shard="1"}"#], 1.0);
    assert!(!samples.contains_key(r#"oncemq_connections{shard="0"}"#));
    let samples = parse(&render(&Figures { is_ready: false, broker: None, ..figures(Vec::new()) }));
    assert_eq!(samples["oncemq_ready"], 0.0);
    assert!(!samples.keys().any(|key| key.contains("shard")));
}

/// What `deploy/` asks Prometheus for is there to be asked for.
#[test]
fn the_dashboard_and_the_alerts_name_metrics_that_exist() {
    let dashboard = include_str!("../../../deploy/grafana/oncemq.json");
    let alerts = include_str!("../../../deploy/prometheus/oncemq.rules.yml");
    serde_json::from_str::<serde_json::Value>(dashboard).expect("JSON");
    let mut figures_with_log = figures_of(0, 2);
    figures_with_log.shard.log = Some(LogReport { records: 0, segment_bytes: 0, failure: None, is_at_limit: false });
    let text = render(&Figures { process: ProcessFigures::now(), ..figures(vec![Some(figures_with_log)]) });
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let named = |document: &'static str| {
        let words = document.split(move |c| !is_word(c));
        words.filter(|word| word.starts_with("oncemq_") || word.starts_with("process_")).collect::<Vec<_>>()
    };
    for (document, at_least) in [(dashboard, 20), (alerts, 8)] {
        let names = named(document);
        assert!(names.len() >= at_least, "{names:?}");
        for name in names {
            let is_histogram = |suffix| {
                let family = name.strip_suffix(suffix);
                family.is_some_and(|family| text.contains(&format!("# TYPE {family} histogram\n")))
            };
            let is_there = ["gauge", "counter"].iter().any(|kind| text.contains(&format!("# TYPE {name} {kind}\n")))
                || ["_bucket", "_sum", "_count"].into_iter().any(is_histogram);
            assert!(is_there, "{name}");
        }
    }
}
