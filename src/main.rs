//! The OnceMQ broker.

use std::fmt::{Display, Write};
use std::io::{IsTerminal, stderr};
use std::num::NonZeroU32;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use oncemq::auth::{Access, AccessRules};
use oncemq::cli::{Action, Cli, LogLevel};
use oncemq::config::{
    AccessSettings, CertificateName, Durability, MAX_CONNECTIONS, SHARDS_MAX, SHUTDOWN_MAX, ServeConfig, TlsSettings,
};
use oncemq::error::{AclFileError, PasswordFileError, StartError, TlsError};
use oncemq::gate::{self, Credentials, Entrance, Gate, Listener, read_credentials};
use oncemq::io::{self, Clock, ConnectionPermits, DataDirectory, Placement, Shards};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Files that the process needs beside its clients': rings, bells, listeners, standard streams, and some to spare.
const OTHER_FILES: u64 = 256;

fn main() -> ExitCode {
    // Before memory is used, for what lies in huge pages stays there.
    io::allow_huge_pages(false);
    match Cli::parse().into_action().unwrap_or_else(|error| error.exit()) {
        Action::Serve { config, log_level } => {
            start_logging(log_level);
            end(serve(&config).map(|()| ExitCode::SUCCESS))
        }
        Action::InspectLog { directory, inspection } => end(io::inspect_log(&directory, inspection)),
        Action::ChangePassword { file, user, scheme } => {
            end(io::change_password(&file, &user, scheme).map(|()| ExitCode::SUCCESS))
        }
    }
}

/// The exit code, or the error where everybody looks for it.
fn end<E: Display>(result: Result<ExitCode, E>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("oncemq: {error}");
        ExitCode::FAILURE
    })
}

/// Starts everything, serves until a signal ends it.
fn serve(config: &ServeConfig) -> Result<(), StartError> {
    io::check_kernel()?;
    io::allow_huge_pages(config.huge_pages);
    io::outlive_file_size_limit();
    let mut signals =
        Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1]).map_err(|source| StartError::Signals { source })?;
    let permits = ConnectionPermits::new(connections_max(config));
    let allowed_cpus = io::allowed_cpus();
    let placement = io::place(config.shards.map(u16::from), SHARDS_MAX, &config.pinning, &allowed_cpus)?;
    let access = read_access(&config.access)?;
    let introduction = introduce_access(&config.access, &access);
    let rules = config.access.acl_file.as_deref().map(introduce_rules).transpose()?;
    let credentials = config.tls.as_ref().map(introduce_credentials).transpose()?;
    // Held until the process ends.
    let data = match config.durability {
        Durability::Sync | Durability::Write => Some(DataDirectory::hold(&config.log.directory)?),
        Durability::None => None,
    };
    let listeners = listeners(config)?;
    let clock = Clock::start();
    let shard_count = u16::try_from(placement.len()).expect("no more shards than SHARDS_MAX");
    let logs = data.as_ref().map(|data| io::restore(data, config, shard_count, &clock)).transpose()?;
    let shards = io::start(&placement, config, data.as_ref(), logs, clock)?;
    // Before anybody can be admitted.
    rules.iter().for_each(|rules| shards.doors().replace_access_rules(rules));
    let gate = gate::start(listeners, config, access, credentials, permits.clone(), shards.doors().clone())?;
    introduce(config, &introduction, &placement, &gate, permits.max());
    for signal in signals.forever() {
        match signal {
            SIGUSR1 => {
                gate.log_counters();
                shards.doors().log_counters();
            }
            SIGHUP => reload(config, &gate, &shards),
            _ => break,
        }
    }
    shut_down(&gate, &shards);
    Ok(())
}

/// Who may connect.
fn read_access(settings: &AccessSettings) -> Result<Access, PasswordFileError> {
    let accounts = settings.password_file.as_deref().map(io::read_accounts).transpose()?;
    Ok(Access::new(accounts, settings.admits_anonymous()))
}

/// Reads again what may change while the broker runs. What cannot be read stays as it was.
fn reload(config: &ServeConfig, gate: &Gate, shards: &Shards) {
    match read_access(&config.access) {
        Ok(access) => {
            info!("access: {}", introduce_access(&config.access, &access));
            gate.replace_access(access);
        }
        Err(error) => error!("{error}; who could connect before still can"),
    }
    match config.access.acl_file.as_deref().map(introduce_rules).transpose() {
        Ok(rules) => rules.iter().for_each(|rules| shards.doors().replace_access_rules(rules)),
        Err(error) => error!("{error}; the rules that were read before stay in force"),
    }
    match config.tls.as_ref().map(introduce_credentials).transpose() {
        Ok(credentials) => credentials.into_iter().for_each(|credentials| gate.replace_credentials(credentials)),
        Err(error) => error!("{error}; the certificates that were read before stay in use"),
    }
}

/// Reads what clients may do and says how many rules that are.
fn introduce_rules(path: &Path) -> Result<Arc<AccessRules>, AclFileError> {
    let rules = io::read_access_rules(path)?;
    info!("acl: {} rules of {}", rules.len(), path.display());
    Ok(Arc::new(rules))
}

