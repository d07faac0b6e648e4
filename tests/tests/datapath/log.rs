//! What is logged meanwhile, for a test to look at.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);

/// Everything logged since [`Lines::collect`] was first called.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    pub(crate) fn collect() -> Self {
        static LINES: OnceLock<Lines> = OnceLock::new();
        let lines = LINES.get_or_init(|| {
            let lines = Lines::default();
            let writer = lines.clone();
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
            lines
        });
        lines.clone()
    }

    /// Wait until every one of `texts` was logged.
    pub(crate) async fn wait_for(&self, texts: &[&str]) -> Result<(), String> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let logged = String::from_utf8_lossy(&self.bytes()).into_owned();
            if texts.iter().all(|text| logged.contains(text)) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{texts:?} is not all in: {logged}"));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
