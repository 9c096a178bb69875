//! The schedulers of all daemons of this machine. A reload keeps them, and the calls that wait in them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::settings::BackendAddress;
use crate::upstream::scheduler::{BackendScheduler, ProcessRole, SchedulerLimits, SlotFile};

/// The scheduler of each daemon.
#[derive(Debug, Default)]
pub struct Schedulers(Mutex<KnownSchedulers>);

#[derive(Debug, Default)]
struct KnownSchedulers {
    by_address: BTreeMap<String, Arc<BackendScheduler>>,
    /// from the first upgrade on
    shared: Option<(Arc<SlotFile>, ProcessRole)>,
}

impl Schedulers {
    /// The scheduler of a daemon, with these limits from now on.
    pub fn get_or_create(&self, address: &BackendAddress, limits: SchedulerLimits) -> Arc<BackendScheduler> {
        let mut all = self.all();
        // The settings no longer name these daemons, and no call to them is left.
        all.by_address.retain(|_, scheduler| Arc::strong_count(scheduler) > 1);
        let address = address.to_string();
        if let Some(known) = all.by_address.get(&address) {
            let known = Arc::clone(known);
            drop(all);
            if known.limits() != limits {
                known.set_limits(limits);
            }
            return known;
        }
        let scheduler = BackendScheduler::new(&address, limits);
        if let Some((file, role)) = &all.shared {
            scheduler.share(file, *role);
        }
        all.by_address.insert(address, Arc::clone(&scheduler));
        scheduler
    }

    /// Shares the workers of all daemons with the process that takes over. It gets the returned file.
    pub fn share_with_successor(&self) -> io::Result<OwnedFd> {
        let file = match &self.all().shared {
            Some((file, _)) => Arc::clone(file),
            None => SlotFile::create()?,
        };
        let handed = file.for_successor()?;
        self.share(file, ProcessRole::Old);
        Ok(handed)
    }

    /// Shares the workers of all daemons with the process that handed the file over.
    pub fn share_with_predecessor(&self, handed: OwnedFd) {
        self.share(SlotFile::from_predecessor(handed), ProcessRole::New);
    }

    /// The process that was to take over has failed.
    pub fn keep_serving(&self) {
        let mut all = self.all();
        if let Some((_, role)) = &mut all.shared {
            *role = ProcessRole::New;
        }
        all.by_address.values().for_each(BackendScheduler::keep_serving);
    }

    fn share(&self, file: Arc<SlotFile>, role: ProcessRole) {
        let mut all = self.all();
        all.by_address.values().for_each(|scheduler| scheduler.share(&file, role));
        all.shared = Some((file, role));
    }

    /// The scheduler of a daemon that the workers use.
    pub fn find(&self, address: &BackendAddress) -> Option<Arc<BackendScheduler>> {
        let all = self.all();
        all.by_address.get(&address.to_string()).filter(|scheduler| Arc::strong_count(scheduler) > 1).cloned()
    }

    fn all(&self) -> MutexGuard<'_, KnownSchedulers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_scheduler_lives_as_long_as_its_users() {
        let limits = |workers| SchedulerLimits {
            workers,
            queue: 1,
            queue_per_client: 1,
            slow_call: Duration::from_millis(500),
            queue_timeout: Duration::from_secs(30),
        };
        let (schedulers, address) = (Schedulers::default(), BackendAddress::Tcp("127.0.0.1:85".to_owned()));
        let first = schedulers.get_or_create(&address, limits(3));
        let second = schedulers.get_or_create(&address, limits(4));
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!((first.limits().workers, schedulers.find(&address).is_some()), (4, true));
        drop((first, second));
        assert!(schedulers.find(&address).is_none());
        let _other = schedulers.get_or_create(&BackendAddress::Tcp("127.0.0.1:86".to_owned()), limits(3));
        assert_eq!(schedulers.all().by_address.len(), 1);
    }
}
