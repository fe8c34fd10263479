//! The addresses: free, or ours already.

use std::{
    fs,
    io::{self, ErrorKind},
    net::{SocketAddr, ToSocketAddrs},
    os::unix::fs::FileTypeExt,
    path::Path,
};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::{
    directory::Owner,
    report::{Report, chain},
};
use crate::{
    cli::local::Local,
    config::{Settings, StoreKind},
};

/// Whether an address could be listened on. It is bound and let go of: nobody can connect meanwhile.
fn try_to_bind(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

/// What stands in the way of listening, in words.
fn obstacle(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            format!("{address} needs a right: ports below 1024 take CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=)")
        }
        ErrorKind::AddrNotAvailable => format!("{address} is no address of this machine"),
        ErrorKind::AddrInUse => format!("{address} is taken by another program"),
        _ => format!("cannot listen on {address}: {error}"),
    }
}

/// `server.host` and `server.port`. Whether the configured broker answers there.
pub(super) async fn main(report: &mut Report, settings: &Settings, owner: Option<&Owner>) -> bool {
    let (host, port) = (settings.server.host.as_str(), settings.server.port);
    if port == 0 {
        report.warn("port", "server.port is 0: each start takes another one, and clients have to be told");
        return false;
    }
    let addresses: Vec<SocketAddr> = match (host, port).to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            report.fail("port", format!("server.host: {host} has no address: {error}"));
            return false;
        }
    };
    let tried: Vec<_> = addresses.iter().map(|address| (*address, try_to_bind(*address))).collect();
    let taken = |tried: &io::Result<()>| tried.as_ref().is_err_and(|error| error.kind() == ErrorKind::AddrInUse);
    if tried.iter().any(|(_, tried)| taken(tried)) {
        return ask(report, settings, owner).await;
    }
    // One that can be bound is enough, as on a machine without IPv6.
    match (tried.iter().find(|(_, tried)| tried.is_ok()), tried.iter().find_map(|(at, tried)| Some((at, tried.as_ref().err()?)))) {
        (Some((address, _)), _) => report.ok("port", format!("{address} is free; no broker runs here")),
        (None, Some((address, error))) => report.fail("port", format!("server.port: {}", obstacle(*address, error))),
        (None, None) => report.fail("port", format!("server.host: {host} has no address")),
    }
    false
}

/// Who is there, and how it is.
async fn ask(report: &mut Report, settings: &Settings, owner: Option<&Owner>) -> bool {
    let local = match Local::of(settings) {
        Ok(local) => local,
        Err(error) => {
            report.fail("port", chain(&error));
            return false;
        }
    };
    let address = &local.address;
    let alternative = "stop it, or choose another server.port";
    match local.get("/up").await {
        Ok((200, body)) if body == r#"{"health":"OK"}"# => {}
        Ok((status, _)) => {
            report.fail("port", format!("server.port: another program answers at {address} ({status} to GET /up): {alternative}"));
            return false;
        }
        Err(error) => {
            report.fail("port", format!("server.port: somebody listens who does not answer as this configuration says: {}", chain(&error)));
            return false;
        }
    }
    let ours = env!("CARGO_PKG_VERSION");
    let described = local.get("/openapi.json").await.ok().and_then(|(_, body)| serde_json::from_str::<Value>(&body).ok());
    let info = described.map(|described| described["info"].clone()).unwrap_or_default();
    let by = owner.filter(|owner| owner.pid > 0).map(|owner| format!(", process {}", owner.pid)).unwrap_or_default();
    match (info["title"].as_str(), info["version"].as_str()) {
        (Some("Holdline"), Some(version)) if version == ours => report.ok("port", format!("Holdline {version} answers at {address}{by}")),
        (Some("Holdline"), version) => {
            let version = version.unwrap_or("of another version");
            report.warn("port", format!("Holdline {version} answers at {address}{by}, this is {ours}: restart it after an upgrade"));
        }
        _ => {
            let who = "another broker (Reverb? soketi? an old Holdline?)";
            report.fail("port", format!("server.port: {who} answers at {address}: {alternative}"));
            return false;
        }
    }
    health(report, settings, &local).await;
    true
}

async fn health(report: &mut Report, settings: &Settings, local: &Local) {
    let mut bad = Vec::new();
    let paths = ["/ready", "/accept-traffic", "/ready/holds"];
    let paths = if settings.store.kind() == StoreKind::Nothing { &paths[..2] } else { &paths[..] };
    for path in paths {
        match local.get(path).await {
            Ok((200, _)) => {}
            Ok((status, body)) => bad.push(format!("{path} is {status} ({body})")),
            Err(error) => bad.push(format!("{path}: {}", chain(&error))),
        }
    }
    if bad.is_empty() { report.ok("broker", format!("{} are 200", paths.join(", "))) } else { report.fail("broker", bad.join(", ")) }
}

/// What else is listened on. A broker that answers has them already.
pub(super) fn others(report: &mut Report, settings: &Settings, serves: bool) {
    let plain = settings.tls.plain_address().map(|address| ("tls.plain_bind", address));
    let metrics = settings.metrics.address().map(|address| ("metrics.bind", address));
    for (key, address) in plain.into_iter().chain(metrics).filter(|(_, address)| address.port() != 0) {
        match try_to_bind(address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && serves => report.ok("port", format!("{key}: {address} is listened on")),
            Err(error) => report.fail("port", format!("{key}: {}", obstacle(address, &error))),
            Ok(()) if serves => {
                report.warn("port", format!("{key}: nobody listens on {address}: restart the broker with this configuration"))
            }
            Ok(()) => report.ok("port", format!("{key}: {address} is free")),
        }
    }
    if !settings.server.unix_socket.is_empty() {
        unix_socket(report, Path::new(&settings.server.unix_socket), serves);
    }
}

fn unix_socket(report: &mut Report, path: &Path, serves: bool) {
    let shown = path.display();
    let there = fs::symlink_metadata(path).ok();
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match there.map(|metadata| metadata.file_type().is_socket()) {
        Some(false) => report.fail("socket", format!("server.unix_socket: {shown} is there, and no socket: remove it")),
        Some(true) if serves => report.ok("socket", format!("{shown} is there")),
        Some(true) => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => report.fail("socket", format!("server.unix_socket: somebody else listens on {shown}")),
            Err(_) => report.ok("socket", format!("{shown} was left by a broker that is gone: the next start replaces it")),
        },
        None if !parent.is_dir() => report.fail("socket", format!("server.unix_socket: there is no directory {}", parent.display())),
        None if serves => report.warn("socket", format!("{shown} is not there: restart the broker with this configuration")),
        None => report.ok("socket", format!("{shown} is free")),
    }
}
