use std::time::Duration;

use super::*;

fn parse(arguments: &[&str]) -> Result<ServeConfig, String> {
    let arguments = [&["oncemq"], arguments].concat();
    let cli = Cli::try_parse_from(arguments).map_err(|error| error.to_string())?;
    match cli.into_action().map_err(|error| error.to_string())? {
        Action::Serve { config, .. } => Ok(*config),
        other => Err(format!("another command: {other:?}")),
    }
}

#[test]
fn the_flags_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn serve_is_the_default_command() {
    let plain = parse(&["--shards", "2"]).expect("flags alone");
    let spelled = parse(&["serve", "--shards", "2"]).expect("the command spelled out");
    assert_eq!(plain.shards.map(NonZeroU16::get), Some(2));
    assert_eq!(spelled.shards, plain.shards);
}

#[test]
fn a_log_is_looked_into_on_request() {
    for (words, expected) in [
        (&["verify"][..], Inspection::Verify),
        (&["dump"], Inspection::Dump),
        (&["dump", "--json"], Inspection::DumpJson),
        (&["stats"], Inspection::Statistics),
    ] {
        let arguments = [&["oncemq", "log"], words, &["data"]].concat();
        match Cli::try_parse_from(arguments).expect("a command").into_action().expect("all is told") {
            Action::InspectLog { directory, inspection } => {
                assert_eq!((directory, inspection), (PathBuf::from("data"), expected));
            }
            other => panic!("{words:?} looks into a log: {other:?}"),
        }
    }
}

#[test]
fn a_log_is_kept_unless_told_otherwise() {
    let config = parse(&[]).expect("no flags");
    assert_eq!(config.durability, Durability::Sync);
    assert_eq!(config.log.directory, PathBuf::from("oncemq-data"));
    assert_eq!(config.log.recovery, RecoveryMode::Strict);
    let odd = parse(&["--segment-bytes", "1048577"]).expect("a size");
    assert_eq!(odd.log.segment_bytes, (1 << 20) + 4096, "whole blocks");
}

#[test]
fn durable_queues_are_kept_unless_told_otherwise() {
    let limits = parse(&[]).expect("no flags").limits;
    assert_eq!((limits.queue_policy, limits.durable_queue_policy), (QueuePolicy::DropNewest, None));
    let flags = ["--queue-policy-durable", "drop-oldest", "--queue-policy", "disconnect"];
    let limits = parse(&flags).expect("policies").limits;
    assert_eq!(limits.durable_queue_policy, Some(QueuePolicy::DropOldest));
    assert_eq!(limits.queue_policy, QueuePolicy::Disconnect);
}

#[test]
fn sessions_are_not_limited_unless_told_otherwise() {
    assert_eq!(parse(&[]).expect("no flags").limits.max_sessions, None);
    for (given, expected) in [("0", None), ("7", NonZeroU32::new(7))] {
        assert_eq!(parse(&["--max-sessions", given]).expect("a number").limits.max_sessions, expected);
    }
}

#[test]
fn the_broker_reports_unless_told_otherwise() {
    assert_eq!(parse(&[]).expect("no flags").report_interval, Some(config::REPORT_INTERVAL_DEFAULT));
    assert_eq!(parse(&["--sys-interval", "0"]).expect("a duration").report_interval, None);
}

#[test]
fn units_are_understood() {
    let config = parse(&[
        "--max-packet-bytes",
        "2MiB",
        "--max-queued-bytes",
        "4096",
        "--connect-timeout",
        "500ms",
        "--linger",
        "2",
        "--pin",
        "1,4-6",
        "--listen",
        "127.0.0.1:1",
        "--listen",
        "[::1]:2",
    ])
    .expect("good values");
    assert_eq!(config.limits.max_packet_bytes, 2 << 20);
    assert_eq!(config.limits.max_queued_bytes, 4096);
    assert_eq!(config.gate.connect_timeout, Duration::from_millis(500));
    assert_eq!(config.limits.linger, Duration::from_secs(2));
    assert_eq!(config.pinning, Pinning::Cpus(vec![1, 4, 5, 6]));
    assert_eq!(config.listen.len(), 2);
}

