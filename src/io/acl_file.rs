//! The ACL file on disk.

use std::path::Path;

use crate::auth::AccessRules;
use crate::config::ACL_FILE_BYTES_MAX;
use crate::error::AclFileError;

use super::text_file::read_text_file;

/// Reads the rules of an ACL file.
pub fn read_access_rules(path: &Path) -> Result<AccessRules, AclFileError> {
    let text = read_text_file(path, ACL_FILE_BYTES_MAX)
        .map_err(|source| AclFileError::Unreadable { path: path.to_owned(), source })?;
    AccessRules::parse(&text).map_err(|bad| AclFileError::BadLine { path: path.to_owned(), bad })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::scratch::Scratch;
    use super::*;

    #[test]
    fn what_can_not_be_read_is_told_with_file_and_line() {
        let scratch = Scratch::new("acl-file");
        let path = scratch.path().join("rules");
        let told = read_access_rules(&path).expect_err("it is missing").to_string();
        assert!(told.contains("rules: No such file"), "{told}");
        fs::write(&path, "topic read a\ntopic read b#\n").expect("written");
        let told = read_access_rules(&path).expect_err("it is bad").to_string();
        assert!(told.contains("rules: line 2: + is a whole level"), "{told}");
        fs::write(&path, "topic read a\n").expect("written");
        assert_eq!(read_access_rules(&path).expect("a rule").len(), 1);
    }
}
