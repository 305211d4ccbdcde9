//! Many ends, many functions, events by chance: after each one the rules hold.

use std::collections::HashSet;

use super::*;
use crate::message::Present;

/// Repeatable chance (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

/// What one end believes, from nothing but what it was told.
#[derive(Debug)]
struct Belief {
    role: Role,
    key: String,
    heard_ms: u64,
    /// Its connection is broken and it does not know: what is sent to it is lost.
    deaf: bool,
    /// A session's claims.
    mine: BTreeSet<u64>,
    /// A host's lists, without the empty ones.
    lists: BTreeMap<String, Vec<Present>>,
    /// Of whom it was told that they are gone.
    gone: HashSet<u32>,
    /// Who of the other role was there at any time since it came.
    met: HashSet<u32>,
}

struct World {
    claims: Claims,
    dice: Dice,
    now_ms: u64,
    ends: BTreeMap<u32, Belief>,
    departed: HashSet<u32>,
    last_claim: u64,
}

impl World {
    fn apply(&mut self, turn: Turn) {
        for (to, said) in turn.send {
            let end = self
                .ends
                .get_mut(&to)
                .expect("told to an end that is there");
            if end.deaf {
                continue;
            }
            match said {
                Control::Welcome(welcome) => {
                    end.mine = welcome.claims.into_iter().collect();
                    end.lists.clear();
                }
                Control::Claimed(claimed) => {
                    end.mine.insert(claimed.claim);
                    self.last_claim = self.last_claim.max(claimed.claim);
                }
                Control::Taken(taken) => assert!(end.mine.remove(&taken.claim)),
                Control::Presence(Presence { function, claims }) => {
                    assert_eq!(end.role, Role::Host);
                    if claims.is_empty() {
                        end.lists.remove(&function);
                    } else {
                        end.lists.insert(function, claims);
                    }
                }
                Control::Gone(gone) => drop(end.gone.insert(gone.peer)),
                _ => {}
            }
        }
        for peer in turn.gone {
            assert!(self.departed.insert(peer), "gone twice");
            self.ends.remove(&peer);
        }
    }

    fn step(&mut self) {
        let some = self.ends.keys().copied().collect::<Vec<_>>();
        let now = self.now_ms;
        let turn = match self.dice.below(22) {
            0..=2 => return self.join(None),
            3 if !some.is_empty() => {
                let peer = self.dice.one_of(&some);
                return self.join(Some(peer));
            }
            4 => {
                self.now_ms += self.dice.below(2500);
                self.claims.tick(self.now_ms)
            }
            _ if some.is_empty() => return,
            5 => {
                let peer = self.dice.one_of(&some);
                self.claims.end(now, peer, "its connection closed")
            }
            6 => {
                let peer = self.dice.one_of(&some);
                self.ends.get_mut(&peer).unwrap().deaf = true;
                return;
            }
            _ => {
                let peer = self.dice.one_of(&some);
                if self.ends[&peer].deaf {
                    return;
                }
                let said = self.saying(peer);
                self.ends.get_mut(&peer).unwrap().heard_ms = now;
                self.claims.hear(now, peer, said)
            }
        };
        self.apply(turn);
    }

    fn join(&mut self, again: Option<u32>) {
        let role = match again {
            Some(peer) => self.ends[&peer].role,
            None => self
                .dice
                .one_of(&[Role::Session, Role::Session, Role::Host]),
        };
        let hello = Hello {
            resume: again.map(|peer| self.ends[&peer].key.clone()),
            ..hello(role, "x")
        };
        let mut chance = [0; 32];
        chance.fill_with(|| u8::try_from(self.dice.below(256)).unwrap());
        let admitted = self.claims.join(self.now_ms, anybody(), hello, chance);
        let admitted = admitted.unwrap();
        assert_eq!(admitted.resumed, again.is_some());
        let fresh = Belief {
            role,
            key: self.claims.ends[&admitted.peer].key.clone(),
            heard_ms: self.now_ms,
            deaf: false,
            mine: BTreeSet::new(),
            lists: BTreeMap::new(),
            gone: HashSet::new(),
            met: HashSet::new(),
        };
        let end = self.ends.entry(admitted.peer).or_insert(fresh);
        (end.deaf, end.heard_ms) = (false, self.now_ms);
        self.apply(admitted.turn);
    }

