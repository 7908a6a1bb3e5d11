//! Connections, and which request goes where.
//!
//! A connection has [`ADMIN_REQUEST_TIMEOUT`] for its request and its answer. An answer without an end gets that time anew with
//! each piece that the client takes: that is its [`Patience`].

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

use crate::config::{ADMIN_BODY_BYTES_MAX, ADMIN_CONNECTIONS_MAX, ADMIN_HEAD_BYTES_MAX, ADMIN_REQUEST_TIMEOUT};

use super::{Context, api, dashboard, health, live, metrics};

/// Pause after an accept that failed for want of something that only others can give back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Paths that need no token: who asks for health is often a machine that has none, and the page, which asks people for it, has no
/// figures in it.
fn is_open(path: &str) -> bool {
    ["/healthz", "/readyz", "/"].contains(&path) || path.starts_with("/dashboard/")
}

/// Serves connections until the process ends.
pub(super) async fn serve(listener: std::net::TcpListener, context: Arc<Context>) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let routes = routes(context);
    let mut connections = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.retain(|connection: &tokio::task::AbortHandle| !connection.is_finished());
                if connections.len() >= ADMIN_CONNECTIONS_MAX
                    && let Some(oldest) = connections.pop_front()
                {
                    oldest.abort();
                }
                connections.push_back(tokio::spawn(serve_connection(stream, routes.clone())).abort_handle());
            }
            Err(error) => {
                debug!("an admin client cannot be accepted: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// How long a connection is still waited for.
#[derive(Clone, Debug)]
pub(super) struct Patience(Arc<Mutex<Instant>>);

impl Patience {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now() + ADMIN_REQUEST_TIMEOUT)))
    }

    /// The client has taken a piece of an answer that goes on.
    pub(super) fn renew(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + ADMIN_REQUEST_TIMEOUT;
    }

    fn ends_at(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request and its answer.
async fn serve_connection(stream: TcpStream, routes: Router) {
    let patience = Patience::new();
    let service = TowerToHyperService::new(routes);
    let of_request = patience.clone();
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(of_request.clone());
        service.call(request)
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(ADMIN_HEAD_BYTES_MAX)
        .timer(TokioTimer::new())
        .header_read_timeout(ADMIN_REQUEST_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    loop {
        let end = patience.ends_at();
        match timeout_at(end, connection.as_mut()).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => return debug!("a request of an admin client failed: {error}"),
            Err(_) if patience.ends_at() > end => {}
            Err(_) => return debug!("a request of an admin client did not end in time"),
        }
    }
}

/// All paths, each once for every method that it has.
fn table() -> Vec<(&'static str, &'static str, MethodRouter<Arc<Context>>)> {
    vec![
        ("/metrics", "get", get(metrics::get)),
        ("/healthz", "get", get(health::get_health)),
        ("/readyz", "get", get(health::get_readiness)),
        ("/api/v1/clients", "get", get(api::get_clients)),
        ("/api/v1/clients/{id}", "get", get(api::get_client)),
        ("/api/v1/clients/{id}", "delete", delete(api::delete_client)),
        ("/api/v1/sessions", "get", get(api::get_sessions)),
        ("/api/v1/sessions/{id}", "get", get(api::get_session)),
        ("/api/v1/sessions/{id}", "delete", delete(api::delete_session)),
        ("/api/v1/retained", "get", get(api::get_all_retained)),
        ("/api/v1/retained/{topic}", "get", get(api::get_retained)),
        ("/api/v1/retained/{topic}", "delete", delete(api::delete_retained)),
        ("/api/v1/publish", "post", post(api::post_publish)),
        ("/api/v1/live", "get", get(live::get)),
        ("/api/v1/openapi.json", "get", get(api::get_description)),
        ("/", "get", get(dashboard::get_page)),
        ("/dashboard/{file}", "get", get(dashboard::get_file)),
    ]
}

fn routes(context: Arc<Context>) -> Router {
    let unknown = || async { Failure::new(StatusCode::NOT_FOUND, "there is nothing at this path") };
    let no_such_method = || async { Failure::new(StatusCode::METHOD_NOT_ALLOWED, "this path has no such method") };
    table()
        .into_iter()
        .fold(Router::new(), |router, (path, _, handler)| router.route(path, handler))
        .fallback(unknown)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(ADMIN_BODY_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(&context), guard))
        .with_state(context)
}

