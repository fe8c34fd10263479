//! The data directory: whether it can be written, who has it, and how much room is left.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use bytesize::ByteSize;

use super::report::Report;
use crate::config::{Settings, StoreKind};

/// Less room than this, and the database cannot write much longer.
const NO_ROOM: u64 = 64 << 20;
const LITTLE_ROOM: u64 = 1 << 30;
/// On PostgreSQL there is only a name.
const NO_ROOM_FOR_A_NAME: u64 = 1 << 20;

/// A process that has the directory locked.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    /// Its number; 0 if it is in another container, where it has one that we cannot see.
    pub(super) pid: u32,
    /// What it is called.
    name: String,
}

impl Owner {
    /// How many files it may open; it has raised its limit as far as it goes.
    pub(super) fn open_files(&self) -> Option<u64> {
        limit(&self.pid.to_string(), "Max open files")
    }
}

/// A hard limit of a process.
pub(super) fn limit(process: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/limits")).ok()?;
    let numbers = text.lines().find_map(|line| line.strip_prefix(name))?;
    match numbers.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

fn has_directory(settings: &Settings) -> bool {
    matches!(settings.store.kind(), StoreKind::Sqlite | StoreKind::Postgres)
}

/// Who has the directory, if anybody. The kernel's list says who; a holder in another container is not in it, and shows only when the lock
/// is tried.
pub(super) fn owner(settings: &Settings) -> Option<Owner> {
    if !has_directory(settings) {
        return None;
    }
    let path = Path::new(&settings.store.data_dir).join("lock");
    let metadata = fs::metadata(&path).ok()?;
    if let Some(pid) = locked_by(metadata.ino(), metadata.dev()) {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
        return Some(Owner { pid, name });
    }
    // Shared, so that two who look do not see each other.
    match File::open(&path).ok()?.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(Owner { pid: 0, name: "a process elsewhere".to_owned() }),
        _ => None,
    }
}

/// As `/proc/locks` has it: `1: FLOCK ADVISORY WRITE 4711 08:01:131 0 EOF`.
fn locked_by(inode: u64, device: u64) -> Option<u32> {
    let text = fs::read_to_string("/proc/locks").ok()?;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let place = format!("{major:02x}:{minor:02x}:{inode}");
    let held = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_it = fields.get(1) == Some(&"FLOCK") && fields.get(5).is_some_and(|found| *found == place);
        if is_it { fields.get(4)?.parse().ok().filter(|pid| *pid > 0) } else { None }
    };
    text.lines().find_map(held)
}

pub(super) fn examine(report: &mut Report, settings: &Settings, owner: Option<&Owner>, serves: bool) {
    if !has_directory(settings) {
        return report.warn("data", format!("store.url is \"{}\": locks and log end with the broker", settings.store.url));
    }
    let directory = PathBuf::from(&settings.store.data_dir);
    let shown = directory.display();
    // What is not there yet is made by the first start, where it can be.
    let existing = directory.ancestors().find(|path| path.as_os_str().is_empty() || path.exists());
    let existing = existing.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_there = existing == directory;
    if let Err(error) = try_to_write(existing) {
        let at = if is_there { shown.to_string() } else { format!("{shown} (which is not there yet: {})", existing.display()) };
        report.fail("data", format!("store.data_dir: cannot write to {at}: {error}; give it to the user that the broker runs as"));
    } else if let Some(Owner { pid, name }) = owner {
        let by = if *pid == 0 { name.clone() } else { format!("{name} (process {pid})") };
        match (serves, settings.store.kind()) {
            (true, _) => report.ok("data", format!("{shown} is locked by {by}, the broker that answers")),
            (false, StoreKind::Sqlite) => {
                report.fail("data", format!("store.data_dir: {shown} is locked by {by}: a broker with this configuration would not start"));
            }
            (false, _) => report.warn("data", format!("{shown} is locked by {by}: a broker with this configuration gets another name")),
        }
    } else {
        mode(report, &directory, is_there);
    }
    room(report, existing, settings.store.kind());
}

/// Whose it is, and who else may look into it.
fn mode(report: &mut Report, directory: &Path, is_there: bool) {
    let shown = directory.display();
    let Some(metadata) = fs::metadata(directory).ok().filter(|_| is_there) else {
        return report.ok("data", format!("{shown} is not there yet: the first start makes it"));
    };
    let (mode, owner, we) = (metadata.permissions().mode() & 0o777, metadata.uid(), rustix::process::geteuid().as_raw());
    if mode & 0o007 != 0 {
        report.warn("data", format!("{shown} is open to everybody on this machine (mode {mode:o}): chmod 700"));
    } else if owner != we {
        report
            .warn("data", format!("{shown} belongs to user {owner}, and this is user {we}: run this as the user that the broker runs as"));
    } else {
        report.ok("data", format!("{shown} can be written, and nobody has it"));
    }
}

fn try_to_write(directory: &Path) -> io::Result<()> {
    let path = directory.join(format!(".holdline-doctor-{}", std::process::id()));
    OpenOptions::new().write(true).create_new(true).open(&path)?;
    fs::remove_file(path)
}

fn room(report: &mut Report, directory: &Path, kind: StoreKind) {
    let Ok(disk) = rustix::fs::statvfs(directory) else {
        return report.warn("disk", format!("the room at {} cannot be read", directory.display()));
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let found = format!("{} free at {}", ByteSize::b(free), directory.display());
    let least = if kind == StoreKind::Sqlite { NO_ROOM } else { NO_ROOM_FOR_A_NAME };
    // Some file systems have no fixed number of files.
    let no_files = disk.f_files > 0 && disk.f_favail == 0;
    if free < least || no_files {
        let what = if no_files { ", and no file more can be made" } else { "" };
        report.fail("disk", format!("{found}{what}: no lock is granted that cannot be written; make room"));
    } else if kind == StoreKind::Sqlite && free < LITTLE_ROOM {
        report.warn("disk", format!("{found}: locks and log are kept there for store.retention"));
    } else {
        report.ok("disk", found);
    }
}
