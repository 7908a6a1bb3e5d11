//! The manual page and the completions of shells, made of the table of flags like everything else that is said about these.
//!
//! There is one page for all commands: the flags of `serve`, which several of them take, stand in it once.

use std::io::{self, Write};

use clap::{ArgAction, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{CONFIG, Cli};

/// How the broker is called. With each flag spelled out it would fill a screen.
const SYNOPSIS: &str = r"
.SH SYNOPSIS
\fBoncemq\fR [\fBserve\fR] [\fIOPTIONS\fR]
.br
\fBoncemq\fR \fICOMMAND\fR [\fIOPTIONS\fR]
";

/// What stands in the page behind the flags.
const ENDING: &str = r"
.SH CONFIGURATION
Every flag is also a key of the file that \fB\-\-config\fR names, and an environment variable. Flags win over the environment, that
over the file, and the file over defaults. \fBoncemq config defaults\fR prints a file with every key.
.SH SIGNALS
.TP
\fBSIGHUP\fR
Read the configuration and the files that it names again.
.TP
\fBSIGUSR1\fR
Log the counters.
.TP
\fBSIGTERM\fR, \fBSIGINT\fR
Take leave of the clients and stop, within five seconds.
.SH FILES
.TP
\fI/etc/oncemq/oncemq.toml\fR
The configuration of the service that the package installs.
.TP
\fI/var/lib/oncemq\fR
Its logs: sessions, messages that wait, retained messages.
.SH EXIT STATUS
0 after a regular end, 1 after a failure, 2 if flags or configuration were refused before anything was done.
.SH SEE ALSO
.BR mosquitto_pub (1),
.BR mosquitto_sub (1),
.BR systemctl (1)
";

/// The manual page, for `man`.
pub(super) fn manual_page() -> String {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut page = Vec::new();
    render(&command, &mut page).expect("a vector takes all that is written");
    String::from_utf8(page).expect("what is rendered is text")
}

/// What makes a shell complete the flags.
pub(super) fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "oncemq", &mut script);
    String::from_utf8(script).expect("what is generated is text")
}

fn render(command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    let man = Man::new(command.clone()).section("1").manual("OnceMQ");
    man.render_title(page)?;
    man.render_name_section(page)?;
    page.write_all(SYNOPSIS.trim_start().as_bytes())?;
    man.render_description_section(page)?;
    writeln!(page, ".SH COMMANDS")?;
    command.get_subcommands().try_for_each(|command| render_command(command, page))?;
    man.render_options_section(page)?;
    man.render_extra_section(page)?;
    page.write_all(ENDING.trim_start().as_bytes())
}

/// A command, or those that it consists of.
fn render_command(command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    if command.has_subcommands() {
        return command.get_subcommands().try_for_each(|command| render_command(command, page));
    }
    let usage = command.clone().render_usage().to_string();
    writeln!(page, ".TP\n\\fB{}\\fR", escaped(usage.trim_start_matches("Usage: ")))?;
    writeln!(page, "{}", escaped(&command.get_about().map(ToString::to_string).unwrap_or_default()))?;
    if command.get_arguments().any(|row| row.get_id() == CONFIG) {
        return writeln!(page, "Takes the options below.");
    }
    let rows = command.get_arguments().filter(|row| !matches!(row.get_action(), ArgAction::Help | ArgAction::Version));
    for row in rows {
        let help = row.get_help().map(ToString::to_string).unwrap_or_default();
        writeln!(page, ".RS\n.TP\n\\fB{}\\fR\n{}\n.RE", escaped(&row.to_string()), escaped(&help))?;
    }
    Ok(())
}

/// Text that says what it says, whatever is in it: neither hyphens nor lines are taken for something else.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;
    use crate::cli::file;

    #[test]
    fn every_flag_is_in_the_manual_page() {
        let page = manual_page();
        let rows = file::table();
        for row in rows.get_arguments() {
            let flag = row.get_long().expect("all are long ones");
            let shown = format!("\\fB\\-\\-{}\\fR", flag.replace('-', "\\-"));
            assert!(page.contains(&shown), "{shown} is missing");
            let variable = row.get_env().expect("each has one").to_string_lossy();
            assert!(page.contains(&*variable), "{variable} is missing");
        }
    }

    #[test]
    fn every_command_is_in_the_manual_page() {
        let page = manual_page();
        for command in ["serve", "log verify", "log dump", "passwd", "config check", "config from\\-mosquitto", "man"] {
            assert!(
                page.contains(&format!("\\fBoncemq {command} ")) || page.contains(&format!("\\fBoncemq {command}\\fR")),
                "{command}"
            );
        }
        let mut sections = page.lines().filter(|line| line.starts_with(".SH"));
        assert!(sections.any(|line| line == ".SH COMMANDS"));
        let requests = ["TH", "SH", "TP", "RS", "RE", "PP", "BR", "IP", "br", "ie", "el", "ds", "nh"];
        let is_known = |line: &&str| requests.iter().any(|request| line[1..].trim_start().starts_with(request));
        let unknown: Vec<_> =
            page.lines().filter(|line| line.starts_with('.')).filter(|line| !is_known(line)).collect();
        assert!(unknown.is_empty(), "no text is taken for a request: {unknown:?}");
    }

    #[test]
    fn every_flag_is_completed_in_every_shell() {
        for shell in Shell::value_variants() {
            let script = completions(*shell);
            let rows = file::table();
            for row in rows.get_arguments() {
                let flag = row.get_long().expect("all are long ones");
                assert!(script.contains(flag), "{shell}: {flag} is missing");
            }
        }
    }

    #[test]
    fn text_stays_text() {
        assert_eq!(escaped(".a-b\\c"), "\\&.a\\-b\\ec");
    }
}
