//! The tools that look into the logs of a broker that does not run: `oncemq log verify`, `dump` and `stats`.
//!
//! They read only, and keep a broker from starting meanwhile. What is printed goes to standard output, and a reader that
//! goes away before the end is no error.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::cli::Inspection;
use crate::error::DataError;
use crate::store::{Recovered, RecoveryMode, recover};

use super::data_dir::{DataDirectory, Generation};
use super::restoring::{SegmentFiles, expected, refusal};

/// Prints what was asked for; the code says whether a broker would start.
pub fn inspect_log(directory: &Path, inspection: Inspection) -> Result<ExitCode, DataError> {
    let data = DataDirectory::inspect(directory)?;
    let generation = data.generation()?.ok_or_else(|| DataError::NoLog { directory: directory.to_owned() })?;
    let mut output = BufWriter::new(io::stdout().lock());
    let printed = match inspection {
        Inspection::Verify => verify(&generation, &mut output),
        Inspection::Dump | Inspection::DumpJson | Inspection::Statistics => todo!(),
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
