//! The web page: chat, the task's graph as it grows, approvals, nodes, memory.
//!
//! Everything is embedded in the binary. The page asks no other host for anything, builds every element itself
//! (no markup is ever parsed from text), and is held to that by a Content-Security-Policy.

use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};

/// What the page may do: load its own scripts, styles and pictures, and call its own origin.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

/// A file of the page.
struct Asset {
    path: &'static str,
    content_type: &'static str,
    body: &'static str,
}

macro_rules! assets {
    ($($path:literal => $file:literal, $content_type:literal;)*) => {
        const ASSETS: &[Asset] = &[$(Asset {
            path: $path,
            content_type: $content_type,
            body: include_str!(concat!("../assets/", $file)),
        },)*];
    };
}

assets! {
    "/" => "index.html", "text/html; charset=utf-8";
    "/assets/style.css" => "style.css", "text/css; charset=utf-8";
    "/assets/app.js" => "app.js", "text/javascript; charset=utf-8";
    "/assets/approvals.js" => "approvals.js", "text/javascript; charset=utf-8";
    "/assets/api.js" => "api.js", "text/javascript; charset=utf-8";
    "/assets/chat.js" => "chat.js", "text/javascript; charset=utf-8";
    "/assets/details.js" => "details.js", "text/javascript; charset=utf-8";
    "/assets/element.js" => "element.js", "text/javascript; charset=utf-8";
    "/assets/fleet.js" => "fleet.js", "text/javascript; charset=utf-8";
    "/assets/graph.js" => "graph.js", "text/javascript; charset=utf-8";
    "/assets/layout.js" => "layout.js", "text/javascript; charset=utf-8";
    "/assets/markdown.js" => "markdown.js", "text/javascript; charset=utf-8";
    "/assets/recall.js" => "recall.js", "text/javascript; charset=utf-8";
    "/assets/tabs.js" => "tabs.js", "text/javascript; charset=utf-8";
    "/assets/tasks.js" => "tasks.js", "text/javascript; charset=utf-8";
    "/assets/writing.js" => "writing.js", "text/javascript; charset=utf-8";
    "/assets/icon.svg" => "icon.svg", "image/svg+xml";
    "/manifest.webmanifest" => "manifest.webmanifest", "application/manifest+json";
}

/// The page and its files, without any state.
pub fn router() -> Router {
    ASSETS.iter().fold(Router::new(), |router, asset| {
        router.route(asset.path, get(move || std::future::ready(serve(asset))))
    })
}

fn serve(asset: &'static Asset) -> Response {
    let headers: [(HeaderName, HeaderValue); 7] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
        (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, asset.body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_of_the_page_names_another_host_or_parses_markup() {
        for asset in ASSETS {
            for forbidden in [
                "http://",
                "https://",
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
            ] {
                let allowed = asset.body.replace("http://www.w3.org/2000/svg", "");
                // The scheme check of links in answers names the schemes without a host.
                assert!(!allowed.contains(forbidden), "{} holds {forbidden}", asset.path);
            }
        }
    }

    #[test]
    fn every_file_is_served_and_every_import_finds_one() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
        let files =
            std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        for file in files.filter(|file| file != "index.html") {
            assert!(
                ASSETS.iter().any(|asset| asset.path.rsplit('/').next() == Some(&file)),
                "{file} is not served"
            );
        }
        for asset in ASSETS.iter().filter(|asset| asset.path.ends_with(".js")) {
            for line in asset.body.lines().filter(|line| line.starts_with("import ")) {
                let name = line.split('"').nth(1).unwrap().trim_start_matches("./");
                assert!(
                    ASSETS.iter().any(|asset| asset.path == format!("/assets/{name}")),
                    "{}: {line}",
                    asset.path
                );
            }
        }
    }

    #[test]
    fn the_page_has_neither_inline_scripts_nor_inline_styles() {
        let page = ASSETS.iter().find(|asset| asset.path == "/").unwrap().body;
        assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains(" onclick="));
        assert_eq!(page.matches("<script").count(), page.matches("<script type=\"module\" src=").count());
    }
}
