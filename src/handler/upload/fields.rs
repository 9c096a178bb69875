//! The fields of an upload for the daemon. Each occurs once, has a plain name, and is not the field that only nodegate
//! may set.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::UploadError;
use crate::http::target::query_parameters;

/// Bytes of a field's name.
const MAX_NAME_BYTES: usize = 64;

/// Names and values from the query and the form.
#[derive(Clone, Debug)]
pub struct FormFields {
    /// the field that only nodegate may set
    reserved: String,
    pairs: Vec<(String, String)>,
}

impl FormFields {
    /// The parameters of the query. nodegate sends them in the body, so that the daemon has only one place to read.
    pub fn from_query(query: &str, reserved: &str) -> Result<Self, UploadError> {
        let mut fields = Self { reserved: reserved.to_owned(), pairs: Vec::new() };
        for (name, value) in query_parameters(query) {
            fields.add(&name, &value.unwrap_or_default())?;
        }
        Ok(fields)
    }

    /// Accepts only plain names, without escapes, because no two parsers read a plain name differently.
    pub fn check_name(&self, name: &str) -> Result<(), UploadError> {
        if name.eq_ignore_ascii_case(&self.reserved) {
            return Err(UploadError::Reserved(self.reserved.clone()));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if !(1..=MAX_NAME_BYTES).contains(&name.len()) || !name.bytes().all(plain) {
            return Err(UploadError::Form("has a part with a strange name, or with none".to_owned()));
        }
        if self.pairs.iter().any(|(known, _)| known == name) {
            return Err(UploadError::Form(format!("has '{name}' twice")));
        }
        Ok(())
    }

    /// # Errors
    /// The name is not plain, reserved, or occurs twice.
    pub fn add(&mut self, name: &str, value: &str) -> Result<(), UploadError> {
        self.check_name(name)?;
        self.pairs.push((name.to_owned(), value.to_owned()));
        Ok(())
    }

    /// Encodes as `application/x-www-form-urlencoded`, with the reserved field at the end.
    pub fn encode(&self, reserved_value: &str) -> String {
        let reserved = std::iter::once((self.reserved.as_str(), reserved_value));
        let pairs = self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut text = String::new();
        for (name, value) in pairs.chain(reserved) {
            if !text.is_empty() {
                text.push('&');
            }
            text.push_str(name);
            text.push('=');
            text.extend(utf8_percent_encode(value, NON_ALPHANUMERIC));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_the_reserved_field_is_rejected() {
        let refused = [
            "spool=x",
            "a=1&spool=x",
            "a=1;spool=x",
            "a=1&spool",
            "%73pool=x",
            "s%70oo%6C=",
            "SPOOL=x",
            "spool%00=x",
            "spool+=x",
            "+spool=x",
            "%2573pool=x",
            "spool[]=x",
            "a=1&a=2",
            "=x",
        ];
        for query in refused {
            assert!(FormFields::from_query(query, "spool").is_err(), "{query}");
        }
        let fields = FormFields::from_query("content=iso&note=a%26spool%3Dx;x=+1&&", "spool").unwrap();
        assert_eq!(fields.encode("/v/1"), "content=iso&note=a%26spool%3Dx&x=%201&spool=%2Fv%2F1");
    }
}
