//! Asking for a new password: twice and without echo at a terminal, once where standard input comes from elsewhere.

#![allow(unsafe_code, reason = "what a terminal shows is set by system calls that have no safe wrapper")]

use std::io::{self, BufRead, IsTerminal, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::process;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::config::PASSWORD_BYTES_MAX;
use crate::error::PasswordFileError;

/// What a shell reports for a process that an interrupt has ended.
const INTERRUPTED: i32 = 128 + SIGINT;

/// Asks for the new password of a user.
pub(super) fn ask_new_password(user: &str) -> Result<Vec<u8>, PasswordFileError> {
    let unasked = |source| PasswordFileError::Unasked { source };
    let input = io::stdin();
    let password = if input.is_terminal() {
        let hidden = HiddenInput::begin(&input).map_err(unasked)?;
        let password = prompt(&format!("New password for {user}: ")).map_err(unasked)?;
        let repeated = prompt("The same again: ").map_err(unasked)?;
        drop(hidden);
        if password != repeated {
            return Err(PasswordFileError::Mistyped);
        }
        password
    } else {
        read_line(&mut input.lock()).map_err(unasked)?
    };
    check(password)
}

/// A password is neither empty nor longer than MQTT can carry.
fn check(password: Vec<u8>) -> Result<Vec<u8>, PasswordFileError> {
    match password.len() {
        1..=PASSWORD_BYTES_MAX => Ok(password),
        _ => Err(PasswordFileError::PasswordLength),
    }
}

/// Asks on standard error, so that standard output stays for what is made.
fn prompt(text: &str) -> io::Result<Vec<u8>> {
    eprint!("{text}");
    io::stderr().flush()?;
    let line = read_line(&mut io::stdin().lock());
    eprintln!();
    line
}

/// A line without its end, and no longer than shows that it is too long.
fn read_line(input: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    io::Read::take(input, PASSWORD_BYTES_MAX as u64 + 2).read_until(b'\n', &mut line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    Ok(line)
}

/// A terminal that does not show what is typed; it shows it again when this is dropped, or when a signal ends the process.
struct HiddenInput {
    descriptor: i32,
    shown: libc::termios,
}

impl HiddenInput {
    fn begin(terminal: &io::Stdin) -> io::Result<Self> {
        let descriptor = terminal.as_raw_fd();
        let mut shown = MaybeUninit::<libc::termios>::uninit();
        // SAFETY: writes one termios into one that lives here.
        if unsafe { libc::tcgetattr(descriptor, shown.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has filled it.
        let shown = unsafe { shown.assume_init() };
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        thread::Builder::new().name("terminal".to_owned()).spawn(move || {
            if signals.forever().next().is_some() {
                set_attributes(descriptor, &shown);
                eprintln!();
                process::exit(INTERRUPTED);
            }
        })?;
        let mut hidden = shown;
        hidden.c_lflag &= !libc::ECHO;
        if !set_attributes(descriptor, &hidden) {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { descriptor, shown })
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        set_attributes(self.descriptor, &self.shown);
    }
}

/// Whether the terminal took them; what was typed ahead is thrown away, since it was not meant for this question.
fn set_attributes(descriptor: i32, attributes: &libc::termios) -> bool {
    // SAFETY: reads one termios that lives for the call.
    unsafe { libc::tcsetattr(descriptor, libc::TCSAFLUSH, attributes) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_without_its_end() {
        for (input, expected) in [
            (&b"secret\nmore\n"[..], &b"secret"[..]),
            (b"secret\r\n", b"secret"),
            (b"secret", b"secret"),
            (b" open sesame \n", b" open sesame "),
            (b"\n", b""),
            (b"", b""),
        ] {
            assert_eq!(read_line(&mut &*input).expect("a line"), expected);
        }
        let long = vec![b'x'; PASSWORD_BYTES_MAX + 10];
        let line = read_line(&mut &*long).expect("a line");
        assert!(check(line).is_err() && check(Vec::new()).is_err());
        assert!(check(vec![b'x'; PASSWORD_BYTES_MAX]).is_ok());
    }
}
