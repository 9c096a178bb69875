//! Finds the fault in a file that should hold certificates or a key in PEM form (RFC 7468): the line, and the remedy.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use openssl::pkcs12::Pkcs12;
use openssl::pkey::PKey;
use openssl::x509::X509;

use super::key_algorithm;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const HYPHENS: &str = "-----";
/// OpenSSL ignores it since version 3.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The content that a file should have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PemContent {
    Certificate,
    Key,
}

impl PemContent {
    fn name(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Key => "private key",
        }
    }
}

#[derive(Debug, Eq, PartialEq)]
pub(super) struct PemFault {
    line: Option<usize>,
    message: String,
}

impl PemFault {
    fn at(line: usize, message: impl Into<String>) -> Self {
        Self { line: Some(line), message: message.into() }
    }

    fn of_file(message: impl Into<String>) -> Self {
        Self { line: None, message: message.into() }
    }

    /// With the name of the file in front: `FILE:LINE: MESSAGE`.
    pub(super) fn in_file(&self, file: &Path) -> String {
        let line = self.line.map(|line| format!(":{line}")).unwrap_or_default();
        format!("{}{line}: {}", file.display(), self.message)
    }
}

/// A block from its first line to its last.
struct PemBlock<'a> {
    label: &'a str,
    line: usize,
    text: &'a str,
}

/// Why OpenSSL finds no `wanted` content in the file.
pub(super) fn fault(bytes: &[u8], wanted: PemContent) -> PemFault {
    if let Some(fault) = encoding_fault(bytes) {
        return fault;
    }
    let without_mark = bytes.strip_prefix(BYTE_ORDER_MARK);
    match blocks(&String::from_utf8_lossy(without_mark.unwrap_or(bytes))) {
        Err(fault) => fault,
        Ok(blocks) if without_mark.is_some() && blocks.iter().any(|block| block.is_sound(wanted)) => {
            PemFault::at(1, "a byte order mark stands at the beginning: save the file without it")
        }
        Ok(blocks) => content_fault(&blocks, wanted),
    }
}

/// The content that OpenSSL ignores without an error in a usable file.
pub(super) fn skipped(bytes: &[u8]) -> Option<PemFault> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    match blocks(&String::from_utf8_lossy(bytes)) {
        Err(fault) => Some(fault),
        Ok(blocks) => blocks.iter().find_map(foreign_fault),
    }
}

/// The fault of a file that is binary, or not in ASCII.
fn encoding_fault(bytes: &[u8]) -> Option<PemFault> {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            Some(PemFault::of_file("is UTF-16 text: save it as ASCII or UTF-8 text"))
        }
        [0x30, second, ..] if *second > 0x7f || PKey::private_key_from_der(bytes).is_ok() => {
            Some(PemFault::of_file(binary(bytes)))
        }
        _ => None,
    }
}

/// The three usual forms of DER.
fn binary(bytes: &[u8]) -> &'static str {
    if Pkcs12::from_der(bytes).is_ok() {
        "is a PKCS#12 archive: take certificates and key out with `openssl pkcs12 -in FILE -nodes`"
    } else if X509::from_der(bytes).is_ok() {
        "is a certificate in DER form: make PEM of it with `openssl x509 -inform der -in FILE`"
    } else if PKey::private_key_from_der(bytes).is_ok() {
        "is a key in DER form: make PEM of it with `openssl pkey -inform der -in FILE`"
    } else {
        "is binary, not PEM text"
    }
}

/// All blocks, or the first line that breaks them.
fn blocks(text: &str) -> Result<Vec<PemBlock<'_>>, PemFault> {
    let mut blocks = Vec::new();
    let mut open: Option<(&str, usize, usize)> = None;
    let mut offset = 0;
    for (index, whole) in text.split_inclusive('\n').enumerate() {
        let (number, line) = (index + 1, whole.trim_end());
        let start = offset;
        offset += whole.len();
        if let Some(label) = boundary(line, BEGIN, number)? {
            if let Some((label, line, _)) = open {
                return Err(PemFault::at(
                    number,
                    format!("the block {label} of line {line} has no {END}{label}{HYPHENS} before this"),
                ));
            }
            open = Some((label, number, start));
        } else if let Some(label) = boundary(line, END, number)? {
            match open.take() {
                Some((begun, line, start)) if begun == label => {
                    let text = text.get(start..offset).unwrap_or_default();
                    blocks.push(PemBlock { label, line, text });
                }
                Some((begun, line, _)) => {
                    let message =
                        format!("{END}{label}{HYPHENS} cannot end the block {begun} of line {line}");
                    return Err(PemFault::at(number, message));
                }
                None => {
                    return Err(PemFault::at(number, format!("{END}{label}{HYPHENS} without its beginning")));
                }
            }
        } else if open.is_some() && !is_content(line) {
            return Err(PemFault::at(number, "this is neither base64 nor the end of a block"));
        }
    }
    match open {
        Some((label, line, _)) => {
            Err(PemFault::at(line, format!("{END}{label}{HYPHENS} is missing behind this block")))
        }
        None => Ok(blocks),
    }
}

