//! Answers that broke off after they had begun, and with which error: told on one pipe, asked for by whoever lost the other.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use model::{HandlerFault, InvocationId};
use tokio::sync::Notify;

/// Most that are kept for those who still come to ask; more than a worker has invocations at once.
const MOST: usize = 256;

/// The answers of one worker that broke off.
#[derive(Default)]
pub struct Breaks {
    told: Mutex<VecDeque<(InvocationId, HandlerFault)>>,
    news: Notify,
}

impl Breaks {
    /// This answer broke off.
    pub fn tell(&self, id: InvocationId, fault: HandlerFault) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() == MOST {
            told.pop_front();
        }
        told.push_back((id, fault));
        drop(told);
        self.news.notify_waiters();
    }

    /// Waits until the worker says with which error the answer broke off; it may never do so.
    pub async fn of(&self, id: InvocationId) -> HandlerFault {
        loop {
            let news = self.news.notified();
            if let Some(fault) = self.take(id) {
                return fault;
            }
            news.await;
        }
    }

    fn take(&self, id: InvocationId) -> Option<HandlerFault> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let at = told.iter().position(|(broken, _)| *broken == id)?;
        told.remove(at).map(|(_, fault)| fault)
    }
}
