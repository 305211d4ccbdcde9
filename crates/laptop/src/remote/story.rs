//! What is known of the invocations that came from elsewhere: who they are for, how long each leg took, what they log.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use live::{Line, Lines, Reply, Work};
use model::{InvocationId, LogLine};
use tokio::sync::broadcast::{self, error::RecvError};

/// Invocations that are remembered after their end, for their line on the terminal and the last they log.
const REMEMBERED: usize = 1000;

/// One invocation, as the terminal shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Who called, as far as it was said.
    pub who: Option<String>,
    /// The rule that it matched.
    pub rule: String,
    /// A copy: the deployed answer counted.
    pub is_copy: bool,
    /// From its offer until it was told to go.
    pub offered: Duration,
}

/// What is known of all of them; clones share it.
#[derive(Clone, Default)]
pub struct Stories(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    by_id: HashMap<InvocationId, Story>,
    /// Those that ended, oldest first.
    ended: VecDeque<InvocationId>,
}

/// One of them.
pub struct Story {
    id: InvocationId,
    about: About,
    reply: Reply,
}

/// An invocation that runs; dropped at its end.
pub struct Telling {
    stories: Stories,
    id: InvocationId,
}

impl Story {
    /// What is known when it begins.
    pub fn of(work: &Work) -> Story {
        Story {
            id: work.key.of.id,
            about: About {
                who: work.offer.who.clone(),
                rule: work.offer.rule.clone(),
                is_copy: work.offer.observe,
                offered: work.offered_at.elapsed(),
            },
            reply: work.reply.clone(),
        }
    }
}

impl Stories {
    /// It runs until what is returned is dropped.
    pub fn begin(&self, story: Story) -> Telling {
        let id = story.id;
        self.lock().by_id.insert(id, story);
        let stories = self.clone();
        Telling { stories, id }
    }

    /// What is known of one.
    pub fn about(&self, id: InvocationId) -> Option<About> {
        Some(self.lock().by_id.get(&id)?.about.clone())
    }

    /// Sends the lines that these invocations log to where they came from.
    pub async fn pass_on(&self, mut lines: broadcast::Receiver<Arc<LogLine>>) {
        loop {
            let line = match lines.recv().await {
                Ok(line) => line,
                // What was missed is in the laptop's own log.
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            };
            let Some(id) = line.invocation else { continue };
            let reply = match self.lock().by_id.get(&id) {
                Some(story) if !story.about.is_copy => story.reply.clone(),
                Some(_) | None => continue,
            };
            let said = Line {
                ago_ms: 0,
                level: line.level,
                text: line.text.clone(),
            };
            reply.lines(&Lines { lines: vec![said] });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        let locked = self.0.lock();
        locked.unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        let mut known = self.stories.lock();
        known.ended.push_back(self.id);
        while known.ended.len() > REMEMBERED {
            let Some(oldest) = known.ended.pop_front() else {
                return;
            };
            known.by_id.remove(&oldest);
        }
    }
}