/// The label of a line that begins or ends a block.
fn boundary<'a>(line: &'a str, mark: &str, number: usize) -> Result<Option<&'a str>, PemFault> {
    let Some((before, rest)) = line.split_once(mark) else {
        let is_meant = line.contains(mark.trim_matches('-')) && line.contains(['–', '—', '-']);
        let is_broken = is_meant && line.trim_start().starts_with(['–', '—', '-']);
        let message = || format!("write {mark}…{HYPHENS} with five hyphens on either side");
        return if is_broken { Err(PemFault::at(number, message())) } else { Ok(None) };
    };
    let label = rest.split(HYPHENS).next().unwrap_or_default();
    if !before.is_empty() {
        let message = if before.contains(END) {
            "two blocks share this line: begin a new line before -----BEGIN".to_owned()
        } else if before.trim().is_empty() {
            format!("blanks stand before {mark}{label}{HYPHENS}: remove them")
        } else {
            format!("begin a new line before {mark}{label}{HYPHENS}")
        };
        return Err(PemFault::at(number, message));
    }
    match rest.get(label.len()..) {
        Some(HYPHENS) => Ok(Some(label)),
        Some(after) if after.contains(BEGIN) => {
            Err(PemFault::at(number, "two blocks share this line: begin a new line before -----BEGIN"))
        }
        _ => Err(PemFault::at(number, format!("write {mark}{label}{HYPHENS} and nothing behind it"))),
    }
}

/// Base64, a header such as `DEK-Info: …`, or nothing.
fn is_content(line: &str) -> bool {
    let is_base64 =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b' ' | b'\t');
    line.bytes().all(is_base64) || line.contains(": ")
}

/// The fault of a file with blocks of which none can be used.
fn content_fault(blocks: &[PemBlock<'_>], wanted: PemContent) -> PemFault {
    if let Some(fault) = blocks.iter().find_map(foreign_fault) {
        return fault;
    }
    if let Some(broken) =
        blocks.iter().find(|block| block.content() == Some(wanted) && !block.is_sound(wanted))
    {
        let message = match broken.post_quantum_name() {
            Some(kind) => format!(
                "the {kind} key that begins here needs OpenSSL 3.5 or later, and this is {}: use RSA of 2048 bits \
                 or more, or EC on P-256 or P-384",
                openssl::version::version()
            ),
            None => format!("the {} that begins here is damaged", wanted.name()),
        };
        return PemFault::at(broken.line, message);
    }
    let none = format!("holds no {} in PEM form", wanted.name());
    match blocks.first() {
        Some(first) => {
            PemFault::of_file(format!("{none}, but a block {} in line {}", first.label, first.line))
        }
        None => PemFault::of_file(none),
    }
}

/// The fault of a block that is another form of the wanted content.
fn foreign_fault(block: &PemBlock<'_>) -> Option<PemFault> {
    let what_to_do = match block.label {
        "TRUSTED CERTIFICATE" => "a form of OpenSSL's own: convert it with `openssl x509 -in FILE`",
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => {
            "only a request: put the certificate here that the CA has made of it"
        }
        "PKCS7" | "CMS" => "convert it with `openssl pkcs7 -print_certs -in FILE`",
        "OPENSSH PRIVATE KEY" => "a form of OpenSSH's own: convert it with `ssh-keygen -p -m PEM -f FILE`",
        _ => return None,
    };
    Some(PemFault::at(block.line, format!("{} is not understood, {what_to_do}", block.label)))
}

impl PemBlock<'_> {
    fn content(&self) -> Option<PemContent> {
        match self.label {
            "CERTIFICATE" | "X509 CERTIFICATE" => Some(PemContent::Certificate),
            label if label.ends_with("PRIVATE KEY") => Some(PemContent::Key),
            _ => None,
        }
    }

    /// The algorithm of a key that only newer versions of OpenSSL read.
    fn post_quantum_name(&self) -> Option<&'static str> {
        let lines = self.text.lines().filter(|line| !line.contains(HYPHENS));
        let der = BASE64_STANDARD.decode(lines.map(str::trim).collect::<String>()).ok()?;
        key_algorithm::post_quantum_name(&der).filter(|_| self.label == "PRIVATE KEY")
    }

    fn is_sound(&self, wanted: PemContent) -> bool {
        let pem = self.text.as_bytes();
        self.content() == Some(wanted)
            && match wanted {
                PemContent::Certificate => X509::from_pem(pem).is_ok(),
                PemContent::Key => PKey::private_key_from_pem(pem).is_ok(),
            }
    }
}

