//! Reading request bodies, or reading them away.
//!
//! Both keep nothing beyond the limit. What is beyond it is read away, up to a point, because a client that is still sending when
//! the connection is closed may never see its refusal.

use std::{
    future::poll_fn,
    mem,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use actix_web::{
    dev,
    http::header::{CONTENT_LENGTH, HeaderMap, UPGRADE},
    web::{Bytes, BytesMut},
};
use futures_util::StreamExt;
use tokio::time::timeout;

use super::error::ApiError;

/// A body above the limit that announces no more than this many bytes is read away before it is refused.
const MAX_READ_AWAY: u64 = 64 * 1024 * 1024;
/// The same for a body of somebody who has not shown who he is.
const MAX_READ_AWAY_UNKNOWN: u64 = 256 * 1024;
/// How long a body may take.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// The whole body.
///
/// # Errors
/// [`ApiError::BodyTooLarge`] above `limit` bytes, [`ApiError::BrokenBody`] when it breaks off.
pub(crate) async fn keep(payload: dev::Payload, headers: &HeaderMap, limit: usize) -> Result<Bytes, ApiError> {
    // Nearly every body comes in one piece, which then is not copied. What is announced is not believed: memory grows with what arrives.
    let (mut only, mut all) = (Bytes::new(), BytesMut::new());
    receive(payload, headers, Bounds { limit, read_away: MAX_READ_AWAY }, |chunk| {
        if all.is_empty() && only.is_empty() {
            only = chunk;
            return;
        }
        if all.is_empty() {
            all.extend_from_slice(&std::mem::take(&mut only));
        }
        all.extend_from_slice(&chunk);
    })
    .await?;
    Ok(if all.is_empty() { only } else { all.freeze() })
}

/// Reads a body that nobody wants, without keeping it; says how many bytes it had.
///
/// # Errors
/// As [`keep`].
pub(super) async fn discard(payload: dev::Payload, headers: &HeaderMap, limit: usize) -> Result<usize, ApiError> {
    receive(payload, headers, Bounds { limit, read_away: MAX_READ_AWAY_UNKNOWN }, drop).await
}

/// Bytes of a body that are taken, and that are read at all.
#[derive(Clone, Copy)]
struct Bounds {
    limit: usize,
    read_away: u64,
}

async fn receive(payload: dev::Payload, headers: &HeaderMap, bounds: Bounds, take: impl FnMut(Bytes)) -> Result<usize, ApiError> {
    let mut received = pin!(receive_all(payload, headers, bounds, take));
    // A body that came with its head is there at the second look, within the same turn of the connection. Only one that is waited for is
    // worth a timer.
    if let Poll::Ready(received) = look(received.as_mut()).await {
        return received;
    }
    next_look().await;
    if let Poll::Ready(received) = look(received.as_mut()).await {
        return received;
    }
    timeout(TIME_LIMIT, received).await.unwrap_or(Err(ApiError::BodyTooSlow))
}

/// What a future says now.
async fn look<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// Ready when it is looked at again, which is soon.
async fn next_look() {
    let mut looked = false;
    poll_fn(|cx| {
        if mem::replace(&mut looked, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

async fn receive_all(
    mut payload: dev::Payload,
    headers: &HeaderMap,
    bounds: Bounds,
    mut take: impl FnMut(Bytes),
) -> Result<usize, ApiError> {
    let Bounds { limit, read_away } = bounds;
    if has_no_end(headers) {
        return Ok(0);
    }
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let too_large = |length: u64| length > limit as u64;
    if announced.is_some_and(|length| length > read_away && too_large(length)) {
        return Err(ApiError::BodyTooLarge { max: limit });
    }
    let mut received = 0;
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| ApiError::BrokenBody)?;
        received += chunk.len();
        if !too_large(received as u64) {
            take(chunk);
        } else if announced.is_none() {
            // The server goes on reading a chunked body to its end after the answer.
            break;
        }
    }
    if too_large(received as u64) { Err(ApiError::BodyTooLarge { max: limit }) } else { Ok(received) }
}

/// What follows a request for an upgrade is no body: it lasts as long as the connection.
fn has_no_end(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

#[cfg(test)]
mod tests {
    use actix_web::{error::PayloadError, http::header::HeaderValue};
    use futures_util::stream;

    use super::*;

    fn payload(chunks: &[&'static str]) -> dev::Payload {
        let chunks: Vec<Result<Bytes, PayloadError>> = chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk.as_bytes()))).collect();
        dev::Payload::Stream { payload: Box::pin(stream::iter(chunks)) }
    }

    fn announcing(length: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static(length));
        headers
    }

    #[actix_web::test]
    async fn pieces_are_put_together_up_to_the_limit() {
        let none = HeaderMap::new();
        for (chunks, whole) in [(&[][..], ""), (&["abc"], "abc"), (&["", "ab", "", "c"], "abc"), (&["a", "b", "c"], "abc")] {
            assert_eq!(keep(payload(chunks), &none, 3).await.unwrap(), whole);
            assert_eq!(discard(payload(chunks), &none, 3).await.unwrap(), whole.len());
        }
        assert!(matches!(keep(payload(&["ab", "cd"]), &none, 3).await, Err(ApiError::BodyTooLarge { max: 3 })));
        assert!(matches!(discard(payload(&["abcd"]), &none, 3).await, Err(ApiError::BodyTooLarge { max: 3 })));
    }

    #[actix_web::test]
    async fn an_announced_length_may_be_enough_to_be_refused() {
        for length in ["67108865", "18446744073709551615"] {
            let endless: dev::Payload = dev::Payload::Stream { payload: Box::pin(stream::pending()) };
            assert!(matches!(keep(endless, &announcing(length), 3).await, Err(ApiError::BodyTooLarge { max: 3 })), "{length}");
        }
        assert!(matches!(keep(payload(&["ab", "cd"]), &announcing("4"), 3).await, Err(ApiError::BodyTooLarge { max: 3 })));
        assert_eq!(keep(payload(&["abc"]), &announcing("3"), 3).await.unwrap(), "abc");
    }

    #[actix_web::test]
    async fn what_follows_an_upgrade_is_not_waited_for() {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, HeaderValue::from_static("WebSocket"));
        let endless: dev::Payload = dev::Payload::Stream { payload: Box::pin(stream::pending()) };
        assert_eq!(discard(endless, &headers, 3).await.unwrap(), 0);
    }

    #[actix_web::test]
    async fn a_body_that_breaks_off_is_an_error() {
        let broken = stream::iter([Ok(Bytes::from_static(b"a")), Err(PayloadError::Incomplete(None))]);
        let payload: dev::Payload = dev::Payload::Stream { payload: Box::pin(broken) };
        assert!(matches!(keep(payload, &HeaderMap::new(), 3).await, Err(ApiError::BrokenBody)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_comes_late_is_waited_for() {
        for (seconds, expected) in [(0, Some("abc")), (4, Some("abc")), (6, None)] {
            let pause = move || tokio::time::sleep(Duration::from_secs(seconds));
            // A pause before the body, and one before its end.
            let pieces = stream::unfold(Some("abc"), move |piece| async move {
                pause().await;
                Some((Ok::<_, PayloadError>(Bytes::from_static(piece?.as_bytes())), None))
            });
            let kept = keep(dev::Payload::Stream { payload: Box::pin(pieces) }, &HeaderMap::new(), 3).await;
            assert_eq!(kept.ok().as_deref(), expected.map(str::as_bytes), "{seconds}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_comes_is_not_waited_for() {
        let stalled: dev::Payload = dev::Payload::Stream { payload: Box::pin(stream::pending()) };
        assert!(matches!(keep(stalled, &announcing("3"), 3).await, Err(ApiError::BodyTooSlow)));
    }
}