#[test]
fn a_bad_value_is_told_by_flag_value_and_what_is_allowed() {
    for (flag, value, allowed) in [
        ("--shards", "0", "from 1 to 64"),
        ("--shards", "65", "from 1 to 64"),
        ("--ring-entries", "100", "a power of two from 64 to 32768"),
        ("--recv-buffers", "8", "a power of two from 16 to 32768"),
        ("--recv-buffer-bytes", "2MiB", "from 256B to 1MiB"),
        ("--max-packet-bytes", "257MiB", "from 1KiB to"),
        ("--max-packet-bytes", "many", "KiB"),
        ("--receive-maximum", "0", "from 1 to 65535"),
        ("--topic-alias-max", "65536", "from 0 to 65535"),
        ("--topic-alias-out-max", "all", "from 0 to 65535"),
        ("--max-sessions", "100000001", "from 0 to 100000000"),
        ("--max-subscriptions", "0", "from 1 to 10000000"),
        ("--max-topic-levels", "1025", "from 1 to 1024"),
        ("--max-publish-rate", "10000001", "from 0 to 10000000"),
        ("--max-publish-bytes-rate", "2048GiB", "from 0B to 1024GiB"),
        ("--max-memory", "32768GiB", "from 0B to 16384GiB"),
        ("--shared-balance", "random", "allowed is least-inflight, round-robin or sticky"),
        ("--connect-timeout", "0", "from 100ms to 5m"),
        ("--linger", "1h", "(ms, s, m)"),
        ("--sys-interval", "61m", "from 0ms to 60m"),
        ("--listen", "0.0.0.0:1883", "--password-file"),
        ("--listen", "[::]:1883", "--allow-anonymous"),
        ("--listen", "localhost", "127.0.0.1:1883"),
        ("--durability", "some", "allowed is sync, write or none"),
        ("--segment-bytes", "4KiB", "from 1MiB to 1GiB"),
        ("--commit-delay", "1s", "from 0ms to 100ms"),
        ("--queue-policy", "keep", "allowed is drop-newest, drop-oldest or disconnect"),
        ("--queue-policy-durable", "drop", "allowed is keep, drop-newest, drop-oldest or disconnect"),
        ("--queue-policy-qos0", "drop-oldest", "allowed is drop-newest or disconnect"),
        ("--recover", "all", "allowed is strict or salvage"),
        ("--queue-memory", "1KiB", "from 1MiB to 1024GiB"),
        ("--pin", "3-1", "a list of CPUs"),
        ("--pin", "all", "a list of CPUs"),
        ("--bridge", "hub.example", "NAME=HOST[:PORT]"),
        ("--bridge", "a b=hub", "letters, digits"),
        ("--bridge", "up=hub,color=red", "allowed are protocol"),
        ("--bridge", "up=hub,protocol=3.1", "allowed is 5.0 or 3.1.1"),
        ("--bridge", "up=hub,keep-alive=4", "from 5 to 65535"),
        ("--bridge", "up=hub,password-file=x", "only with user"),
        ("--bridge-topic", "up", "NAME=PATTERN"),
        ("--bridge-topic", "up=a,qos=3", "allowed is 0, 1 or 2"),
        ("--bridge-topic", "up=a,sideways", "[,out|in|both]"),
        ("--bridge-topic", "up=a/#/b", "no topic filter"),
        ("--log-level", "loud", "debug"),
    ] {
        let text = parse(&[flag, value]).expect_err("refused");
        for part in [flag, value, allowed] {
            assert!(text.contains(part), "{flag} {value}: {text}");
        }
    }
}

#[test]
fn plain_clients_may_be_accepted_nowhere() {
    let config = parse(&["--listen=none", "--websocket-listen=127.0.0.1:8083"]).expect("somewhere else");
    assert!(config.listen.is_empty());
    for (listen, part) in [("none", "--tls-listen"), ("none,127.0.0.1:1883", "without an address beside it")] {
        let refused = parse(&["--listen", listen]).expect_err("refused");
        assert!(refused.contains("--listen none: ") && refused.contains(part), "{refused}");
    }
}

#[test]
fn every_flag_has_an_environment_variable() {
    for argument in Cli::command().get_arguments().filter(|argument| argument.get_long().is_some()) {
        let long = argument.get_long().unwrap_or_default();
        if matches!(long, "help" | "version") {
            continue;
        }
        let expected = format!("ONCEMQ_{}", long.replace('-', "_").to_uppercase());
        let variable = argument.get_env().and_then(|name| name.to_str());
        assert_eq!(variable, Some(expected.as_str()), "--{long}");
    }
}
