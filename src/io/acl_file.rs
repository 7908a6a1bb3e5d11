//! The ACL file on disk.

use std::path::Path;

use crate::auth::AccessRules;
use crate::config::ACL_FILE_BYTES_MAX;
use crate::error::LineFileError;

use super::text_file::read_lines;

/// Reads the rules of an ACL file.
pub fn read_access_rules(path: &Path) -> Result<AccessRules, LineFileError> {
    read_lines(path, ACL_FILE_BYTES_MAX, AccessRules::parse)
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
