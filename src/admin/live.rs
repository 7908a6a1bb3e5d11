//! `/api/v1/live`: the figures of every second, as server-sent events, each with one JSON object ([`event`]).
//!
//! One sampler asks the shards for all who watch, and only while somebody does: then a shard counts its exchange tables once a
//! second, piece by piece (`Census`). The first event comes at once and has no rates yet, unless others watch already.
//!
//! There are at most [`ADMIN_WATCHERS_MAX`] watchers. Whoever leaves [`ADMIN_EVENTS_WAITING_MAX`] events lying is dropped, and so
//! is who takes nothing for the time of a request: he may come again.

mod event;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, ready};

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use hyper::body::Frame;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{MissedTickBehavior, interval};

use crate::config::{ADMIN_EVENTS_WAITING_MAX, ADMIN_LIVE_INTERVAL, ADMIN_WATCHERS_MAX};

use super::Context;
use super::server::{Failure, Patience};

use event::Sample;

/// `GET /api/v1/live`: events until somebody ends it.
pub(super) async fn get(
    State(context): State<Arc<Context>>,
    Extension(patience): Extension<Patience>,
) -> Result<Response, Failure> {
    let joined = context.watchers.join();
    let text = "as many watch already as may";
    let Joined { events, is_first } = joined.ok_or_else(|| Failure::new(StatusCode::SERVICE_UNAVAILABLE, text))?;
    if is_first {
        tokio::spawn(tell_all(Arc::clone(&context)));
    }
    let mut response = Response::new(Body::new(Events { events, patience }));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Samples and tells, until nobody watches any more.
async fn tell_all(context: Arc<Context>) {
    let mut ticks = interval(ADMIN_LIVE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = None;
    loop {
        ticks.tick().await;
        let now = Sample::take(&context).await;
        let event = event::describe(before.as_ref(), &now);
        if !context.watchers.tell(&Bytes::from(format!("data: {event}\n\n"))) {
            return;
        }
        before = Some(now);
    }
}

/// Who watches.
#[derive(Debug, Default)]
pub(super) struct Watchers(Mutex<Vec<Sender<Bytes>>>);

/// A place among the watchers.
struct Joined {
    events: Receiver<Bytes>,
    /// Nobody has watched before: there is no sampler yet.
    is_first: bool,
}

impl Watchers {
    /// A place, if one is free.
    fn join(&self) -> Option<Joined> {
        let mut watchers = self.lock();
        let is_first = watchers.is_empty();
        if watchers.len() >= ADMIN_WATCHERS_MAX {
            watchers.retain(|watcher| !watcher.is_closed());
        }
        if watchers.len() >= ADMIN_WATCHERS_MAX {
            return None;
        }
        let (to, events) = channel(ADMIN_EVENTS_WAITING_MAX);
        watchers.push(to);
        Some(Joined { events, is_first })
    }

    /// Gives an event to all, and drops who has left or takes none; whether somebody remains. If not, the sampler has to end.
    fn tell(&self, event: &Bytes) -> bool {
        let mut watchers = self.lock();
        watchers.retain(|watcher| watcher.try_send(event.clone()).is_ok());
        !watchers.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Sender<Bytes>>> {
        // Nothing is left half done in here.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer that goes on as long as there are events.
struct Events {
    events: Receiver<Bytes>,
    patience: Patience,
}

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let event = ready!(this.events.poll_recv(context));
        // Who asks for the next one has taken those before.
        this.patience.renew();
        Poll::Ready(event.map(|event| Ok(Frame::data(event))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchers_have_places_and_who_takes_nothing_loses_it() {
        let watchers = Watchers::default();
        assert!(!watchers.tell(&Bytes::new()), "nobody is there");
        let first = watchers.join().expect("a place");
        assert!(first.is_first);
        let mut others: Vec<_> = std::iter::from_fn(|| watchers.join()).collect();
        assert_eq!(others.len(), ADMIN_WATCHERS_MAX - 1);
        assert!(others.iter().all(|joined| !joined.is_first));
        drop(others.pop());
        others.extend(watchers.join());
        assert_eq!(others.len(), ADMIN_WATCHERS_MAX - 1, "a place that was left is free");
        drop(others);
        let event = Bytes::from_static(b"data: 1\n\n");
        let mut slow = first.events;
        for _ in 0..ADMIN_EVENTS_WAITING_MAX {
            assert!(watchers.tell(&event));
        }
        assert!(!watchers.tell(&event), "it was dropped, and nobody remains");
        for _ in 0..ADMIN_EVENTS_WAITING_MAX {
            assert_eq!(slow.try_recv().as_ref(), Ok(&event));
        }
        assert!(slow.try_recv().is_err());
        assert!(watchers.join().expect("a place").is_first);
    }
}