/// Reads the certificates and says what they are.
fn introduce_credentials(settings: &TlsSettings) -> Result<Credentials, TlsError> {
    let credentials = read_credentials(settings)?;
    let certificate = settings.certificate.display();
    if let Some(complaint) = credentials.complaint() {
        warn!("--tls-certificate {certificate}: {complaint}; clients will refuse it");
    }
    let clients = match &settings.clients {
        None => "clients show none".to_owned(),
        Some(clients) => {
            let user_name = match clients.user_name {
                None => "",
                Some(CertificateName::Common) => ", whose common name is the user name",
                Some(CertificateName::Alternative) => ", whose alternative name is the user name",
            };
            format!("clients show one signed by {}{user_name}", clients.authorities.display())
        }
    };
    info!("tls: certificate {certificate}, valid until {}; {clients}", credentials.expiry());
    Ok(credentials)
}

/// Who may connect, in words.
fn introduce_access(settings: &AccessSettings, access: &Access) -> String {
    match (&settings.password_file, access.accounts(), settings.allow_anonymous) {
        (Some(file), Some(accounts), is_open) => {
            let anonymous = if is_open { ", and clients without a user name" } else { "" };
            format!("{} accounts of {}{anonymous}", accounts.len(), file.display())
        }
        (_, _, true) => "anyone, without asking who he is".to_owned(),
        (_, _, false) => "anyone on this machine, without asking who he is".to_owned(),
    }
}

/// Opens all addresses that clients are accepted on.
fn listeners(config: &ServeConfig) -> Result<Vec<Listener>, StartError> {
    let open = |flag, address, entrance| -> Result<Listener, StartError> {
        Ok(Listener { socket: io::listen(flag, address)?, entrance })
    };
    let web_socket = || Some(Arc::clone(&config.web_socket.rules));
    let mut listeners = Vec::new();
    for &address in &config.listen {
        listeners.push(open("--listen", address, Entrance::default())?);
    }
    for &address in &config.web_socket.listen {
        listeners.push(open("--websocket-listen", address, Entrance { is_tls: false, web_socket: web_socket() })?);
    }
    if let Some(tls) = &config.tls {
        for &address in &tls.listen {
            listeners.push(open("--tls-listen", address, Entrance { is_tls: true, web_socket: None })?);
        }
        for &address in &tls.web_socket_listen {
            let entrance = Entrance { is_tls: true, web_socket: web_socket() };
            listeners.push(open("--websocket-tls-listen", address, entrance)?);
        }
    }
    Ok(listeners)
}

fn shut_down(gate: &Gate, shards: &Shards) {
    info!("shutting down");
    gate.stop();
    gate.log_counters();
    if shards.shut_down(SHUTDOWN_MAX) {
        info!("stopped");
    } else {
        warn!("stopped with connections open: they did not end within {} s", SHUTDOWN_MAX.as_secs());
    }
}

/// How many clients the shards may hold: what was asked for, or what the open-file limit leaves.
fn connections_max(config: &ServeConfig) -> u32 {
    let files = io::raise_open_file_limit();
    let reserved = OTHER_FILES + u64::from(config.gate.max_half_open);
    let room = u32::try_from(files.saturating_sub(reserved)).unwrap_or(u32::MAX);
    match config.gate.max_connections {
        Some(asked) => {
            if asked > room {
                warn!(
                    "--max-connections {asked} is more than the {room} that the limit of {files} open files leaves; raise \
                     it (`ulimit -Hn`, or LimitNOFILE= in the unit)"
                );
            }
            asked
        }
        None => room.clamp(*MAX_CONNECTIONS.start(), *MAX_CONNECTIONS.end()),
    }
}

/// The banner: what runs, where, and with which limits; the ready line comes last.
fn introduce(config: &ServeConfig, access: &str, placement: &Placement, gate: &Gate, connections_max: u32) {
    let addresses = gate.addresses().join(" ");
    let mut shards = String::new();
    for (shard, cpu) in placement.iter().enumerate() {
        // Writing into a String cannot fail.
        let _ = match cpu {
            Some(cpu) => write!(shards, " shard-{shard}=cpu{cpu}"),
            None => write!(shards, " shard-{shard}=unpinned"),
        };
    }
    for bridge in &config.bridges {
        info!("bridge {}: to {}:{} as {}", bridge.name, bridge.host, bridge.port, bridge.client_id);
    }
    let durability = config.durability;
    let limits = &config.limits;
    info!("oncemq {}", env!("CARGO_PKG_VERSION"));
    info!("listeners: {addresses}");
    info!("access: {access}");
    info!("shards: {}{shards}", placement.len());
    info!("durability: {}; survives {}", durability.name(), durability.survives());
    match durability {
        Durability::Sync | Durability::Write => info!("data directory: {}", config.log.directory.display()),
        Durability::None => {}
    }
    info!(
        "limits: max_connections={connections_max} max_half_open={} max_packet_bytes={} receive_maximum={} max_inflight={} \
         max_sessions={} max_subscriptions={} max_topic_levels={} max_queued_messages={} max_queued_bytes={} \
         max_output_bytes={}",
        config.gate.max_half_open,
        limits.max_packet_bytes,
        limits.receive_maximum,
        limits.max_inflight,
        limits.max_sessions.map_or(0, NonZeroU32::get),
        limits.max_subscriptions,
        limits.max_topic_levels,
        limits.max_queued_messages,
        limits.max_queued_bytes,
        limits.max_output_bytes,
    );
    info!(target: READY_TARGET, "ready on {addresses}");
}

/// Who waits for the ready line finds it at every log level.
const READY_TARGET: &str = "oncemq::ready";

fn start_logging(level: LogLevel) {
    let filter = EnvFilter::new(format!("{},{READY_TARGET}=info", level.name()));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_thread_names(true)
        .with_ansi(stderr().is_terminal())
        .with_writer(stderr)
        .init();
}
