//! The generated reference of the configuration is the current one.

use std::path::Path;

use portcullis::conf::reference;

/// `PORTCULLIS_BLESS=1` writes the page instead.
#[test]
fn the_reference_page_says_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/configuration.md");
    if std::env::var_os("PORTCULLIS_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, reference::page()).unwrap();
    }
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(page == reference::page(), "docs/reference/configuration.md is not current: run this test with PORTCULLIS_BLESS=1");
}
