//! Members of an answer that show success.

use serde_json::Value;

use super::api_answer::ApiAnswer;

/// The members that a profile lists. One of them must hold a text. Without a list, a readable answer that reports no
/// failure is enough.
#[derive(Clone, Debug, Default)]
pub struct ShownMembers(Vec<Vec<String>>);

impl ShownMembers {
    /// Reads `data.ticket`.
    ///
    /// # Errors
    ///
    /// A name is empty.
    pub fn parse(members: &[String]) -> Result<Self, String> {
        let names = |member: &String| {
            let names: Vec<_> = member.split('.').map(str::to_owned).collect();
            if names.iter().any(String::is_empty) {
                return Err(format!("'{member}': write the names of members with dots between them"));
            }
            Ok(names)
        };
        members.iter().map(names).collect::<Result<_, _>>().map(Self)
    }

    /// Whether the answer reports no failure, and shows success.
    pub fn are_in(&self, answer: &ApiAnswer) -> bool {
        let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
        let is_shown =
            |member: &Vec<String>| answer.member(member.iter().map(String::as_str)).is_some_and(is_text);
        answer.failure().is_none() && (self.0.is_empty() || self.0.iter().any(is_shown))
    }
}
