//! What the broker says of itself: a page for Prometheus, on a listener of its own.
//!
//! The layers below count with plain atomics and keep tables; the collectors here read both at the moment of a scrape, on the one
//! thread of this listener, so that a scrape waits for nobody but a lock that is held for microseconds. What is in the database is
//! read beside the scrapes. No other part of the program knows the crate that writes the page.

mod certificate;
mod connections;
mod hooks;
mod page;
mod process;
mod requests;
mod sample;
mod store;
mod text;

use std::{io, net::SocketAddr, sync::Arc};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer, dev,
    http::header::{ACCEPT, ALLOW, CONTENT_TYPE},
    rt, web,
};
use prometheus_client::{encoding::text::encode, registry::Registry};

pub(super) use requests::Requests;
pub(super) use store::{PostedTo, StoreSources};

use super::{ServerError, tls::InUse};
use crate::{cluster::Broker, config::MetricsSettings, lifecycle::HookStats};

/// Scrapers at a time; whoever comes beyond that waits.
const MAX_CONNECTIONS: usize = 64;
/// Bytes of a page of one application with a store.
const TYPICAL_PAGE: usize = 64 * 1024;

/// What there is to read.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) broker: Broker,
    pub(super) hooks: Arc<HookStats>,
    pub(super) requests: Requests,
    /// `None` without a store.
    pub(super) store: Option<StoreSources>,
    /// `None` without TLS.
    pub(super) certificate: Option<Arc<InUse>>,
}

/// The listener at work.
#[derive(Debug)]
pub(super) struct Metrics {
    handle: dev::ServerHandle,
}

impl Metrics {
    /// Listens, if an address is configured.
    ///
    /// # Errors
    /// [`ServerError::BindMetrics`] when that address cannot be listened on.
    pub(super) fn start(settings: &MetricsSettings, sources: Sources) -> Result<Option<Self>, ServerError> {
        let Some(address) = settings.address() else { return Ok(None) };
        let (addresses, running) = listen(address, registry(sources)).map_err(|source| ServerError::BindMetrics { address, source })?;
        for address in addresses {
            tracing::info!(metrics.bind = %address, "Metrics: http://{address}/metrics");
        }
        let handle = running.handle();
        rt::spawn(running);
        Ok(Some(Self { handle }))
    }

    /// Ends it. It is the last to go, so that a stop can be watched to its end.
    pub(super) async fn stop(&self) {
        self.handle.stop(false).await;
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        // Asked for now; what it gives back is only to wait for.
        drop(self.handle.stop(false));
    }
}

fn registry(sources: Sources) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(connections::Connections(sources.broker)));
    registry.register_collector(Box::new(hooks::Hooks(sources.hooks)));
    registry.register_collector(Box::new(sources.requests));
    if let Some(sources) = sources.store {
        registry.register_collector(Box::new(store::Store::new(sources)));
    }
    if let Some(in_use) = sources.certificate {
        registry.register_collector(Box::new(certificate::Certificate(in_use)));
    }
    registry.register_collector(Box::new(process::Process::new()));
    registry
}

fn listen(address: SocketAddr, registry: Registry) -> io::Result<(Vec<SocketAddr>, dev::Server)> {
    let registry = web::Data::new(registry);
    let app = move || {
        let resource =
            web::resource("/metrics").route(web::get().to(show)).route(web::head().to(show)).default_service(web::to(other_method));
        App::new().app_data(registry.clone()).service(resource)
    };
    let listener = HttpServer::new(app).workers(1).disable_signals().max_connections(MAX_CONNECTIONS).bind(address)?;
    let addresses = listener.addrs();
    Ok((addresses, listener.run()))
}

async fn show(request: HttpRequest, registry: web::Data<Registry>) -> HttpResponse {
    let mut body = String::with_capacity(TYPICAL_PAGE);
    if let Err(error) = encode(&mut body, &registry) {
        tracing::error!(%error, "The metrics cannot be written: {error}");
        return HttpResponse::InternalServerError().finish();
    }
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (body, form) = if text::reads_open_metrics(accept) { (body, text::OPEN_METRICS) } else { (text::plain(&body), text::PLAIN) };
    // To HEAD actix answers with the length alone.
    HttpResponse::Ok().insert_header((CONTENT_TYPE, form)).body(body)
}

async fn other_method() -> HttpResponse {
    HttpResponse::MethodNotAllowed().insert_header((ALLOW, "GET, HEAD")).finish()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{
        domain::{App as Application, Conn, Join, NewConn},
        protocol::{ChannelName, SocketId},
    };

    /// 10,000 connections on two of 5,000 channels each. The limit is far above what a release build takes, and far below what a walk
    /// that is quadratic in anything would.
    #[test]
    fn a_scrape_of_a_large_node_is_cheap() {
        let broker = Broker::new([Application::for_tests()], 0);
        let hub = broker.app("app-id").unwrap();
        let channels: Vec<_> = (0..5_000).map(|n| ChannelName::parse(&format!("private-{n}"), 200).unwrap()).collect();
        let now = Instant::now();
        for n in 0..10_000_u64 {
            let conn = Conn::new(NewConn {
                socket_id: SocketId::parse(&format!("{n}.{n}")).unwrap().unwrap(),
                app: hub.app(),
                remote_ip: None,
                worker: 0,
                max_outbox_bytes: 1 << 20,
                memory: Arc::clone(broker.outbox_memory()),
                now,
            });
            hub.admit(&conn).unwrap();
            hub.opened(&conn);
            for channel in [&channels[n as usize % 5_000], &channels[(n as usize * 7 + 1) % 5_000]] {
                hub.join(channel, &Join { conn: &conn, member: None, greeting: &[], now }).unwrap();
            }
        }
        let sources =
            Sources { broker: broker.clone(), hooks: Arc::default(), requests: Requests::default(), store: None, certificate: None };
        let registry = registry(sources);
        let best = (0..5).map(|_| {
            let (began, mut page) = (Instant::now(), String::new());
            encode(&mut page, &registry).unwrap();
            assert!(page.contains("holdline_connected{app_id=\"app-id\"} 10000\n"), "{page}");
            assert!(page.contains("holdline_channels{app_id=\"app-id\",kind=\"private\"} 5000\n"), "{page}");
            began.elapsed()
        });
        let best = best.min().unwrap_or_default();
        println!("a scrape took {best:?}");
        assert!(best < Duration::from_millis(250), "{best:?}");
    }
}
