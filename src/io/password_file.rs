//! The password file on disk: reading it whole, and changing it so that whoever reads it, at any instant, finds either the
//! old or the new one.
//!
//! A change is written to `FILE.new` beside it, synced, and renamed over it. That file, which only one can make, also keeps two
//! changes from undoing each other. A new password file is for its owner alone; one that is there keeps its owner, and
//! its mode but for what others than its group may do.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::auth::{Accounts, Scheme, StoredPassword, prepared_name, with_entry, without_entry};
use crate::config::{NEW_SALT_BYTES, PASSWORD_FILE_BYTES_MAX};
use crate::error::{LineFileError, PasswordFileError};

use super::terminal::ask_new_password;
use super::text_file::{bad_line, read_lines, read_text, unreadable};

/// The mode of a new password file.
const MODE: u32 = 0o600;

/// What may remain of the mode of one that is there.
const MODE_MAX: u32 = 0o660;

/// Reads the accounts of a password file.
pub fn read_accounts(path: &Path) -> Result<Accounts, LineFileError> {
    read_lines(path, PASSWORD_FILE_BYTES_MAX, Accounts::parse)
}

/// Asks for a new password and keeps it, or deletes the account if there is no scheme to keep one.
pub fn change_password(path: &Path, user: &str, scheme: Option<Scheme>) -> Result<(), PasswordFileError> {
    if scheme == Some(Scheme::Scram) && prepared_name(user).is_none_or(|name| *name != *user) {
        return Err(PasswordFileError::NotPrepared { user: user.into() });
    }
    let stored = scheme.map(|scheme| stored_password(scheme, user)).transpose()?;
    change(path, |text| match &stored {
        Some(stored) => Ok(with_entry(text, user, stored)),
        None => without_entry(text, user)
            .ok_or_else(|| PasswordFileError::NoUser { path: path.to_owned(), user: user.into() }),
    })
}

fn stored_password(scheme: Scheme, user: &str) -> Result<StoredPassword, PasswordFileError> {
    let password = ask_new_password(user)?;
    let mut salt = [0; NEW_SALT_BYTES];
    getrandom::fill(&mut salt).map_err(PasswordFileError::Random)?;
    Ok(StoredPassword::new(scheme, &password, salt))
}

