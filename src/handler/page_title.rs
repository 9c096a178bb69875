//! The title of API answers that are pages. The original proxy answers unprivileged calls itself, with its own title. If
//! the privileged daemon answers instead, nodegate gives its pages that title.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};

use super::page::sanitized::escape_html;
use crate::config::product;
use crate::http::body::PieceStream;
use crate::http::target::ApiPath;
use crate::upstream::client::UpstreamBody;

/// Bytes at the beginning of a page that are searched for the title.
const SEARCHED_BYTES: usize = 16 << 10;
const TITLE_START: &[u8] = b"<title>";
const TITLE_END: &[u8] = b"</title>";

/// The title of pages.
pub struct PageTitle {
    format: String,
    /// the class of the element that repeats the title
    class: Vec<u8>,
    html: Vec<u8>,
}

impl PageTitle {
    pub fn new(rules: &product::PageTitle) -> Self {
        let class = format!("class=\"{}\"", rules.class).into_bytes();
        Self { format: rules.format.clone(), class, html: escape_html(&rules.text).into_bytes() }
    }

    /// Whether answers in the format of this call are pages.
    pub(super) fn is_for(&self, path: &ApiPath) -> bool {
        self.format == path.format()
    }

    /// The page with this title. A page without a title stays unchanged.
    pub(super) fn rewrite(&self, page: Bytes) -> Bytes {
        let (beginning, rest) = page.split_at(page.len().min(SEARCHED_BYTES));
        match self.rewrite_beginning(beginning) {
            Some(mut beginning) => {
                beginning.extend_from_slice(rest);
                beginning.into()
            }
            None => page,
        }
    }

    /// The same for a streamed page.
    pub(super) fn rewrite_stream(&self, page: UpstreamBody) -> TitledBody {
        let title = Self { format: String::new(), class: self.class.clone(), html: self.html.clone() };
        TitledBody { title: Some(title), held: BytesMut::new(), page }
    }

    fn rewrite_beginning(&self, page: &[u8]) -> Option<Vec<u8>> {
        let start = find(page, TITLE_START)? + TITLE_START.len();
        let end = start + find(page.get(start..)?, TITLE_END)?;
        let old = page.get(start..end)?;
        let mut titled = [page.get(..start)?, &self.html].concat();
        let rest = page.get(end..)?;
        // The second title is replaced only if it equals the first one.
        let second = find(rest, &self.class).and_then(|class| {
            let text = class + find(rest.get(class..)?, b">")? + 1;
            rest.get(text..)?.strip_prefix(old)?.starts_with(b"<").then_some(text)
        });
        match second {
            Some(text) => {
                titled.extend_from_slice(rest.get(..text)?);
                titled.extend_from_slice(&self.html);
                titled.extend_from_slice(rest.get(text + old.len()..)?);
            }
            None => titled.extend_from_slice(rest),
        }
        Some(titled)
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, part)
}

/// A streamed page. Its beginning is buffered until its title is replaced.
pub(super) struct TitledBody {
    title: Option<PageTitle>,
    held: BytesMut,
    page: UpstreamBody,
}

impl PieceStream for TitledBody {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            let piece = ready!(self.page.poll_piece(context)).transpose()?;
            let Some(title) = &self.title else { return Poll::Ready(piece.map(Ok)) };
            let is_last = piece.is_none();
            self.held.extend_from_slice(&piece.unwrap_or_default());
            if is_last || self.held.len() >= SEARCHED_BYTES {
                let beginning = title.rewrite(self.held.split().freeze());
                self.title = None;
                return Poll::Ready((!beginning.is_empty()).then_some(Ok(beginning)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite(page: &str) -> String {
        let rules = product::PageTitle {
            format: "html".to_owned(),
            text: "A & B".to_owned(),
            class: "navbar-brand".to_owned(),
        };
        let page = PageTitle::new(&rules).rewrite(Bytes::copy_from_slice(page.as_bytes()));
        String::from_utf8(page.to_vec()).unwrap()
    }

    #[test]
    fn the_title_is_replaced() {
        let cases = [
            (
                "<title>old</title><a href=\"/x\" class=\"navbar-brand\" id=1>old</a><p>old</p>",
                "<title>A &amp; B</title><a href=\"/x\" class=\"navbar-brand\" id=1>A &amp; B</a><p>old</p>",
            ),
            ("<title></title><p>x</p>", "<title>A &amp; B</title><p>x</p>"),
            (
                "<title>old</title><a class=\"navbar-brand\">older</a>",
                "<title>A &amp; B</title><a class=\"navbar-brand\">older</a>",
            ),
            (
                "<title>old</title><a class=\"navbar-brand\"",
                "<title>A &amp; B</title><a class=\"navbar-brand\"",
            ),
        ];
        for (page, titled) in cases {
            assert_eq!(rewrite(page), titled);
        }
        for page in ["", "<p>no title</p>", "<title>no end", "\u{fc}<pre>&lt;title&gt;</pre>"] {
            assert_eq!(rewrite(page), page);
        }
        let far = format!("{}<title>old</title>", " ".repeat(SEARCHED_BYTES));
        assert_eq!(rewrite(&far), far);
    }
}
