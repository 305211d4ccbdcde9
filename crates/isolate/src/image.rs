//! The compiled image of a bundle: bytecode by module name, tagged so that only this build reads it.

use std::collections::BTreeMap;

use crate::globals;

/// Bytecode is trusted by the engine, so it must come from the same build; a changed build compiles again.
const TAG: &str = concat!(
    "bungee-isolate ",
    env!("CARGO_PKG_VERSION"),
    " quickjs-ng ",
    "0.14.0",
    "\n"
);

/// Bytes in front of the modules: the tag, and what tells preludes apart, which are part of each image.
fn head() -> Vec<u8> {
    let mut head = TAG.as_bytes().to_vec();
    head.extend(globals::FINGERPRINT.to_le_bytes());
    head
}

/// Bytecode of each module.
#[derive(Default)]
pub struct Image {
    /// By path inside the bundle.
    pub modules: BTreeMap<String, Vec<u8>>,
}

impl Image {
    /// The image as bytes: the tag, then for each module the lengths of name and code, name and code.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = head();
        for (name, code) in &self.modules {
            bytes.extend((name.len() as u32).to_le_bytes());
            bytes.extend((code.len() as u32).to_le_bytes());
            bytes.extend(name.as_bytes());
            bytes.extend(code);
        }
        bytes
    }

    /// The image from its bytes; `None` if another build wrote it, or it is cut off.
    pub fn from_bytes(bytes: &[u8]) -> Option<Image> {
        let mut rest = bytes.strip_prefix(head().as_slice())?;
        let mut modules = BTreeMap::new();
        while !rest.is_empty() {
            let (name_length, after) = rest.split_first_chunk::<4>()?;
            let (code_length, after) = after.split_first_chunk::<4>()?;
            let (name, after) = after.split_at_checked(u32::from_le_bytes(*name_length) as usize)?;
            let (code, after) = after.split_at_checked(u32::from_le_bytes(*code_length) as usize)?;
            modules.insert(String::from_utf8(name.to_vec()).ok()?, code.to_vec());
            rest = after;
        }
        Some(Image { modules })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_read_back_and_a_cut_or_foreign_one_is_not() {
        let modules = [
            ("a.js".to_owned(), vec![1, 2, 3]),
            ("b.js".to_owned(), vec![]),
        ]
        .into();
        let bytes = Image { modules }.to_bytes();
        assert_eq!(
            Image::from_bytes(&bytes).unwrap().modules["a.js"],
            [1, 2, 3]
        );
        assert!(Image::from_bytes(&bytes[..bytes.len() - 1]).is_none());
        assert!(Image::from_bytes(b"another build\n").is_none());
        let mut of_another_prelude = bytes.clone();
        of_another_prelude[TAG.len()] ^= 1;
        assert!(Image::from_bytes(&of_another_prelude).is_none());
    }
}
