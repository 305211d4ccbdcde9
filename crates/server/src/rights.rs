//! What each role may do. Roles are no ladder: who attaches a laptop may not deploy, and who deploys may not attach one.

use std::fmt;

use model::{ErrorType, Failure};
use store::Role;

/// Something that a caller must be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    /// Call functions, list them, ask what the server is.
    Invoke,
    /// Read how functions are set, their records and their logs.
    Look,
    /// Change what is deployed.
    Deploy,
    /// Make and revoke tokens.
    Admin,
    /// Claim functions for a laptop.
    Claim,
    /// Offer invocations from elsewhere to laptops.
    Host,
}

impl Right {
    /// Whether a role has it.
    pub(crate) fn is_of(self, role: Role) -> bool {
        match role {
            Role::Admin => true,
            Role::Deploy => matches!(self, Right::Invoke | Right::Look | Right::Deploy),
            Role::Live => matches!(self, Right::Invoke | Right::Look | Right::Claim),
            Role::Invoke => self == Right::Invoke,
            Role::Bridge => self == Right::Host,
        }
    }

    /// Refuses a role that does not have it.
    pub(crate) fn check(self, held: Role) -> Result<(), Failure> {
        if self.is_of(held) {
            return Ok(());
        }
        let message = format!("the token's role is `{held}`; this needs {self}");
        Err(Failure::new(ErrorType::Forbidden, message))
    }
}

/// The roles that have it, `admin` only where no other has.
impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others = Role::ALL.into_iter().filter(|role| *role != Role::Admin);
        let mut having = others.filter(|role| self.is_of(*role)).peekable();
        let Some(first) = having.next() else {
            return write!(f, "`{}`", Role::Admin);
        };
        write!(f, "`{first}`")?;
        while let Some(role) = having.next() {
            let joint = if having.peek().is_some() { "," } else { " or" };
            write!(f, "{joint} `{role}`")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_what_it_is_for_and_no_more() {
        use Right::{Admin, Claim, Deploy, Host, Invoke, Look};
        let all = [Invoke, Look, Deploy, Admin, Claim, Host];
        let of = |role| all.into_iter().filter(move |right| right.is_of(role));
        for (role, rights) in [
            (Role::Admin, &all[..]),
            (Role::Deploy, &[Invoke, Look, Deploy]),
            (Role::Live, &[Invoke, Look, Claim]),
            (Role::Invoke, &[Invoke]),
            (Role::Bridge, &[Host]),
        ] {
            assert_eq!(of(role).collect::<Vec<_>>(), rights, "{role}");
        }
    }

    #[test]
    fn a_refusal_names_who_may() {
        let refusal = |right: Right, role| right.check(role).unwrap_err().message;
        assert_eq!(
            refusal(Right::Invoke, Role::Bridge),
            "the token's role is `bridge`; this needs `deploy`, `live` or `invoke`"
        );
        assert_eq!(
            refusal(Right::Look, Role::Invoke),
            "the token's role is `invoke`; this needs `deploy` or `live`"
        );
        assert_eq!(
            refusal(Right::Admin, Role::Deploy),
            "the token's role is `deploy`; this needs `admin`"
        );
    }
}
