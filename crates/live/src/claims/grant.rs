//! A claim is granted, refused or taken over; a host says what it serves; a function is called back.

use model::{FunctionId, Name, Rule};

use super::{Claims, Turn};
use crate::message::{
    CLAIMS_MAX, CLAIMS_OF_FUNCTION_MAX, Claim, Claimed, Holder, Present, Refusal, Refused, Serve,
    Taken,
};

/// A claim that is not granted.
struct No {
    refusal: Refusal,
    holder: Option<Box<Holder>>,
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> No {
        No {
            refusal,
            holder: None,
        }
    }
}

impl Claims {
    /// Answers a claim, and tells the loser of a take-over and the hosts.
    pub(super) fn claim(&mut self, now_ms: u64, peer: u32, claim: Claim, turn: &mut Turn) {
        let reference = claim.reference;
        match self.grant(now_ms, peer, &claim, turn) {
            Ok((number, function)) => {
                let claimed = Claimed {
                    reference,
                    claim: number,
                    deployed: self.is_deployed(&function),
                };
                // Hosts first: whoever holds a claim may be called at once.
                self.tell_hosts([function], turn);
                turn.send.push((peer, claimed.into()));
            }
            Err(No { refusal, holder }) => {
                let refused = Refused {
                    reference,
                    refusal,
                    holder: holder.map(|holder| *holder),
                };
                turn.send.push((peer, refused.into()));
            }
        }
    }

    fn grant(
        &mut self,
        now_ms: u64,
        peer: u32,
        claim: &Claim,
        turn: &mut Turn,
    ) -> Result<(u64, FunctionId), No> {
        let (function, rule) = self.allow(peer, claim)?;
        let mut loser = None;
        if let Some(held) = self.table.find(&function, &rule, claim.mode, peer) {
            if held.present.peer == peer {
                held.present.concurrency = claim.concurrency;
                held.present.hold_deadline = claim.hold_deadline;
                return Ok((held.present.claim, function));
            }
            let holder = Holder {
                developer: held.present.developer.clone(),
                since_ms: now_ms.saturating_sub(held.since_ms),
                rule: held.present.rule.clone(),
                claim: held.present.claim,
            };
            if !claim.take_over {
                return Err(is_held(&function, holder));
            }
            loser = Some((held.present.peer, holder.claim));
        }
        let most = if loser.is_some() {
            CLAIMS_OF_FUNCTION_MAX + 1
        } else {
            CLAIMS_OF_FUNCTION_MAX
        };
        self.has_room(peer, &function, most)?;
        if let Some((loser, number)) = loser {
            self.table.release(loser, Some(number));
            let taken = Taken {
                claim: number,
                by: Some(self.ends[&peer].developer.clone()),
                why: "taken over".into(),
            };
            turn.send.push((loser, taken.into()));
        }
        let end = &self.ends[&peer];
        let present = Present {
            claim: 0,
            peer,
            session: end.session.clone(),
            developer: end.developer.clone(),
            rule,
            mode: claim.mode,
            concurrency: claim.concurrency,
            hold_deadline: claim.hold_deadline,
            seal: end.seal.clone(),
            capabilities: end.capabilities.clone(),
        };
        Ok((self.table.insert(&function, present, now_ms), function))
    }

    /// Whether such a claim may be made at all, whoever holds it.
    fn allow(&self, peer: u32, claim: &Claim) -> Result<(FunctionId, Rule), Refusal> {
        let function = self.function(&claim.function)?;
        let rule: Rule = match claim.rule.parse() {
            Ok(rule) => rule,
            Err(error) => return Err(Refusal::new("BadRule", format!("{error}"))),
        };
        if claim.concurrency == Some(0) {
            let message = "a concurrency of 0 would run nothing";
            return Err(Refusal::new("BadClaim", message).hint("name 1 or more, or leave it out"));
        }
        self.policy.may_claim(&function, &self.ends[&peer].who)?;
        if self.settings.is_wide && rule.means_everything() && !claim.all {
            let message = format!(
                "`{rule}` takes every invocation of {function} on a server that others reach too"
            );
            let hint = "say it with `--all`, or choose some with `--when header:x-dev=NAME`";
            return Err(Refusal::new("NeedsAll", message).hint(hint));
        }
        Ok((function, rule))
    }

