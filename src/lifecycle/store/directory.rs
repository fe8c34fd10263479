//! The directory that belongs to one process: the node's name, and the embedded database.

use std::{
    fs::{self, File, TryLockError},
    io::Write,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use super::{BootId, StoreError};

/// Who may look into a directory that is made here: the log says who did what, and when.
const OURS_ALONE: u32 = 0o700;

/// A data directory, locked for as long as this value lives. The lock is the kernel's: it ends with the process, however that ends.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    node_name: String,
    _lock: File,
}

impl DataDirectory {
    /// Where it is unless told otherwise.
    pub const DEFAULT: &str = "./holdline-data";

    /// Locks the directory, which is made if it is not there, and reads the node's name, which is made up the first time.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process has it, [`StoreError::DataDirectory`] if it cannot be used.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let failed = |at: &Path| {
            let path = at.to_owned();
            move |source| StoreError::DataDirectory { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(OURS_ALONE).create(path).map_err(failed(path))?;
        let lock_path = path.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path).map_err(failed(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(StoreError::DataDirectory { path: lock_path, source }),
        }
        let name_path = path.join("node");
        let node_name = match fs::read_to_string(&name_path) {
            Ok(name) if !name.trim().is_empty() => name.trim().to_owned(),
            Ok(_) => new_name(path, &name_path).map_err(failed(&name_path))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => new_name(path, &name_path).map_err(failed(&name_path))?,
            Err(source) => return Err(StoreError::DataDirectory { path: name_path, source }),
        };
        Ok(Self { path: path.to_owned(), node_name, _lock: lock })
    }

    /// A random id that stays over restarts. Nobody else has it while this value lives.
    pub fn node_name(&self) -> &str {
        &self.node_name
    }

    /// The embedded database's file.
    pub fn database(&self) -> PathBuf {
        Self::database_in(&self.path)
    }

    /// The same of a directory that another process may have.
    pub fn database_in(path: &Path) -> PathBuf {
        path.join("holdline.sqlite")
    }
}

/// Written beside and renamed: half a name would be another node.
fn new_name(directory: &Path, name_path: &Path) -> std::io::Result<String> {
    let name = format!("node-{}", BootId::random().0.simple());
    let beside = directory.join("node.new");
    let mut file = File::create(&beside)?;
    file.write_all(name.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, name_path)?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_has_it_and_the_name_stays() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("data");
        let first = DataDirectory::open(&path).unwrap();
        assert!(matches!(DataDirectory::open(&path), Err(StoreError::InUse { .. })));
        let name = first.node_name().to_owned();
        drop(first);
        assert_eq!(DataDirectory::open(&path).unwrap().node_name(), name);
        let other = DataDirectory::open(place.path().join("other")).unwrap();
        assert_ne!(other.node_name(), name);
    }

    #[test]
    fn nobody_else_looks_into_a_directory_that_is_made_here() {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let place = tempfile::tempdir().unwrap();
        drop(DataDirectory::open(place.path().join("data")).unwrap());
        assert_eq!(mode(&place.path().join("data")), 0o700);
        let shared = place.path().join("shared");
        fs::create_dir(&shared).unwrap();
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o750)).unwrap();
        drop(DataDirectory::open(&shared).unwrap());
        assert_eq!(mode(&shared), 0o750, "what an operator has made stays as it is");
    }

    #[test]
    fn a_file_in_its_place_is_an_error_with_the_path() {
        let place = tempfile::NamedTempFile::new().unwrap();
        let error = DataDirectory::open(place.path()).unwrap_err();
        assert!(error.to_string().contains(place.path().to_str().unwrap()), "{error}");
    }
}
