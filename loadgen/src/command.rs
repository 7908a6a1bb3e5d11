//! What can keep any of the commands from coming to a result.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::chaos::KeeperError;
use crate::coordinator::FleetError;
use crate::process::ProcessError;
use crate::setup::SetupError;
use crate::shape::ShapeError;

/// Why a command has no result. All of these exit with status 2.
#[derive(Debug, Error)]
pub(crate) enum CommandError {
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    Shape(#[from] ShapeError),
    #[error(transparent)]
    Fleet(#[from] FleetError),
    #[error("--broker-pid: {0}; did the broker end?")]
    Broker(#[from] ProcessError),
    #[error("cannot write {flag} {path}: {source}")]
    File { flag: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    #[error("{0}")]
    Usage(String),
}

impl CommandError {
    pub(crate) fn file(flag: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File { flag, path: path.to_owned(), source }
    }
}
