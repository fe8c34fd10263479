//! A running server. Every task that outlives a request is started here, and nowhere else.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use actix_web::{App, dev, rt, web};
use tokio::sync::Notify;

use super::{
    Server, ServerError, dashboard::Dashboard, hold_rules, locks, locks::Lifecycle, metrics, metrics::Metrics, publisher::Publisher,
    serving, shutdown, socket, sockets::Sockets, tls::Tls, unix_socket::SocketFile, wiring,
};
use crate::{
    cluster::Broker,
    config::DrainSettings,
    connection::{self, Doorkeeper, Transport},
    domain::{ConfiguredHolds, Handler, Pacer},
    http,
    lifecycle::{Handover, Owed, Publishing},
};

/// How often owed subscription counts are told and expired cache entries dropped.
const TICK: Duration = Duration::from_secs(1);

/// How long the node of a broker that never served may take to sign off.
const LEAVING_UNSERVED: Duration = Duration::from_secs(2);

/// A server that listens, until it is stopped.
#[must_use = "an application serves only while it runs"]
#[derive(Debug)]
pub struct Application {
    addrs: Vec<SocketAddr>,
    serving: rt::task::JoinHandle<std::io::Result<()>>,
    ticking: rt::task::JoinHandle<()>,
    /// Follows certificate and key, where there is TLS.
    watching: Option<rt::task::JoinHandle<()>>,
    handle: dev::ServerHandle,
    broker: Broker,
    lifecycle: Option<Lifecycle>,
    drain: DrainSettings,
    owed: Arc<Owed>,
    stop: Arc<Notify>,
    signals: shutdown::Signals,
    metrics: Option<Metrics>,
    _socket_file: Option<SocketFile>,
}

/// Stops an [`Application`] from elsewhere in the program. Cloning is a reference count.
#[derive(Clone, Debug)]
pub struct StopHandle(Arc<Notify>);

impl StopHandle {
    /// Asks for a graceful stop, as SIGTERM does.
    pub fn stop(&self) {
        self.0.notify_one();
    }
}

pub(super) async fn build<H: Handler>(server: Server<H>) -> Result<Application, ServerError> {
    server.settings.validate()?;
    let Server { settings, broker, handler, wrap, routes, listeners } = server;
    // The application is asked first: what it refuses is not looked at for a lock.
    let holds = hold_rules::configured_holds(&settings, &broker)?;
    let handler = handler.and(holds.clone());
    start(Server { settings, broker, handler, wrap, routes, listeners }, holds).await
}

