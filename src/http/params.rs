//! Numbers and texts in paths and queries: every refusal names the field and its limit.

use super::{error::ApiError, signed::Signed};
use crate::lifecycle::store::Fence;

/// Rows on one page, unless the request says otherwise.
pub(super) const PAGE: u32 = 100;
/// Most rows on one page.
const MAX_PAGE: u32 = 1_000;
/// Most bytes of a resource or principal that any store keeps: a longer one cannot be there.
const MAX_KEY: usize = 512;

const NUMBER: &str = "must be a whole number from 1 to 9223372036854775807";

/// `limit`, from 1 to 1000.
///
/// # Errors
/// [`ApiError::Field`].
pub(super) fn limit(signed: &Signed) -> Result<u32, ApiError> {
    let Some(text) = signed.param("limit") else { return Ok(PAGE) };
    let limit = digits(text).and_then(|text| text.parse().ok()).filter(|limit| (1..=MAX_PAGE).contains(limit));
    limit.ok_or(ApiError::Field { field: "limit", rule: "must be a number from 1 to 1000" })
}

/// A fence.
///
/// # Errors
/// [`ApiError::Field`].
pub(super) fn fence(field: &'static str, text: &str) -> Result<Fence, ApiError> {
    let fence = digits(text).and_then(|text| text.parse().ok()).filter(|fence| *fence > 0);
    fence.map(Fence).ok_or(ApiError::Field { field, rule: NUMBER })
}

/// A resource or principal to look for.
///
/// # Errors
/// [`ApiError::Field`].
pub(super) fn key(field: &'static str, text: &str) -> Result<String, ApiError> {
    let wrong = |rule| Err(ApiError::Field { field, rule });
    match text {
        "" => wrong("must not be empty"),
        long if long.len() > MAX_KEY => wrong("must have at most 512 bytes"),
        text if text.contains('\0') => wrong("must not have a zero character"),
        // What is no UTF-8 was decoded to this, and would find something else or nothing.
        text if text.contains(char::REPLACEMENT_CHARACTER) => wrong("must be UTF-8"),
        text => Ok(text.to_owned()),
    }
}

/// Digits only: no sign, no blank.
fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}