/// Lets through who may ask.
async fn guard(State(context): State<Arc<Context>>, request: Request, next: Next) -> Response {
    if is_open(request.uri().path()) {
        return next.run(request).await;
    }
    let headers = request.headers();
    match context.token() {
        Some(token) => {
            let is_shown = headers.get(AUTHORIZATION).is_some_and(|header| token.is_shown_by(header.as_bytes()));
            if !is_shown {
                let text = "the token is missing or wrong";
                let mut refusal = Failure::new(StatusCode::UNAUTHORIZED, text).into_response();
                refusal.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                return refusal;
            }
        }
        None if is_named_by_stranger(headers) => {
            let text = "without a token, this machine is asked for by its address or as localhost";
            return Failure::new(StatusCode::FORBIDDEN, text).into_response();
        }
        None => {}
    }
    next.run(request).await
}

/// Whether a request is for a host with a name of somebody's choice, which he may have had point here: so a web page would ask.
fn is_named_by_stranger(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST) else { return false };
    let Ok(authority) = host.to_str().unwrap_or_default().parse::<axum::http::uri::Authority>() else { return true };
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    !name.eq_ignore_ascii_case("localhost") && address.parse::<IpAddr>().is_err()
}

/// An answer in JSON.
pub(super) fn answer(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer that says what is wrong.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    text: Cow<'static, str>,
}

impl Failure {
    pub(super) fn new(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status, text: text.into() }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        answer(self.status, &json!({ "error": self.text }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever adds a route describes it, and the other way round.
    #[test]
    fn the_description_has_the_routes_that_there_are() {
        let document: Value = serde_json::from_str(api::DESCRIPTION).expect("JSON");
        assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1.")));
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        let mut described = Vec::new();
        for (path, operations) in document["paths"].as_object().expect("paths") {
            for (method, operation) in operations.as_object().expect("operations") {
                assert!(operation["summary"].is_string() && operation["responses"].is_object(), "{method} {path}");
                let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
                let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path");
                let named: Vec<String> =
                    in_path.map(|parameter| format!("{{{}}}", parameter["name"].as_str().expect("a name"))).collect();
                assert_eq!(named.len(), path.matches('{').count(), "{method} {path}");
                assert!(named.iter().all(|name| path.contains(name)), "{method} {path}");
                described.push((path.clone(), method.clone()));
            }
        }
        let mut routed: Vec<_> =
            table().into_iter().map(|(path, method, _)| (path.to_owned(), method.to_owned())).collect();
        routed.sort();
        described.sort();
        assert_eq!(described, routed);
    }

    /// What the description refers to is in it.
    #[test]
    fn the_description_refers_to_what_it_has() {
        let document: Value = serde_json::from_str(api::DESCRIPTION).expect("JSON");
        let references = api::DESCRIPTION.split("\"$ref\": \"#").skip(1);
        for reference in references.map(|rest| rest.split('"').next().expect("an end")) {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
    }

    #[test]
    fn hosts_are_addresses_or_localhost() {
        for (host, is_stranger) in [
            ("127.0.0.1:9883", false),
            ("127.0.0.1", false),
            ("[::1]:9883", false),
            ("localhost:9883", false),
            ("LOCALHOST", false),
            ("broker.example:9883", true),
            ("127.0.0.1.evil.example", true),
            ("", true),
            ("a b", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static(host));
            assert_eq!(is_named_by_stranger(&headers), is_stranger, "{host}");
        }
        assert!(!is_named_by_stranger(&HeaderMap::new()), "no browser leaves it out");
    }
}
