//! Certificates of a test's own authority, made by openssl.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A directory with an authority in it, and what it has signed.
pub(crate) struct Certs {
    directory: TempDir,
}

impl Certs {
    pub(crate) fn new() -> Certs {
        let certs = Certs { directory: tempfile::tempdir().expect("a temporary directory") };
        std::fs::write(certs.path("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1").expect("a file");
        certs.openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.pem -days 30 -subj /CN=ca");
        certs
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Makes `NAME.pem` and `NAME.key` for localhost.
    pub(crate) fn issue(&self, name: &str) {
        self.issue_with(name, "ec -pkeyopt ec_paramgen_curve:prime256v1", 30);
    }

    /// The same with another kind of key, for so many days; negative ones are over.
    pub(crate) fn issue_with(&self, name: &str, key: &str, days: i32) {
        self.openssl(&format!("req -newkey {key} -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        let serial = "-CAcreateserial";
        self.openssl(&format!("x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key {serial} -days {days} -extfile names -out {name}.pem"));
    }

    /// Runs openssl in the directory; arguments have no spaces.
    pub(crate) fn openssl(&self, arguments: &str) {
        let mut command = Command::new("openssl");
        command.args(arguments.split(' ')).current_dir(&self.directory).stdin(Stdio::null());
        let output = command.output().expect("openssl is installed");
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Puts a pair where the broker reads it: `tls.pem` and `tls.key`.
    pub(crate) fn install(&self, name: &str) {
        for kind in ["pem", "key"] {
            self.copy(&format!("{name}.{kind}"), &format!("tls.{kind}"));
        }
    }

    /// Puts a file in the place of another at once.
    pub(crate) fn copy(&self, from: &str, to: &str) {
        std::fs::copy(self.path(from), self.path("copy")).expect("a file is copied");
        std::fs::rename(self.path("copy"), self.path(to)).expect("a file is renamed");
    }

    /// `[tls]` for what is installed, with further keys.
    pub(crate) fn config(&self, more: &str) -> String {
        let path = |name: &str| self.path(name).display().to_string();
        format!("[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n{more}\n", path("tls.pem"), path("tls.key"))
    }
}
