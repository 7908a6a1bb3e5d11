//! The tools that look into the logs of a broker that does not run: `oncemq log verify`, `dump` and `stats`.
//!
//! They read only, and keep a broker from starting meanwhile. What is printed goes to standard output, and a reader that
//! goes away before the end is no error. What is lost of a damaged log is said on standard error; the rest is shown.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::cli::Inspection;
use crate::error::DataError;
use crate::store::{Image, Record, RecordLocation, Recovered, RecoveryMode, Statistics, dump_record, recover};

use super::data_dir::{DataDirectory, Generation};
use super::restoring::{SegmentFiles, expected, refusal};

/// Prints what was asked for; the code says whether a broker would start.
pub fn inspect_log(directory: &Path, inspection: Inspection) -> Result<ExitCode, DataError> {
    let data = DataDirectory::inspect(directory)?;
    let generation = data.generation()?.ok_or_else(|| DataError::NoLog { directory: directory.to_owned() })?;
    let mut output = BufWriter::new(io::stdout().lock());
    let printed = match inspection {
        Inspection::Verify => verify(&generation, &mut output),
        Inspection::Dump => dump(&generation, false, &mut output),
        Inspection::DumpJson => dump(&generation, true, &mut output),
        Inspection::Statistics => statistics(&generation, &mut output),
    };
    printed.and_then(|code| output.flush().map(|()| code).map_err(Stop::from)).or_else(|stop| match stop {
        Stop::Data(error) => Err(error),
        Stop::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Stop::Output(source) => Err(DataError::Io { doing: "writing to", path: "standard output".into(), source }),
    })
}

/// Why the printing came to an end.
enum Stop {
    Data(DataError),
    Output(io::Error),
}

impl From<DataError> for Stop {
    fn from(error: DataError) -> Self {
        Stop::Data(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Output(error)
    }
}

/// Says of each log whether it is whole.
fn verify(generation: &Generation, output: &mut impl Write) -> Result<ExitCode, Stop> {
    let mut code = ExitCode::SUCCESS;
    for shard in 0..generation.shards {
        let files = generation.files(shard);
        let mut source = SegmentFiles { numbers: files.list()?, files };
        let mode = RecoveryMode::Strict;
        match recover(&mut source, expected(generation, shard), mode, &mut |_| {}, &mut |_, _| {}) {
            Ok(Recovered { end, torn, batches, records, bytes, .. }) => {
                write!(
                    output,
                    "shard {shard}: whole; segments={} batches={batches} records={records} bytes={bytes}",
                    end.segments.len()
                )?;
                match torn {
                    Some(torn) => writeln!(
                        output,
                        "; behind it an interrupted write: {} bytes from offset {} of {} ({})",
                        torn.bytes,
                        torn.offset,
                        source.files.segment(torn.segment).display(),
                        torn.reason
                    )?,
                    None => writeln!(output)?,
                }
            }
            Err(error) => {
                writeln!(output, "shard {shard}: {}", refusal(&source.files, error))?;
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// Prints the records of all shards.
fn dump(generation: &Generation, json: bool, output: &mut impl Write) -> Result<ExitCode, Stop> {
    let mut code = ExitCode::SUCCESS;
    for shard in 0..generation.shards {
        let mut written = Ok(());
        let recovered = read(generation, shard, &mut |record, location| {
            if written.is_ok() {
                let line = dump_record(record, location, json);
                written = match json {
                    true => writeln!(output, "{{\"shard\":{shard},\"record\":{line}}}"),
                    false => writeln!(output, "shard={shard} {line}"),
                };
            }
        })?;
        written?;
        if !recovered.lost.is_empty() {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// Prints sums over all shards.
fn statistics(generation: &Generation, output: &mut impl Write) -> Result<ExitCode, Stop> {
    let mut code = ExitCode::SUCCESS;
    let mut statistics = Statistics::default();
    for shard in 0..generation.shards {
        let mut image = Image::default();
        let recovered = read(generation, shard, &mut |record, location| {
            statistics.record(record, location);
            image.apply(record);
        })?;
        statistics.log(&recovered, &image);
        if !recovered.lost.is_empty() {
            code = ExitCode::FAILURE;
        }
    }
    write!(output, "{statistics}")?;
    Ok(code)
}

/// Reads what is intact of a shard's log, and says what is not.
fn read(
    generation: &Generation,
    shard: u16,
    apply: &mut dyn FnMut(&Record<'_>, RecordLocation),
) -> Result<Recovered, DataError> {
    let files = generation.files(shard);
    let mut source = SegmentFiles { numbers: files.list()?, files };
    let recovered = recover(&mut source, expected(generation, shard), RecoveryMode::Salvage, &mut |_| {}, apply)
        .map_err(|error| refusal(&source.files, error))?;
    for lost in &recovered.lost {
        let file = source.files.segment(lost.segment);
        eprintln!(
            "shard {shard}: {} is lost from offset {} to {} ({})",
            file.display(),
            lost.from,
            lost.to,
            lost.reason
        );
    }
    Ok(recovered)
}
