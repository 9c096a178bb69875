//! CSRF tokens, verified with the vectors that the originals' own libraries made.

use nodegate::testing::auth::csrf;
use nodegate::testing::auth::csrf::secret_text;

use super::gate_rules;

const FILE: &[u8] = include_bytes!("../../data/vectors/pve-www.key");
const VECTORS: &str = include_str!("../../data/vectors/tickets.tsv");
const MADE: i64 = 0x6B02_4400;

fn is_valid(token: &str, user: &str, secret: &str, now: i64) -> bool {
    csrf::is_valid(token, user, secret.as_bytes(), &gate_rules("pve").csrf, now)
}

fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    VECTORS.lines().filter_map(|line| line.strip_prefix("csrf\t")?.split_once('\t'))
}

#[test]
fn the_secret_is_the_text_of_an_hmac() {
    let expected = VECTORS.lines().find_map(|line| line.strip_prefix("csrf_secret\t")).unwrap();
    assert_eq!(secret_text(FILE).unwrap(), expected);
}

#[test]
fn original_tokens_are_valid_two_hours() {
    let secret = secret_text(FILE).unwrap();
    assert_eq!(rows().count(), 4);
    for (user, token) in rows() {
        for (age, good) in [(-300, false), (-299, true), (0, true), (7199, true), (7200, false)] {
            assert_eq!(is_valid(token, user, &secret, MADE + age), good, "{user} {age}");
        }
    }
}

#[test]
fn minted_tokens_equal_the_originals() {
    let secret = secret_text(FILE).unwrap();
    for (user, token) in rows() {
        assert_eq!(csrf::mint(user, secret.as_bytes(), &gate_rules("pve").csrf, MADE).unwrap(), token);
    }
}

/// An altered one does not verify.
#[test]
fn a_token_verifies_only_for_its_user() {
    let secret = secret_text(FILE).unwrap();
    let (user, token) = rows().next().unwrap();
    assert!(!is_valid(token, "other@pam", &secret, MADE));
    assert!(!is_valid(token, user, "another secret", MADE));
    for at in 0..token.len() {
        let mut changed = token.as_bytes().to_vec();
        changed[at] ^= 1;
        assert!(!is_valid(&String::from_utf8_lossy(&changed), user, &secret, MADE), "byte {at}");
    }
    for wrong in ["", ":", "6B024400", "6B024400:", &token[..token.len() - 1], &format!("{token}=")] {
        assert!(!is_valid(wrong, user, &secret, MADE), "{wrong}");
    }
}
