//! Upgrades past the router: for each connection it would run a pattern, which costs more than everything else that is done for its request.
//!
//! What goes this way is exactly what the routes of [`super::configure`] would take as `/app/{key}`; everything else is left to them.

use std::rc::Rc;

use actix_web::{
    dev::{ServiceRequest, ServiceResponse},
    http::Method,
    web,
};
use futures_util::future::LocalBoxFuture;

use super::{Transport, upgrade};
use crate::domain::Handler;

/// Answers a request, or gives it back.
pub(crate) type Express = Rc<dyn Fn(ServiceRequest) -> Result<LocalBoxFuture<'static, ServiceResponse>, ServiceRequest>>;

/// The way past the router of one worker, in which nothing stands between the socket and our routes.
pub(crate) fn express<H: Handler>(transport: web::Data<Transport<H>>, path_prefix: String) -> Express {
    Rc::new(move |request| {
        if *request.method() != Method::GET || !opens(request.path(), &path_prefix) {
            return Err(request);
        }
        let transport = transport.clone();
        Ok(Box::pin(async move {
            let (request, payload) = request.into_parts();
            match upgrade::answer(&request, payload, &transport).await {
                Ok(response) => ServiceResponse::new(request, response),
                Err(error) => ServiceResponse::from_err(error, request),
            }
        }))
    })
}

/// Whether the router would say so, too. It takes escapes apart before it looks; whoever escapes is left to it.
fn opens(path: &str, prefix: &str) -> bool {
    // A path below the prefix belongs to the scope of the prefix, also where the rest of it would be a path of ours without.
    let below = path.strip_prefix(prefix).filter(|rest| !prefix.is_empty() && rest.starts_with('/'));
    let key = below.unwrap_or(path).strip_prefix("/app/");
    key.is_some_and(|key| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'%')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_router_would_take_and_nothing_else() {
        for (path, prefix, expected) in [
            ("/app/app-key", "", true),
            ("/app/app-key", "/ws", true),
            ("/ws/app/app-key", "/ws", true),
            ("/ws/app/app-key", "", false),
            ("/wsx/app/app-key", "/ws", false),
            ("/ws", "/ws", false),
            // The scope of the prefix takes it, and has no such route.
            ("/app/app-key", "/app", false),
            ("/app/app/app-key", "/app", true),
            ("/app", "", false),
            ("/app/", "", false),
            ("/app/app-key/", "", false),
            ("/app/app-key/x", "", false),
            ("/app/app%2Dkey", "", false),
            ("/apps/app-key", "", false),
            ("/ctx/token/app/app-key", "", false),
        ] {
            assert_eq!(opens(path, prefix), expected, "{path} below {prefix:?}");
        }
    }
}
