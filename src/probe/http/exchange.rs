//! One request and its answer over one connection.

use std::{pin::pin, time::Instant};

use futures::future::{Either, select};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::{
    body::{Bytes, Incoming},
    client::conn::http1::{Builder, SendRequest},
};
use hyper_util::rt::TokioIo;

use super::super::{
    fault::Fault,
    progress::{Progress, Stage, micros},
    tls::Wire,
};

/// A body is read up to here; what lies behind is neither read nor judged.
pub(super) const LONGEST_BODY: usize = 64 * 1024;

/// Headers longer than this are no answer.
const LONGEST_HEAD: usize = 32 * 1024;

/// An answer, read to its end or to the limit.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// Where a redirect leads to.
    pub(super) location: Option<String>,
    /// The body, where it was asked for.
    pub(super) body: Vec<u8>,
}

/// Sends the request and reads the answer; keeps the body where `keep` says so.
pub(super) async fn exchange(
    wire: Wire,
    request: Request<Empty<Bytes>>,
    keep: bool,
    progress: &Progress,
) -> Result<Answer, Fault> {
    progress.enter(Stage::Waiting);
    let (sender, connection) = Builder::new()
        .max_buf_size(LONGEST_HEAD)
        .handshake(TokioIo::new(wire))
        .await
        .map_err(|e| fault(&e))?;
    let talk = pin!(talk(sender, request, keep, progress));
    match select(talk, pin!(connection)).await {
        Either::Left((answer, _)) => answer,
        // The connection is done; what it has read is still to be taken.
        Either::Right((_, talk)) => talk.await,
    }
}

async fn talk(
    mut sender: SendRequest<Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
    keep: bool,
    progress: &Progress,
) -> Result<Answer, Fault> {
    let begin = Instant::now();
    let response = sender.send_request(request).await.map_err(|e| fault(&e))?;
    {
        let mut known = progress.known();
        known.times.first_byte_us += micros(begin);
        known.stage = Stage::Reading;
    }
    let (head, body) = response.into_parts();
    let location = head
        .status
        .is_redirection()
        .then(|| head.headers.get(header::LOCATION))
        .flatten()
        .and_then(|l| l.to_str().ok())
        .map(str::to_owned);
    Ok(Answer {
        status: head.status,
        location,
        body: read(body, keep).await?,
    })
}

async fn read(mut body: Incoming, keep: bool) -> Result<Vec<u8>, Fault> {
    let mut kept = Vec::new();
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| {
            if e.is_parse() {
                fault(&e)
            } else {
                Fault::BrokeOff(seen)
            }
        })?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        if keep {
            let room = LONGEST_BODY - kept.len();
            kept.extend_from_slice(&data[..data.len().min(room)]);
        }
        seen += data.len();
        if seen >= LONGEST_BODY {
            break;
        }
    }
    Ok(kept)
}

fn fault(error: &hyper::Error) -> Fault {
    if error.is_parse() {
        return Fault::Garbled("HTTP");
    }
    let mut cause = std::error::Error::source(error);
    while let Some(e) = cause {
        if let Some(io) = e.downcast_ref::<std::io::Error>() {
            return Fault::of_stream(io);
        }
        cause = e.source();
    }
    Fault::Closed
}
