//! What the service manager is told, by systemd's notification protocol: that the broker is ready, reads its files again, stops,
//! and, where a watchdog waits for that (`WatchdogSec=`), that all of its shards go on.
//!
//! Without a service manager (`NOTIFY_SOCKET` is not set) nothing happens.

use std::io;
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::{error, warn};

use crate::error::StartError;
use crate::io::Doors;

use super::asking::ask_all;

/// The broker serves clients, here.
pub fn tell_ready(addresses: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("serving on {addresses}"))]);
}

/// The files are read again; [`tell_ready`] follows.
pub fn tell_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => warn_of(&error),
    }
}

/// The broker takes leave of its clients.
pub fn tell_stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("taking leave of clients")]);
}

/// Starts a thread that feeds the watchdog as long as every shard answers, if there is one.
///
/// # Errors
/// If there is no thread to be had.
pub fn feed_watchdog(doors: Doors) -> Result<(), StartError> {
    // Twice as often as is asked for, so that one shard may be slow once.
    let Some(interval) = sd_notify::watchdog_enabled().map(|patience| patience / 2) else { return Ok(()) };
    let name = "watchdog";
    let thread_error = |source| StartError::Thread { name: name.to_owned(), source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(thread_error)?;
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || runtime.block_on(feed(&doors, interval)))
        .map(drop)
        .map_err(thread_error)
}

async fn feed(doors: &Doors, interval: Duration) {
    loop {
        let answers = ask_all(doors, |doors, shard| doors.log_failure(shard)).await;
        match answers.iter().position(Option::is_none) {
            None => tell(&[NotifyState::Watchdog]),
            Some(shard) => error!("shard {shard} does not answer: the watchdog is not fed"),
        }
        tokio::time::sleep(interval).await;
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn_of(&error);
    }
}

fn warn_of(error: &io::Error) {
    warn!("telling the service manager failed: {error}");
}