/// Replaces the text of a password file by what `edit` makes of it.
fn change(path: &Path, edit: impl FnOnce(&str) -> Result<String, PasswordFileError>) -> Result<(), PasswordFileError> {
    let unwritable = |source| PasswordFileError::Unwritable { path: path.to_owned(), source };
    // Where a link leads is what is replaced, not the link.
    let path = match fs::canonicalize(path) {
        Ok(path) => path,
        Err(error) if error.kind() == ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(unwritable(error)),
    };
    let draft = Draft::create(&path)?;
    let (text, existing) = match File::open(&path) {
        Ok(mut file) => {
            let metadata = file.metadata().map_err(unwritable)?;
            let text = read_text(&mut file, PASSWORD_FILE_BYTES_MAX);
            (text.map_err(unreadable(&path))?, Some(metadata))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => (String::new(), None),
        Err(error) => return Err(unreadable(&path)(error).into()),
    };
    // A file that the broker would refuse is not made worse.
    Accounts::parse(&text).map_err(bad_line(&path))?;
    let text = edit(&text)?;
    if let Some(existing) = existing {
        let owner = draft.file.metadata().map_err(unwritable)?;
        if (owner.uid(), owner.gid()) != (existing.uid(), existing.gid()) {
            fchown(&draft.file, Some(existing.uid()), Some(existing.gid())).map_err(unwritable)?;
        }
        let permissions = Permissions::from_mode(existing.mode() & MODE_MAX);
        draft.file.set_permissions(permissions).map_err(unwritable)?;
    }
    draft.replace(&path, &text).map_err(unwritable)
}

/// The file that a change is written to; removed when dropped.
struct Draft {
    path: PathBuf,
    file: File,
}

impl Draft {
    fn create(path: &Path) -> Result<Self, PasswordFileError> {
        let mut name = OsString::from(path);
        name.push(".new");
        let draft = PathBuf::from(name);
        match OpenOptions::new().write(true).create_new(true).mode(MODE).open(&draft) {
            Ok(file) => Ok(Self { path: draft, file }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(PasswordFileError::Draft { path: draft }),
            Err(source) => Err(PasswordFileError::Unwritable { path: draft, source }),
        }
    }

    fn replace(mut self, path: &Path, text: &str) -> std::io::Result<()> {
        self.file.write_all(text.as_bytes())?;
        self.file.sync_all()?;
        fs::rename(&self.path, path)?;
        // The name is in the directory, which is synced by itself.
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After the rename it is not there any more.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::super::scratch::Scratch;
    use super::*;

    fn set(path: &Path, user: &str, password: &[u8]) -> Result<(), PasswordFileError> {
        let stored = StoredPassword::new(Scheme::Scram, password, [1; NEW_SALT_BYTES]);
        change(path, |text| Ok(with_entry(text, user, &stored)))
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").mode() & 0o777
    }

    #[test]
    fn a_new_file_is_for_its_owner_alone() {
        let scratch = Scratch::new("new-password-file");
        let path = scratch.path().join("people");
        set(&path, "alice", b"secret").expect("made");
        assert_eq!(mode(&path), 0o600);
        set(&path, "bob", b"secret").expect("changed");
        assert_eq!(read_accounts(&path).expect("two accounts").len(), 2);
        change_password(&path, "alice", None).expect("deleted");
        assert_eq!(read_accounts(&path).expect("one account").len(), 1);
        let refused = change_password(&path, "alice", None).expect_err("she is gone").to_string();
        assert!(refused.contains("no user alice"), "{refused}");
        assert_eq!(fs::read_dir(scratch.path()).expect("a directory").count(), 1, "no draft is left");
    }

    #[test]
    fn a_file_keeps_its_mode_but_for_others_and_a_link_stays_one() {
        let scratch = Scratch::new("kept-password-file");
        let (path, link) = (scratch.path().join("people"), scratch.path().join("link"));
        fs::write(&path, "# people\n").expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("changed");
        std::os::unix::fs::symlink(&path, &link).expect("linked");
        set(&link, "alice", b"secret").expect("changed");
        assert_eq!(mode(&path), 0o640);
        assert!(fs::symlink_metadata(&link).expect("the link").is_symlink());
        assert!(fs::read_to_string(&path).expect("text").starts_with("# people\nalice:SCRAM-SHA-256$"));
    }

    #[test]
    fn two_changes_do_not_undo_each_other() {
        let scratch = Scratch::new("two-changes");
        let path = scratch.path().join("people");
        let draft = Draft::create(&path).expect("the first");
        let refused = set(&path, "alice", b"secret").expect_err("the second").to_string();
        assert!(refused.contains("people.new"), "{refused}");
        drop(draft);
        set(&path, "alice", b"secret").expect("changed");
    }

    #[test]
    fn what_can_not_be_read_is_told_with_file_and_line() {
        let scratch = Scratch::new("bad-password-file");
        let path = scratch.path().join("people");
        let told = read_accounts(&path).expect_err("it is missing").to_string();
        assert!(told.contains("people: No such file"), "{told}");
        fs::write(&path, "\nalice:secret\n").expect("written");
        for told in [read_accounts(&path).map(drop).map_err(PasswordFileError::from), set(&path, "bob", b"secret")] {
            let told = told.expect_err("it is bad").to_string();
            assert!(told.contains("people: line 2: the password is not hashed"), "{told}");
        }
        fs::write(&path, [0xFF]).expect("written");
        assert!(read_accounts(&path).is_err());
    }
}
