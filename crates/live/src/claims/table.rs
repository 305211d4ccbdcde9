//! The claims themselves: by function, in the order in which they are tried.

use std::collections::{BTreeMap, BTreeSet};

use model::{FunctionId, Rule};

use crate::message::{Mode, Present};

/// Every claim.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Never an empty list.
    functions: BTreeMap<FunctionId, Vec<Held>>,
    /// The numbers of an end's claims, with their functions; never empty.
    owners: BTreeMap<u32, BTreeMap<u64, FunctionId>>,
    last_claim: u64,
}

/// One claim.
#[derive(Debug)]
pub(super) struct Held {
    /// As hosts are told.
    pub present: Present,
    /// When it was granted.
    pub since_ms: u64,
}

impl Table {
    pub fn count(&self) -> usize {
        self.owners.values().map(BTreeMap::len).sum()
    }

    /// The numbers of an end's claims.
    pub fn numbers_of(&self, peer: u32) -> Vec<u64> {
        let owned = self.owners.get(&peer).into_iter();
        owned.flat_map(BTreeMap::keys).copied().collect()
    }

    pub fn count_of(&self, peer: u32) -> usize {
        self.owners.get(&peer).map_or(0, BTreeMap::len)
    }

    /// Functions that somebody claims.
    pub fn functions(&self) -> impl Iterator<Item = &FunctionId> {
        self.functions.keys()
    }

    /// A function's claims, in the order in which they are tried.
    pub fn claims_of(&self, function: &FunctionId) -> impl ExactSizeIterator<Item = &Present> {
        let held = self.functions.get(function).map_or(&[][..], Vec::as_slice);
        held.iter().map(|held| &held.present)
    }

    /// The claim of this very rule that stands in the way of `peer`: anybody's for the invocation itself, its own for a copy.
    pub fn find(
        &mut self,
        function: &FunctionId,
        rule: &Rule,
        mode: Mode,
        peer: u32,
    ) -> Option<&mut Held> {
        let held = self.functions.get_mut(function)?;
        held.iter_mut().find(|Held { present, .. }| {
            let same = present.rule == *rule && present.mode == mode;
            same && (mode == Mode::Take || present.peer == peer)
        })
    }

    /// Adds a claim and gives it the next number.
    pub fn insert(&mut self, function: &FunctionId, mut present: Present, since_ms: u64) -> u64 {
        self.last_claim += 1;
        let number = self.last_claim;
        present.claim = number;
        let owned = self.owners.entry(present.peer).or_default();
        owned.insert(number, function.clone());
        let list = self.functions.entry(function.clone()).or_default();
        let place = list.partition_point(|other| other.present.rule.rank() <= present.rule.rank());
        list.insert(place, Held { present, since_ms });
        number
    }

    /// Removes a claim of this end, or all of them; says which functions that changed.
    pub fn release(&mut self, peer: u32, claim: Option<u64>) -> BTreeSet<FunctionId> {
        let numbers = match claim {
            Some(claim) => vec![claim],
            None => self.numbers_of(peer),
        };
        let mut changed = BTreeSet::new();
        for number in numbers {
            changed.extend(self.remove(peer, number));
        }
        changed
    }

    fn remove(&mut self, peer: u32, number: u64) -> Option<FunctionId> {
        let owned = self.owners.get_mut(&peer)?;
        let function = owned.remove(&number)?;
        if owned.is_empty() {
            self.owners.remove(&peer);
        }
        if let Some(list) = self.functions.get_mut(&function) {
            list.retain(|held| held.present.claim != number);
            if list.is_empty() {
                self.functions.remove(&function);
            }
        }
        Some(function)
    }
}
