//! Following a function's log. The writer only says how far it has come; every follower reads for itself,
//! so a slow one falls behind without losing a line and without holding up anybody.

use model::FunctionId;
use tokio::sync::watch;

use super::{
    Records,
    queries::{LogFilter, ROWS_MAX},
    rows::{LogCursor, StoredLine},
};
use crate::StoreError;

/// A reader of one function's log that waits for more.
pub struct LogFollower {
    records: Records,
    function: FunctionId,
    /// `after` is how far it has come; `None` before the first page.
    filter: LogFilter,
    written: watch::Receiver<LogCursor>,
}

impl LogFollower {
    pub(crate) fn new(records: Records, function: FunctionId, filter: LogFilter) -> LogFollower {
        let mut written = records.0.written.clone();
        // What is there already is news to whoever begins.
        written.mark_changed();
        LogFollower {
            records,
            function,
            filter,
            written,
        }
    }

    /// The next lines, in the order of writing; waits until there is at least one.
    /// To give up waiting loses nothing: the next call goes on where the last answer ended.
    ///
    /// # Errors
    /// [`StoreError::Closed`] once the store has closed.
    pub async fn next(&mut self) -> Result<Vec<StoredLine>, StoreError> {
        loop {
            let upto = *self.written.borrow_and_update();
            if self.filter.after.is_none_or(|after| after < upto) {
                let page = self
                    .records
                    .lines(&self.function, &self.filter, Some(upto))
                    .await?;
                let full = page.len() >= self.filter.limit.min(ROWS_MAX) as usize;
                let last = page.iter().map(|line| line.cursor).max();
                // The first page holds the newest lines, so whatever does not fit in it lies behind.
                self.filter.after = match (self.filter.after, last) {
                    (Some(_), Some(last)) if full => Some(last),
                    _ => Some(upto),
                };
                if !page.is_empty() {
                    return Ok(page);
                }
            } else {
                let more = self.written.changed().await;
                more.map_err(|_| StoreError::Closed)?;
            }
        }
    }
}
