//! A frame of the channel read and written, and the limits of what one may say.

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Alive, CAPABILITIES_MAX, CLAIMS_MAX, CLAIMS_OF_FUNCTION_MAX, Claim, Claimed, Fatal, Gone,
    Goodbye, Heartbeat, Hello, NAME_MAX, Presence, Refused, Release, SEAL_MAX, SERVE_MAX, Serve,
    TEXT_MAX, Taken, Welcome,
};
use crate::{Frame, Kind, PAYLOAD_MAX};

macro_rules! control {
    ($($name:ident($payload:ty),)*) => {
        /// What a frame of the channel says.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Control { $(
            #[doc = concat!("See [`Kind::", stringify!($name), "`].")]
            $name($payload),
        )* }

        impl Control {
            /// The kind of its frame.
            pub const fn kind(&self) -> Kind {
                match self { $(Control::$name(_) => Kind::$name,)* }
            }

            /// Its payload.
            pub fn payload(&self) -> Vec<u8> {
                match self { $(Control::$name(said) => json(said),)* }
            }

            /// What a frame says; an error for what is no frame of the channel, or says what cannot be.
            pub fn read(frame: &Frame) -> Result<Control, Unreadable> {
                let control = match frame.head.kind {
                    $(Kind::$name => Control::$name(parse(frame)?),)*
                    kind => return Err(unreadable(kind, "is not for the channel")),
                };
                let checked = control.check();
                checked.map_err(|why| unreadable(frame.head.kind, why))?;
                Ok(control)
            }
        }

        $(impl From<$payload> for Control {
            fn from(said: $payload) -> Control {
                Control::$name(said)
            }
        })*
    };
}

control! {
    Hello(Hello),
    Welcome(Welcome),
    Claim(Claim),
    Claimed(Claimed),
    Refused(Refused),
    Release(Release),
    Heartbeat(Heartbeat),
    Alive(Alive),
    Taken(Taken),
    Presence(Presence),
    Goodbye(Goodbye),
    Serve(Serve),
    Gone(Gone),
    Fatal(Fatal),
}

/// A payload that says nothing this end understands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {kind:?} {why}")]
pub struct Unreadable {
    /// Of which frame.
    pub kind: Kind,
    /// What is wrong with it.
    pub why: String,
}

fn unreadable(kind: Kind, why: impl Into<String>) -> Unreadable {
    let why = why.into();
    Unreadable { kind, why }
}

fn json(said: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(said).expect("text and numbers under text keys always have a JSON form")
}

fn parse<T: DeserializeOwned>(frame: &Frame) -> Result<T, Unreadable> {
    let read = serde_json::from_slice(&frame.body);
    read.map_err(|error| {
        unreadable(
            frame.head.kind,
            format!("has a payload of no sense: {error}"),
        )
    })
}

impl From<Control> for Frame {
    fn from(control: Control) -> Frame {
        let payload = control.payload();
        debug_assert!(payload.len() <= PAYLOAD_MAX, "{}", payload.len());
        Frame::control(control.kind(), payload)
    }
}

impl Control {
    /// Whether its lists and texts are within the limits.
    fn check(&self) -> Result<(), String> {
        match self {
            Control::Hello(hello) => hello.check(),
            Control::Claim(claim) => within("function", &claim.function, NAME_MAX),
            Control::Serve(serve) => {
                few("functions", serve.functions.len(), SERVE_MAX)?;
                let mut names = serve.functions.iter();
                names.try_for_each(|name| within("function", name, NAME_MAX))
            }
            Control::Goodbye(goodbye) => within("reason", &goodbye.why, TEXT_MAX),
            Control::Presence(presence) => {
                few("claims", presence.claims.len(), CLAIMS_OF_FUNCTION_MAX)
            }
            Control::Welcome(welcome) => few("claims", welcome.claims.len(), CLAIMS_MAX),
            Control::Claimed(_)
            | Control::Refused(_)
            | Control::Release(_)
            | Control::Heartbeat(_)
            | Control::Alive(_)
            | Control::Taken(_)
            | Control::Gone(_)
            | Control::Fatal(_) => Ok(()),
        }
    }
}

impl Hello {
    fn check(&self) -> Result<(), String> {
        within("program", &self.program, NAME_MAX)?;
        for (what, text, max) in [
            ("name", &self.name, NAME_MAX),
            ("developer", &self.developer, NAME_MAX),
            ("resume key", &self.resume, NAME_MAX),
            ("seal", &self.seal, SEAL_MAX),
        ] {
            within(what, text.as_deref().unwrap_or_default(), max)?;
        }
        few("capabilities", self.capabilities.len(), CAPABILITIES_MAX)?;
        let mut named = self.capabilities.iter();
        named.try_for_each(|name| within("capability", name, NAME_MAX))
    }
}

