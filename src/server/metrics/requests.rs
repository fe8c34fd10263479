//! Requests on the port of the clients: by route, method and status. A middleware around everything; each worker counts for itself.

use std::{
    collections::BTreeMap,
    fmt,
    future::{Ready, ready},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use actix_web::{
    Error, HttpMessage, HttpRequest,
    dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready},
    http::{Method, StatusCode},
};
use futures_util::future::LocalBoxFuture;
use parking_lot::Mutex;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::page::{Page, labels};
use crate::{
    connection,
    domain::{Histogram, HistogramView},
    http::{Account, Express, ExpressRoute, RouteTemplate, account},
};

/// Where WebSockets are opened. Their handshake is a request like others; what follows it is not part of its time.
const SOCKETS: [&str; 2] = ["/ctx/{token}/app/{key}", connection::APP];
/// A route of the program that embeds the broker.
const OTHER: &str = "other";
/// No route at all.
const NONE: &str = "none";
const GET: &str = "GET";
const POST: &str = "POST";

/// Route and method.
type Kind = (&'static str, &'static str);

/// The requests of one worker.
#[derive(Debug)]
struct Worker {
    /// Those that went past the router and were accepted, by [`ExpressRoute`].
    accepted: [Accepted; ExpressRoute::ALL.len()],
    others: Mutex<BTreeMap<Kind, Answers>>,
}

/// Requests of one route that were answered with 200. Whoever counts here waits for nobody.
#[derive(Debug)]
struct Accepted {
    times: Histogram,
    count: AtomicU64,
}

#[derive(Debug)]
struct Answers {
    times: Histogram,
    by_status: BTreeMap<u16, u64>,
}

impl Worker {
    fn new() -> Self {
        let accepted = ExpressRoute::ALL.map(|_| Accepted { times: Histogram::of_times(), count: AtomicU64::new(0) });
        Self { accepted, others: Mutex::default() }
    }

    fn published(&self, route: ExpressRoute, status: StatusCode, took: Duration) {
        match self.accepted.get(route as usize) {
            Some(accepted) if status == StatusCode::OK => {
                accepted.times.took(took);
                accepted.count.fetch_add(1, Ordering::Relaxed);
            }
            _ => self.answered((route.template().0, POST), status, took),
        }
    }

    fn answered(&self, kind: Kind, status: StatusCode, took: Duration) {
        let mut kinds = self.others.lock();
        let answers = kinds.entry(kind).or_insert_with(|| Answers { times: Histogram::of_times(), by_status: BTreeMap::new() });
        answers.times.took(took);
        *answers.by_status.entry(status.as_u16()).or_default() += 1;
    }

    /// Everything so far: of each route the times, and how many there were of each status.
    fn sum(&self, times: &mut BTreeMap<Kind, HistogramView>, counts: &mut BTreeMap<(Kind, u16), u64>) {
        let mut timed = |kind: Kind, more: &Histogram| match times.get_mut(&kind) {
            Some(sum) => sum.add(&more.view()),
            None => drop(times.insert(kind, more.view())),
        };
        for (route, accepted) in ExpressRoute::ALL.iter().zip(&self.accepted) {
            let count = accepted.count.load(Ordering::Relaxed);
            if count > 0 {
                let kind = (route.template().0, POST);
                timed(kind, &accepted.times);
                *counts.entry((kind, StatusCode::OK.as_u16())).or_default() += count;
            }
        }
        for (kind, answers) in self.others.lock().iter() {
            timed(*kind, &answers.times);
            for (status, count) in &answers.by_status {
                *counts.entry((*kind, *status)).or_default() += count;
            }
        }
    }
}

/// The requests of all workers. Cloning is a reference count.
#[derive(Clone, Debug, Default)]
pub(in crate::server) struct Requests(Arc<Mutex<Vec<Arc<Worker>>>>);

impl Requests {
    /// The middleware of one more worker. `express`: publishes and upgrades go past the router, if nothing stands between the two.
    pub(in crate::server) fn counting(&self, express: Option<(Express, connection::Express)>) -> Counting {
        let worker = Arc::new(Worker::new());
        self.0.lock().push(Arc::clone(&worker));
        let (express, upgrades) = express.map(|(publishes, upgrades)| (Rc::new(publishes), upgrades)).unzip();
        Counting { worker, express, upgrades }
    }
}

/// Counts requests. It is the outermost layer of the application, so that it sees everything.
#[derive(Clone)]
pub(in crate::server) struct Counting {
    worker: Arc<Worker>,
    express: Option<Rc<Express>>,
    upgrades: Option<connection::Express>,
}

/// What [`Counting`] makes of a service.
pub(in crate::server) struct Counted<S> {
    service: S,
    counting: Counting,
}

impl<S> Transform<S, ServiceRequest> for Counting
where
    S: Service<ServiceRequest, Response = ServiceResponse, Error = Error>,
    S::Future: 'static,
{
    type Response = ServiceResponse;
    type Error = Error;
    type Transform = Counted<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(Counted { service, counting: self.clone() }))
    }
}

