//! The OnceMQ broker.

use std::ffi::OsString;
use std::fmt::{Display, Write};
use std::io::{ErrorKind, IsTerminal, stderr, stdout};
use std::num::NonZeroU32;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use oncemq::admin::{self, Admin, Token};
use oncemq::auth::{Access, AccessRules};
use oncemq::cli::{self, Action, LogLevel, Reload, Settings};
use oncemq::config::{
    AccessSettings, AdminSettings, CertificateName, Durability, MAX_CONNECTIONS, SHARDS_MAX, SHUTDOWN_MAX, ServeConfig,
    TlsSettings,
};
use oncemq::error::{LineFileError, StartError, TlsError, TokenError};
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

/// The exit code for what was refused before anything was done, as clap has it for flags.
const REFUSED: u8 = 2;

fn main() -> ExitCode {
    // Before memory is used, for what lies in huge pages stays there.
    io::allow_huge_pages(false);
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match cli::action(&arguments, io::read_configuration).unwrap_or_else(|error| error.exit()) {
        Action::Serve { config, log_level, settings } => {
            let log_at = start_logging(log_level);
            let told = Told { arguments, settings, log_level, log_at: Box::new(log_at), config };
            end(serve(told).map(|()| ExitCode::SUCCESS))
        }
        Action::CheckConfig { config } => check(&config).unwrap_or_else(|error| {
            eprintln!("oncemq: {error}");
            ExitCode::from(REFUSED)
        }),
        Action::Print(text) => end(print(&text).map(|()| ExitCode::SUCCESS)),
        Action::ConvertMosquitto { file } => end(convert_mosquitto(&file)),
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

/// Prints a text; who closes standard output before its end has seen enough.
fn print(text: &str) -> Result<(), std::io::Error> {
    match std::io::Write::write_all(&mut stdout(), text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// Says whether the files that the settings name are good, as a start would find them.
fn check(config: &ServeConfig) -> Result<ExitCode, StartError> {
    if let (Some(credentials), Some(tls)) = (read_files(config)?, &config.tls)
        && let Some(complaint) = credentials.complaint()
    {
        eprintln!("oncemq: --tls-certificate {}: {complaint}; clients will refuse it", tls.certificate.display());
    }
    println!("ok");
    Ok(ExitCode::SUCCESS)
}

/// Reads the files that the settings name, for what is wrong with them; the certificates are returned.
fn read_files(config: &ServeConfig) -> Result<Option<Credentials>, StartError> {
    read_access(&config.access).map_err(StartError::Passwords)?;
    config.access.acl_file.as_deref().map(io::read_access_rules).transpose().map_err(StartError::Rules)?;
    config.admin.as_ref().map(read_token).transpose()?;
    Ok(config.tls.as_ref().map(read_credentials).transpose()?)
}

/// Prints the configuration file that stands for a mosquitto.conf.
fn convert_mosquitto(file: &Path) -> Result<ExitCode, String> {
    let main = io::read_mosquitto_file(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let conversion = cli::convert(&main, io::read_mosquitto_directory);
    print(&conversion.text).map_err(|error| error.to_string())?;
    eprintln!("oncemq: {}", conversion.summary());
    Ok(if conversion.is_less_secure() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What the broker was told, and what it needs to be told it again.
struct Told {
    arguments: Vec<OsString>,
    settings: Settings,
    config: Box<ServeConfig>,
    log_level: LogLevel,
    /// Changes how much is logged.
    log_at: Box<dyn Fn(LogLevel)>,
}

/// Starts everything, serves until a signal ends it.
fn serve(mut told: Told) -> Result<(), StartError> {
    let config = &*told.config;
    io::check_kernel()?;
    io::allow_huge_pages(config.huge_pages);
    io::outlive_file_size_limit();
    let mut signals =
        Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1]).map_err(|source| StartError::Signals { source })?;
    let permits = ConnectionPermits::new(connections_max(config));
    let allowed_cpus = io::allowed_cpus();
    let placement = io::place(config.shards.map(u16::from), SHARDS_MAX, &config.pinning, &allowed_cpus)?;
    let access = read_access(&config.access).map_err(StartError::Passwords)?;
    let introduction = introduce_access(&config.access, &access);
    let rules = config.access.acl_file.as_deref().map(introduce_rules).transpose().map_err(StartError::Rules)?;
    let credentials = config.tls.as_ref().map(introduce_credentials).transpose()?;
    // Before the logs are read, which may take long.
    let admin = config.admin.as_ref().map(start_admin).transpose()?;
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
    if let Some(admin) = &admin {
        let (doors, gate) = (shards.doors().clone(), gate.figures());
        admin.serve(admin::Broker { doors, gate, permits: permits.clone() });
    }
    let addresses = addresses(&gate, admin.as_ref());
    config.max_memory_bytes.map(|max| io::guard_memory(max, shards.doors().clone())).transpose()?;
    introduce(config, &introduction, &placement, &addresses, permits.max());
    admin::tell_ready(&addresses);
    admin::feed_watchdog(shards.doors().clone())?;
    for signal in signals.forever() {
        match signal {
            SIGUSR1 => {
                gate.log_counters();
                shards.doors().log_counters();
            }
            SIGHUP => {
                admin::tell_reloading();
                told.reload(&gate, &shards, admin.as_ref());
                info!("SIGHUP: what could be read again is in force");
                admin::tell_ready(&addresses);
            }
            _ => break,
        }
    }
    admin::tell_stopping();
    if let Some(admin) = &admin {
        admin.drain();
    }
    shut_down(&gate, &shards);
    Ok(())
}

/// Opens the operator's window.
fn start_admin(settings: &AdminSettings) -> Result<Admin, StartError> {
    let token = read_token(settings)?;
    let who = if token.is_some() { "who has the token" } else { "anyone on this machine" };
    let admin = admin::start(io::listen("--admin-listen", settings.listen)?, token)?;
    info!("admin: http://{} for {who}", admin.address());
    Ok(admin)
}

fn read_token(settings: &AdminSettings) -> Result<Option<Token>, TokenError> {
    settings.token_file.as_deref().map(Token::read).transpose()
}

/// Where clients are accepted, and behind that where the operator looks in.
fn addresses(gate: &Gate, admin: Option<&Admin>) -> String {
    let mut addresses = gate.addresses();
    addresses.extend(admin.map(|admin| format!("http://{}", admin.address())));
    addresses.join(" ")
}

/// Who may connect.
fn read_access(settings: &AccessSettings) -> Result<Access, LineFileError> {
    let accounts = settings.password_file.as_deref().map(io::read_accounts).transpose()?;
    Ok(Access::new(accounts, settings.allow_anonymous))
}

impl Told {
    /// Reads again what may change while the broker runs. What cannot be read stays as it was.
    fn reload(&mut self, gate: &Gate, shards: &Shards, admin: Option<&Admin>) {
        if self.settings.has_file() {
            let told = cli::reload(&self.arguments, io::read_configuration, &self.settings);
            // The files are looked at before anything changes: accounts without the certificates that were to come with them
            // could let somebody in.
            let checked = told.and_then(|reload| match read_files(&reload.config) {
                Ok(_) => Ok(reload),
                Err(error) => Err(error.to_string()),
            });
            match checked {
                Ok(reload) => self.take(reload),
                Err(error) => return error!("{error}; nothing is changed"),
            }
        }
        match read_access(&self.config.access) {
            Ok(access) => {
                let introduction = introduce_access(&self.config.access, &access);
                gate.replace_access(access);
                info!("access: {introduction}");
            }
            Err(error) => error!("{error}; who could connect before still can"),
        }
        match self.config.access.acl_file.as_deref().map(introduce_rules).transpose() {
            Ok(rules) => rules.iter().for_each(|rules| shards.doors().replace_access_rules(rules)),
            Err(error) => error!("{error}; the rules that were read before stay in force"),
        }
        match self.config.tls.as_ref().map(introduce_credentials).transpose() {
            Ok(credentials) => credentials.into_iter().for_each(|credentials| gate.replace_credentials(credentials)),
            Err(error) => error!("{error}; the certificates that were read before stay in use"),
        }
        match self.config.admin.as_ref().map(read_token).transpose() {
            Ok(token) => {
                if let (Some(admin), Some(token)) = (admin, token.flatten()) {
                    admin.replace_token(token);
                    info!("admin: the token was read again");
                }
            }
            Err(error) => error!("{error}; the token that was read before stays good"),
        }
    }

    /// Takes over what the configuration file says now.
    fn take(&mut self, reload: Reload) {
        let Reload { config, log_level, settings, waiting } = reload;
        if log_level != self.log_level {
            (self.log_at)(log_level);
            info!("log level: {}", log_level.name());
        }
        for difference in waiting {
            warn!("{difference}");
        }
        (self.config, self.log_level, self.settings) = (config, log_level, settings);
    }
}

/// Reads what clients may do and says how many rules that are.
fn introduce_rules(path: &Path) -> Result<Arc<AccessRules>, LineFileError> {
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
        let proxy = config.proxy.as_ref().and_then(|proxy| proxy.rules_at(address)).map(Arc::clone);
        Ok(Listener { socket: io::listen(flag, address)?.into(), entrance: Entrance { proxy, ..entrance } })
    };
    let web_socket = || Some(Arc::clone(&config.web_socket.rules));
    let mut listeners = Vec::new();
    for &address in &config.listen {
        listeners.push(open("--listen", address, Entrance::default())?);
    }
    for &address in &config.web_socket.listen {
        let entrance = Entrance { web_socket: web_socket(), ..Entrance::default() };
        listeners.push(open("--websocket-listen", address, entrance)?);
    }
    if let Some(tls) = &config.tls {
        for &address in &tls.listen {
            listeners.push(open("--tls-listen", address, Entrance { is_tls: true, ..Entrance::default() })?);
        }
        for &address in &tls.web_socket_listen {
            let entrance = Entrance { is_tls: true, web_socket: web_socket(), ..Entrance::default() };
            listeners.push(open("--websocket-tls-listen", address, entrance)?);
        }
    }
    for path in &config.unix.listen {
        let socket = io::listen_unix(path, config.unix.mode)?;
        listeners.push(Listener { socket: socket.into(), entrance: Entrance::default() });
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
fn introduce(config: &ServeConfig, access: &str, placement: &Placement, addresses: &str, connections_max: u32) {
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

/// Starts to log; what is returned changes how much.
fn start_logging(level: LogLevel) -> impl Fn(LogLevel) {
    let filter = |level: LogLevel| EnvFilter::new(format!("{},{READY_TARGET}=info", level.name()));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter(level))
        .with_target(false)
        .with_thread_names(true)
        .with_ansi(stderr().is_terminal())
        .with_writer(stderr)
        .with_filter_reloading();
    let handle = subscriber.reload_handle();
    subscriber.init();
    move |level| {
        // It fails only when there is no subscriber any more, and the one made here lives as long as the process.
        let _ = handle.reload(filter(level));
    }
}
