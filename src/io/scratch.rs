//! A directory for one test, removed with all that is in it when the test ends.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;

pub(super) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// A new, empty directory; `name` tells the tests of this process apart.
    pub(super) fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("oncemq-{}-{name}", process::id()));
        fs::create_dir(&path).expect("a new directory");
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is the temporary directory's to clean.
        let _ = fs::remove_dir_all(&self.path);
    }
}
