//! What a request says: parameters and bodies. Every refusal names the field and its limit.

use std::{collections::HashMap, future::Future, pin::Pin};

use actix_web::{FromRequest, HttpRequest, HttpResponse, dev::Payload, web};
use serde::{Serialize, de::DeserializeOwned};

use super::{Dashboard, DashboardError};
use crate::{
    http::{ApiError, HttpSettings, read_body},
    lifecycle::store::Fence,
};

/// Rows of one answer, unless the request says otherwise.
const PAGE: usize = 100;
/// Most rows of one answer.
const MAX_PAGE: usize = 500;
/// Most bytes of a text to search for.
const MAX_SEARCH: usize = 200;
/// How far into a list an answer may begin.
const MAX_OFFSET: usize = 1_000_000;

/// A request, and whose it is about.
pub(super) struct Asked {
    pub(super) dashboard: web::Data<Dashboard>,
    request: HttpRequest,
    params: HashMap<String, String>,
}

impl FromRequest for Asked {
    type Error = DashboardError;
    type Future = std::future::Ready<Result<Self, DashboardError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        std::future::ready(Self::of(request))
    }
}

impl Asked {
    fn of(request: &HttpRequest) -> Result<Self, DashboardError> {
        let dashboard = request.app_data::<web::Data<Dashboard>>().ok_or(ApiError::NotConfigured)?.clone();
        let pairs = form_urlencoded(request.query_string());
        Ok(Self { dashboard, request: request.clone(), params: pairs })
    }

    /// A segment of the path, as it was decoded.
    pub(super) fn segment(&self, name: &'static str) -> &str {
        self.request.match_info().get(name).unwrap_or_default()
    }

    /// A parameter that is there and not empty.
    pub(super) fn param(&self, name: &'static str) -> Option<&str> {
        self.params.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// A parameter that has to be there.
    pub(super) fn required(&self, name: &'static str) -> Result<&str, DashboardError> {
        self.param(name).ok_or_else(|| DashboardError::field(name, "is required"))
    }

    /// What to search for; empty for everything.
    pub(super) fn search(&self) -> Result<&str, DashboardError> {
        let text = self.param("q").unwrap_or_default().trim();
        if text.len() > MAX_SEARCH {
            return Err(DashboardError::field("q", format!("must have at most {MAX_SEARCH} bytes")));
        }
        Ok(text)
    }

    /// Where the page begins, and how many rows it has.
    pub(super) fn page(&self) -> Result<(usize, usize), DashboardError> {
        Ok((self.number("offset", 0, (0, MAX_OFFSET))?, self.limit()?))
    }

    /// How many rows the page has.
    pub(super) fn limit(&self) -> Result<usize, DashboardError> {
        self.number("limit", PAGE, (1, MAX_PAGE))
    }

    fn number(&self, name: &'static str, default: usize, (least, most): (usize, usize)) -> Result<usize, DashboardError> {
        let Some(text) = self.param(name) else { return Ok(default) };
        let number = digits(text).and_then(|text| text.parse().ok()).filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| DashboardError::field(name, format!("must be a number from {least} to {most}")))
    }

    /// A fence that stands in the query or the path.
    pub(super) fn fence(field: &'static str, text: &str) -> Result<Fence, DashboardError> {
        let fence = digits(text).and_then(|text| text.parse().ok()).filter(|fence| *fence > 0);
        fence.map(Fence).ok_or_else(|| DashboardError::field(field, "must be a whole number from 1 to 9223372036854775807"))
    }
}

/// Names and values of a query; of one name the last counts.
fn form_urlencoded(query: &str) -> HashMap<String, String> {
    web::Query::<HashMap<String, String>>::from_query(query).map(web::Query::into_inner).unwrap_or_default()
}

/// Digits only: no sign, no blank.
fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

/// A body that is a JSON object.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = DashboardError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, DashboardError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let settings = request.app_data::<web::Data<HttpSettings>>().ok_or(ApiError::NotConfigured)?;
            let body = read_body(payload, request.headers(), settings.max_request_bytes).await?;
            let text = if body.is_empty() { b"{}".as_slice() } else { &body };
            serde_json::from_slice(text).map(Self).map_err(DashboardError::Body)
        })
    }
}

/// What a handler gives back.
pub(super) type Answer = Result<HttpResponse, DashboardError>;

/// A JSON answer.
pub(super) fn json(value: &impl Serialize) -> Answer {
    Ok(HttpResponse::Ok().json(value))
}

/// Whether `text` has `search` in it, in letters of either case.
pub(super) fn has(text: &str, search: &str) -> bool {
    let (text, search) = (text.as_bytes(), search.as_bytes());
    search.is_empty() || text.windows(search.len()).any(|part| part.eq_ignore_ascii_case(search))
}

/// The rows of a page, as if all of them had been sorted.
pub(super) fn page_of<T>(mut rows: Vec<T>, (offset, limit): (usize, usize), mut order: impl FnMut(&T, &T) -> std::cmp::Ordering) -> Vec<T> {
    let end = offset.saturating_add(limit);
    if end < rows.len() {
        rows.select_nth_unstable_by(end, &mut order);
        rows.truncate(end);
    }
    rows.sort_unstable_by(order);
    rows.drain(..offset.min(rows.len()));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_what_sorting_everything_would_give() {
        let rows: Vec<u32> = (0..500).map(|n| n * 7_919 % 500).collect();
        for (offset, limit) in [(0, 10), (5, 100), (490, 100), (500, 10), (900, 1), (0, 500)] {
            let expected: Vec<u32> = (0..500).skip(offset).take(limit).collect();
            assert_eq!(page_of(rows.clone(), (offset, limit), u32::cmp), expected, "{offset} {limit}");
        }
    }

    #[test]
    fn a_search_does_not_mind_the_case_of_letters() {
        assert!(has("private-Order.42", "order.4") && has("x", "") && has("ä-ORDER", "order"));
        assert!(!has("order", "orders") && !has("", "a"));
    }
}