impl<S> Service<ServiceRequest> for Counted<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse, Error = Error>,
    S::Future: 'static,
{
    type Response = ServiceResponse;
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<ServiceResponse, Error>>;

    forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let (began, worker) = (Instant::now(), Arc::clone(&self.counting.worker));
        if let Some(express) = &self.counting.express
            && let Some(publish) = express.takes(&request)
        {
            let (express, route) = (Rc::clone(express), publish.route);
            return Box::pin(async move {
                let answer = express.answer(publish, request).await;
                worker.published(route, answer.status(), began.elapsed());
                Ok(answer)
            });
        }
        let request = match &self.counting.upgrades {
            None => request,
            Some(upgrades) => match upgrades(request) {
                Err(request) => request,
                Ok(answer) => {
                    return Box::pin(async move {
                        let answer = answer.await;
                        worker.answered((connection::APP, GET), answer.status(), began.elapsed());
                        Ok(answer)
                    });
                }
            },
        };
        let method = method(request.method());
        let answer = self.service.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let (route, status) = match &answer {
                Ok(answer) => {
                    if let Some(Account { hub, bytes_in }) = answer.request().extensions().get::<Account>() {
                        account(hub, *bytes_in, answer.response());
                    }
                    (route(answer.request()), answer.status())
                }
                Err(error) => (NONE, error.as_response_error().status_code()),
            };
            worker.answered((route, method), status, began.elapsed());
            answer
        })
    }
}

/// As it is declared: what a client makes of a path is on no list of ours.
fn route(request: &HttpRequest) -> &'static str {
    if let Some(RouteTemplate(route)) = request.app_data::<RouteTemplate>() {
        return route;
    }
    match request.match_pattern() {
        Some(pattern) => SOCKETS.into_iter().find(|route| pattern.ends_with(route)).unwrap_or(OTHER),
        None => NONE,
    }
}

fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => GET,
        Method::HEAD => "HEAD",
        Method::POST => POST,
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

impl Collector for Requests {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (mut times, mut counts): (BTreeMap<Kind, HistogramView>, BTreeMap<(Kind, u16), u64>) = Default::default();
        for worker in self.0.lock().iter() {
            worker.sum(&mut times, &mut counts);
        }
        let page = &mut Page::new(encoder);
        let samples = counts.into_iter().map(|(((route, method), status), count)| {
            (labels!["route" => route, "method" => method, "status" => status.to_string()], count)
        });
        page.counter("holdline_http_requests", "Requests on the port of the clients, by route and answer.", samples)?;
        let samples = times.into_iter().map(|((route, method), view)| (labels!["route" => route, "method" => method], view));
        let help = "How long requests took to be answered, by route; of WebSockets the handshake.";
        page.histogram("holdline_http_request_duration_seconds", help, samples)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{App, HttpResponse, test, web};

    use super::*;

    #[actix_web::test]
    async fn a_route_is_counted_by_its_template_and_a_strange_path_by_none() {
        let requests = Requests::default();
        let resource = web::resource("/apps/{app_id}/events").app_data(RouteTemplate("/apps/{app_id}/events"));
        let app = App::new()
            .wrap(requests.counting(None))
            .service(resource.to(HttpResponse::Ok))
            .service(web::scope("/ws").route("/app/{key}", web::get().to(HttpResponse::NotFound)))
            .route("/own/{x}", web::get().to(HttpResponse::Accepted));
        let app = test::init_service(app).await;
        for (path, times) in [("/apps/1/events", 2), ("/apps/2/events", 1), ("/ws/app/secret", 1), ("/own/1", 1), ("/made/up", 3)] {
            for _ in 0..times {
                test::call_service(&app, test::TestRequest::get().uri(path).to_request()).await;
            }
        }
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register_collector(Box::new(requests));
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
        for (route, status, count) in [("/apps/{app_id}/events", 200, 3), ("/app/{key}", 404, 1), ("other", 202, 1), ("none", 404, 3)] {
            let line = format!("holdline_http_requests_total{{route=\"{route}\",method=\"GET\",status=\"{status}\"}} {count}\n");
            assert!(page.contains(&line), "{line} is not in\n{page}");
        }
        assert!(!page.contains("secret") && !page.contains("made"), "{page}");
    }

    #[actix_web::test]
    async fn what_goes_past_the_router_is_counted_with_what_does_not() {
        let requests = Requests::default();
        for worker in [requests.counting(None).worker, requests.counting(None).worker] {
            worker.published(ExpressRoute::Events, StatusCode::OK, Duration::from_micros(10));
            worker.published(ExpressRoute::Events, StatusCode::BAD_REQUEST, Duration::from_millis(2));
            worker.answered((ExpressRoute::Events.template().0, POST), StatusCode::OK, Duration::from_millis(20));
        }
        let (mut times, mut counts) = Default::default();
        requests.0.lock().iter().for_each(|worker| worker.sum(&mut times, &mut counts));
        let kind = ("/apps/{app_id}/events", "POST");
        assert_eq!(counts, BTreeMap::from([((kind, 200), 4), ((kind, 400), 2)]));
        assert_eq!(times.keys().collect::<Vec<_>>(), [&kind]);
        let view = &times[&kind];
        assert_eq!(view.count(), 6);
        assert!((view.sum - 0.044_02).abs() < 1e-9, "{view:?}");
    }
}
