//! A listener that only this machine can reach, by a path in the file system.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use socket2::SockRef;

/// Owner and group may connect: put the proxy into the group.
const MODE: u32 = 0o660;

/// Why there is no listener at a path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnixSocketError {
    /// Somebody listens there.
    #[error("another process listens there")]
    Live,
    /// Something that we must not delete.
    #[error("there is a file that is no socket")]
    NoSocket,
    /// The system does not allow it.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The path of a listener. It goes with this value, unless it is somebody else's by then.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and number of the file.
    file: (u64, u64),
}

/// Listens at a path, in the place of a socket that nobody listens on any more.
pub(super) fn listen(path: &Path, backlog: u32) -> Result<(UnixListener, SocketFile), UnixSocketError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
        Ok(found) if !found.file_type().is_socket() => return Err(UnixSocketError::NoSocket),
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => return Err(UnixSocketError::Live),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error.into()),
        },
    }
    // Made under another name and then renamed: nobody ever finds it with other permissions, nor misses it in between.
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    // The standard library's own is too short for everybody who comes back at once.
    let backlog = SockRef::from(&listener).listen(i32::try_from(backlog).unwrap_or(i32::MAX));
    let placed = backlog.and_then(|()| fs::set_permissions(&new, fs::Permissions::from_mode(MODE))).and_then(|()| fs::rename(&new, path));
    if let Err(error) = placed.and_then(|()| listener.set_nonblocking(true)) {
        // What is said is why there is no listener, not that its remains are there.
        let _ = fs::remove_file(&new);
        return Err(error.into());
    }
    let file = identity(path)?;
    Ok((listener, SocketFile { path: path.to_owned(), file }))
}

impl SocketFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.file)
            && let Err(error) = fs::remove_file(&self.path)
        {
            let path = self.path.display();
            tracing::warn!(server.unix_socket = %path, %error, "Cannot remove {path}: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_nobody_listens_on_is_replaced_and_ours_goes_with_us() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("holdline.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "what a killed process leaves");
        let (listener, file) = listen(&path, 16).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        UnixStream::connect(&path).unwrap();
        assert!(matches!(listen(&path, 16), Err(UnixSocketError::Live)));
        drop((listener, file));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_not_ours_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("holdline.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(listen(&path, 16), Err(UnixSocketError::NoSocket)));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_file(&path).unwrap();
        let (listener, file) = listen(&path, 16).unwrap();
        fs::remove_file(&path).unwrap();
        let successor = UnixListener::bind(&path).unwrap();
        drop((listener, file));
        UnixStream::connect(&path).unwrap();
        drop(successor);
        assert!(matches!(listen(&directory.path().join("nowhere/holdline.sock"), 16), Err(UnixSocketError::Io(_))));
    }
}
