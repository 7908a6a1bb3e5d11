//! `/`: a page that shows what the broker does, for people. It is made of the files in `dashboard/`, which are part of the program.
//!
//! The page has no figures in it: it asks the API for all of them, with the token if one is needed. So anyone may have it. It
//! loads nothing from elsewhere, and its policy says so to the browser: no other origin, no script or style inside of the page.

use axum::body::Body;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;

use super::server::Failure;

/// What the page may do. The image that it may show is its icon.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// What the page loads: name, media type and text.
const FILES: [(&str, &str, &str); 8] = [
    ("style.css", "text/css; charset=utf-8", include_str!("dashboard/style.css")),
    ("page.js", SCRIPT, include_str!("dashboard/page.js")),
    ("chart.js", SCRIPT, include_str!("dashboard/chart.js")),
    ("clients.js", SCRIPT, include_str!("dashboard/clients.js")),
    ("dom.js", SCRIPT, include_str!("dashboard/dom.js")),
    ("exchange.js", SCRIPT, include_str!("dashboard/exchange.js")),
    ("format.js", SCRIPT, include_str!("dashboard/format.js")),
    ("live.js", SCRIPT, include_str!("dashboard/live.js")),
];

/// `GET /`: the page.
pub(super) async fn get_page() -> Response {
    serve("text/html; charset=utf-8", include_str!("dashboard/index.html"))
}

/// `GET /dashboard/{file}`: what it is made of.
pub(super) async fn get_file(name: Result<Path<String>, PathRejection>) -> Result<Response, Failure> {
    let wanted = name.map(|Path(name)| name).unwrap_or_default();
    let file = FILES.iter().find(|(name, ..)| *name == wanted);
    let nothing = || Failure::new(StatusCode::NOT_FOUND, "the page has no such part");
    file.map(|(_, media_type, text)| serve(media_type, text)).ok_or_else(nothing)
}

fn serve(media_type: &'static str, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    for (name, value) in [
        (CONTENT_TYPE, media_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // The next version of the broker has another page under the same name.
        (CACHE_CONTROL, "no-cache"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name that is misspelt somewhere would be seen only in a browser.
    #[test]
    fn the_page_and_its_parts_name_each_other() {
        let page = include_str!("dashboard/index.html");
        let texts = || FILES.iter().map(|(_, _, text)| *text).chain([page]);
        for (name, ..) in FILES {
            let by_page = format!("\"/dashboard/{name}\"");
            let by_script = format!("from \"./{name}\"");
            assert!(texts().any(|text| text.contains(&by_page) || text.contains(&by_script)), "{name} is not used");
        }
        for text in texts() {
            for imported in text.split("from \"./").skip(1) {
                let name = imported.split('"').next().unwrap_or_default();
                assert!(FILES.iter().any(|(file, ..)| *file == name), "{name} is imported and not there");
            }
            for id in text.split("byId(\"").skip(1) {
                let id = id.split('"').next().unwrap_or_default();
                assert!(page.contains(&format!("id=\"{id}\"")), "{id} is looked for and not there");
            }
        }
    }

    #[test]
    fn the_page_needs_nothing_that_its_policy_forbids() {
        for (name, _, text) in FILES.iter().copied().chain([("/", "", include_str!("dashboard/index.html"))]) {
            let text = text.replace("http://www.w3.org/2000/svg", "");
            for forbidden in ["http://", "https://", "style=", "onclick=", "innerHTML", "eval(", "localStorage"] {
                assert!(!text.contains(forbidden), "{name} has {forbidden}");
            }
        }
    }
}
