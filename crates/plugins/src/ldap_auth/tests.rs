//! Which logins are tried, and how they are named to the server.
#![allow(clippy::unwrap_used)]

use super::{escape, login};

fn read(header: &str, scheme: &str) -> Option<(String, String)> {
    login(header.as_bytes(), scheme).map(|login| (login.user, String::from_utf8(login.password).unwrap()))
}

#[test]
fn the_scheme_is_the_configured_one_in_any_case() {
    let einstein = Some(("einstein".to_owned(), "pass:word".to_owned()));
    for header in ["ldap ZWluc3RlaW46cGFzczp3b3Jk", "LDAP  ZWluc3RlaW46cGFzczp3b3Jk", "  Ldap\tZWluc3RlaW46cGFzczp3b3Jk"] {
        assert_eq!(read(header, "ldap"), einstein, "{header}");
    }
    assert_eq!(read("Basic ZWluc3RlaW46cGFzczp3b3Jk", "basic"), einstein);
    for header in ["Basic ZWluc3RlaW46cGFzczp3b3Jk", "ldapZWluc3RlaW46cGFzczp3b3Jk", "ldap", "ldap notbase64", ""] {
        assert_eq!(read(header, "ldap"), None, "{header}");
    }
}

/// `echo` puts a line end behind what clients encode.
#[test]
fn a_line_end_is_no_part_of_the_password() {
    assert_eq!(read("ldap bWFyYTpyZWVmCg==", "ldap"), Some(("mara".to_owned(), "reef".to_owned())));
    assert_eq!(read("ldap bWFyYTpyZWVmCmtub3Q=", "ldap"), None);
}

#[test]
fn nobody_logs_in_without_a_name_or_a_password() {
    for header in ["ldap OnBhc3M=", "ldap dXNlcjo=", "ldap dXNlcg=="] {
        assert_eq!(read(header, "ldap"), None, "{header}");
    }
}

#[test]
fn a_name_cannot_break_out_of_its_place() {
    assert_eq!(escape("a,dc=x"), "a\\,dc\\=x");
    assert_eq!(escape(" #a+b\"c\\<d>;e "), "\\ #a\\+b\\\"c\\\\\\<d\\>\\;e\\ ");
    assert_eq!(
        (escape("#a"), escape(" "), escape("a\0b"), escape("plain user")),
        ("\\#a".into(), "\\ ".into(), "a\\00b".into(), "plain user".into())
    );
}