    fn saying(&mut self, peer: u32) -> Control {
        const FUNCTIONS: [&str; 4] = ["a", "b", "shop/c", "closed"];
        const RULES: [&str; 6] = [
            "all",
            "percent:10",
            "header:x=1",
            "header:x",
            "path:/v2/*",
            "nonsense",
        ];
        if self.dice.below(5) == 0 {
            return Heartbeat { n: 1 }.into();
        }
        let end = self.ends.get_mut(&peer).unwrap();
        match end.role {
            Role::Host => {
                end.lists.clear();
                let functions = FUNCTIONS.iter().filter(|_| self.dice.below(2) == 0);
                Serve {
                    functions: functions.map(ToString::to_string).collect(),
                    all: false,
                }
                .into()
            }
            Role::Session => match self.dice.below(8) {
                0 => {
                    end.mine.clear();
                    Release::default().into()
                }
                1..=2 => {
                    let any = self.dice.below(self.last_claim + 2);
                    end.mine.remove(&any);
                    Release { claim: Some(any) }.into()
                }
                _ => Claim {
                    take_over: self.dice.below(3) == 0,
                    mode: self.dice.one_of(&[Mode::Take, Mode::Take, Mode::Observe]),
                    ..ask(self.dice.one_of(&FUNCTIONS), self.dice.one_of(&RULES))
                }
                .into(),
            },
        }
    }

    fn check(&mut self) {
        let table = &self.claims.table;
        let mut owners = HashSet::new();
        for function in table.functions() {
            let list: Vec<&Present> = table.claims_of(function).collect();
            for held in &list {
                if held.mode == Mode::Take {
                    let only = owners.insert((function.clone(), held.rule.clone()));
                    assert!(only, "two owners of {function} by {}", held.rule);
                }
                let owner = &self.ends.get(&held.peer).expect("the dead hold nothing");
                assert_eq!(owner.role, Role::Session);
            }
            let tried = list.iter().map(|held| (held.rule.rank(), held.claim));
            assert!(tried.is_sorted(), "{list:?}");
        }
        let there: Vec<(u32, Role)> = self.ends.iter().map(|(at, end)| (*at, end.role)).collect();
        for (peer, end) in &mut self.ends {
            end.met.extend(
                there
                    .iter()
                    .filter(|(_, role)| *role != end.role)
                    .map(|(other, _)| other),
            );
            if end.deaf {
                continue;
            }
            let mine = table.numbers_of(*peer).into_iter().collect();
            assert_eq!(end.mine, mine, "{peer} holds what it believes");
            if end.role == Role::Host {
                let serves = &self.claims.ends[peer].serves;
                let lists = serves
                    .iter()
                    .map(|name| {
                        (
                            name.to_string(),
                            table.claims_of(name).cloned().collect::<Vec<_>>(),
                        )
                    })
                    .filter(|(_, list)| !list.is_empty());
                assert_eq!(end.lists, lists.collect(), "{peer} was told what is");
            }
            let missed = end
                .met
                .iter()
                .filter(|met| self.departed.contains(met) && !end.gone.contains(met));
            assert_eq!(missed.count(), 0, "{peer} was told who is gone");
        }
    }
}

#[test]
fn never_two_owners_and_everyone_knows_what_is() {
    for seed in 0..100 {
        let mut world = World {
            claims: claims(),
            dice: Dice(seed),
            now_ms: 1_000_000,
            ends: BTreeMap::new(),
            departed: HashSet::new(),
            last_claim: 0,
        };
        for _ in 0..250 {
            world.step();
            world.check();
        }
        let turn = world.claims.tick(world.now_ms);
        world.apply(turn);
        let lease = world.claims.settings.lease_ms;
        for (peer, end) in &world.ends {
            assert!(world.now_ms - end.heard_ms < lease, "{peer} is dead");
        }
        let turn = world.claims.tick(world.now_ms + lease);
        world.apply(turn);
        assert!(world.ends.is_empty() && world.claims.count() == 0);
    }
}
