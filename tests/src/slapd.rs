//! A real LDAP server in a directory of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::{eventually, free_port};

/// A running slapd that knows the crew of `ou=crew,dc=ship,dc=test`.
pub struct Slapd {
    directory: TempDir,
    port: u16,
    tls_port: u16,
    server: Option<Child>,
}

/// Schemas, suffix and what it speaks TLS with; `DIR` is its directory.
const SETTINGS: &str = "\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
pidfile DIR/pid
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCertificateFile DIR/certificate.pem
TLSCertificateKeyFile DIR/key.pem
database mdb
suffix \"dc=ship,dc=test\"
rootdn \"cn=root,dc=ship,dc=test\"
directory DIR/data
";

fn program(name: &str) -> PathBuf {
    let places = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&places).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/lib/openldap")]);
    let found = places.map(|place| place.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing: install slapd (scripts/need slapd=slapd)"))
}

impl Slapd {
    /// Starts a server that knows these users and their passwords, and shows this certificate (PEM).
    pub fn start(users: &[(&str, &str)], certificate: &str, key: &str) -> Self {
        let directory = TempDir::with_prefix("portcullis-slapd-").unwrap();
        let path = directory.path();
        std::fs::create_dir(path.join("data")).unwrap();
        std::fs::write(path.join("certificate.pem"), certificate).unwrap();
        std::fs::write(path.join("key.pem"), key).unwrap();
        std::fs::write(path.join("slapd.conf"), SETTINGS.replace("DIR", path.to_str().unwrap())).unwrap();
        let mut entries = String::from(
            "dn: dc=ship,dc=test\nobjectClass: dcObject\nobjectClass: organization\no: ship\ndc: ship\n\n\
             dn: ou=crew,dc=ship,dc=test\nobjectClass: organizationalUnit\nou: crew\n\n",
        );
        for (user, password) in users {
            entries.push_str(&format!(
                "dn: uid={user},ou=crew,dc=ship,dc=test\nobjectClass: inetOrgPerson\nuid: {user}\ncn: {user}\nsn: {user}\n\
                 userPassword: {password}\n\n"
            ));
        }
        std::fs::write(path.join("entries.ldif"), entries).unwrap();
        let loaded =
            Command::new(program("slapadd")).arg("-f").arg(path.join("slapd.conf")).arg("-l").arg(path.join("entries.ldif")).output();
        let loaded = loaded.unwrap();
        assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
        let mut server = Self { port: free_port(), tls_port: free_port(), server: None, directory };
        server.serve();
        server
    }

    fn serve(&mut self) {
        let urls = format!("ldap://127.0.0.1:{} ldaps://127.0.0.1:{}", self.port, self.tls_port);
        let child = Command::new(program("slapd"))
            .arg("-f")
            .arg(self.path().join("slapd.conf"))
            .args(["-h", &urls, "-d", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.server = Some(child);
        let reachable = |port| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        eventually("slapd listens", || reachable(self.port) && reachable(self.tls_port));
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where it speaks in the clear, or in TLS after StartTLS.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it speaks TLS only.
    pub fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// Ends it, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        self.kill();
    }
}
