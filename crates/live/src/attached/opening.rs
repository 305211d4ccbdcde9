//! What of an attempt comes to a session: opened, or declined, or dropped with a word for the developer.

use super::{Attached, Event};
use crate::{
    attempt::{Elsewhere, from_json},
    cover::{Shut, decline},
    frame::{Frame, Kind},
    host::Key,
    message::SEAL_MAX,
};

/// So many different words of that kind are said at most: what they name comes from others.
const UNREADABLE_MAX: usize = 8;

impl Attached {
    pub(super) fn hear_of_attempt(&self, frame: Frame) {
        let head = frame.head;
        let key = Key {
            peer: head.peer,
            of: head.of,
        };
        if head.kind == Kind::Withdrawn
            && let Ok(elsewhere) = from_json("a reason", &frame.body)
        {
            self.unreadable(self.kept_away(&elsewhere));
        }
        let opened = self.lock().seals.open(frame);
        match opened {
            Ok(frame) => self.step(|machine, now| machine.hear(now, frame)),
            Err(Shut::PlainOffer) => {
                self.lock().pass(decline(&head));
                return self.unreadable("an invocation was offered unsealed and declined: on this channel a session with a key takes only what is sealed with it".into());
            }
            Err(Shut::Dropped) => {
                return self.unreadable("what came cannot be opened, and was dropped: another key sealed it, nobody did, or it was changed on its way".into());
            }
        }
        let inner = self.lock();
        if let Some(mail) = inner.mails.get(&key)
            && inner.machine.has_room(key)
        {
            mail.room.notify_one();
        }
    }

    /// Why a host keeps its invocations to itself, in our own words: anybody on the channel can say so.
    fn kept_away(&self, Elsewhere { seal, .. }: &Elsewhere) -> String {
        let theirs: String = seal
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(SEAL_MAX)
            .collect();
        let mine = match &self.0.hello.seal {
            Some(mine) => format!("yours is {mine}"),
            None => "you have none".into(),
        };
        let theirs = match theirs.is_empty() {
            true => "no key".into(),
            false => format!("the key {theirs}"),
        };
        format!("a host here seals with {theirs}, and {mine}: its invocations run deployed")
    }

    fn unreadable(&self, why: String) {
        let mut inner = self.lock();
        let is_news =
            inner.unreadable.len() < UNREADABLE_MAX && inner.unreadable.insert(why.clone());
        drop(inner);
        if is_news {
            self.tell(Event::Unreadable { why });
        }
    }
}
