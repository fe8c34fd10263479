//! Spans for an OpenTelemetry collector, as protobuf over HTTP. Only with the feature `otlp`; without it `no_otlp.rs` stands here.
//!
//! What is sent are the spans that stand around the log lines (connections, hooks, publishing), with their fields: ids, names of channels
//! and hooks. No payload, no address, no header and no secret is a field of any. Log lines are not sent.

use std::{fmt, time::Duration};

use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use reqwest::redirect;
use tracing_subscriber::{EnvFilter, Layer, Registry, filter::filter_fn, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::OtlpSettings;

/// How long a request to the collector may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the end of the process waits for the last spans.
const LAST_SPANS: Duration = Duration::from_secs(3);

/// Why spans cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum OtlpError {
    /// The exporter does not take the settings.
    #[error("the exporter does not take it: {0}")]
    Exporter(#[from] ExporterBuildError),
    /// There is no client to send with.
    #[error("no HTTP client: {0}")]
    Client(#[from] reqwest::Error),
    /// There is no runtime to send on.
    #[error("no runtime: {0}")]
    Runtime(#[from] std::io::Error),
}

/// Whoever sends; to be ended last.
#[derive(Debug, Default)]
pub(super) struct Traces(Option<SdkTracerProvider>);

impl Traces {
    /// Sends what is left, for a moment.
    pub(super) fn finish(self) {
        if let Some(provider) = self.0
            && let Err(error) = provider.shutdown_with_timeout(LAST_SPANS)
        {
            tracing::warn!(%error, "The last spans were not sent: {error}");
        }
    }
}

/// Starts the log, and beside it the spans, which the filter of the log has nothing to say about. False: there was a log already.
///
/// # Errors
/// [`OtlpError`] when spans are wanted and cannot be sent.
pub(super) fn subscribe<L>(lines: L, filter: EnvFilter, settings: &OtlpSettings) -> Result<(Traces, bool), OtlpError>
where
    L: Layer<Registry> + Send + Sync,
{
    let log = tracing_subscriber::registry().with(lines.with_filter(filter));
    if settings.endpoint.is_empty() {
        return Ok((Traces::default(), log.try_init().is_ok()));
    }
    let provider = provider(settings)?;
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("holdline"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(filter_fn(|metadata| metadata.is_span() && metadata.target().starts_with("holdline")));
    let started = log.with(spans).try_init().is_ok();
    Ok((Traces(Some(provider)), started))
}

fn provider(settings: &OtlpSettings) -> Result<SdkTracerProvider, OtlpError> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(settings.endpoint.expose())
        .with_timeout(EXPORT_TIMEOUT)
        .with_headers(settings.headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect())
        .with_http_client(Collector::try_new(settings.endpoint.expose().starts_with("http:"))?)
        .build()?;
    let resource = Resource::builder()
        .with_service_name(settings.service_name.clone())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sample_ratio.as_f64())));
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_sampler(sampler).with_resource(resource).build())
}

/// The client that everything else here is posted with. The exporter calls it on a thread of its own, which has no runtime.
struct Collector {
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").finish_non_exhaustive()
    }
}

impl Collector {
    fn try_new(is_plain: bool) -> Result<Self, OtlpError> {
        // An error only says that the program has chosen one already.
        rustls::crypto::ring::default_provider().install_default().ok();
        let client = reqwest::Client::builder().redirect(redirect::Policy::none()).no_proxy().timeout(EXPORT_TIMEOUT);
        // Without HTTPS it shall start on a system that has no certificates, too.
        let client = if is_plain { client.tls_certs_only([]) } else { client };
        Ok(Self { client: client.build()?, runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()? })
    }
}

#[async_trait::async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        // An address may have a password in it, which errors would show.
        let answer = self.runtime.block_on(async {
            let request = reqwest::Request::try_from(request).map_err(reqwest::Error::without_url)?;
            let mut answer = self.client.execute(request).await.map_err(reqwest::Error::without_url)?;
            let headers = std::mem::take(answer.headers_mut());
            let status = answer.status();
            let body = answer.bytes().await.map_err(reqwest::Error::without_url)?;
            Ok::<_, reqwest::Error>((status, headers, body))
        });
        let (status, headers, body) = answer?;
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}
