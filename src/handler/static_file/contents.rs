//! A bounded cache of small files and of compressed files.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::open::FoundFile;
use crate::http::compression::{ContentCoding, compress};
use crate::os::file_version::FileVersion;

/// Bytes of all entries together.
const CAPACITY_BYTES: u64 = 64 << 20;

/// Estimated bytes of an entry besides its contents.
const ENTRY_OVERHEAD_BYTES: u64 = 256;

/// Below 64, so that the cache has one shard. A shard of several would hold only a part of the capacity, and never accept
/// larger files.
const EXPECTED_ENTRIES: usize = 32;

/// Concurrent compressions. A cold start must leave CPU time for requests.
const MAX_COMPRESSIONS: usize = 2;

/// Shared by all workers.
pub(super) struct ContentCache(Arc<SharedContent>);

struct SharedContent {
    kept: Cache<CachedForm, Option<Bytes>, ByBytes>,
    compressions: Semaphore,
}

/// The key of an entry: a version of a file, plain (`None`) or in a coding.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct CachedForm {
    version: FileVersion,
    coding: Option<ContentCoding>,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<CachedForm, Option<Bytes>> for ByBytes {
    fn weight(&self, _: &CachedForm, contents: &Option<Bytes>) -> u64 {
        let length = contents.as_ref().map_or(0, Bytes::len);
        u64::try_from(length).unwrap_or(CAPACITY_BYTES).saturating_add(ENTRY_OVERHEAD_BYTES)
    }
}

impl ContentCache {
    pub(super) fn new() -> Self {
        Self(Arc::new(SharedContent {
            kept: Cache::with_weighter(EXPECTED_ENTRIES, CAPACITY_BYTES, ByBytes),
            compressions: Semaphore::new(MAX_COMPRESSIONS),
        }))
    }

    /// The uncompressed file.
    pub(super) async fn plain(&self, found: &FoundFile) -> io::Result<Bytes> {
        let contents = self.load(found, None).await?;
        contents.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The file in `coding`. `None` if it is not smaller then.
    pub(super) async fn coded(&self, found: &FoundFile, coding: ContentCoding) -> io::Result<Option<Bytes>> {
        self.load(found, Some(coding)).await
    }

    /// Loads a missing entry once, while other requests for it wait. The load runs in its own task, so a client that
    /// disconnects cannot cancel it and start it again.
    async fn load(&self, found: &FoundFile, coding: Option<ContentCoding>) -> io::Result<Option<Bytes>> {
        let form = CachedForm { version: found.version, coding };
        if let Some(contents) = self.0.kept.get(&form) {
            return Ok(contents);
        }
        let shared = Arc::clone(&self.0);
        let file = Arc::clone(found.file()?);
        let work = tokio::spawn(async move {
            let made = make(form, file, &shared.compressions);
            shared.kept.get_or_insert_async(&form, made).await
        });
        work.await.map_err(io::Error::other)?
    }
}

async fn make(form: CachedForm, file: Arc<File>, slots: &Semaphore) -> io::Result<Option<Bytes>> {
    let Some(coding) = form.coding else {
        return read(form.version, file).await.map(Some);
    };
    let _slot = slots.acquire().await.map_err(io::Error::other)?;
    let plain = read(form.version, file).await?;
    let packed = compress(coding, plain.clone()).await?;
    Ok((packed.len() < plain.len()).then_some(packed))
}

/// Reads the whole file.
///
/// # Errors
/// The file changed during the read. A mixture of two versions must not be cached.
async fn read(version: FileVersion, file: Arc<File>) -> io::Result<Bytes> {
    let work = spawn_blocking(move || {
        let size = usize::try_from(version.size).map_err(io::Error::other)?;
        let mut contents = vec![0; size];
        file.read_exact_at(&mut contents, 0)?;
        if version.is_current(&file)? {
            Ok(Bytes::from(contents))
        } else {
            Err(io::Error::other("the file changed while it was read"))
        }
    });
    work.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use super::super::{FileOrigin, SingleFile};
    use super::*;

    #[tokio::test]
    async fn a_leaving_client_keeps_the_shared_work() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "var answer = 42;\n".repeat(10_000)).unwrap();
        let path = file.path().to_owned();
        let opened = FoundFile::open(&FileOrigin::File(SingleFile { url: String::new(), path }), "").unwrap();
        let contents = ContentCache::new();
        {
            let asked = pin!(contents.coded(&opened, ContentCoding::Gzip));
            assert!(matches!(asked.poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
        }
        let form = CachedForm { version: opened.version, coding: Some(ContentCoding::Gzip) };
        let is_kept = async {
            while contents.0.kept.get(&form).is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), is_kept).await.unwrap();
    }

    #[test]
    fn one_entry_holds_the_biggest_file() {
        let contents = ContentCache::new();
        assert_eq!(contents.0.kept.num_shards(), 1);
        assert_eq!(contents.0.kept.capacity(), CAPACITY_BYTES);
    }
}
