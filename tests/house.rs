//! The one test binary that knocks from outside, a module per behaviour.
//! Links none of our crates: it could judge another program that keeps the same promises.

mod tidy;