async fn start<H: Handler>(server: Server<H>, holds: ConfiguredHolds) -> Result<Application, ServerError> {
    let Server { settings, broker, handler, wrap, routes, listeners } = server;
    broker.limit_connections(socket::raise_open_files());
    broker.outbox_memory().set_limit(settings.server.max_outbox_memory);
    let handler = Arc::new(handler);
    let tls = Tls::start(&settings.tls)?;
    let lifecycle = locks::start(&settings, &broker, holds.clone(), listeners).await?;
    let locks = broker.locks().cloned();
    let (handover, jobs) = Handover::new();
    Publisher::start(Publishing::new(Arc::clone(&handler), settings.server.hook_timeout, locks, &handover), jobs);
    let owed = handover.owed();
    let hooks = Arc::clone(handover.hooks());
    let ticking = rt::spawn(tick(broker.clone()));

    let connection_settings = Arc::new(wiring::connection_settings(&settings));
    let door = Arc::new(Doorkeeper::new(settings.server.connects_per_second));
    let http_settings = web::Data::new(wiring::http_settings(&settings));
    let path_prefix = settings.server.path_prefix.clone();
    let (workers, state) = (Arc::new(AtomicUsize::new(0)), broker.clone());
    let dashboard = Dashboard::try_new(&settings, broker.clone(), holds);
    let has_dashboard = dashboard.is_some();
    let requests = metrics::Requests::default();
    let counted = requests.clone();
    let factory = move || {
        // On the worker, which is where this is called: it ends with it.
        let pacer = Arc::<Pacer>::default();
        rt::spawn(pacer.pace());
        let transport = Transport {
            broker: state.clone(),
            handler: Arc::clone(&handler),
            handover: handover.clone(),
            door: Arc::clone(&door),
            settings: Arc::clone(&connection_settings),
            worker: workers.fetch_add(1, Ordering::Relaxed),
            pacer,
        };
        let all_routes = |scope: &mut web::ServiceConfig| {
            connection::configure::<H>(scope);
            http::configure(scope);
            dashboard.iter().for_each(|dashboard| dashboard.configure(scope));
        };
        let own_routes = |scope: &mut web::ServiceConfig| {
            if !path_prefix.is_empty() {
                scope.service(web::scope(&path_prefix).configure(all_routes));
            }
            all_routes(scope);
            routes.iter().for_each(|routes| routes(scope));
        };
        let transport = web::Data::new(transport);
        let express = || {
            let publishes = http::Express::new(state.clone(), http_settings.clone());
            (publishes, connection::express(transport.clone(), path_prefix.clone()))
        };
        let app = App::new()
            .app_data(transport.clone())
            .app_data(web::Data::new(state.clone()))
            .app_data(http_settings.clone())
            .default_service(web::to(http::not_found))
            // The embedding program's layers see every request; only without them is there a shorter way.
            .wrap(counted.counting(wrap.is_none().then(express)));
        match &wrap {
            Some(wrap) => app.configure(|app| wrap(web::scope("").configure(own_routes).default_service(web::to(http::not_found)), app)),
            None => app.configure(own_routes),
        }
    };
    let sources = metrics::Sources {
        broker: broker.clone(),
        hooks,
        requests,
        store: lifecycle.as_ref().map(Lifecycle::numbers),
        certificate: tls.as_ref().map(|tls| Arc::clone(&tls.in_use)),
    };
    let opened = Metrics::start(&settings.metrics, sources).and_then(|metrics| {
        // Before anybody can know that this serves: a stop that is asked for from then on is a graceful one.
        let signals = shutdown::Signals::listen(tls.is_some()).map_err(ServerError::Signals)?;
        let mut sockets = Sockets::bind(&settings)?;
        let addrs = sockets.addrs().map_err(ServerError::Serve)?;
        sockets.say(tls.is_some()).map_err(ServerError::Serve)?;
        if let Some(addr) = addrs.first().filter(|_| has_dashboard) {
            let scheme = if tls.is_some() { "https" } else { "http" };
            tracing::info!("Dashboard: {scheme}://{addr}/dashboard");
        }
        let socket_file = sockets.socket_file.take();
        let running = serving::serve(&settings.server, sockets, tls.as_ref().map(|tls| &tls.config), factory);
        Ok((metrics, signals, addrs, socket_file, running.map_err(ServerError::Serve)?))
    });
    let (metrics, signals, addrs, socket_file, running) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            // Or the other nodes would wait out the lease of one that never served.
            if let Some(lifecycle) = lifecycle {
                lifecycle.leave(LEAVING_UNSERVED).await;
            }
            return Err(error);
        }
    };
    let handle = running.handle();
    let serving = rt::spawn(running);
    let watching = tls.map(Tls::watch);
    broker.set_ready();
    Ok(Application {
        addrs,
        serving,
        ticking,
        watching,
        handle,
        broker,
        lifecycle,
        drain: settings.drain,
        owed,
        stop: Arc::default(),
        signals,
        metrics,
        _socket_file: socket_file,
    })
}

async fn tick(broker: Broker) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        broker.tick(Instant::now());
    }
}

impl Application {
    /// Where it listens; more than one address when the host name has several.
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// The port it listens on; of use when the settings said 0.
    pub fn port(&self) -> u16 {
        self.addrs.first().map_or(0, SocketAddr::port)
    }

    /// Whether that is TLS.
    pub fn speaks_tls(&self) -> bool {
        self.watching.is_some()
    }

    /// The broker behind it.
    pub fn broker(&self) -> Broker {
        self.broker.clone()
    }

    /// Stops it from elsewhere.
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle(Arc::clone(&self.stop))
    }

    /// Serves until SIGTERM, SIGINT (on a terminal SIGHUP, too, without TLS) or [`StopHandle::stop`], then drains: see `shutdown.rs`. A second signal ends it at once.
    ///
    /// # Errors
    /// [`ServerError`] when the listener fails.
    pub async fn run_until_stopped(mut self) -> Result<(), ServerError> {
        let signals = &mut self.signals;
        tokio::select! {
            ended = &mut self.serving => return ended.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(ServerError::Serve),
            name = signals.next() => tracing::info!("Stopping: got {name}"),
            () = self.stop.notified() => tracing::info!("Stopping: asked to"),
        }
        let started = Instant::now();
        let left = tokio::select! {
            () = shutdown::drain(&self.broker, &self.drain, self.lifecycle.as_ref(), &self.owed) => {
                self.drain.grace.saturating_sub(started.elapsed())
            }
            name = signals.next() => {
                tracing::warn!("Stopping at once: got {name} again");
                Duration::ZERO
            }
        };
        if let Some(lifecycle) = self.lifecycle.take() {
            tokio::select! {
                () = lifecycle.leave(left) => {}
                name = signals.next() => tracing::warn!("Stopping without a word to the store: got {name} again"),
            }
        }
        // Or whoever connects in between meets a listener without workers.
        self.handle.pause().await;
        self.handle.stop(false).await;
        if let Some(metrics) = &self.metrics {
            metrics.stop().await;
        }
        tracing::info!("Stopped");
        Ok(())
    }
}

/// A server that nobody runs any more must not go on without its node: it would grant locks that nobody keeps.
impl Drop for Application {
    fn drop(&mut self) {
        self.ticking.abort();
        if let Some(watching) = &self.watching {
            watching.abort();
        }
        // Asked for now; what it gives back is only to wait for.
        drop(self.handle.stop(false));
    }
}
