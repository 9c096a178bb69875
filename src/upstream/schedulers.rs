//! The schedulers of all daemons of this machine. A reload keeps them, and the calls that wait in them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::settings::BackendAddress;
use crate::upstream::scheduler::{BackendScheduler, SchedulerLimits};

/// The scheduler of each daemon, by its address.
#[derive(Debug, Default)]
pub struct Schedulers(Mutex<BTreeMap<String, Arc<BackendScheduler>>>);

impl Schedulers {
    /// The scheduler of a daemon, with these limits from now on.
    pub fn get_or_create(&self, address: &BackendAddress, limits: SchedulerLimits) -> Arc<BackendScheduler> {
        let mut all = self.all();
        // The settings no longer name these daemons, and no call to them is left.
        all.retain(|_, scheduler| Arc::strong_count(scheduler) > 1);
        let address = address.to_string();
        if let Some(known) = all.get(&address) {
            let known = Arc::clone(known);
            drop(all);
            if known.limits() != limits {
                known.set_limits(limits);
            }
            return known;
        }
        let scheduler = BackendScheduler::new(&address, limits);
        all.insert(address, Arc::clone(&scheduler));
        scheduler
    }

    /// The scheduler of a daemon that the workers use.
    pub fn find(&self, address: &BackendAddress) -> Option<Arc<BackendScheduler>> {
        self.all().get(&address.to_string()).filter(|scheduler| Arc::strong_count(scheduler) > 1).cloned()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Arc<BackendScheduler>>> {
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
        assert_eq!(schedulers.all().len(), 1);
    }
}