#[cfg(test)]
mod tests {
    use nodegate_standin::{Certificate, KeyKind};

    use super::*;

    fn message(bytes: &[u8], wanted: PemContent) -> String {
        fault(bytes, wanted).in_file(Path::new("f"))
    }

    #[test]
    fn a_broken_certificate_file_names_its_line() {
        let issued = Certificate::ca().issue("a", &[], KeyKind::EcP256);
        let pem = issued.certificate_pem();
        let chain = issued.chain_pem();
        let lines = pem.lines().count();
        let joined = format!("{}{}", pem.trim_end(), chain);
        let replaced = |from: &str, to: &str| pem.replacen(from, to, 1);
        let second_line = pem.lines().nth(1).unwrap();
        let cases = [
            (joined, format!("f:{lines}: two blocks share this line: begin a new line before -----BEGIN")),
            (
                replaced("BEGIN CERT", "BEGIN TRUSTED CERT"),
                format!("f:{lines}: -----END CERTIFICATE----- cannot end"),
            ),
            (
                pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE"),
                "f:1: TRUSTED CERTIFICATE is not understood, a form of OpenSSL's own: convert it".to_owned(),
            ),
            (
                pem.replace("CERTIFICATE", "CERTIFICATE REQUEST"),
                "f:1: CERTIFICATE REQUEST is not understood".to_owned(),
            ),
            (format!("\u{feff}{pem}"), "f:1: a byte order mark".to_owned()),
            (format!("\n  {pem}"), "f:2: blanks stand before -----BEGIN CERTIFICATE-----".to_owned()),
            (format!("x{pem}"), "f:1: begin a new line before".to_owned()),
            (replaced("-----BEGIN", "----BEGIN"), "f:1: write -----BEGIN ".to_owned()),
            (replaced("-----BEGIN", "—BEGIN"), "f:1: write -----BEGIN ".to_owned()),
            (
                replaced("CERTIFICATE-----", "CERTIFICATE---"),
                "f:1: write -----BEGIN CERTIFICATE---".to_owned(),
            ),
            (
                pem.replace("-----END CERTIFICATE-----", ""),
                "f:1: -----END CERTIFICATE----- is missing".to_owned(),
            ),
            (replaced(second_line, "<html>"), "f:2: this is neither base64".to_owned()),
            (replaced(second_line, "AAAA"), "f:1: the certificate that begins here is damaged".to_owned()),
            (
                issued.key_pem(),
                "f: holds no certificate in PEM form, but a block PRIVATE KEY in line 1".to_owned(),
            ),
            (String::new(), "f: holds no certificate in PEM form".to_owned()),
        ];
        for (text, expected) in cases {
            let message = message(text.as_bytes(), PemContent::Certificate);
            assert!(message.starts_with(&expected), "{expected}\n{message}\n{text}");
        }
    }

    #[test]
    fn other_forms_say_how_to_convert_them() {
        let issued = Certificate::ca().issue("a", &[], KeyKind::EcP256);
        let der = X509::from_pem(issued.certificate_pem().as_bytes()).unwrap().to_der().unwrap();
        let key = PKey::private_key_from_pem(issued.key_pem().as_bytes()).unwrap();
        let key_der = key.private_key_to_der().unwrap();
        let utf16: Vec<u8> =
            [0xfeff].into_iter().chain("-----".encode_utf16()).flat_map(u16::to_le_bytes).collect();
        let cases = [
            (der, "f: is a certificate in DER form"),
            (key_der, "f: is a key in DER form"),
            (utf16, "f: is UTF-16 text"),
            (vec![0x30, 0x82, 1, 2], "f: is binary"),
        ];
        for (bytes, expected) in cases {
            assert!(message(&bytes, PemContent::Certificate).starts_with(expected), "{expected}");
        }
        let openssh = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n";
        assert!(message(openssh.as_bytes(), PemContent::Key).contains("ssh-keygen -p -m PEM"));
        let only = message(issued.certificate_pem().as_bytes(), PemContent::Key);
        assert_eq!(only, "f: holds no private key in PEM form, but a block CERTIFICATE in line 1");
    }

    #[test]
    fn good_files_have_nothing_that_is_skipped() {
        let issued = Certificate::ca().issue("a", &[], KeyKind::EcP256);
        let windows = issued.combined_pem().replace('\n', "\r\n");
        let explained = format!("subject=CN = a\n\n{}\nmore\n", issued.chain_pem());
        let encrypted = issued.encrypted_key_pem("secret");
        for text in [issued.chain_pem(), windows, explained, encrypted, String::new()] {
            assert_eq!(skipped(text.as_bytes()), None, "{text}");
        }
        let trusted =
            issued.chain_pem() + &issued.certificate_pem().replace("CERTIFICATE", "TRUSTED CERTIFICATE");
        assert!(skipped(trusted.as_bytes()).is_some());
    }
}
