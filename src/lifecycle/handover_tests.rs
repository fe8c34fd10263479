use std::sync::atomic::AtomicU32;

use super::*;
use crate::{
    domain::{CloseCause, Handshake, Outcome, Reject},
    protocol::SocketId,
};

struct Counting(AtomicU32);

impl Handler for Counting {
    type Conn = bool;

    async fn on_handshake(&self, _request: &Handshake) -> Result<bool, Reject> {
        Ok(false)
    }

    async fn on_close(&self, panics: bool, _closing: Closing) -> Outcome {
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.0.fetch_add(1, Ordering::SeqCst);
        assert!(!panics, "on purpose");
        Outcome::accept()
    }
}

fn closing() -> Closing {
    Closing {
        cause: CloseCause::Gone,
        code: None,
        socket_id: SocketId::from_random(7),
        app_id: "app-id".into(),
        remote_ip: None,
        channels: Vec::new(),
        connected_for: Duration::ZERO,
        bytes_in: 0,
        bytes_out: 0,
    }
}

#[tokio::test(start_paused = true)]
async fn settled_waits_for_every_close_even_for_one_that_panics() {
    let handler = Arc::new(Counting(AtomicU32::new(0)));
    let (handover, mut jobs) = Handover::new();
    let publishing = Publishing::new(Arc::clone(&handler), Duration::from_secs(5), None, &handover);
    handover.owed().settled().await;
    for n in 0..100 {
        handover.close(CloseJob { conn: n == 50, closing: closing(), detected_at: Instant::now() });
    }
    let owed = handover.owed();
    drop(handover);
    while let Some(job) = jobs.recv().await {
        publishing.take(job);
    }
    owed.settled().await;
    assert_eq!(handler.0.load(Ordering::SeqCst), 100);
}
