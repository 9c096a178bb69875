//! The title of API answers that are pages. In the original the proxy answers what needs no root by itself, under its own
//! title. Where the privileged daemon answers instead, its pages get that title.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::Method;
use http_body::{Body, Frame};

use crate::config::product;
use crate::http::target::ApiPath;
use crate::state::shared::AppState;
use crate::upstream::client::AnswerBody;

/// Bytes of a page within which its title stands.
const LOOKED_INTO: usize = 16 << 10;
const TITLE: (&[u8], &[u8]) = (b"<title>", b"</title>");

/// What pages are called.
pub struct PageTitle {
    format: String,
    /// the class of the element that repeats the title
    class: Vec<u8>,
    html: Vec<u8>,
}

/// Whether the answer to a call has another title in the original than the daemon with root gives it.
pub fn differs(engine: &AppState, method: &Method, path: &ApiPath) -> bool {
    let is_page = engine.page_title.as_ref().is_some_and(|title| title.format == path.format());
    is_page && !engine.routes.needs_root(method, path)
}

impl PageTitle {
    pub fn new(rules: &product::PageTitle) -> Self {
        let class = format!("class=\"{}\"", rules.class).into_bytes();
        Self { format: rules.format.clone(), class, html: escaped(&rules.text) }
    }

    /// The page with this title, or as it is where it has none.
    pub(super) fn put(&self, page: Bytes) -> Bytes {
        let (beginning, rest) = page.split_at(page.len().min(LOOKED_INTO));
        match self.put_in(beginning) {
            Some(mut beginning) => {
                beginning.extend_from_slice(rest);
                beginning.into()
            }
            None => page,
        }
    }

    /// The same of a page that is still to come.
    pub(super) fn put_in_stream(&self, page: AnswerBody) -> TitledBody {
        let title = Self { format: String::new(), class: self.class.clone(), html: self.html.clone() };
        TitledBody { title: Some(title), held: BytesMut::new(), page }
    }

    fn put_in(&self, page: &[u8]) -> Option<Vec<u8>> {
        let start = find(page, TITLE.0)? + TITLE.0.len();
        let end = start + find(page.get(start..)?, TITLE.1)?;
        let old = page.get(start..end)?;
        let mut titled = [page.get(..start)?, &self.html].concat();
        let rest = page.get(end..)?;
        // The second place is text, too: what stands there is the title as a text, or nothing is changed.
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

fn escaped(text: &str) -> Vec<u8> {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").into_bytes()
}

/// A page on its way, of which the beginning is held until it is titled.
pub(super) struct TitledBody {
    title: Option<PageTitle>,
    held: BytesMut,
    page: AnswerBody,
}

impl Body for TitledBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        loop {
            let piece = ready!(this.page.poll_piece(context)).transpose()?;
            let Some(title) = &this.title else {
                return Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))));
            };
            let is_last = piece.is_none();
            this.held.extend_from_slice(&piece.unwrap_or_default());
            if is_last || this.held.len() >= LOOKED_INTO {
                let beginning = title.put(this.held.split().freeze());
                this.title = None;
                let frame = (!beginning.is_empty()).then(|| Ok(Frame::data(beginning)));
                return Poll::Ready(frame);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn put(page: &str) -> String {
        let rules = product::PageTitle {
            format: "html".to_owned(),
            text: "A & B".to_owned(),
            class: "navbar-brand".to_owned(),
        };
        let page = PageTitle::new(&rules).put(Bytes::copy_from_slice(page.as_bytes()));
        String::from_utf8(page.to_vec()).unwrap()
    }

    #[test]
    fn the_title_is_replaced_where_it_stands() {
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
            assert_eq!(put(page), titled);
        }
        for page in ["", "<p>no title</p>", "<title>no end", "\u{fc}<pre>&lt;title&gt;</pre>"] {
            assert_eq!(put(page), page);
        }
        let far = format!("{}<title>old</title>", " ".repeat(LOOKED_INTO));
        assert_eq!(put(&far), far);
    }
}