/// Refuses text that is too long to be passed on, or that would draw on a terminal.
fn within(what: &str, text: &str, max: usize) -> Result<(), String> {
    if text.len() > max {
        let length = text.len();
        return Err(format!(
            "has a {what} of {length} bytes; the limit is {max}"
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("has a control character in its {what}"));
    }
    Ok(())
}

fn few(what: &str, count: usize, max: usize) -> Result<(), String> {
    if count > max {
        return Err(format!("names {count} {what}; the limit is {max}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use model::{RULE_MAX, Rule};

    use super::*;
    use crate::message::{CAPABILITIES_TOLD, CAPABILITY_TOLD_MAX};
    use crate::{Mode, Present, Refusal, Role};

    fn hello() -> Hello {
        Hello {
            role: Role::Session,
            name: None,
            program: "bungee 0.1.0".into(),
            developer: Some("ann@laptop".into()),
            resume: None,
            capabilities: vec!["deflate".into()],
            seal: None,
        }
    }

    fn read(kind: Kind, json: &str) -> Result<Control, String> {
        let frame = Frame::control(kind, json.as_bytes().to_vec());
        Control::read(&frame).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_written_reads_back() {
        let refused = Refused {
            reference: 7,
            refusal: Refusal::new("ClaimHeld", "held").hint("--take-over"),
            holder: None,
        };
        let text = String::from_utf8(Control::from(refused.clone()).payload()).unwrap();
        assert_eq!(
            text,
            r#"{"ref":7,"type":"ClaimHeld","message":"held","hint":"--take-over"}"#
        );
        let fatal = Fatal(Refusal::new("BadFrame", "no"));
        for said in [
            Control::from(hello()),
            refused.into(),
            Release::default().into(),
            Heartbeat { n: 3 }.into(),
            fatal.into(),
        ] {
            let frame = Frame::from(said.clone());
            assert_eq!(Control::read(&frame).unwrap(), said);
        }
    }

    #[test]
    fn fields_of_later_versions_are_passed_over_and_missing_ones_have_defaults() {
        let claim = read(
            Kind::Claim,
            r#"{"ref":1,"function":"shop/hello","rule":"all","mode":"take","later":[1]}"#,
        );
        let Ok(Control::Claim(claim)) = claim else {
            panic!("{claim:?}")
        };
        assert_eq!((claim.take_over, claim.concurrency), (false, None));
        assert_eq!(read(Kind::Serve, "{}"), Ok(Serve::default().into()));
    }

    #[test]
    fn what_is_too_much_or_of_no_sense_says_so() {
        let long = Hello {
            developer: Some("x".repeat(NAME_MAX + 1)),
            ..hello()
        };
        let drawing = Hello {
            developer: Some("\u{1b}[2J".into()),
            ..hello()
        };
        let many = Hello {
            capabilities: vec!["x".into(); CAPABILITIES_MAX + 1],
            ..hello()
        };
        for (said, words) in [
            (
                long,
                "the Hello has a developer of 201 bytes; the limit is 200",
            ),
            (
                drawing,
                "the Hello has a control character in its developer",
            ),
            (many, "the Hello names 33 capabilities; the limit is 32"),
        ] {
            let error = Control::read(&Frame::from(Control::from(said))).unwrap_err();
            assert_eq!(error.to_string(), words);
        }
        for (kind, json, words) in [
            (Kind::Hello, "", "the Hello has a payload of no sense"),
            (Kind::Claim, "[]", "the Claim has a payload of no sense"),
            (Kind::Claim, r#"{"ref":"x"}"#, "invalid type"),
            (Kind::Offer, "{}", "the Offer is not for the channel"),
        ] {
            let error = read(kind, json).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn the_fullest_presence_fits_a_frame() {
        let rule: Rule = format!("user:{}", "\"".repeat(RULE_MAX - 5))
            .parse()
            .unwrap();
        let present = Present {
            claim: u64::MAX,
            peer: u32::MAX,
            session: format!("ses_{}", "f".repeat(32)),
            developer: "\"".repeat(NAME_MAX),
            rule,
            mode: Mode::Observe,
            concurrency: Some(u32::MAX),
            hold_deadline: false,
            seal: Some("\"".repeat(SEAL_MAX)),
            capabilities: vec!["\"".repeat(CAPABILITY_TOLD_MAX); CAPABILITIES_TOLD],
        };
        let fullest = Presence {
            function: "f".repeat(NAME_MAX),
            claims: vec![present; CLAIMS_OF_FUNCTION_MAX],
        };
        let length = Control::from(fullest).payload().len();
        assert!(length <= PAYLOAD_MAX, "{length}");
    }
}
