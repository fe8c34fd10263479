//! Requests on the port of the clients: by route, method and status. A middleware around everything; each worker counts for itself.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Instant};

use actix_web::{
    Error, HttpMessage, HttpRequest,
    body::{BodySize, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::Method,
    middleware::Next,
    web,
};
use parking_lot::Mutex;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::page::{Page, labels};
use crate::{
    domain::{Histogram, HistogramView},
    http::{Account, RouteTemplate},
};

/// Where WebSockets are opened. Their handshake is a request like others; what follows it is not part of its time.
const SOCKETS: [&str; 2] = ["/ctx/{token}/app/{key}", "/app/{key}"];
/// A route of the program that embeds the broker.
const OTHER: &str = "other";
/// No route at all.
const NONE: &str = "none";

/// Route and method.
type Kind = (&'static str, &'static str);

/// The requests of one worker.
#[derive(Debug, Default)]
pub(in crate::server) struct Worker(Mutex<BTreeMap<Kind, Answers>>);

#[derive(Debug)]
struct Answers {
    times: Histogram,
    by_status: BTreeMap<u16, u64>,
}

/// The requests of all workers. Cloning is a reference count.
#[derive(Clone, Debug, Default)]
pub(in crate::server) struct Requests(Arc<Mutex<Vec<Arc<Worker>>>>);

impl Requests {
    /// For one more worker.
    pub(in crate::server) fn worker(&self) -> web::Data<Worker> {
        let worker = Arc::<Worker>::default();
        self.0.lock().push(Arc::clone(&worker));
        web::Data::from(worker)
    }
}

/// Counts one request.
pub(in crate::server) async fn count<B: MessageBody>(request: ServiceRequest, next: Next<B>) -> Result<ServiceResponse<B>, Error> {
    let (began, method) = (Instant::now(), method(request.method()));
    let worker = request.app_data::<web::Data<Worker>>().cloned();
    let answer = next.call(request).await;
    let Some(worker) = worker else { return answer };
    let (route, status) = match &answer {
        Ok(response) => {
            if let Some(Account { hub, bytes_in }) = response.request().extensions().get::<Account>() {
                let bytes_out = match response.response().body().size() {
                    BodySize::Sized(bytes) => bytes,
                    BodySize::None | BodySize::Stream => 0,
                };
                hub.stats().http_call(*bytes_in as u64, bytes_out);
            }
            (route(response.request()), response.status())
        }
        Err(error) => (NONE, error.as_response_error().status_code()),
    };
    let mut kinds = worker.0.lock();
    let answers = kinds.entry((route, method)).or_insert_with(|| Answers { times: Histogram::of_times(), by_status: BTreeMap::new() });
    answers.times.took(began.elapsed());
    *answers.by_status.entry(status.as_u16()).or_default() += 1;
    drop(kinds);
    answer
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
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
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
            for (kind, answers) in worker.0.lock().iter() {
                let view = answers.times.view();
                match times.get_mut(kind) {
                    Some(sum) => sum.add(&view),
                    None => drop(times.insert(*kind, view)),
                }
                for (status, count) in &answers.by_status {
                    *counts.entry((*kind, *status)).or_default() += count;
                }
            }
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
    use actix_web::{App, HttpResponse, middleware::from_fn, test};

    use super::*;

    #[actix_web::test]
    async fn a_route_is_counted_by_its_template_and_a_strange_path_by_none() {
        let requests = Requests::default();
        let resource = web::resource("/apps/{app_id}/events").app_data(RouteTemplate("/apps/{app_id}/events"));
        let app = App::new()
            .app_data(requests.worker())
            .wrap(from_fn(count))
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
}