    fn has_room(&self, peer: u32, function: &FunctionId, most: usize) -> Result<(), Refusal> {
        if self.table.count_of(peer) >= CLAIMS_MAX {
            let message = format!("this session holds {CLAIMS_MAX} claims already, its limit");
            return Err(Refusal::new("TooManyClaims", message).hint("choose some with `--only`"));
        }
        if self.table.claims_of(function).len() >= most {
            let message = format!("{function} has {CLAIMS_OF_FUNCTION_MAX} claims, its limit");
            return Err(Refusal::new("TooManyClaims", message));
        }
        Ok(())
    }

    /// A function as an end names it.
    fn function(&self, text: &str) -> Result<FunctionId, Refusal> {
        let bad = |error| Refusal::new("BadFunction", format!("`{text}` is no function: {error}"));
        let (project, name) = match text.split_once('/') {
            Some((project, name)) => (project.parse().map_err(bad)?, name),
            None => (self.settings.project.clone(), text),
        };
        let name = Name::function(name).map_err(bad)?;
        Ok(FunctionId { project, name })
    }

    fn is_deployed(&self, function: &FunctionId) -> bool {
        let known = self.policy.is_deployed(function);
        known == Some(true)
            || self
                .ends
                .values()
                .any(|end| end.serves.contains(function) || (known.is_none() && end.serves_all))
    }

    /// A host says what it serves, and is told of every claim on that.
    pub(super) fn serve(&mut self, now_ms: u64, peer: u32, serve: &Serve, turn: &mut Turn) {
        let named: Result<_, Refusal> = serve
            .functions
            .iter()
            .map(|name| self.function(name))
            .collect();
        let allowed = named.and_then(|functions: std::collections::BTreeSet<_>| {
            let who = &self.ends[&peer].who;
            for function in &functions {
                self.policy.may_serve(Some(function), who)?;
            }
            if serve.all {
                self.policy.may_serve(None, who)?;
            }
            Ok(functions)
        });
        match allowed {
            Ok(functions) => {
                if let Some(end) = self.ends.get_mut(&peer) {
                    end.serves = functions;
                    end.serves_all = serve.all;
                }
                turn.send.extend(self.all_presence(peer));
            }
            Err(refusal) => self.dismiss(now_ms, peer, refusal, turn),
        }
    }

    /// Ends every claim of the functions that `is_meant`: live was switched off, or they were deleted.
    pub fn revoke(&mut self, is_meant: impl Fn(&FunctionId) -> bool, why: &str) -> Turn {
        let mut turn = Turn::default();
        let functions = self.table.functions().filter(|name| is_meant(name));
        let functions: Vec<FunctionId> = functions.cloned().collect();
        for function in functions {
            let claims = self.table.claims_of(&function);
            let claims: Vec<_> = claims.map(|held| (held.peer, held.claim)).collect();
            for (peer, claim) in claims {
                self.table.release(peer, Some(claim));
                let taken = Taken {
                    claim,
                    by: None,
                    why: why.into(),
                };
                turn.send.push((peer, taken.into()));
            }
            self.tell_hosts([function], &mut turn);
        }
        turn
    }
}

fn is_held(function: &FunctionId, holder: Holder) -> No {
    let Holder {
        developer,
        rule,
        since_ms,
        ..
    } = &holder;
    let seconds = since_ms / 1000;
    let message = format!("{developer} has held {function} by `{rule}` for {seconds} s");
    let hint =
        "use another rule, such as `--when header:x-dev=NAME`, or take it with `--take-over`";
    No {
        refusal: Refusal::new("ClaimHeld", message).hint(hint),
        holder: Some(Box::new(holder)),
    }
}
